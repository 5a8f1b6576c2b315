//! The access record: counts by day, refusals by id, both bounded in age and number.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use jiff::Timestamp;
use rusqlite::{Connection, Row, Transaction, TransactionBehavior};
use uuid::Uuid;

use super::code::{column, count, micros, pattern_text};
use super::failure::failure;
use super::read;
use super::row::Record;
use crate::policy::{Pattern, UserId};
use crate::store::{
    Batch, Count, DAYS_KEPT, MOST_COUNTS, MOST_COUNTS_OF_USER, MOST_REFUSALS, Refusal, StoreError, access,
};

/// How many rows one batch removes at most beside as many as it adds, so that the writer is soon free again.
const SWEPT: i64 = 5000;

/// How many rows are kept of each table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) counts: i64,
    /// Of one user on one day, apart by resource.
    pub(super) of_user: i64,
    pub(super) refusals: i64,
}

/// The bounds of every store.
pub(super) const BOUNDS: Bounds = Bounds { counts: MOST_COUNTS, of_user: MOST_COUNTS_OF_USER, refusals: MOST_REFUSALS };

/// Adds the batch in a transaction of its own, and removes what is too old or too much at `now`.
pub(super) fn record(
    connection: &mut Connection,
    batch: &Batch,
    now: Timestamp,
    bounds: Bounds,
) -> Result<(), StoreError> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failure)?;
    let mut shares = HashMap::new();
    batch.counts.iter().try_for_each(|one| add(&transaction, one, &mut shares, bounds.of_user))?;
    batch.refusals.iter().try_for_each(|one| keep(&transaction, one))?;
    sweep(&transaction, batch, now, bounds)?;
    transaction.commit().map_err(failure)
}

/// The refusal of this id, where it is not older at `now` than it is kept: nothing is removed while nothing comes.
pub(super) fn refusal(connection: &Connection, id: &str, now: Timestamp) -> Result<Option<Refusal>, StoreError> {
    read::one(connection, "WHERE id = ?1 AND at >= ?2", (id, micros(oldest(now))))
}

/// Up to `limit` counts of `since` and later days, the newest first.
pub(super) fn counts(connection: &Connection, since: i32, limit: usize) -> Result<Vec<Count>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    read::all(connection, "WHERE day >= ?1 ORDER BY seq DESC LIMIT ?2", (since, limit))
}

/// Rows of a user on a day.
type Shares = HashMap<(i32, UserId), i64>;

fn add(transaction: &Transaction<'_>, one: &Count, shares: &mut Shares, of_user: i64) -> Result<(), StoreError> {
    let named = one.resource.as_ref().map(pattern_text).unwrap_or_default();
    let same = "WHERE day = ?1 AND user = ?2 AND service = ?3 AND operation = ?4 AND need = ?5 AND resource = ?6";
    let row = |resource: &str| {
        let (user, service) = (*one.user.0.as_bytes(), *one.service.0.as_bytes());
        let operation = one.operation.clone().unwrap_or_default();
        let (allowed, refused) = (count(one.allowed), count(one.refused));
        (one.day, user, service, operation, one.need.bits(), resource.to_owned(), allowed, refused)
    };
    let known = format!("UPDATE access_counts SET allowed = allowed + ?7, refused = refused + ?8 {same}");
    let mut increase = transaction.prepare_cached(&known).map_err(failure)?;
    if increase.execute(row(&named)).map_err(failure)? > 0 {
        return Ok(());
    }
    let share = match shares.entry((one.day, one.user)) {
        Entry::Occupied(share) => share.into_mut(),
        Entry::Vacant(share) => {
            let rows = "SELECT count(*) FROM access_counts WHERE day = ?1 AND user = ?2";
            let mut rows = transaction.prepare_cached(rows).map_err(failure)?;
            let there = rows.query_row((one.day, one.user.0.as_bytes()), |row| row.get(0)).map_err(failure)?;
            share.insert(there)
        }
    };
    // Without the resource there are only as many as services have operations.
    let resource = if *share < of_user { named.as_str() } else { "" };
    *share += 1;
    let insert = "INSERT INTO access_counts (day, user, service, operation, need, resource, allowed, refused) \
                  VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
                  ON CONFLICT (day, user, service, operation, need, resource) \
                  DO UPDATE SET allowed = allowed + excluded.allowed, refused = refused + excluded.refused";
    let mut insert = transaction.prepare_cached(insert).map_err(failure)?;
    insert.execute(row(resource)).map_err(failure).map(|_| ())
}

