//! Secrets and the consents that let them go somewhere.

use std::collections::BTreeSet;

use rusqlite::Connection;
use serde_json::json;

use super::{Outcome, missing, quota, user, write};
use crate::policy::{ResourceId, UserId};
use crate::store::sqlite::code::micros;
use crate::store::sqlite::{audit, read};
use crate::store::{Consent, Key, Secret, StoreError, Withdrawal};

pub(super) fn put(connection: &Connection, secrets: &[Secret]) -> Result<Outcome, StoreError> {
    let Some(first) = secrets.first() else { return Ok(Outcome::unchanged()) };
    let statement = "INSERT INTO secrets (user, name, sealed, created, expires) VALUES (?1, ?2, ?3, ?4, ?5) \
                     ON CONFLICT (user, name) DO UPDATE \
                     SET sealed = excluded.sealed, created = excluded.created, expires = excluded.expires";
    for secret in secrets {
        user(connection, secret.user)?;
        let (created, expires) = (micros(secret.created), secret.expires.map(micros));
        write(connection, statement, (secret.user.0.as_bytes(), &secret.name, &secret.sealed, created, expires))?;
    }
    for user in secrets.iter().map(|secret| secret.user).collect::<BTreeSet<_>>() {
        quota::secrets(connection, user)?;
    }
    let shown: serde_json::Value = secrets
        .iter()
        .map(|secret| json!({ "user": secret.user, "name": secret.name, "expires": secret.expires }))
        .collect();
    Ok(Outcome::changed("secret.put", user(connection, first.user)?.name)
        .touching(secrets.iter().map(|secret| Key::Secret(secret.user, secret.name.clone())))
        .after(shown))
}

pub(super) fn delete(connection: &Connection, of: UserId, name: String) -> Result<Outcome, StoreError> {
    let owner = user(connection, of)?;
    let consents: Vec<Consent> = read::all(connection, "WHERE user = ?1 AND secret = ?2", (of.0.as_bytes(), &name))?;
    write(connection, "DELETE FROM consents WHERE user = ?1 AND secret = ?2", (of.0.as_bytes(), &name))?;
    if write(connection, "DELETE FROM secrets WHERE user = ?1 AND name = ?2", (of.0.as_bytes(), &name))? == 0 {
        return Err(missing("secret", name));
    }
    Ok(Outcome::changed("secret.delete", owner.name)
        .before(json!({ "name": name, "consents": consents.len() }))
        .touching(consents.into_iter().map(key))
        .touching([Key::Secret(of, name)]))
}

/// Deletes every secret of the user, and every consent; their keys.
pub(super) fn delete_all(connection: &Connection, of: UserId) -> Result<Vec<Key>, StoreError> {
    let consents: Vec<Consent> = read::all(connection, "WHERE user = ?1", [of.0.as_bytes()])?;
    let secrets: Vec<Secret> = read::all(connection, "WHERE user = ?1", [of.0.as_bytes()])?;
    write(connection, "DELETE FROM consents WHERE user = ?1", [of.0.as_bytes()])?;
    write(connection, "DELETE FROM secrets WHERE user = ?1", [of.0.as_bytes()])?;
    Ok(secrets.into_iter().map(|secret| Key::Secret(of, secret.name)).chain(consents.into_iter().map(key)).collect())
}

/// How many secrets are among the keys.
pub(super) fn count(keys: &[Key]) -> usize {
    keys.iter().filter(|key| matches!(key, Key::Secret(..))).count()
}

