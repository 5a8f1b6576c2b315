//! The audit's chain in the file: entries are appended with their hash.
//!
//! What is hashed are the columns as they are kept, not what they mean: a space more in a JSON text is a change.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row};

use super::audit::Entry;
use super::code::{column, count, micros};
use super::failure::{damaged, failure};
use super::read;
use crate::store::{
    AUDIT_KEYS, Actor, CHAIN_BEGINS, CHAIN_BROKEN, ChainHash, ChainKeys, Followed, Head, Mac, Revision, StoreError,
};

/// Tells these hashes from every other use of a key.
const DOMAIN: &[u8] = b"carta-gateway audit 1";

/// What is hashed, in this order, then the hash itself.
pub(super) const SELECT: &str = "SELECT seq, revision, at, user, via, came_from, request_id, what, target, before, after, resource, \
                      chain_key, chain FROM audit";

/// How many columns are hashed.
const HASHED: usize = 13;
pub(super) const KEY: usize = 12;

/// How far the counter of entries may be ahead of them to be believed.
const BEYOND: u64 = 1 << 40;

/// The chain as this process appends to it.
pub(super) struct Chain {
    keys: Arc<dyn ChainKeys>,
    /// The keys that were opened last, with the text that they were sealed in.
    opened: Option<(String, Box<dyn ChainHash>)>,
    /// The bytes of the entry in hand.
    bytes: Vec<u8>,
}

impl Chain {
    pub(super) fn new(keys: Arc<dyn ChainKeys>) -> Self {
        Self { keys, opened: None, bytes: Vec::new() }
    }

    /// Appends the entries, in the transaction that the connection is in.
    pub(super) fn append(
        &mut self,
        connection: &Connection,
        revision: Revision,
        now: Timestamp,
        actor: &Actor,
        entries: &[Entry],
    ) -> Result<(), StoreError> {
        let mut last = self.end(connection, revision, now)?;
        for entry in entries {
            last = self.add(connection, last, revision, now, actor, entry)?;
        }
        Ok(())
    }

    /// The last entry; where the chain has not begun, it begins here, over what is there.
    fn end(&mut self, connection: &Connection, revision: Revision, now: Timestamp) -> Result<Last, StoreError> {
        let last = Last::of(connection)?;
        let mut broken = None;
        match read::setting(connection, AUDIT_KEYS)? {
            Some(sealed) => {
                let newest = self.hash(sealed)?.newest();
                broken = match last {
                    Some(last) if last.mac.is_none() => Some(format!("entry {} has no hash", last.seq)),
                    Some(last) if last.key > newest => {
                        Some(format!("entry {} names a key that is not there", last.seq))
                    }
                    _ => None,
                };
            }
            None => {
                let begun = read::any(connection, "SELECT 1 FROM audit WHERE chain IS NOT NULL", [])?;
                let known = self.opened.take().map(|(sealed, _)| sealed).filter(|_| begun);
                let sealed = known.map_or_else(|| self.keys.make(), Ok)?;
                connection
                    .execute("INSERT INTO settings (name, value) VALUES (?1, ?2)", (AUDIT_KEYS, &sealed))
                    .map_err(failure)?;
                self.hash(sealed)?;
                if begun {
                    broken = Some(format!("the keys, the setting `{AUDIT_KEYS}`, were gone"));
                } else if last.is_some() {
                    return self.begin_after(connection, revision, now);
                }
            }
        }
        // A number that was used is not used again, so that the removal of the last entries leaves a gap.
        let used = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'audit'";
        let used = read::number(connection, used)?;
        let last = last.unwrap_or_default();
        let used = if used.saturating_sub(last.seq) < BEYOND { used } else { last.seq };
        let last = Last { seq: last.seq.max(used), ..last };
        match broken {
            // The place is found by who follows the chain; that nothing could be changed any more would be worse.
            Some(found) => {
                tracing::error!(found, "the audit is not what it was: somebody else writes to the store");
                self.add(connection, last, revision, now, &of_the_store("append"), &note(&found, None))
            }
            None => Ok(last),
        }
    }

