//! The feed: which keys each revision was about.

use rusqlite::types::Value;
use rusqlite::{Connection, Row};

use super::code::{column, count, pattern_text};
use super::failure::{damaged, failure};
use super::read;
use crate::store::{Changes, Key, Revision, StoreError};

/// How many rows are kept: a reader that is further behind loads everything.
pub(super) const KEEP: i64 = 100_000;

/// How many rows may come together before the oldest are removed, so that not every change pays for it.
const SLACK: i64 = 1000;

/// Notes that the revision was about these keys.
pub(super) fn record(connection: &Connection, revision: Revision, keys: &[Key]) -> Result<(), StoreError> {
    let mut insert = connection
        .prepare_cached("INSERT INTO changes (revision, kind, a, b, c) VALUES (?1, ?2, ?3, ?4, ?5)")
        .map_err(failure)?;
    for key in keys {
        let (kind, a, b, c) = columns(key);
        insert.execute((count(revision.0), kind, a, b, c)).map_err(failure)?;
    }
    Ok(())
}

/// Removes the oldest rows where there are more than `keep`, and some.
pub(super) fn prune(connection: &Connection, keep: i64) -> Result<(), StoreError> {
    let bounds = connection
        .prepare_cached("SELECT (SELECT min(seq) FROM changes), (SELECT max(seq) FROM changes)")
        .and_then(|mut bounds| bounds.query_row([], |row| Ok((row.get(0)?, row.get(1)?))));
    let (Some(first), Some(last)): (Option<i64>, Option<i64>) = bounds.map_err(failure)? else { return Ok(()) };
    if last - first < keep + SLACK.min(keep) {
        return Ok(());
    }
    // The floor is raised to the newest revision that loses a row: from there on the rest is whole.
    let all = "UPDATE meta SET floor = (SELECT max(revision) FROM changes WHERE seq <= ?1)";
    connection.execute(all, [last - keep]).map_err(failure)?;
    connection.execute("DELETE FROM changes WHERE seq <= ?1", [last - keep]).map_err(failure)?;
    Ok(())
}

/// What changed after `since`, as it is now.
pub(super) fn since(connection: &Connection, since: Revision) -> Result<Changes, StoreError> {
    let transaction = connection.unchecked_transaction().map_err(failure)?;
    let revision = read::revision(&transaction)?;
    let floor = Revision(read::number(&transaction, "SELECT floor FROM meta")?);
    // A reader ahead of the store has seen a store that is no more: a backup was restored.
    if since < floor || since > revision {
        return Ok(Changes::Gap);
    }
    let mut select = transaction
        .prepare_cached("SELECT DISTINCT kind, a, b, c FROM changes WHERE revision > ?1")
        .map_err(failure)?;
    let mut rows = select.query([count(since.0)]).map_err(failure)?;
    let mut items = Vec::new();
    while let Some(row) = rows.next().map_err(failure)? {
        items.push(read::item(&transaction, &key(row)?)?);
    }
    Ok(Changes::Patch { revision, items })
}

fn columns(key: &Key) -> (&'static str, Value, Option<String>, Option<Value>) {
    let id = |id: &uuid::Uuid| Value::Blob(id.as_bytes().to_vec());
    match key {
        Key::User(user) => ("user", id(&user.0), None, None),
        Key::Link(issuer, subject) => ("link", issuer.clone().into(), Some(subject.clone()), None),
        Key::Group(group) => ("group", id(&group.0), None, None),
        Key::Namespace(resource) => ("namespace", id(&resource.0), None, None),
        Key::Service(resource) => ("service", id(&resource.0), None, None),
        Key::Node(resource) => ("node", id(&resource.0), None, None),
        Key::Grant(subject, pattern) => ("grant", subject.to_string().into(), Some(pattern_text(pattern)), None),
        Key::Secret(user, name) => ("secret", id(&user.0), Some(name.clone()), None),
        Key::Consent(user, secret, fingerprint) => {
            ("consent", id(&user.0), Some(secret.clone()), Some(fingerprint.clone().into()))
        }
        Key::Withdrawal(user, secret, service) => {
            ("withdrawal", id(&user.0), Some(secret.clone()), Some(id(&service.0)))
        }
        Key::ApiToken(token) => ("token", id(&token.0), None, None),
        Key::SigningKey(kid) => ("key", kid.clone().into(), None, None),
    }
}

fn key(row: &Row<'_>) -> Result<Key, StoreError> {
    let kind: String = column(row, 0)?;
    Ok(match kind.as_str() {
        "user" => Key::User(column(row, 1)?),
        "link" => Key::Link(column(row, 1)?, column(row, 2)?),
        "group" => Key::Group(column(row, 1)?),
        "namespace" => Key::Namespace(column(row, 1)?),
        "service" => Key::Service(column(row, 1)?),
        "node" => Key::Node(column(row, 1)?),
        "grant" => Key::Grant(column(row, 1)?, column(row, 2)?),
        "secret" => Key::Secret(column(row, 1)?, column(row, 2)?),
        "consent" => Key::Consent(column(row, 1)?, column(row, 2)?, column(row, 3)?),
        "withdrawal" => Key::Withdrawal(column(row, 1)?, column(row, 2)?, column(row, 3)?),
        "token" => Key::ApiToken(column(row, 1)?),
        "key" => Key::SigningKey(column(row, 1)?),
        other => return Err(damaged(format!("the feed names an unknown kind `{other}`"))),
    })
}
