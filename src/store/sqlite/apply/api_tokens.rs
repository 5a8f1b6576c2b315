//! API tokens: made, revoked, deleted.

use rusqlite::Connection;

use super::{Outcome, exists, missing, quota, user, write};
use crate::policy::UserId;
use crate::store::sqlite::code::{count, micros};
use crate::store::sqlite::{audit, read};
use crate::store::{ApiToken, Key, StoreError};

pub(super) fn create(connection: &Connection, token: &ApiToken) -> Result<Outcome, StoreError> {
    let owner = user(connection, token.user)?;
    if find(connection, token.user, &token.name)?.is_some() {
        return Err(exists("API token", &token.name));
    }
    let statement = "INSERT INTO api_tokens (id, user, name, digest, hint, patterns, expires, uses, revoked, \
                     auto_remove, created, last_used) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let row = (
        token.id.0.as_bytes(),
        token.user.0.as_bytes(),
        &token.name,
        &token.digest.0,
        &token.hint,
        serde_json::Value::from(token.patterns.clone()).to_string(),
        token.expires.map(micros),
        token.uses.map(count),
        token.revoked,
        token.auto_remove,
        micros(token.created),
        token.last_used.map(micros),
    );
    write(connection, statement, row)?;
    quota::api_tokens(connection, token.user)?;
    Ok(Outcome::changed("token.create", owner.name).touching([Key::ApiToken(token.id)]).after(audit::api_token(token)))
}

pub(super) fn revoke(connection: &Connection, of: UserId, name: &str) -> Result<Outcome, StoreError> {
    let owner = user(connection, of)?;
    let before = find(connection, of, name)?.ok_or_else(|| missing("API token", name))?;
    if before.auto_remove {
        return remove(connection, "token.revoke", owner.name, &before);
    }
    if before.revoked {
        return Ok(Outcome::unchanged());
    }
    write(connection, "UPDATE api_tokens SET revoked = 1 WHERE id = ?1", [before.id.0.as_bytes()])?;
    let after = ApiToken { revoked: true, ..before.clone() };
    Ok(Outcome::changed("token.revoke", owner.name)
        .touching([Key::ApiToken(before.id)])
        .before(audit::api_token(&before))
        .after(audit::api_token(&after)))
}

pub(super) fn delete(connection: &Connection, of: UserId, name: &str) -> Result<Outcome, StoreError> {
    let owner = user(connection, of)?;
    let before = find(connection, of, name)?.ok_or_else(|| missing("API token", name))?;
    remove(connection, "token.delete", owner.name, &before)
}

fn remove(connection: &Connection, what: &'static str, owner: String, token: &ApiToken) -> Result<Outcome, StoreError> {
    write(connection, "DELETE FROM api_tokens WHERE id = ?1", [token.id.0.as_bytes()])?;
    Ok(Outcome::changed(what, owner).touching([Key::ApiToken(token.id)]).before(audit::api_token(token)))
}

fn find(connection: &Connection, of: UserId, name: &str) -> Result<Option<ApiToken>, StoreError> {
    read::one(connection, "WHERE user = ?1 AND name = ?2", (of.0.as_bytes(), name))
}