fn keep(transaction: &Transaction<'_>, one: &Refusal) -> Result<(), StoreError> {
    let statement = "INSERT INTO refusals (id, at, user, service, operation, method, path, need, resource, permitted, \
                     problem, status, revision, took, detail, why) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16) \
                     ON CONFLICT (id) DO NOTHING";
    let mut insert = transaction.prepare_cached(statement).map_err(failure)?;
    let row = (
        &one.id,
        micros(one.at),
        one.user.0.as_bytes(),
        one.service.as_ref().map(|service| service.0.as_bytes()),
        &one.operation,
        &one.method,
        &one.path,
        one.need.map(|need| need.bits()),
        one.resource.as_ref().map(pattern_text),
        one.permitted,
        &one.problem,
        one.status,
        count(one.revision),
        count(one.took),
        &one.detail,
        one.why.as_ref().map(ToString::to_string),
    );
    insert.execute(row).map_err(failure).map(|_| ())
}

/// The moment from which on refusals are kept.
fn oldest(now: Timestamp) -> Timestamp {
    Timestamp::from_second(i64::from(DAYS_KEPT) * -24 * 60 * 60 + now.as_second()).unwrap_or(now)
}

/// Removes what is older than it is kept, and the oldest of what is more than is kept.
fn sweep(transaction: &Transaction<'_>, batch: &Batch, now: Timestamp, bounds: Bounds) -> Result<(), StoreError> {
    let day = access::day(now) - DAYS_KEPT;
    let moment = oldest(now);
    for (table, old, bound, most, added) in [
        ("access_counts", "day < ?1", i64::from(day), bounds.counts, batch.counts.len()),
        ("refusals", "at < ?1", micros(moment), bounds.refusals, batch.refusals.len()),
    ] {
        let swept = SWEPT.saturating_add(i64::try_from(added).unwrap_or(i64::MAX));
        let aged = format!("DELETE FROM {table} WHERE seq IN (SELECT seq FROM {table} WHERE {old} LIMIT ?2)");
        transaction.prepare_cached(&aged).and_then(|mut delete| delete.execute([bound, swept])).map_err(failure)?;
        let surplus = format!(
            "DELETE FROM {table} WHERE seq IN (SELECT seq FROM {table} WHERE seq <= \
             (SELECT max(seq) FROM {table}) - ?1 LIMIT ?2)"
        );
        transaction.prepare_cached(&surplus).and_then(|mut delete| delete.execute([most, swept])).map_err(failure)?;
    }
    Ok(())
}

/// A name that may be absent, from a column in which the empty text stands for that.
fn named<T>(
    row: &Row<'_>,
    index: usize,
    read: impl FnOnce() -> Result<T, StoreError>,
) -> Result<Option<T>, StoreError> {
    if column::<String>(row, index)?.is_empty() { Ok(None) } else { read().map(Some) }
}

impl Record for Count {
    const SELECT: &'static str =
        "SELECT day, user, service, operation, need, resource, allowed, refused FROM access_counts";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            day: i32::try_from(column::<i64>(row, 0)?).unwrap_or_default(),
            user: UserId(column::<Uuid>(row, 1)?),
            service: column(row, 2)?,
            operation: named(row, 3, || column(row, 3))?,
            need: column(row, 4)?,
            resource: named(row, 5, || column::<Pattern>(row, 5))?,
            allowed: column(row, 6)?,
            refused: column(row, 7)?,
        })
    }
}

