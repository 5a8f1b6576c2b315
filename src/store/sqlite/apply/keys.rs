//! The issuer's keys, envelopes under another vault key, and values beside the data.

use jiff::Timestamp;
use rusqlite::Connection;
use serde_json::json;

use super::{Outcome, exists, missing, write};
use crate::store::sqlite::code::micros;
use crate::store::sqlite::failure::damaged;
use crate::store::sqlite::{audit, read};
use crate::store::{Key, Resealed, Sealed, SigningKey, StoreError};

pub(super) fn put(connection: &Connection, key: &SigningKey) -> Result<Outcome, StoreError> {
    if of(connection, &key.kid)?.is_some() {
        return Err(exists("key", &key.kid));
    }
    let statement = "INSERT INTO signing_keys (kid, sealed, public, created, retired) VALUES (?1, ?2, ?3, ?4, ?5)";
    let (created, retired) = (micros(key.created), key.retired.map(micros));
    write(connection, statement, (&key.kid, &key.sealed, key.public.to_string(), created, retired))?;
    Ok(Outcome::changed("key.put", &key.kid)
        .touching([Key::SigningKey(key.kid.clone())])
        .after(audit::signing_key(key)))
}

pub(super) fn retire(connection: &Connection, kid: String, at: Timestamp) -> Result<Outcome, StoreError> {
    let before = of(connection, &kid)?.ok_or_else(|| missing("key", &kid))?;
    if before.retired.is_some_and(|known| known <= at) {
        return Ok(Outcome::unchanged());
    }
    write(connection, "UPDATE signing_keys SET retired = ?2 WHERE kid = ?1", (&kid, micros(at)))?;
    Ok(Outcome::changed("key.retire", &kid)
        .before(json!({ "retired": before.retired }))
        .after(json!({ "retired": at }))
        .touching([Key::SigningKey(kid)]))
}

pub(super) fn reseal(connection: &Connection, envelopes: Vec<Resealed>) -> Result<Outcome, StoreError> {
    let (mut touched, mut count) = (Vec::new(), 0);
    for Resealed { of, from, to } in envelopes {
        let replaced = match &of {
            Sealed::Secret(user, name) => {
                let statement = "UPDATE secrets SET sealed = ?2 WHERE sealed = ?1 AND user = ?3 AND name = ?4";
                write(connection, statement, (from, to, user.0.as_bytes(), name))?
            }
            Sealed::Password(user) => {
                let statement = "UPDATE passwords SET sealed = ?2 WHERE sealed = ?1 AND user = ?3";
                write(connection, statement, (from, to, user.0.as_bytes()))?
            }
            Sealed::SigningKey(kid) => {
                let statement = "UPDATE signing_keys SET sealed = ?2 WHERE sealed = ?1 AND kid = ?3";
                write(connection, statement, (from, to, kid))?
            }
            Sealed::Setting(name) => {
                let text =
                    |bytes: Vec<u8>| String::from_utf8(bytes).map_err(|_| damaged(format!("`{name}` is no text")));
                let statement = "UPDATE settings SET value = ?2 WHERE value = ?1 AND name = ?3";
                write(connection, statement, (text(from)?, text(to)?, name))?
            }
        };
        if replaced == 0 {
            continue;
        }
        count += replaced;
        touched.extend(match of {
            Sealed::Secret(user, name) => Some(Key::Secret(user, name)),
            Sealed::SigningKey(kid) => Some(Key::SigningKey(kid)),
            // The snapshot holds neither.
            Sealed::Password(_) | Sealed::Setting(_) => None,
        });
    }
    if count == 0 {
        return Ok(Outcome::unchanged());
    }
    Ok(Outcome::changed("vault.reseal", "vault").touching(touched).after(json!({ "envelopes": count })))
}

pub(super) fn set(connection: &Connection, name: String, value: &str) -> Result<Outcome, StoreError> {
    if read::setting(connection, &name)?.as_deref() == Some(value) {
        return Ok(Outcome::unchanged());
    }
    // The value may be an envelope: the audit has its name only.
    write(connection, "INSERT OR REPLACE INTO settings (name, value) VALUES (?1, ?2)", (&name, value))?;
    Ok(Outcome::changed("setting.put", name))
}

pub(super) fn init(connection: &Connection, name: String, value: &str) -> Result<Outcome, StoreError> {
    if read::setting(connection, &name)?.is_some() { Ok(Outcome::unchanged()) } else { set(connection, name, value) }
}

fn of(connection: &Connection, kid: &str) -> Result<Option<SigningKey>, StoreError> {
    read::one(connection, "WHERE kid = ?1", [kid])
}
