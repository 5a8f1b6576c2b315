//! From rows to records: everything, one item, one thing by name.

use rusqlite::{Connection, OptionalExtension, Params};

use super::code::{column, count, pattern_text};
use super::failure::{damaged, failure};
use super::row::Record;
use crate::policy::{GroupId, UserId};
use crate::store::{Audit, Item, Key, Password, Revision, StoreError, User};

/// Every record that the condition leaves.
pub(super) fn all<T: Record>(
    connection: &Connection,
    condition: &str,
    parameters: impl Params,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{} {condition}", T::SELECT)).map_err(failure)?;
    let mut rows = statement.query(parameters).map_err(failure)?;
    let mut records = Vec::new();
    while let Some(row) = rows.next().map_err(failure)? {
        records.push(T::read(row)?);
    }
    Ok(records)
}

/// The one record that the condition leaves, if it leaves one.
pub(super) fn one<T: Record>(
    connection: &Connection,
    condition: &str,
    parameters: impl Params,
) -> Result<Option<T>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("{} {condition}", T::SELECT)).map_err(failure)?;
    let mut rows = statement.query(parameters).map_err(failure)?;
    rows.next().map_err(failure)?.map(T::read).transpose()
}

/// Whether the statement finds a row.
pub(super) fn any(connection: &Connection, statement: &str, parameters: impl Params) -> Result<bool, StoreError> {
    connection.prepare_cached(statement).and_then(|mut found| found.exists(parameters)).map_err(failure)
}

/// What is there under the key now.
pub(super) fn item(connection: &Connection, key: &Key) -> Result<Item, StoreError> {
    let found = match key {
        Key::User(id) => match one::<User>(connection, "WHERE id = ?1", [id.0.as_bytes()])? {
            Some(user) => Some(Item::User(Box::new(user), groups_of(connection, *id)?)),
            None => None,
        },
        Key::Link(issuer, subject) => {
            one(connection, "WHERE issuer = ?1 AND subject = ?2", (issuer, subject))?.map(Item::Link)
        }
        Key::Group(id) => one(connection, "WHERE id = ?1", [id.0.as_bytes()])?.map(Item::Group),
        Key::Namespace(id) => one(connection, "WHERE id = ?1", [id.0.as_bytes()])?.map(Item::Namespace),
        Key::Service(id) => {
            one(connection, "WHERE s.id = ?1", [id.0.as_bytes()])?.map(|service| Item::Service(Box::new(service)))
        }
        Key::Node(id) => one(connection, "WHERE id = ?1", [id.0.as_bytes()])?.map(|node| Item::Node(Box::new(node))),
        Key::Grant(subject, pattern) => {
            let condition = "WHERE subject = ?1 AND pattern = ?2";
            one(connection, condition, (subject.to_string(), pattern_text(pattern)))?.map(Item::Grant)
        }
        Key::Secret(user, name) => {
            one(connection, "WHERE user = ?1 AND name = ?2", (user.0.as_bytes(), name))?.map(Item::Secret)
        }
        Key::Consent(user, secret, fingerprint) => {
            let condition = "WHERE user = ?1 AND secret = ?2 AND fingerprint = ?3";
            one(connection, condition, (user.0.as_bytes(), secret, fingerprint))?.map(Item::Consent)
        }
        Key::Withdrawal(user, secret, service) => {
            let condition = "WHERE user = ?1 AND secret = ?2 AND service = ?3";
            let parameters = (user.0.as_bytes(), secret, service.0.as_bytes());
            one(connection, condition, parameters)?.map(Item::Withdrawal)
        }
        Key::ApiToken(id) => {
            one(connection, "WHERE id = ?1", [id.0.as_bytes()])?.map(|token| Item::ApiToken(Box::new(token)))
        }
        Key::SigningKey(kid) => one(connection, "WHERE kid = ?1", [kid])?.map(|key| Item::SigningKey(Box::new(key))),
    };
    Ok(found.unwrap_or_else(|| Item::Gone(key.clone())))
}

/// The groups that the user is in, sorted.
pub(super) fn groups_of(connection: &Connection, user: UserId) -> Result<Vec<GroupId>, StoreError> {
    let memberships = all::<(UserId, GroupId)>(connection, "WHERE user = ?1 ORDER BY group_id", [user.0.as_bytes()])?;
    Ok(memberships.into_iter().map(|(_, group)| group).collect())
}

/// The revision that the connection sees.
pub(super) fn revision(connection: &Connection) -> Result<Revision, StoreError> {
    number(connection, "SELECT revision FROM meta").map(Revision)
}

/// The one number that the statement reads.
pub(super) fn number(connection: &Connection, statement: &str) -> Result<u64, StoreError> {
    let mut statement = connection.prepare_cached(statement).map_err(failure)?;
    let mut rows = statement.query([]).map_err(failure)?;
    let row = rows.next().map_err(failure)?.ok_or_else(|| damaged("the table `meta` is empty"))?;
    column(row, 0)
}

/// What checks the user's password.
pub(super) fn password(connection: &Connection, user: UserId) -> Result<Option<Password>, StoreError> {
    one::<(UserId, Password)>(connection, "WHERE user = ?1", [user.0.as_bytes()])
        .map(|found| found.map(|(_, password)| password))
}

/// The value kept under the name.
pub(super) fn setting(connection: &Connection, name: &str) -> Result<Option<String>, StoreError> {
    connection
        .prepare_cached("SELECT value FROM settings WHERE name = ?1")
        .and_then(|mut statement| statement.query_row([name], |row| row.get(0)).optional())
        .map_err(failure)
}

/// Up to `limit` audit records after `seq`.
pub(super) fn audit(connection: &Connection, after: u64, limit: usize) -> Result<Vec<Audit>, StoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    all(connection, "WHERE seq > ?1 ORDER BY seq LIMIT ?2", (count(after), limit))
}
