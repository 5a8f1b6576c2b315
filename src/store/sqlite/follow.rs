//! The audit's chain followed, from the first entry that is there to the last: whether each is what was written.

use rusqlite::{Connection, Row};

use super::chain::{Chain, KEY, SELECT, hash_row, key, mac};
use super::code::{column, count};
use super::failure::{damaged, failure};
use super::read;
use crate::store::{
    AUDIT_KEYS, AUDIT_PRUNED, Break, CHAIN_BEGINS, CHAIN_BROKEN, ChainHash, Followed, Head, Mac, Noted, Step,
    StoreError,
};

const WHAT: usize = 7;
const AFTER: usize = 10;
const CHAIN: usize = 13;

/// How far around an entry it is looked where else it may have been written.
const AROUND: i64 = 10_000;

/// Follows the chain over up to `limit` entries after `from`, and compares its end with what is told elsewhere.
pub(super) fn verify(
    connection: &Connection,
    chain: &mut Chain,
    from: Followed,
    limit: usize,
) -> Result<Step, StoreError> {
    let transaction = connection.unchecked_transaction().map_err(failure)?;
    match follow(&transaction, chain, from, limit)? {
        Step::Whole(at, noted) => Ok(outside(&transaction, at)?.map_or(Step::Whole(at, noted), Step::Broken)),
        other => Ok(other),
    }
}

/// Follows the chain over up to `limit` entries after `from`.
pub(super) fn follow(
    connection: &Connection,
    chain: &mut Chain,
    from: Followed,
    limit: usize,
) -> Result<Step, StoreError> {
    let Some(sealed) = read::setting(connection, AUDIT_KEYS)? else {
        if read::any(connection, "SELECT 1 FROM audit WHERE chain IS NOT NULL", [])? {
            return Err(keys_are_gone());
        }
        // Nothing was written since the schema knows the chain.
        let before = read::number(connection, "SELECT coalesce(max(seq), 0) FROM audit")?;
        return Ok(Step::Whole(Followed { seq: before, before, ..Followed::default() }, Vec::new()));
    };
    let mut look = Look { connection, hash: chain.hash(sealed)?, bytes: Vec::new() };
    let floor = floor(connection)?;
    // What was removed since, or before, is vouched for by an entry that is followed to like any other.
    let from = if from.seq < floor.seq { floor } else { Followed { pruned: floor.seq, ..from } };
    let (mut at, mut noted, mut seen) = (from, Vec::new(), 0);
    let after = format!("{SELECT} WHERE seq > ?1 ORDER BY seq LIMIT ?2");
    let mut statement = connection.prepare_cached(&after).map_err(failure)?;
    let mut rows = statement.query((count(at.seq), i64::try_from(limit).unwrap_or(i64::MAX))).map_err(failure)?;
    while let Some(row) = rows.next().map_err(failure)? {
        seen += 1;
        at = match look.at(at, row)? {
            Ok(next) => next,
            Err(fault) => return Ok(Step::Broken(fault)),
        };
        if what(row)? == CHAIN_BROKEN {
            noted.push(Noted { seq: at.seq, said: column::<Option<String>>(row, AFTER)?.unwrap_or_default() });
        }
    }
    if seen == limit {
        return Ok(Step::More(at, noted));
    }
    // Keys are made with the first entry that is hashed: that none is means that the hashes were taken away.
    let unhashed = at.before == at.seq && at.seq > 0;
    Ok(if unhashed { Step::Broken(Break::Unchained { seq: at.seq }) } else { Step::Whole(at, noted) })
}

/// Where the chain begins that is there: after what the last pruning removed. That entry is no more to be believed than any
/// other, but it follows from what it says: who has no key makes none that holds.
pub(super) fn floor(connection: &Connection) -> Result<Followed, StoreError> {
    let last = "SELECT after, seq FROM audit WHERE what = ?1 ORDER BY seq DESC LIMIT 1";
    let mut statement = connection.prepare_cached(last).map_err(failure)?;
    let mut rows = statement.query([AUDIT_PRUNED]).map_err(failure)?;
    let Some(row) = rows.next().map_err(failure)? else { return Ok(Followed::default()) };
    let said = row.get_ref(0).map_err(failure)?.as_str().unwrap_or_default();
    let read = || {
        let said: serde_json::Value = serde_json::from_str(said).ok()?;
        let head: Head = said.get("head")?.as_str()?.parse().ok()?;
        let key = u32::try_from(said.get("key")?.as_u64()?).ok()?;
        // One that stands before what it names would be followed to by nobody.
        let seq = row.get::<_, i64>(1).ok()?;
        if seq <= count(head.seq) {
            return None;
        }
        Some(Followed { seq: head.seq, mac: head.mac, key, before: 0, pruned: head.seq })
    };
    Ok(read().unwrap_or_default())
}