impl Record for Refusal {
    const SELECT: &'static str = "SELECT id, at, user, service, operation, method, path, need, resource, permitted, \
                                  problem, status, revision, took, detail, why FROM refusals";

    fn read(row: &Row<'_>) -> Result<Self, StoreError> {
        Ok(Self {
            id: column(row, 0)?,
            at: column(row, 1)?,
            user: column(row, 2)?,
            service: column(row, 3)?,
            operation: column(row, 4)?,
            method: column(row, 5)?,
            path: column(row, 6)?,
            need: column(row, 7)?,
            resource: column(row, 8)?,
            permitted: column(row, 9)?,
            problem: column(row, 10)?,
            status: u16::try_from(column::<i64>(row, 11)?).unwrap_or_default(),
            revision: column(row, 12)?,
            took: column(row, 13)?,
            detail: column(row, 14)?,
            why: column(row, 15)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Levels, ResourceId};

    const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
    const FEW: Bounds = Bounds { counts: 10, of_user: 4, refusals: 5 };

    fn store() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        for step in crate::store::sqlite::connection::MIGRATIONS {
            connection.execute_batch(step).unwrap();
        }
        connection
    }

    fn counted(user: u128, name: usize) -> Count {
        Count {
            day: access::day(NOW),
            user: UserId(Uuid::from_u128(user)),
            service: ResourceId(Uuid::nil()),
            operation: Some("tag".to_owned()),
            need: Levels::READ,
            resource: Some(Pattern::literal(["a", &name.to_string()]).unwrap()),
            allowed: 1,
            refused: 2,
        }
    }

    fn refused(number: usize) -> Refusal {
        Refusal {
            id: number.to_string(),
            at: NOW,
            user: UserId(Uuid::nil()),
            service: None,
            operation: None,
            method: "GET".to_owned(),
            path: "/".to_owned(),
            need: None,
            resource: None,
            permitted: None,
            problem: "x".to_owned(),
            status: 400,
            revision: 1,
            took: 1,
            detail: String::new(),
            why: None,
        }
    }

    fn add(connection: &mut Connection, counts: Vec<Count>, refusals: Vec<Refusal>) {
        record(connection, &Batch { counts, refusals }, NOW, FEW).unwrap();
    }

    #[test]
    fn of_more_than_are_kept_the_oldest_go() {
        let mut connection = store();
        for user in 0..12 {
            add(&mut connection, vec![counted(user, 0)], vec![refused(usize::try_from(user).unwrap())]);
        }
        let kept = counts(&connection, 0, 100).unwrap();
        let users: Vec<u128> = kept.iter().map(|count| count.user.0.as_u128()).collect();
        assert_eq!(users, (2..12).rev().collect::<Vec<_>>());
        let there = |number: usize| refusal(&connection, &number.to_string(), NOW).unwrap().is_some();
        assert_eq!((0..12).filter(|number| there(*number)).collect::<Vec<_>>(), (7..12).collect::<Vec<_>>());
        // More in one batch than are kept at all.
        add(&mut connection, (0..30).map(|user| counted(user + 100, 0)).collect(), vec![]);
        assert_eq!(counts(&connection, 0, 100).unwrap().len(), 10);
    }

    #[test]
    fn one_user_takes_a_share_and_what_is_more_is_added_up_without_the_resource() {
        let mut connection = store();
        add(&mut connection, vec![counted(2, 0)], vec![]);
        for _ in 0..2 {
            add(&mut connection, (0..9).map(|name| counted(1, name)).collect(), vec![]);
        }
        let kept = counts(&connection, 0, 100).unwrap();
        let of = |user: u128| kept.iter().filter(move |count| count.user.0.as_u128() == user);
        assert_eq!((of(1).count(), of(2).count()), (5, 1));
        let together = of(1).find(|count| count.resource.is_none()).unwrap();
        assert_eq!((together.allowed, together.refused), (10, 20));
        assert_eq!(of(1).map(|count| count.allowed).sum::<u64>(), 18, "nothing is lost");
    }
}