pub(super) fn consent(connection: &Connection, consent: Consent) -> Result<Outcome, StoreError> {
    let owner = user(connection, consent.user)?;
    let Consent { user: of, service, .. } = consent;
    secret_and_service(connection, of, &consent.secret, service)?;
    let parameters = (of.0.as_bytes(), &consent.secret, service.0.as_bytes());
    let statement = "DELETE FROM withdrawals WHERE user = ?1 AND secret = ?2 AND service = ?3";
    let ended = write(connection, statement, parameters)? > 0;
    let statement = "INSERT INTO consents (user, secret, fingerprint, service, origins, given_at) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING";
    let (of, service) = (of.0.as_bytes(), service.0.as_bytes());
    let row = (of, &consent.secret, &consent.fingerprint, service, &consent.origins, micros(consent.at));
    if write(connection, statement, row)? == 0 && !ended {
        return Ok(Outcome::unchanged());
    }
    quota::consents(connection, consent.user)?;
    let withdrawal = ended.then(|| Key::Withdrawal(consent.user, consent.secret.clone(), consent.service));
    Ok(Outcome::changed("consent.put", owner.name)
        .after(audit::consent(&consent))
        .touching(withdrawal)
        .touching([key(consent)]))
}

pub(super) fn first_use(connection: &Connection, of: Consent) -> Result<Outcome, StoreError> {
    let parameters = (of.user.0.as_bytes(), &of.secret, of.service.0.as_bytes(), &of.fingerprint);
    let same = "SELECT 1 FROM consents WHERE user = ?1 AND secret = ?2 AND service = ?3 AND fingerprint = ?4";
    if read::any(connection, same, parameters)? {
        return Ok(Outcome::unchanged());
    }
    let parameters = (of.user.0.as_bytes(), &of.secret, of.service.0.as_bytes());
    let before = "SELECT 1 FROM consents WHERE user = ?1 AND secret = ?2 AND service = ?3 \
                  UNION ALL SELECT 1 FROM withdrawals WHERE user = ?1 AND secret = ?2 AND service = ?3";
    if read::any(connection, before, parameters)? {
        let why = format!("the user said before where the secret `{}` may go, and to this it may not", of.secret);
        return Err(StoreError::Refused(why));
    }
    consent(connection, of)
}

pub(super) fn withdraw(connection: &Connection, withdrawal: Withdrawal) -> Result<Outcome, StoreError> {
    let Withdrawal { user: of, service, .. } = withdrawal;
    let owner = user(connection, of)?;
    secret_and_service(connection, of, &withdrawal.secret, service)?;
    let parameters = (of.0.as_bytes(), &withdrawal.secret, service.0.as_bytes());
    let condition = "WHERE user = ?1 AND secret = ?2 AND service = ?3";
    let consents: Vec<Consent> = read::all(connection, condition, parameters)?;
    write(connection, "DELETE FROM consents WHERE user = ?1 AND secret = ?2 AND service = ?3", parameters)?;
    let statement =
        "INSERT INTO withdrawals (user, secret, service, at) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING";
    let row = (of.0.as_bytes(), &withdrawal.secret, service.0.as_bytes(), micros(withdrawal.at));
    if write(connection, statement, row)? == 0 && consents.is_empty() {
        return Ok(Outcome::unchanged());
    }
    if consents.is_empty() {
        quota::consents(connection, of)?;
    }
    Ok(Outcome::changed("consent.withdraw", owner.name)
        .before(consents.iter().map(audit::consent).collect::<serde_json::Value>())
        .after(json!({ "secret": withdrawal.secret, "service": service }))
        .touching(consents.into_iter().map(key))
        .touching([withdrawal_key(withdrawal)]))
}

fn secret_and_service(
    connection: &Connection,
    of: UserId,
    secret: &str,
    service: ResourceId,
) -> Result<(), StoreError> {
    if !read::any(connection, "SELECT 1 FROM secrets WHERE user = ?1 AND name = ?2", (of.0.as_bytes(), secret))? {
        return Err(missing("secret", secret));
    }
    if !read::any(connection, "SELECT 1 FROM services WHERE id = ?1", [service.0.as_bytes()])? {
        return Err(missing("service", service));
    }
    Ok(())
}

/// The key of the withdrawal.
pub(super) fn withdrawal_key(withdrawal: Withdrawal) -> Key {
    Key::Withdrawal(withdrawal.user, withdrawal.secret, withdrawal.service)
}

/// The key of the consent.
pub(super) fn key(consent: Consent) -> Key {
    Key::Consent(consent.user, consent.secret, consent.fingerprint)
}
