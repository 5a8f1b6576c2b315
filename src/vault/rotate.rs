//! The vault key over time: proved at start, changed without losing a value.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Context, Vault, VaultError};
use crate::store::{AUDIT_KEYS, Actor, Item, Mutation, Reader, Resealed, Sealed, Store, StoreError};

/// The setting that keeps a known text sealed under the vault key.
const CHECK: &str = "vault.check";

/// The known text.
const CHECKED: &[u8] = b"carta-gateway";

/// How many envelopes are replaced in one change: few enough that other changes get their turn.
const BATCH: usize = 256;

/// Why the vault's key cannot be used with this store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// The secrets of the store are sealed under a key that is not configured.
    #[error(
        "the store's secrets are sealed under vault key `{sealed_under}`, and the configured key is `{configured}`\n\
         set `key` of `[vault]` to the key that was in use, or add that key to `previous`"
    )]
    Wrong {
        /// The id of the key in use when the store was made, or last rotated.
        sealed_under: String,
        /// The id of the configured key.
        configured: String,
    },
    /// The text that proves the key is damaged.
    #[error("the store's proof of the vault key does not open: the setting `{CHECK}` is damaged\nrestore a backup")]
    Damaged,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cipher failed.
    #[error(transparent)]
    Vault(VaultError),
}

/// Proves at start that the configured key, or a previous one, is the one that the store's values are sealed under. The
/// first run seals the text that later runs open.
///
/// # Errors
/// [`KeyError::Wrong`] for another key: the program must not start, because every secret would be unreadable, and those
/// stored from now on would be lost when the mistake is corrected.
pub async fn verify_key(store: &dyn Store, vault: &Vault) -> Result<(), KeyError> {
    if store.setting(CHECK).await?.is_none() {
        store.commit(actor(), Mutation::InitSetting(CHECK.to_owned(), sealed_check(vault)?)).await?;
    }
    // Read in any case: another process may have been first, with another key.
    compare_key(store, vault).await
}

/// Compares the configured keys with the one that the store's values are sealed under, and changes nothing: a store that
/// no run has sealed anything in is fine.
///
/// # Errors
/// As [`verify_key`].
pub async fn compare_key(store: &dyn Reader, vault: &Vault) -> Result<(), KeyError> {
    let Some(kept) = store.setting(CHECK).await? else { return Ok(()) };
    let sealed = STANDARD.decode(kept).map_err(|_| KeyError::Damaged)?;
    match vault.open(Context::Check, &sealed) {
        Ok(plain) if plain.as_slice() == CHECKED => Ok(()),
        Err(VaultError::UnknownKey(sealed_under)) => Err(KeyError::Wrong { sealed_under, configured: vault.key_id() }),
        Err(error @ VaultError::Cipher) => Err(KeyError::Vault(error)),
        Ok(_) | Err(VaultError::Damaged) => Err(KeyError::Damaged),
    }
}

/// What [`rotate`] did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotated {
    /// Secrets that are sealed under the key now, and were not.
    pub secrets: usize,
    /// Passwords.
    pub passwords: usize,
    /// Keys of the issuer.
    pub keys: usize,
    /// Values that no configured key opens: they stay as they are.
    pub unreadable: usize,
}

impl Rotated {
    /// How many values were sealed anew.
    #[must_use]
    pub fn done(&self) -> usize {
        self.secrets + self.passwords + self.keys
    }
}

