//! Groups and who is in them.

use rusqlite::Connection;
use serde_json::json;

use super::{Outcome, exists, group, quota, user, write};
use crate::policy::{GroupId, UserId};
use crate::store::sqlite::read;
use crate::store::{Group, Key, StoreError};

pub(super) fn create(connection: &Connection, group: Group) -> Result<Outcome, StoreError> {
    let taken = "SELECT 1 FROM groups WHERE name = ?1 OR id = ?2";
    if read::any(connection, taken, (&group.name, group.id.0.as_bytes()))? {
        return Err(exists("group", group.name));
    }
    if let Some(owner) = group.owner
        && !user(connection, owner)?.administrator
    {
        quota::groups(connection, owner)?;
    }
    let statement = "INSERT INTO groups (id, name, owner) VALUES (?1, ?2, ?3)";
    write(connection, statement, (group.id.0.as_bytes(), &group.name, group.owner.map(|id| *id.0.as_bytes())))?;
    Ok(Outcome::changed("group.create", &group.name)
        .touching([Key::Group(group.id)])
        .after(json!({ "id": group.id, "name": group.name, "owner": group.owner })))
}

pub(super) fn add(connection: &Connection, id: GroupId, member: UserId) -> Result<Outcome, StoreError> {
    let (group, user) = (group(connection, id)?, user(connection, member)?);
    let statement = "INSERT INTO members (user, group_id) VALUES (?1, ?2) ON CONFLICT DO NOTHING";
    if write(connection, statement, (member.0.as_bytes(), id.0.as_bytes()))? == 0 {
        return Ok(Outcome::unchanged());
    }
    Ok(Outcome::changed("group.add", group.name)
        .touching([Key::User(member)])
        .after(json!({ "user": user.name, "id": member })))
}

pub(super) fn remove(connection: &Connection, id: GroupId, member: UserId) -> Result<Outcome, StoreError> {
    let (group, user) = (group(connection, id)?, user(connection, member)?);
    let statement = "DELETE FROM members WHERE user = ?1 AND group_id = ?2";
    if write(connection, statement, (member.0.as_bytes(), id.0.as_bytes()))? == 0 {
        return Ok(Outcome::unchanged());
    }
    Ok(Outcome::changed("group.remove", group.name)
        .touching([Key::User(member)])
        .before(json!({ "user": user.name, "id": member })))
}