    /// Begins the chain after entries of an older schema: its first entry is hashed over all of them.
    fn begin_after(&mut self, connection: &Connection, revision: Revision, now: Timestamp) -> Result<Last, StoreError> {
        let mut last = Last::default();
        let mut statement = connection.prepare(&format!("{SELECT} ORDER BY seq")).map_err(failure)?;
        let mut rows = statement.query([]).map_err(failure)?;
        while let Some(row) = rows.next().map_err(failure)? {
            let Some((_, hash)) = &self.opened else { return Err(no_key()) };
            let mac = hash_row(&**hash, &mut self.bytes, row, last.mac.unwrap_or_default(), None)?;
            last = Last { seq: column(row, 0)?, mac, key: 1 };
        }
        let actor = of_the_store("start");
        let after = Some(serde_json::json!({ "before": last.seq }));
        let entry = Entry { what: CHAIN_BEGINS, target: "audit".to_owned(), before: None, after, resource: None };
        self.add(connection, last, revision, now, &actor, &entry)
    }

    fn add(
        &mut self,
        connection: &Connection,
        last: Last,
        revision: Revision,
        now: Timestamp,
        actor: &Actor,
        entry: &Entry,
    ) -> Result<Last, StoreError> {
        let insert = "INSERT INTO audit (seq, revision, at, user, via, came_from, request_id, what, target, before, after, \
                      resource, chain_key, chain) \
                      VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";
        let key = self.opened()?.newest();
        let seq = last.seq + 1;
        let text = |value: &Option<serde_json::Value>| value.as_ref().map(serde_json::Value::to_string).into();
        let row: [Value; HASHED] = [
            count(seq).into(),
            count(revision.0).into(),
            micros(now).into(),
            actor.user.map(|user| user.0.as_bytes().to_vec()).into(),
            actor.via.to_owned().into(),
            actor.from.to_string().into(),
            actor.request_id.as_deref().map(str::to_owned).into(),
            entry.what.to_owned().into(),
            entry.target.clone().into(),
            text(&entry.before),
            text(&entry.after),
            entry.resource.map(|resource| resource.0.as_bytes().to_vec()).into(),
            i64::from(key).into(),
        ];
        begin(&mut self.bytes, last.mac.unwrap_or_default());
        row.iter().for_each(|value| put(&mut self.bytes, value.into()));
        let mac = self.opened()?.hash(key, &self.bytes).ok_or_else(no_key)?;
        let chain = Value::from(mac.0.to_vec());
        connection
            .prepare_cached(insert)
            .and_then(|mut insert| insert.execute(rusqlite::params_from_iter(row.iter().chain([&chain]))))
            .map_err(failure)?;
        Ok(Last { seq, mac: Some(mac), key })
    }

    /// The keys that are sealed in the text.
    pub(super) fn hash(&mut self, sealed: String) -> Result<&dyn ChainHash, StoreError> {
        if self.opened.as_ref().is_none_or(|(known, _)| *known != sealed) {
            let opened = self.keys.open(&sealed)?;
            self.opened = Some((sealed, opened));
        }
        self.opened()
    }

    fn opened(&self) -> Result<&dyn ChainHash, StoreError> {
        self.opened.as_ref().map(|(_, opened)| &**opened).ok_or_else(no_key)
    }
}

/// The last entry.
#[derive(Clone, Copy, Default)]
struct Last {
    seq: u64,
    mac: Option<Mac>,
    key: u32,
}

impl Last {
    fn of(connection: &Connection) -> Result<Option<Self>, StoreError> {
        let statement = "SELECT seq, chain, chain_key FROM audit ORDER BY seq DESC LIMIT 1";
        let mut statement = connection.prepare_cached(statement).map_err(failure)?;
        let mut rows = statement.query([]).map_err(failure)?;
        let Some(row) = rows.next().map_err(failure)? else { return Ok(None) };
        Ok(Some(Self { seq: column(row, 0)?, mac: mac(row, 1)?, key: key(row, 2)?.unwrap_or(0) }))
    }
}

