//! What concerns the audit itself: what is only noted in it, and what is removed from it.

use rusqlite::Connection;
use serde_json::json;

use super::{Outcome, write};
use crate::store::sqlite::chain;
use crate::store::sqlite::code::count;
use crate::store::sqlite::failure::failure;
use crate::store::sqlite::read;
use crate::store::{AUDIT_PRUNED, Head, StoreError, TunnelNote};

/// The trigger that stops mistakes, as the schema has it.
const STOP: &str = "CREATE TRIGGER audit_is_not_shortened BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'the audit is only appended to');
END";

pub(super) fn tunnel(note: TunnelNote) -> Outcome {
    let what = if note.open { "tunnel.open" } else { "tunnel.close" };
    Outcome::changed(what, note.name).before(note.before).after(note.after).about(note.service)
}

pub(super) fn prune(connection: &Connection, upto: Head) -> Result<Outcome, StoreError> {
    let seq = count(upto.seq);
    if chain::mac_at(connection, upto.seq)? != Some(upto.mac) {
        return Err(StoreError::Refused(format!("entry {} is not the one that was looked at", upto.seq)));
    }
    if !read::any(connection, "SELECT 1 FROM audit WHERE seq > ?1", [seq])? {
        return Err(StoreError::Refused("the newest entry of the audit stays".to_owned()));
    }
    let first = read::number(connection, "SELECT coalesce(min(seq), 0) FROM audit")?;
    let key = connection
        .query_row("SELECT chain_key FROM audit WHERE seq = ?1", [seq], |row| row.get::<_, i64>(0))
        .map_err(failure)?;
    connection.execute_batch("DROP TRIGGER IF EXISTS audit_is_not_shortened").map_err(failure)?;
    write(connection, "DELETE FROM audit WHERE seq <= ?1", [seq])?;
    connection.execute_batch(STOP).map_err(failure)?;
    Ok(Outcome::changed(AUDIT_PRUNED, "audit")
        .before(json!({ "first": first, "last": upto.seq }))
        .after(json!({ "head": upto.to_string(), "key": key })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_trigger_is_the_schemas() {
        let connection = Connection::open_in_memory().unwrap();
        for step in crate::store::sqlite::connection::MIGRATIONS {
            connection.execute_batch(step).unwrap();
        }
        let select = "SELECT sql FROM sqlite_master WHERE name = 'audit_is_not_shortened'";
        let schema: String = connection.query_row(select, [], |row| row.get(0)).unwrap();
        assert_eq!(schema, STOP);
    }
}
