//! Everything there is, read in one transaction and handed over in batches.

use std::collections::HashMap;

use ahash::RandomState;
use rusqlite::{Connection, Row};

use super::code::column;
use super::failure::{damaged, failure};
use super::read;
use super::row::Record;
use crate::policy::{self, GroupId, Pattern, Subject, UserId};
use crate::store::{Grant, Item, Revision, StoreError, User};

/// Items in a batch: enough that handing it over costs nothing an item, few enough to stay in the processor's cache.
const BATCH: usize = 4096;

/// How many patterns are remembered by their text. A population has a few thousand that most grants are on.
const REMEMBERED: usize = 1 << 16;

/// Hands everything over, in the order that [`crate::store::Feed::load_into`] promises.
///
/// # Errors
/// [`StoreError`] of the file, or the one that `take` ends the load with.
pub(super) fn load(
    connection: &Connection,
    take: &mut dyn FnMut(Vec<Item>) -> Result<(), StoreError>,
) -> Result<Revision, StoreError> {
    let transaction = connection.unchecked_transaction().map_err(failure)?;
    let mut batch = Batch { items: Vec::with_capacity(BATCH), take };
    each(&transaction, &mut batch, Item::Group)?;
    users(&transaction, &mut batch)?;
    each(&transaction, &mut batch, Item::Link)?;
    each(&transaction, &mut batch, Item::Namespace)?;
    each(&transaction, &mut batch, |service| Item::Service(Box::new(service)))?;
    each(&transaction, &mut batch, |node| Item::Node(Box::new(node)))?;
    grants(&transaction, &mut batch)?;
    each(&transaction, &mut batch, Item::Secret)?;
    each(&transaction, &mut batch, Item::Consent)?;
    each(&transaction, &mut batch, Item::Withdrawal)?;
    each(&transaction, &mut batch, |token| Item::ApiToken(Box::new(token)))?;
    each(&transaction, &mut batch, |key| Item::SigningKey(Box::new(key)))?;
    batch.hand_over()?;
    read::revision(&transaction)
}

/// What is handed over next.
struct Batch<'a> {
    items: Vec<Item>,
    take: &'a mut dyn FnMut(Vec<Item>) -> Result<(), StoreError>,
}

impl Batch<'_> {
    fn push(&mut self, item: Item) -> Result<(), StoreError> {
        self.items.push(item);
        if self.items.len() < BATCH { Ok(()) } else { self.hand_over() }
    }

    fn hand_over(&mut self) -> Result<(), StoreError> {
        (self.take)(std::mem::replace(&mut self.items, Vec::with_capacity(BATCH)))
    }
}

fn each<T: Record>(connection: &Connection, batch: &mut Batch<'_>, item: impl Fn(T) -> Item) -> Result<(), StoreError> {
    let mut statement = connection.prepare(T::SELECT).map_err(failure)?;
    let mut rows = statement.query([]).map_err(failure)?;
    while let Some(row) = rows.next().map_err(failure)? {
        batch.push(item(T::read(row)?))?;
    }
    Ok(())
}

/// Users with their groups: both come in the order of the user's id and are walked side by side.
fn users(connection: &Connection, batch: &mut Batch<'_>) -> Result<(), StoreError> {
    let members = format!("{} ORDER BY user, group_id", <(UserId, GroupId)>::SELECT);
    let mut statement = connection.prepare(&members).map_err(failure)?;
    let mut rows = statement.query([]).map_err(failure)?;
    let mut next = move || rows.next().map_err(failure)?.map(<(UserId, GroupId)>::read).transpose();
    let mut member = next()?;
    let mut statement = connection.prepare(&format!("{} ORDER BY id", User::SELECT)).map_err(failure)?;
    let mut rows = statement.query([]).map_err(failure)?;
    while let Some(row) = rows.next().map_err(failure)? {
        let user = User::read(row)?;
        let mut groups = Vec::new();
        while let Some((of, group)) = member
            && of <= user.id
        {
            if of == user.id {
                groups.push(group);
            }
            member = next()?;
        }
        batch.push(Item::User(Box::new(user), groups))?;
    }
    Ok(())
}

/// Grants in the order of the table's key, which is that of their subjects.
fn grants(connection: &Connection, batch: &mut Batch<'_>) -> Result<(), StoreError> {
    let mut statement = connection.prepare(&format!("{} ORDER BY subject, pattern", Grant::SELECT)).map_err(failure)?;
    let mut rows = statement.query([]).map_err(failure)?;
    let mut words = Words::new();
    while let Some(row) = rows.next().map_err(failure)? {
        let (subject, pattern) = (words.subject(row)?, words.pattern(row)?);
        let (levels, expires) = (column(row, 2)?, column(row, 3)?);
        let (by, at) = (column(row, 4)?, column(row, 5)?);
        batch.push(Item::Grant(Grant { row: policy::Grant { subject, pattern, levels, expires }, by, at }))?;
    }
    Ok(())
}

/// What the texts of the rows before stand for: most rows have the subject of the row before them, and a pattern that
/// many others have.
struct Words {
    subject: Option<(String, Subject)>,
    patterns: HashMap<Box<str>, Pattern, RandomState>,
}

impl Words {
    fn new() -> Self {
        Self { subject: None, patterns: HashMap::with_hasher(RandomState::new()) }
    }

    fn subject(&mut self, row: &Row<'_>) -> Result<Subject, StoreError> {
        let text = text(row, 0)?;
        match &self.subject {
            Some((known, subject)) if known == text => Ok(subject.clone()),
            _ => {
                let subject: Subject = column(row, 0)?;
                self.subject = Some((text.to_owned(), subject.clone()));
                Ok(subject)
            }
        }
    }

    fn pattern(&mut self, row: &Row<'_>) -> Result<Pattern, StoreError> {
        let text = text(row, 1)?;
        if let Some(pattern) = self.patterns.get(text) {
            return Ok(pattern.clone());
        }
        let pattern: Pattern = column(row, 1)?;
        if self.patterns.len() >= REMEMBERED {
            self.patterns.clear();
        }
        self.patterns.insert(text.into(), pattern.clone());
        Ok(pattern)
    }
}

fn text<'a>(row: &'a Row<'_>, index: usize) -> Result<&'a str, StoreError> {
    row.get_ref(index).map_err(failure)?.as_str().map_err(|_| damaged("a subject or a pattern is no text"))
}
