//! Everything there is, read in one transaction and handed over in batches.

use std::collections::HashMap;

use ahash::RandomState;
use rusqlite::{Connection, Row};

use super::code::column;
use super::failure::{damaged, failure};
use super::read;
use super::row::Record;
use crate::policy::{self, GroupId, Subject, UserId};
use crate::store::{Grant, GrantRow, Grants, Item, Portion, Revision, StoreError, User};

/// Items in a batch: enough that handing it over costs nothing an item, few enough to stay in the processor's cache.
const BATCH: usize = 1024;

/// Grants in a portion: as many bytes as an allocator takes from what it has at hand.
const ROWS: usize = 2048;

/// How many patterns are remembered by their text. A population has a few thousand that most grants are on.
const REMEMBERED: usize = 1 << 16;

/// Takes what was read; its error ends the load.
type Take<'a, T> = &'a mut dyn FnMut(T) -> Result<(), StoreError>;

/// Hands every record over, in the order that [`crate::store::Feed::load_into`] promises.
///
/// # Errors
/// [`StoreError`] of the file, or the one that `take` ends the load with.
pub(super) fn whole(connection: &Connection, take: Take<'_, Vec<Item>>) -> Result<Revision, StoreError> {
    let transaction = connection.unchecked_transaction().map_err(failure)?;
    let mut batch = Batch { items: Vec::with_capacity(BATCH), take };
    before_grants(&transaction, &mut batch)?;
    grant_records(&transaction, &mut batch)?;
    after_grants(&transaction, &mut batch)?;
    read::revision(&transaction)
}

/// Hands everything over as [`crate::store::Feed::load_into`] does.
///
/// # Errors
/// As [`whole`].
pub(super) fn in_portions(
    connection: &Connection,
    take: &dyn Fn(Portion) -> Result<(), StoreError>,
) -> Result<Revision, StoreError> {
    let transaction = connection.unchecked_transaction().map_err(failure)?;
    let take_items = &mut |items| take(Portion::Items(items));
    let mut batch = Batch { items: Vec::with_capacity(BATCH), take: take_items };
    before_grants(&transaction, &mut batch)?;
    grants(&transaction, take)?;
    after_grants(&transaction, &mut batch)?;
    read::revision(&transaction)
}

fn before_grants(connection: &Connection, batch: &mut Batch<'_>) -> Result<(), StoreError> {
    each(connection, batch, Item::Group)?;
    users(connection, batch)?;
    each(connection, batch, Item::Link)?;
    each(connection, batch, Item::Namespace)?;
    each(connection, batch, |service| Item::Service(Box::new(service)))?;
    each(connection, batch, |node| Item::Node(Box::new(node)))?;
    batch.hand_over()
}

fn after_grants(connection: &Connection, batch: &mut Batch<'_>) -> Result<(), StoreError> {
    each(connection, batch, Item::Secret)?;
    each(connection, batch, Item::Consent)?;
    each(connection, batch, Item::Withdrawal)?;
    each(connection, batch, |token| Item::ApiToken(Box::new(token)))?;
    each(connection, batch, |key| Item::SigningKey(Box::new(key)))?;
    batch.hand_over()
}

/// What is handed over next.
struct Batch<'a> {
    items: Vec<Item>,
    take: Take<'a, Vec<Item>>,
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
fn grants(connection: &Connection, take: &dyn Fn(Portion) -> Result<(), StoreError>) -> Result<(), StoreError> {
    let select = "SELECT subject, pattern, levels, expires FROM grants ORDER BY subject, pattern";
    let mut statement = connection.prepare(select).map_err(failure)?;
    let mut rows = statement.query([]).map_err(failure)?;
    let (mut words, mut portion) = (Words::new(), portion());
    while let Some(row) = rows.next().map_err(failure)? {
        words.subject(row, &mut portion)?;
        let pattern = words.pattern(row, &mut portion)?;
        portion.rows.push(GrantRow { pattern, levels: column(row, 2)?, expires: column(row, 3)? });
        if portion.rows.len() == ROWS {
            take(Portion::Grants(std::mem::replace(&mut portion, self::portion())))?;
        }
    }
    take(Portion::Grants(portion))
}

/// The same with all that is known of each.
fn grant_records(connection: &Connection, batch: &mut Batch<'_>) -> Result<(), StoreError> {
    let select = format!("{} ORDER BY subject, pattern", Grant::SELECT);
    let mut statement = connection.prepare(&select).map_err(failure)?;
    let mut rows = statement.query([]).map_err(failure)?;
    let (mut words, mut known) = (Words::new(), Grants::default());
    while let Some(row) = rows.next().map_err(failure)? {
        words.subject(row, &mut known)?;
        let number = words.pattern(row, &mut known)?;
        let Some((subject, _)) = known.subjects.pop() else { continue };
        let Some(pattern) = known.patterns.get(number as usize).cloned() else { continue };
        let row_of_it = policy::Grant { subject, pattern, levels: column(row, 2)?, expires: column(row, 3)? };
        batch.push(Item::Grant(Grant { row: row_of_it, by: column(row, 4)?, at: column(row, 5)? }))?;
    }
    Ok(())
}

fn portion() -> Grants {
    Grants { rows: Vec::with_capacity(ROWS), ..Grants::default() }
}

/// What the texts of the rows before stand for: most rows have the subject of the row before them, and a pattern that
/// many others have.
struct Words {
    /// The subject of the row before, by its text, which is kept to be written over.
    text: Vec<u8>,
    subject: Option<Subject>,
    numbers: HashMap<Box<[u8]>, u32, RandomState>,
    next: u32,
}

impl Words {
    fn new() -> Self {
        let numbers = HashMap::with_hasher(RandomState::new());
        Self { text: Vec::new(), subject: None, numbers, next: 0 }
    }

    /// Counts the row as its subject's.
    fn subject(&mut self, row: &Row<'_>, portion: &mut Grants) -> Result<(), StoreError> {
        let text = text(row, 0)?;
        let subject = match &self.subject {
            Some(subject) if self.text == text => {
                if let Some((_, count)) = portion.subjects.last_mut() {
                    *count += 1;
                    return Ok(());
                }
                subject.clone()
            }
            _ => column(row, 0)?,
        };
        self.text.clear();
        self.text.extend_from_slice(text);
        self.subject = Some(subject.clone());
        portion.subjects.push((subject, 1));
        Ok(())
    }

    fn pattern(&mut self, row: &Row<'_>, portion: &mut Grants) -> Result<u32, StoreError> {
        let text = text(row, 1)?;
        if let Some(number) = self.numbers.get(text) {
            return Ok(*number);
        }
        portion.patterns.push(column(row, 1)?);
        if self.numbers.len() >= REMEMBERED {
            self.numbers.clear();
        }
        let number = self.next;
        self.next = number.checked_add(1).ok_or_else(|| damaged("there are more patterns than can be told apart"))?;
        self.numbers.insert(text.into(), number);
        Ok(number)
    }
}

fn text<'a>(row: &'a Row<'_>, index: usize) -> Result<&'a [u8], StoreError> {
    row.get_ref(index).map_err(failure)?.as_bytes().map_err(|_| damaged("a subject or a pattern is no text"))
}
