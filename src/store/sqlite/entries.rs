//! Questions to the audit: by the index of the most telling condition, newest first, within bounds whatever is asked.

use rusqlite::types::Value;
use rusqlite::{Connection, Row};

use super::code::{count, micros};
use super::failure::failure;
use super::read;
use super::row::Record;
use crate::store::{Audit, AuditPage, AuditQuery, StoreError};

/// How many entries one question looks at: tens of milliseconds.
const LOOKED_AT: usize = 20_000;

/// Bytes of JSON that one question looks at, those of entries included that it passes over.
const BYTES_LOOKED_AT: usize = 16 << 20;

/// Bytes of JSON in one answer, beyond which it ends; what is one entry is answered whole.
const BYTES: usize = 1 << 20;

const USER: usize = 3;
const WHAT: usize = 7;
const TARGET: usize = 8;
const BEFORE: usize = 9;
const AFTER: usize = 10;
const RESOURCE: usize = 11;

/// The entries that are asked for.
pub(super) fn find(connection: &Connection, query: &AuditQuery) -> Result<AuditPage, StoreError> {
    let (statement, parameters) = statement(query);
    let mut statement = connection.prepare_cached(&statement).map_err(failure)?;
    let mut rows = statement.query(rusqlite::params_from_iter(parameters)).map_err(failure)?;
    let mut page = AuditPage::default();
    let (mut looked_at, mut bytes_looked_at, mut bytes) = (0, 0, 0);
    while let Some(row) = rows.next().map_err(failure)? {
        if page.entries.len() >= query.limit
            || looked_at >= LOOKED_AT
            || bytes >= BYTES
            || bytes_looked_at >= BYTES_LOOKED_AT
        {
            return Ok(page);
        }
        let size = size(row, BEFORE)? + size(row, AFTER)?;
        looked_at += 1;
        bytes_looked_at += size;
        page.next = Some(row.get(0).map_err(failure).map(i64::unsigned_abs)?);
        if fits(query, row)? {
            bytes += size;
            page.entries.push(Audit::read(row)?);
        }
    }
    Ok(AuditPage { next: None, ..page })
}

/// What is read, with the condition whose index leads to the fewest entries; the others are looked at one by one.
fn statement(query: &AuditQuery) -> (String, Vec<Value>) {
    let mut conditions = Vec::new();
    let mut values: Vec<Value> = Vec::new();
    let leading = None
        .or_else(|| query.resource.map(|id| ("resource", Value::from(id.0.as_bytes().to_vec()))))
        .or_else(|| query.target.clone().map(|target| ("target", target.into())))
        .or_else(|| query.user.map(|id| ("user", id.0.as_bytes().to_vec().into())))
        .or_else(|| query.what.clone().map(|what| ("what", what.into())));
    if let Some((column, value)) = leading {
        conditions.push(format!("{column} = ?"));
        values.push(value);
    }
    for (condition, value) in [
        ("at >= ?", query.from.map(|from| Value::from(micros(from)))),
        ("at < ?", query.to.map(|to| micros(to).into())),
        ("(at, seq) < ((SELECT at FROM audit WHERE seq = ?), ?)", query.after.map(|after| count(after).into())),
    ] {
        let Some(value) = value else { continue };
        conditions.push(condition.to_owned());
        values.extend(std::iter::repeat_n(value, condition.matches('?').count()));
    }
    let condition = if conditions.is_empty() { String::new() } else { format!("WHERE {}", conditions.join(" AND ")) };
    (format!("{} {condition} ORDER BY at DESC, seq DESC", Audit::SELECT), values)
}