/// What is wrong beside the entries that were followed.
fn outside(connection: &Connection, end: Followed) -> Result<Option<Break>, StoreError> {
    // Numbers begin with 1, or after those that were removed: what stands before is no entry of ours.
    let before = "SELECT coalesce(min(seq), ?1 + 1) FROM audit WHERE seq <= ?1";
    let mut before = connection.prepare_cached(before).map_err(failure)?;
    let least: i64 = before.query_row([count(end.pruned)], |row| row.get(0)).map_err(failure)?;
    if least <= count(end.pruned) {
        return Ok(Some(Break::Foreign { seq: least.max(0).unsigned_abs() }));
    }
    let last = end.seq;
    let used = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'audit'";
    let told = "SELECT revision FROM audit ORDER BY seq DESC LIMIT 1";
    let revision = if last == 0 { 0 } else { read::number(connection, told)? };
    let cut = read::number(connection, used)? > last || read::revision(connection)?.0 > revision;
    Ok(cut.then_some(Break::Cut { seq: last }))
}

/// One entry after another, compared with what the chain makes of it.
struct Look<'a> {
    connection: &'a Connection,
    hash: &'a dyn ChainHash,
    bytes: Vec<u8>,
}

impl Look<'_> {
    /// How far the chain holds with this entry, the next after `at`.
    fn at(&mut self, at: Followed, row: &Row<'_>) -> Result<Result<Followed, Break>, StoreError> {
        let seq: u64 = column(row, 0)?;
        if seq != at.seq + 1 {
            return Ok(Err(Break::Missing { from: at.seq + 1, to: seq - 1 }));
        }
        let none_yet = at.before == at.seq;
        let Some(stored) = mac(row, CHAIN)? else {
            let hashed = hash_row(self.hash, &mut self.bytes, row, at.mac, None)?;
            let next = hashed.filter(|_| none_yet).map(|mac| Followed { seq, mac, key: 1, before: seq, ..at });
            return Ok(next.ok_or(Break::Unchained { seq }));
        };
        let key = key(row, KEY)?.unwrap_or(0);
        let hashed = hash_row(self.hash, &mut self.bytes, row, at.mac, None)?.filter(|_| key >= at.key);
        let Some(hashed) = hashed else { return Ok(Err(Break::WrongKey { seq, key })) };
        let first_after_others = none_yet && at.before > 0;
        if hashed == stored {
            if first_after_others && what(row)? != CHAIN_BEGINS {
                return Ok(Err(Break::Unchained { seq: at.seq }));
            }
            return Ok(Ok(Followed { seq, mac: stored, key, ..at }));
        }
        if first_after_others {
            return Ok(Err(Break::BeforeChain { upto: seq }));
        }
        self.why(seq, row, stored, hashed).map(Err)
    }

    /// What has become of an entry whose hash does not hold.
    fn why(&mut self, seq: u64, row: &Row<'_>, stored: Mac, hashed: Mac) -> Result<Break, StoreError> {
        if let Some(was) = self.written_at(seq, row, stored)? {
            return Ok(Break::Moved { seq, was });
        }
        let next = format!("{SELECT} WHERE seq = ?1");
        let mut statement = self.connection.prepare_cached(&next).map_err(failure)?;
        let mut rows = statement.query([count(seq + 1)]).map_err(failure)?;
        let Some(next) = rows.next().map_err(failure)? else { return Ok(Break::Foreign { seq }) };
        let of_next = mac(next, CHAIN)?;
        for before in [stored, hashed] {
            if hash_row(self.hash, &mut self.bytes, next, before, None)? == of_next {
                return Ok(Break::Altered { seq });
            }
        }
        Ok(Break::Foreign { seq })
    }

    /// At which other place near by the entry has the hash that it has.
    fn written_at(&mut self, seq: u64, row: &Row<'_>, stored: Mac) -> Result<Option<u64>, StoreError> {
        let around = "SELECT seq, chain FROM audit WHERE seq BETWEEN ?1 - ?2 AND ?1 + ?2 ORDER BY seq";
        let mut statement = self.connection.prepare_cached(around).map_err(failure)?;
        let mut rows = statement.query((count(seq), AROUND)).map_err(failure)?;
        let mut before = (seq <= AROUND.unsigned_abs()).then_some((0, Mac::default()));
        loop {
            let known = rows.next().map_err(failure)?;
            let here =
                known.map(|known| Ok((column::<u64>(known, 0)?, mac(known, 1)?.unwrap_or_default()))).transpose()?;
            // After the entry before, and in the place of one that took the place of this one.
            let places = [before.map(|(at, mac)| (at + 1, mac)), here];
            for (place, mac) in places.into_iter().flatten() {
                if hash_row(self.hash, &mut self.bytes, row, mac, Some(place))? == Some(stored) {
                    return Ok(Some(place));
                }
            }
            before = here;
            if here.is_none() {
                return Ok(None);
            }
        }
    }
}

fn what<'a>(row: &'a Row<'_>) -> Result<&'a str, StoreError> {
    row.get_ref(WHAT).map_err(failure).map(|what| what.as_str().unwrap_or_default())
}

fn keys_are_gone() -> StoreError {
    damaged(format!("the audit's keys, the setting `{AUDIT_KEYS}`, are gone"))
}