/// The entry that says that the audit is not what it was.
pub(super) fn note(found: &str, known: Option<Head>) -> Entry {
    let after = Some(serde_json::json!({ "found": found, "known": known.map(|known| known.to_string()) }));
    Entry { what: CHAIN_BROKEN, target: "audit".to_owned(), before: None, after, resource: None }
}

/// The store itself, as the audit names it.
pub(super) fn of_the_store(from: &str) -> Actor {
    Actor { user: None, via: "store", from: from.into(), request_id: None }
}

/// The newest entry, where it has a hash.
pub(super) fn head(connection: &Connection) -> Result<Option<Head>, StoreError> {
    Ok(end(connection)?.map(|end| Head { seq: end.seq, mac: end.mac }))
}

/// The chain followed to its end, without a look at it.
pub(super) fn end(connection: &Connection) -> Result<Option<Followed>, StoreError> {
    let followed = |last: Last| Some(Followed { seq: last.seq, mac: last.mac?, key: last.key, ..Followed::default() });
    Ok(Last::of(connection)?.and_then(followed))
}

/// The hash that the entry has.
pub(super) fn mac_at(connection: &Connection, seq: u64) -> Result<Option<Mac>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT chain FROM audit WHERE seq = ?1").map_err(failure)?;
    let mut rows = statement.query([count(seq)]).map_err(failure)?;
    rows.next().map_err(failure)?.map_or(Ok(None), |row| mac(row, 0))
}

/// The hash of the entry after the one with the hash `before`, as if it stood at `place`; none where its key is unknown.
pub(super) fn hash_row(
    hash: &dyn ChainHash,
    bytes: &mut Vec<u8>,
    row: &Row<'_>,
    before: Mac,
    place: Option<u64>,
) -> Result<Option<Mac>, StoreError> {
    begin(bytes, before);
    for index in 0..HASHED {
        match place {
            Some(place) if index == 0 => put(bytes, ValueRef::Integer(count(place))),
            _ => put(bytes, row.get_ref(index).map_err(failure)?),
        }
    }
    // What the chain took over names no key.
    Ok(hash.hash(key(row, KEY)?.unwrap_or(1), bytes))
}

/// Every value with its kind, and its length where it has one: no two entries have the same bytes.
fn put(bytes: &mut Vec<u8>, value: ValueRef<'_>) {
    let mut sized = |kind: u8, value: &[u8]| {
        bytes.push(kind);
        bytes.extend_from_slice(&(value.len() as u64).to_be_bytes());
        bytes.extend_from_slice(value);
    };
    match value {
        ValueRef::Null => sized(0, &[]),
        ValueRef::Integer(number) => sized(1, &number.to_be_bytes()),
        ValueRef::Real(number) => sized(2, &number.to_be_bytes()),
        ValueRef::Text(text) => sized(3, text),
        ValueRef::Blob(blob) => sized(4, blob),
    }
}

fn begin(bytes: &mut Vec<u8>, before: Mac) {
    bytes.clear();
    bytes.extend_from_slice(DOMAIN);
    bytes.extend_from_slice(&before.0);
}

/// The hash in the column; one of another length is none that holds.
pub(super) fn mac(row: &Row<'_>, index: usize) -> Result<Option<Mac>, StoreError> {
    let stored: Option<Vec<u8>> = column(row, index)?;
    Ok(stored.map(|bytes| bytes.try_into().map(Mac).unwrap_or_default()))
}

/// The number of the key in the column; 0, which no key has, for one that is none.
pub(super) fn key(row: &Row<'_>, index: usize) -> Result<Option<u32>, StoreError> {
    let stored: Option<i64> = column(row, index)?;
    Ok(stored.map(|number| u32::try_from(number).unwrap_or(0)))
}

fn no_key() -> StoreError {
    damaged("the audit's keys are not there")
}
