//! Accounts: what proves them, what they may manage, whether they may come in.

use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use serde_json::json;

use super::services::{insert_namespace, namespace_named};
use super::{Outcome, exists, missing, secrets, user, write};
use crate::policy::UserId;
use crate::store::sqlite::code::micros;
use crate::store::sqlite::{audit, read};
use crate::store::{Key, Link, Namespace, NewUser, Password, StoreError, User};

/// The namespace that nobody may reserve.
const PLATFORM: &str = "carta";

/// The role that makes the first account an administrator.
const ADMINISTRATORS_ROLE: &str = "Admin";

pub(super) fn create_first(connection: &Connection, new: NewUser) -> Result<Outcome, StoreError> {
    if read::number(connection, "SELECT accounts FROM meta")? > 0 {
        return Err(StoreError::Refused("an account was made in this store before".to_owned()));
    }
    create(connection, new)
}

pub(super) fn create(connection: &Connection, new: NewUser) -> Result<Outcome, StoreError> {
    let NewUser { mut user, link, password, first_role } = new;
    let taken = "SELECT 1 FROM users WHERE name = ?1 OR id = ?2";
    if read::any(connection, taken, (&user.name, user.id.0.as_bytes()))? {
        return Err(exists("user", user.name));
    }
    if let Some(role) = first_role
        && read::number(connection, "SELECT accounts FROM meta")? == 0
    {
        user.administrator |= role == ADMINISTRATORS_ROLE;
        user.role = role;
    }
    insert(connection, &user)?;
    let platform = platform_of(connection, &user)?;
    write(connection, "UPDATE meta SET accounts = accounts + 1", [])?;
    if let Some(link) = &link {
        if link.user != user.id {
            return Err(StoreError::Refused(format!("the link of `{}` names another account", user.name)));
        }
        if link_of(connection, link)?.is_some() {
            return Err(exists("link", &link.subject));
        }
        insert_link(connection, link)?;
    }
    if let Some(password) = &password {
        put_password(connection, user.id, password)?;
    }
    let after = json!({
        "user": audit::user(&user),
        "link": link.as_ref().map(|link| json!({ "issuer": link.issuer, "subject": link.subject })),
        "password": password.map(|password| json!({ "temporary": password.temporary })),
        "namespace": platform.as_ref().map(audit::namespace),
    });
    Ok(Outcome::changed("user.create", &user.name)
        .touching([Key::User(user.id)])
        .touching(platform.map(|namespace| Key::Namespace(namespace.id)))
        .touching(link.map(|link| Key::Link(link.issuer, link.subject)))
        .after(after))
}

pub(super) fn update(connection: &Connection, to: User) -> Result<Outcome, StoreError> {
    let before = user(connection, to.id)?;
    let mut after = before.clone();
    after.email = to.email;
    after.email_verified = to.email_verified;
    after.first_name = to.first_name;
    after.last_name = to.last_name;
    after.organization = to.organization;
    replace(connection, "user.update", &before, &after)
}

pub(super) fn set_role(connection: &Connection, id: UserId, role: String) -> Result<Outcome, StoreError> {
    let before = user(connection, id)?;
    let after = User { role, ..before.clone() };
    replace(connection, "user.role", &before, &after)
}

pub(super) fn set_administrator(
    connection: &Connection,
    id: UserId,
    administrator: bool,
) -> Result<Outcome, StoreError> {
    let before = user(connection, id)?;
    if before.administrator == administrator {
        return Ok(Outcome::unchanged());
    }
    let others = "SELECT 1 FROM users WHERE administrator = 1 AND disabled = 0 AND id <> ?1";
    if !administrator && !read::any(connection, others, [id.0.as_bytes()])? {
        return Err(StoreError::Refused(format!(
            "without `{}` there would be no administrator\nmake another user one first",
            before.name
        )));
    }
    let after = User { administrator, ..before.clone() };
    let platform = platform_of(connection, &after)?;
    let outcome = replace(connection, "user.administrator", &before, &after)?;
    Ok(outcome.touching(platform.map(|namespace| Key::Namespace(namespace.id))))
}

/// The platform's own namespace, made with the first administrator, whose it is from then on.
fn platform_of(connection: &Connection, user: &User) -> Result<Option<Namespace>, StoreError> {
    if !user.administrator || namespace_named(connection, PLATFORM)?.is_some() {
        return Ok(None);
    }
    insert_namespace(connection, PLATFORM.to_owned(), user.id, None).map(Some)
}

pub(super) fn disable(
    connection: &Connection,
    id: UserId,
    disabled: bool,
    at: Timestamp,
) -> Result<Outcome, StoreError> {
    let before = user(connection, id)?;
    if before.disabled == disabled {
        return Ok(Outcome::unchanged());
    }
    let mut after = User { disabled, ..before.clone() };
    if disabled {
        after.tokens_dead_until = Some(tokens_end(&before, at));
    }
    replace(connection, if disabled { "user.disable" } else { "user.enable" }, &before, &after)
}

/// The second until which a user's tokens die when all of them must. `iat` counts whole seconds, so the first token after
/// an earlier such change may carry the second after it, ahead of the clock: that one dies as well.
fn tokens_end(before: &User, at: Timestamp) -> Timestamp {
    let Some(earlier) = before.tokens_dead_until else { return at };
    earlier.checked_add(SignedDuration::from_secs(1)).map_or(at, |next| next.max(at))
}