/// Seals everything anew that is not sealed under the vault's key, until nothing is left: what somebody stores meanwhile
/// under an older key, too. A value that changes under its hands is left alone and looked at again.
///
/// `progress` is told how many of the values found so far are done.
///
/// Every running gateway must know the new key before this begins: it opens what is sealed under it from then on.
///
/// # Errors
/// Where the store or the cipher fails; what was done so far stays done, and a second run does the rest.
pub async fn rotate(
    store: &dyn Store,
    vault: &Vault,
    actor: Actor,
    mut progress: impl FnMut(usize, usize),
) -> Result<Rotated, KeyError> {
    verify_key(store, vault).await?;
    let mut rotated = Rotated::default();
    loop {
        let mut unreadable = 0;
        let mut envelopes = Vec::new();
        for (of, sealed) in stale(store, vault).await? {
            match resealed(vault, of, sealed) {
                Ok(envelope) => envelopes.push(envelope),
                Err(VaultError::Cipher) => return Err(KeyError::Vault(VaultError::Cipher)),
                Err(_) => unreadable += 1,
            }
        }
        rotated.unreadable = unreadable;
        if envelopes.is_empty() {
            break;
        }
        let found = rotated.done() + envelopes.len();
        for batch in envelopes.chunks(BATCH) {
            for envelope in batch {
                *match envelope.of {
                    Sealed::Secret(..) => &mut rotated.secrets,
                    Sealed::Password(_) => &mut rotated.passwords,
                    Sealed::SigningKey(_) | Sealed::Setting(_) => &mut rotated.keys,
                } += 1;
            }
            store.commit(actor.clone(), Mutation::Reseal(batch.to_vec())).await?;
            progress(rotated.done(), found);
        }
    }
    further_audit_keys(store, vault, actor.clone()).await?;
    // Last, so that a run that was cut short still asks for the older key.
    if rotated.unreadable == 0 && !check_is_current(store, vault).await? {
        store.commit(actor, Mutation::PutSetting(CHECK.to_owned(), sealed_check(vault)?)).await?;
    }
    Ok(rotated)
}

/// Gives the audit's chain one more key, unless its keys are sealed under the vault's key already. Of two runs at once
/// only one does: the other's is based on what is there no more.
async fn further_audit_keys(store: &dyn Store, vault: &Vault, actor: Actor) -> Result<(), KeyError> {
    let Some(kept) = store.setting(AUDIT_KEYS).await? else { return Ok(()) };
    if STANDARD.decode(&kept).is_ok_and(|sealed| vault.is_current(&sealed)) {
        return Ok(());
    }
    let to = vault.further_keys(&kept).map_err(KeyError::Vault)?.into_bytes();
    let resealed = Resealed { of: Sealed::Setting(AUDIT_KEYS.to_owned()), from: kept.into_bytes(), to };
    store.commit(actor, Mutation::Reseal(vec![resealed])).await?;
    Ok(())
}

/// Every envelope that is not sealed under the vault's key.
async fn stale(store: &dyn Store, vault: &Vault) -> Result<Vec<(Sealed, Vec<u8>)>, StoreError> {
    let secrets_and_keys = store.load().await?.items.into_iter().filter_map(|item| match item {
        Item::Secret(secret) => Some((Sealed::Secret(secret.user, secret.name), secret.sealed)),
        Item::SigningKey(key) => Some((Sealed::SigningKey(key.kid), key.sealed)),
        _ => None,
    });
    let passwords = store.passwords().await?;
    let passwords = passwords.into_iter().map(|(user, password)| (Sealed::Password(user), password.sealed));
    Ok(secrets_and_keys.chain(passwords).filter(|(_, sealed)| !vault.is_current(sealed)).collect())
}

fn resealed(vault: &Vault, of: Sealed, from: Vec<u8>) -> Result<Resealed, VaultError> {
    let context = match &of {
        Sealed::Secret(user, name) => Context::Secret(*user, name),
        Sealed::Password(user) => Context::Password(*user),
        Sealed::SigningKey(kid) => Context::SigningKey(kid),
        Sealed::Setting(_) => Context::AuditKeys,
    };
    let plain = vault.open(context, &from)?;
    let to = vault.seal(context, &plain)?;
    Ok(Resealed { of, from, to })
}

/// Whether the keys of the audit are sealed under the vault key that the store is sealed under: after a rotation nobody who
/// learned an older key may put keys of their own in their place.
///
/// # Errors
/// Where the store fails.
pub async fn audit_keys_are_current(store: &dyn Reader, vault: &Vault) -> Result<bool, StoreError> {
    let Some(kept) = store.setting(AUDIT_KEYS).await? else { return Ok(true) };
    let current = STANDARD.decode(kept).is_ok_and(|sealed| vault.is_current(&sealed));
    Ok(current || !check_is_current(store, vault).await?)
}

async fn check_is_current(store: &dyn Reader, vault: &Vault) -> Result<bool, StoreError> {
    let kept = store.setting(CHECK).await?;
    Ok(kept.and_then(|kept| STANDARD.decode(kept).ok()).is_some_and(|sealed| vault.is_current(&sealed)))
}