fn fits(query: &AuditQuery, row: &Row<'_>) -> Result<bool, StoreError> {
    let blob = |index: usize, id: &[u8; 16]| -> Result<bool, StoreError> {
        Ok(row.get_ref(index).map_err(failure)?.as_blob().is_ok_and(|blob| blob == id))
    };
    let text = |index: usize, text: &str| -> Result<bool, StoreError> {
        Ok(row.get_ref(index).map_err(failure)?.as_str() == Ok(text))
    };
    Ok(query.user.map_or(Ok(true), |id| blob(USER, id.0.as_bytes()))?
        && query.resource.map_or(Ok(true), |id| blob(RESOURCE, id.0.as_bytes()))?
        && query.what.as_deref().map_or(Ok(true), |what| text(WHAT, what))?
        && query.target.as_deref().map_or(Ok(true), |target| text(TARGET, target))?)
}

fn size(row: &Row<'_>, index: usize) -> Result<usize, StoreError> {
    Ok(row.get_ref(index).map_err(failure)?.as_bytes_or_null().ok().flatten().map_or(0, <[u8]>::len))
}

/// Whether there is an entry of this number, from which a page may go on.
pub(super) fn is_there(connection: &Connection, seq: u64) -> Result<bool, StoreError> {
    read::any(connection, "SELECT 1 FROM audit WHERE seq = ?1", [count(seq)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{ResourceId, UserId};
    use jiff::Timestamp;

    #[test]
    fn what_a_question_passes_over_counts_by_its_bytes() {
        let connection = Connection::open_in_memory().unwrap();
        for step in crate::store::sqlite::connection::MIGRATIONS {
            connection.execute_batch(step).unwrap();
        }
        let entry = "INSERT INTO audit (seq, revision, at, user, via, came_from, what, target, after) VALUES (?1, 1, ?1, ?2, \
                     'api', '', 'service.put', 'a', ?3)";
        let (own, others) = ([1_u8; 16], [2_u8; 16]);
        let large = format!("\"{}\"", "x".repeat(1 << 20));
        connection.execute(entry, (1, own, "1")).unwrap();
        for seq in 2..40 {
            connection.execute(entry, (seq, others, &large)).unwrap();
        }
        let mut query = AuditQuery {
            user: Some(UserId(uuid::Uuid::from_bytes(own))),
            target: Some("a".to_owned()),
            limit: 10,
            ..AuditQuery::default()
        };
        let (mut pages, mut found) = (0, 0);
        loop {
            let page = find(&connection, &query).unwrap();
            (pages, found) = (pages + 1, found + page.entries.len());
            query.after = page.next;
            if page.next.is_none() {
                break;
            }
        }
        assert_eq!((pages, found), (3, 1));
    }

    /// Every question is led by an index, so that it stays quick with millions of entries.
    #[test]
    fn no_question_reads_the_whole_audit_or_sorts_it() {
        let connection = Connection::open_in_memory().unwrap();
        for step in crate::store::sqlite::connection::MIGRATIONS {
            connection.execute_batch(step).unwrap();
        }
        let id = uuid::Uuid::nil();
        for number in 0..1 << 7 {
            let bit = |place: u32| number & (1 << place) != 0;
            let at = |place: u32| bit(place).then_some(Timestamp::UNIX_EPOCH);
            let query = AuditQuery {
                user: bit(0).then_some(UserId(id)),
                resource: bit(1).then_some(ResourceId(id)),
                target: bit(2).then(|| "a".to_owned()),
                what: bit(3).then(|| "b".to_owned()),
                from: at(4),
                to: at(5),
                after: bit(6).then_some(7),
                limit: 10,
            };
            let (statement, parameters) = statement(&query);
            let mut explained = connection.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
            let plan: Vec<String> = explained
                .query_map(rusqlite::params_from_iter(parameters), |row| row.get(3))
                .unwrap()
                .map(Result::unwrap)
                .collect();
            let plan = plan.join("; ");
            assert!(plan.contains("USING INDEX audit_") && !plan.contains("TEMP B-TREE"), "{statement}: {plan}");
            let led = bit(0) || bit(1) || bit(2) || bit(3);
            assert!(!led || plan.contains("=?"), "{statement}: {plan}");
        }
    }
}