pub(super) fn set_password(
    connection: &Connection,
    id: UserId,
    password: &Password,
    (by_self, replaces): (bool, Option<Password>),
    at: Timestamp,
) -> Result<Outcome, StoreError> {
    let before = user(connection, id)?;
    if replaces.is_some() && read::password(connection, id)? != replaces {
        return Err(StoreError::Refused("the password was changed meanwhile\nlog in with the new one".to_owned()));
    }
    let after = User { tokens_dead_until: Some(tokens_end(&before, at)), ..before.clone() };
    put_password(connection, id, password)?;
    write_user(connection, &after)?;
    // Whoever sets another's password could sign in as them: what they find must be empty.
    let gone = if by_self { Vec::new() } else { secrets::delete_all(connection, id)? };
    let after = json!({
        "by_self": by_self,
        "temporary": password.temporary,
        "tokens_dead_until": after.tokens_dead_until,
        "secrets_deleted": secrets::count(&gone),
    });
    Ok(Outcome::changed("user.password", before.name).touching([Key::User(id)]).touching(gone).after(after))
}

pub(super) fn reset_password(connection: &Connection, id: UserId, at: Timestamp) -> Result<Outcome, StoreError> {
    let before = user(connection, id)?;
    let password = read::password(connection, id)?.ok_or_else(|| missing("password of", &before.name))?;
    if password.reset {
        return Ok(Outcome::unchanged());
    }
    let after = User { tokens_dead_until: Some(tokens_end(&before, at)), ..before.clone() };
    put_password(connection, id, &Password { reset: true, ..password })?;
    write_user(connection, &after)?;
    Ok(Outcome::changed("user.password.reset", before.name)
        .touching([Key::User(id)])
        .after(json!({ "tokens_dead_until": after.tokens_dead_until })))
}

pub(super) fn link(connection: &Connection, link: Link, by_self: bool) -> Result<Outcome, StoreError> {
    let user = user(connection, link.user)?;
    match link_of(connection, &link)? {
        Some(known) if known.user == link.user => Ok(Outcome::unchanged()),
        Some(_) => Err(exists("link", link.subject)),
        None => {
            insert_link(connection, &link)?;
            // Whoever links another's account may hold the other end: what they find must be empty.
            let gone = if by_self { Vec::new() } else { secrets::delete_all(connection, user.id)? };
            let after = json!({
                "issuer": link.issuer,
                "subject": link.subject,
                "by_self": by_self,
                "secrets_deleted": secrets::count(&gone),
            });
            Ok(Outcome::changed("user.link", user.name)
                .after(after)
                .touching([Key::Link(link.issuer, link.subject)])
                .touching(gone))
        }
    }
}

/// Writes a user who is there already; nothing happens where nothing is different.
fn replace(connection: &Connection, what: &'static str, before: &User, after: &User) -> Result<Outcome, StoreError> {
    if before == after {
        return Ok(Outcome::unchanged());
    }
    write_user(connection, after)?;
    Ok(Outcome::changed(what, &after.name)
        .touching([Key::User(after.id)])
        .before(audit::user(before))
        .after(audit::user(after)))
}

fn insert(connection: &Connection, user: &User) -> Result<(), StoreError> {
    let statement = "INSERT INTO users (id, name, created, email_verified, role, administrator, disabled) \
                     VALUES (?1, ?2, ?3, 0, '', 0, 0)";
    write(connection, statement, (user.id.0.as_bytes(), &user.name, micros(user.created)))?;
    write_user(connection, user)
}

/// Writes everything that may change of a user.
fn write_user(connection: &Connection, user: &User) -> Result<(), StoreError> {
    let statement = "UPDATE users SET email = ?2, email_verified = ?3, first_name = ?4, last_name = ?5, \
                     organization = ?6, role = ?7, administrator = ?8, disabled = ?9, tokens_dead_until = ?10 \
                     WHERE id = ?1";
    let row = (
        user.id.0.as_bytes(),
        &user.email,
        user.email_verified,
        &user.first_name,
        &user.last_name,
        &user.organization,
        &user.role,
        user.administrator,
        user.disabled,
        user.tokens_dead_until.map(micros),
    );
    if write(connection, statement, row)? == 1 { Ok(()) } else { Err(missing("user", user.id)) }
}

fn put_password(connection: &Connection, user: UserId, password: &Password) -> Result<(), StoreError> {
    let statement = "INSERT INTO passwords (user, sealed, temporary, reset) VALUES (?1, ?2, ?3, ?4) \
                     ON CONFLICT (user) DO UPDATE \
                     SET sealed = excluded.sealed, temporary = excluded.temporary, reset = excluded.reset";
    write(connection, statement, (user.0.as_bytes(), &password.sealed, password.temporary, password.reset)).map(|_| ())
}

fn link_of(connection: &Connection, link: &Link) -> Result<Option<Link>, StoreError> {
    read::one(connection, "WHERE issuer = ?1 AND subject = ?2", (&link.issuer, &link.subject))
}

fn insert_link(connection: &Connection, link: &Link) -> Result<(), StoreError> {
    let statement = "INSERT INTO links (issuer, subject, user) VALUES (?1, ?2, ?3)";
    write(connection, statement, (&link.issuer, &link.subject, link.user.0.as_bytes())).map(|_| ())
}