fn sealed_check(vault: &Vault) -> Result<String, KeyError> {
    vault.seal(Context::Check, CHECKED).map(|sealed| STANDARD.encode(sealed)).map_err(KeyError::Vault)
}

fn actor() -> Actor {
    Actor { user: None, via: "config", from: "start".into(), request_id: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{VaultConfig, VaultKey};
    use crate::policy::UserId;
    use crate::store::sqlite::SqliteStore;
    use crate::store::{Feed, NewUser, Password, Reader, Secret, SigningKey, User, Writer};
    use jiff::Timestamp;
    use uuid::Uuid;

    const ALICE: UserId = UserId(Uuid::from_u128(1));
    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn vault(key: u8, previous: &[u8]) -> Vault {
        let previous = previous.iter().map(|&byte| VaultKey([byte; 32])).collect();
        Vault::new(&VaultConfig { key: VaultKey([key; 32]), previous }).unwrap()
    }

    fn store() -> (tempfile::TempDir, SqliteStore) {
        let directory = tempfile::tempdir().unwrap();
        let keys = std::sync::Arc::new(vault(1, &[2]));
        let store = SqliteStore::open(&directory.path().join("carta.db"), keys).unwrap();
        (directory, store)
    }

    fn secret(vault: &Vault, name: &str) -> Secret {
        let sealed = vault.seal(Context::Secret(ALICE, name), b"value").unwrap();
        Secret { user: ALICE, name: name.to_owned(), sealed, created: NOW, expires: None }
    }

    /// A store with 600 secrets, a password and a key, sealed under this vault.
    async fn filled(store: &SqliteStore, vault: &Vault) {
        verify_key(store, vault).await.unwrap();
        let user = User {
            id: ALICE,
            name: "alice".to_owned(),
            email: None,
            email_verified: false,
            first_name: None,
            last_name: None,
            organization: None,
            role: "Guest".to_owned(),
            administrator: false,
            disabled: false,
            tokens_dead_until: None,
            created: NOW,
        };
        let sealed = vault.seal(Context::Password(ALICE), b"verifier").unwrap();
        let password = Some(Password { sealed, temporary: false, reset: false });
        let new = NewUser { user, link: None, password, first_role: None };
        store.commit(actor(), Mutation::CreateUser(Box::new(new))).await.unwrap();
        let secrets = (0..600).map(|number| secret(vault, &format!("key-{number}"))).collect();
        store.commit(actor(), Mutation::PutSecrets(secrets)).await.unwrap();
        let sealed = vault.seal(Context::SigningKey("k"), b"private").unwrap();
        let public = serde_json::json!({ "kty": "RSA" });
        let key = SigningKey { kid: "k".to_owned(), sealed, public, created: NOW, retired: None };
        store.commit(actor(), Mutation::PutSigningKey(key)).await.unwrap();
    }

    #[tokio::test]
    async fn the_first_run_settles_the_key_and_another_key_is_refused() {
        let (_directory, store) = store();
        verify_key(&store, &vault(1, &[])).await.unwrap();
        verify_key(&store, &vault(1, &[])).await.unwrap();
        verify_key(&store, &vault(2, &[1])).await.unwrap();
        let error = verify_key(&store, &vault(2, &[3])).await.unwrap_err();
        let (sealed_under, configured) = (vault(1, &[]).key_id(), vault(2, &[]).key_id());
        assert_eq!(error, KeyError::Wrong { sealed_under, configured });
    }

    #[tokio::test]
    async fn after_a_rotation_the_older_key_is_not_needed() {
        let (_directory, store) = store();
        filled(&store, &vault(1, &[])).await;
        let rotated = rotate(&store, &vault(2, &[1]), actor(), |_, _| {}).await.unwrap();
        assert_eq!(rotated, Rotated { secrets: 600, passwords: 1, keys: 1, unreadable: 0 });
        let new = vault(2, &[]);
        verify_key(&store, &new).await.unwrap();
        assert!(verify_key(&store, &vault(1, &[])).await.is_err());
        for item in store.load().await.unwrap().items {
            match item {
                Item::Secret(secret) => {
                    let plain = new.open(Context::Secret(ALICE, &secret.name), &secret.sealed).unwrap();
                    assert_eq!(plain.as_slice(), b"value");
                }
                Item::SigningKey(key) => {
                    assert_eq!(new.open(Context::SigningKey("k"), &key.sealed).unwrap().as_slice(), b"private");
                }
                _ => {}
            }
        }
        let password = store.password(ALICE).await.unwrap().unwrap();
        assert_eq!(new.open(Context::Password(ALICE), &password.sealed).unwrap().as_slice(), b"verifier");
        assert_eq!(rotate(&store, &vault(2, &[1]), actor(), |_, _| {}).await.unwrap(), Rotated::default());
    }

    #[tokio::test]
    async fn a_rotation_hashes_new_entries_with_a_new_key_and_older_ones_stay_verifiable() {
        use crate::store::{Auditor, Followed, Step};
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("carta.db");
        let store = SqliteStore::open(&file, std::sync::Arc::new(vault(1, &[]))).unwrap();
        filled(&store, &vault(1, &[])).await;
        let old = store.setting(AUDIT_KEYS).await.unwrap().unwrap();
        drop(store);
        let both = std::sync::Arc::new(vault(2, &[1]));
        let store = SqliteStore::open(&file, both.clone()).unwrap();
        let end = async |store: &SqliteStore| match store.follow_audit(Followed::default(), 1000).await.unwrap() {
            Step::Whole(end, _) => end,
            other => panic!("{other:?}"),
        };
        let before = end(&store).await;
        rotate(&store, &both, actor(), |_, _| {}).await.unwrap();
        let after = end(&store).await;
        assert_eq!((before.key, after.key), (1, 2));
        rotate(&store, &both, actor(), |_, _| {}).await.unwrap();
        assert_eq!(end(&store).await, after);
        drop(store);
        // The old vault key is thrown away.
        let store = SqliteStore::open(&file, std::sync::Arc::new(vault(2, &[]))).unwrap();
        store.commit(actor(), Mutation::PutSetting("x".to_owned(), "y".to_owned())).await.unwrap();
        assert_eq!(end(&store).await.key, 2);
        drop(store);
        // Who puts the older keys back, knowing the older vault key, gets nowhere.
        let connection = rusqlite::Connection::open(&file).unwrap();
        connection.execute("UPDATE settings SET value = ?1 WHERE name = ?2", [&old, AUDIT_KEYS]).unwrap();
        drop(connection);
        let store = SqliteStore::open(&file, both).unwrap();
        assert!(!audit_keys_are_current(&store, &vault(2, &[1])).await.unwrap());
        store.commit(actor(), Mutation::PutSetting("x".to_owned(), "z".to_owned())).await.unwrap();
        let followed = store.follow_audit(Followed::default(), 1000).await.unwrap();
        assert!(matches!(followed, Step::Broken(crate::store::Break::WrongKey { key: 2, .. })), "{followed:?}");
    }

    #[tokio::test]
    async fn a_value_that_no_key_opens_stays_and_keeps_the_older_key_needed() {
        let (_directory, store) = store();
        filled(&store, &vault(1, &[])).await;
        store.commit(actor(), Mutation::PutSecrets(vec![secret(&vault(9, &[]), "lost")])).await.unwrap();
        let rotated = rotate(&store, &vault(2, &[1]), actor(), |_, _| {}).await.unwrap();
        assert_eq!((rotated.secrets, rotated.unreadable), (600, 1));
        assert!(verify_key(&store, &vault(2, &[])).await.is_err());
    }

    #[tokio::test]
    async fn a_value_that_was_changed_meanwhile_is_not_put_back() {
        let (_directory, store) = store();
        let (old, both) = (vault(1, &[]), vault(2, &[1]));
        filled(&store, &old).await;
        let read = secret(&old, "key-1");
        store.commit(actor(), Mutation::PutSecrets(vec![read.clone()])).await.unwrap();
        let late = resealed(&both, Sealed::Secret(ALICE, "key-1".to_owned()), read.sealed).unwrap();
        let newer = secret(&old, "key-1");
        store.commit(actor(), Mutation::PutSecrets(vec![newer.clone()])).await.unwrap();
        store.commit(actor(), Mutation::Reseal(vec![late])).await.unwrap();
        let kept = store.item(crate::store::Key::Secret(ALICE, "key-1".to_owned())).await.unwrap();
        assert_eq!(kept, Item::Secret(newer));
    }
}
