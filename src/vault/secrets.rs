//! The snapshot's part: whose secrets there are, held under the process's key, and where they may go.

use std::fmt;
use std::sync::Arc;

use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;
use jiff::Timestamp;
use zeroize::Zeroizing;

use super::owned::Owned;
use super::{ConsentKey, Context, Held, ProcessKey, Vault, VaultError};
use crate::policy::{ResourceId, UserId};
use crate::store::{Consent, Item, Key, Secret};

/// Every user's secrets and consents at one revision. A clone shares everything; a patch shares what did not change.
#[derive(Clone)]
pub struct Secrets {
    process: Arc<ProcessKey>,
    users: GenericHashMap<UserId, Arc<Owned>, ahash::RandomState, DefaultSharedPtr>,
}

/// What one user has, looked up once for all that is asked of it.
#[derive(Clone, Copy)]
pub struct Own<'s> {
    user: UserId,
    process: &'s ProcessKey,
    owned: Option<&'s Owned>,
}

/// Why a request does not get a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SecretFault {
    /// The user has none of this name.
    #[error("there is no such secret")]
    Missing,
    /// It was stored with a time to live, which is over.
    #[error("the secret has expired")]
    Expired,
    /// It is stored, and does not open: sealed under another vault key, or damaged.
    #[error("the secret cannot be opened")]
    Unreadable,
}

/// A secret as its owner sees it in a list: never its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its name, lower case.
    pub name: Arc<str>,
    /// When it was stored.
    pub created: Timestamp,
    /// When it ends, if it does.
    pub expires: Option<Timestamp>,
    /// False where its envelope does not open: it must be stored anew.
    pub readable: bool,
}

impl Secrets {
    /// No secrets, to be held under this key.
    #[must_use]
    pub fn empty(process: Arc<ProcessKey>) -> Self {
        Self { process, users: GenericHashMap::with_hasher(ahash::RandomState::new()) }
    }

    /// The secrets after these changes; items of other kinds are passed over. A secret whose envelope does not open is
    /// kept as unreadable, and the log says so once.
    ///
    /// # Errors
    /// [`VaultError::Cipher`] where an opened value cannot be held.
    pub fn patched(&self, vault: &Vault, items: &[Item]) -> Result<Self, VaultError> {
        let mut patched = self.clone();
        let mut unreadable = None;
        for item in items {
            match item {
                Item::Secret(secret) => {
                    let held = patched.held_anew(vault, secret, &mut unreadable)?;
                    patched.owned(secret.user).put(&secret.name, held, secret.created, secret.expires);
                }
                Item::Consent(consent) => patched.owned(consent.user).consent(consent),
                Item::Withdrawal(withdrawal) => {
                    patched.owned(withdrawal.user).refuse(&withdrawal.secret, withdrawal.service);
                }
                Item::Gone(Key::Withdrawal(user, secret, service)) => {
                    patched.without(*user, |owned| owned.allow(secret, *service));
                }
                Item::Gone(Key::Secret(user, name)) => patched.without(*user, |owned| owned.forget(name)),
                Item::Gone(Key::Consent(user, secret, fingerprint)) => {
                    patched.without(*user, |owned| owned.withdraw(secret, fingerprint));
                }
                _ => {}
            }
        }
        if let Some(Unreadable { count, user, name, cause }) = unreadable {
            tracing::warn!(count, %user, name, %cause, "secrets do not open and are not given out; the first is named");
        }
        Ok(patched)
    }

    /// What this user has.
    #[must_use]
    pub fn own(&self, user: UserId) -> Own<'_> {
        Own { user, process: &self.process, owned: self.users.get(&user).map(|owned| &**owned) }
    }

    /// The user's secret of this lower-case name, if a request may have it now.
    #[must_use]
    pub fn held(&self, user: UserId, name: &str, now: Timestamp) -> Option<&Held> {
        self.own(user).usable(name, now).ok()
    }

    /// Opens the user's secret of this lower-case name into `out`; see [`ProcessKey::open_into`].
    ///
    /// # Errors
    /// [`SecretFault`]; `out` holds nothing of the secret then.
    pub fn open(
        &self,
        user: UserId,
        name: &str,
        now: Timestamp,
        out: &mut Zeroizing<Vec<u8>>,
    ) -> Result<(), SecretFault> {
        self.own(user).open(name, now, out)
    }

    /// Whether the user lets the secret go where the fingerprint says.
    #[must_use]
    pub fn consented(&self, key: &ConsentKey) -> bool {
        self.own(key.user).consented(&key.secret, &key.fingerprint)
    }

    /// The user's secrets by name, expired ones included.
    pub fn of(&self, user: UserId) -> impl Iterator<Item = Listed> + '_ {
        self.users.get(&user).into_iter().flat_map(|owned| owned.secrets()).map(|kept| Listed {
            name: kept.name().into(),
            created: kept.created,
            expires: kept.expires,
            readable: kept.held.is_some(),
        })
    }

    /// The user's consents by secret.
    pub fn consents_of(&self, user: UserId) -> impl Iterator<Item = &Arc<Consent>> + '_ {
        self.users.get(&user).into_iter().flat_map(|owned| owned.consents())
    }

    /// The secrets that the user lets go to these services no more.
    pub fn withdrawn_of(&self, user: UserId) -> impl Iterator<Item = (&str, ResourceId)> + '_ {
        let withdrawn = self.users.get(&user).into_iter().flat_map(|owned| owned.withdrawn());
        withdrawn.map(|(secret, service)| (secret.as_str(), *service))
    }

    /// The secret under the process's key; none where its envelope does not open.
    fn held_anew(
        &self,
        vault: &Vault,
        secret: &Secret,
        unreadable: &mut Option<Unreadable>,
    ) -> Result<Option<Held>, VaultError> {
        let context = Context::Secret(secret.user, &secret.name);
        match vault.open(context, &secret.sealed) {
            Ok(plain) => self.process.hold(context, &plain).map(Some),
            Err(cause) => {
                let first = Unreadable { count: 0, user: secret.user, name: secret.name.clone(), cause };
                unreadable.get_or_insert(first).count += 1;
                Ok(None)
            }
        }
    }

    /// What the user has, for this snapshot alone.
    fn owned(&mut self, user: UserId) -> &mut Owned {
        Arc::make_mut(self.users.entry(user).or_default())
    }

    fn without(&mut self, user: UserId, forget: impl FnOnce(&mut Owned)) {
        let Some(owned) = self.users.get_mut(&user).map(Arc::make_mut) else { return };
        forget(owned);
        if owned.is_empty() {
            self.users.remove(&user);
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secrets").field("users", &self.users.len()).finish_non_exhaustive()
    }
}

impl<'s> Own<'s> {
    /// Whether there is a secret of this lower-case name that a request may have now.
    #[must_use]
    pub fn has(&self, name: &str, now: Timestamp) -> bool {
        self.usable(name, now).is_ok()
    }

    /// Opens the secret of this lower-case name into `out`; see [`ProcessKey::open_into`].
    ///
    /// # Errors
    /// [`SecretFault`]; `out` holds nothing of the secret then.
    pub fn open(&self, name: &str, now: Timestamp, out: &mut Zeroizing<Vec<u8>>) -> Result<(), SecretFault> {
        let held = self.usable(name, now)?;
        self.process.open_into(Context::Secret(self.user, name), held, out).map_err(|_| SecretFault::Unreadable)
    }

    /// Whether the user lets the secret go where the fingerprint says.
    #[must_use]
    pub fn consented(&self, secret: &str, fingerprint: &str) -> bool {
        self.owned.is_some_and(|owned| owned.consented(secret, fingerprint))
    }

    /// Whether the user ever said whether the secret may go to this service, wherever and however the service sent it
    /// then: let it go there, or withdrew that.
    #[must_use]
    pub fn decided_before(&self, secret: &str, service: ResourceId) -> bool {
        self.owned.is_some_and(|owned| owned.decided_before(secret, service))
    }

    fn usable(&self, name: &str, now: Timestamp) -> Result<&'s Held, SecretFault> {
        let kept = self.owned.and_then(|owned| owned.secret(name)).ok_or(SecretFault::Missing)?;
        if kept.expires.is_some_and(|end| end <= now) {
            return Err(SecretFault::Expired);
        }
        kept.held.as_ref().ok_or(SecretFault::Unreadable)
    }
}

/// Without the secrets.
impl fmt::Debug for Own<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Own({})", self.user)
    }
}

/// The secrets of a patch that did not open, for the log.
struct Unreadable {
    count: usize,
    user: UserId,
    name: String,
    cause: VaultError,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{VaultConfig, VaultKey};
    use crate::store::Withdrawal;
    use uuid::Uuid;

    const ALICE: UserId = UserId(Uuid::from_u128(1));
    const BOB: UserId = UserId(Uuid::from_u128(2));
    const CANARY: &str = "canary-55d1";

    fn vault(byte: u8) -> Vault {
        Vault::new(&VaultConfig { key: VaultKey([byte; 32]), previous: vec![] }).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn sealed(user: UserId, name: &str, value: &str, expires: Option<Timestamp>) -> Item {
        let sealed = vault(1).seal(Context::Secret(user, name), value.as_bytes()).unwrap();
        Item::Secret(Secret { user, name: name.to_owned(), sealed, created: at(1), expires })
    }

    fn empty() -> Secrets {
        Secrets::empty(Arc::new(ProcessKey::random().unwrap()))
    }

    fn opened(secrets: &Secrets, user: UserId, name: &str, now: i64) -> Result<String, SecretFault> {
        let mut out = Zeroizing::new(Vec::new());
        secrets.open(user, name, at(now), &mut out).map(|()| String::from_utf8(out.to_vec()).unwrap())
    }

    #[test]
    fn a_secret_is_given_to_its_user_only() {
        let secrets = empty().patched(&vault(1), &[sealed(ALICE, "key", CANARY, None)]).unwrap();
        assert_eq!(opened(&secrets, ALICE, "key", 5).as_deref(), Ok(CANARY));
        assert_eq!(opened(&secrets, BOB, "key", 5), Err(SecretFault::Missing));
        assert_eq!(opened(&secrets, ALICE, "ke", 5), Err(SecretFault::Missing));
        assert!(secrets.held(ALICE, "key", at(5)).is_some() && secrets.held(BOB, "key", at(5)).is_none());
    }

    #[test]
    fn a_secret_ends_at_the_second_of_its_expiry() {
        let secrets = empty().patched(&vault(1), &[sealed(ALICE, "key", CANARY, Some(at(10)))]).unwrap();
        assert!(opened(&secrets, ALICE, "key", 9).is_ok());
        assert_eq!(opened(&secrets, ALICE, "key", 10), Err(SecretFault::Expired));
        assert!(secrets.held(ALICE, "key", at(10)).is_none());
    }

    #[test]
    fn a_secret_that_does_not_open_is_listed_and_never_given_out() {
        let moved = match sealed(BOB, "key", CANARY, None) {
            Item::Secret(secret) => Item::Secret(Secret { user: ALICE, ..secret }),
            other => other,
        };
        for (vault, item) in [(vault(2), sealed(ALICE, "key", CANARY, None)), (vault(1), moved)] {
            let secrets = empty().patched(&vault, &[item]).unwrap();
            assert_eq!(opened(&secrets, ALICE, "key", 5), Err(SecretFault::Unreadable));
            assert!(secrets.of(ALICE).all(|listed| !listed.readable));
            let again = secrets.patched(&super::tests::vault(1), &[sealed(ALICE, "key", "new", None)]).unwrap();
            assert_eq!(opened(&again, ALICE, "key", 5).as_deref(), Ok("new"));
        }
    }

    #[test]
    fn a_patch_leaves_the_snapshot_before_it_as_it_was() {
        let first =
            empty().patched(&vault(1), &[sealed(ALICE, "b", "1", None), sealed(ALICE, "a", "2", None)]).unwrap();
        let gone = Item::Gone(Key::Secret(ALICE, "b".to_owned()));
        let second = first.patched(&vault(1), &[gone, sealed(ALICE, "a", "3", None)]).unwrap();
        assert_eq!(first.of(ALICE).map(|listed| listed.name.to_string()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(opened(&first, ALICE, "a", 5).as_deref(), Ok("2"));
        assert_eq!(opened(&second, ALICE, "a", 5).as_deref(), Ok("3"));
        assert_eq!(opened(&second, ALICE, "b", 5), Err(SecretFault::Missing));
        let gone = Item::Gone(Key::Secret(ALICE, "a".to_owned()));
        assert!(second.patched(&vault(1), &[gone]).unwrap().users.is_empty());
    }

    #[test]
    fn a_consent_is_for_one_user_secret_and_fingerprint() {
        let consent = |secret: &str, fingerprint: &str| Consent {
            user: ALICE,
            secret: secret.to_owned(),
            service: ResourceId(Uuid::nil()),
            fingerprint: fingerprint.to_owned(),
            origins: "https://a".to_owned(),
            at: at(1),
        };
        let asked = |secrets: &Secrets, user, secret: &str, fingerprint: &str| {
            secrets.consented(&ConsentKey { user, secret: secret.into(), fingerprint: fingerprint.into() })
        };
        let given = [Item::Consent(consent("key", "f")), Item::Consent(consent("a", "z"))];
        let secrets = empty().patched(&vault(1), &given).unwrap();
        assert!(asked(&secrets, ALICE, "key", "f") && asked(&secrets, ALICE, "a", "z"));
        for (user, secret, fingerprint) in
            [(BOB, "key", "f"), (ALICE, "key", "z"), (ALICE, "a", "f"), (ALICE, "ke", "yf")]
        {
            assert!(!asked(&secrets, user, secret, fingerprint), "{user} {secret} {fingerprint}");
        }
        assert_eq!(secrets.consents_of(ALICE).count(), 2);
        let before =
            |user, secret, service| secrets.own(user).decided_before(secret, ResourceId(Uuid::from_u128(service)));
        assert!(before(ALICE, "key", 0) && before(ALICE, "a", 0));
        assert!(!before(ALICE, "key", 1) && !before(ALICE, "b", 0) && !before(BOB, "key", 0));
        let service = ResourceId(Uuid::from_u128(1));
        let word = Withdrawal { user: ALICE, secret: "b".to_owned(), service, at: at(1) };
        let refused = secrets.patched(&vault(1), &[Item::Withdrawal(word)]).unwrap();
        assert!(refused.own(ALICE).decided_before("b", service) && !refused.own(BOB).decided_before("b", service));
        let gone = Item::Gone(Key::Withdrawal(ALICE, "b".to_owned(), service));
        assert!(!refused.patched(&vault(1), &[gone]).unwrap().own(ALICE).decided_before("b", service));
        let gone = Item::Gone(Key::Consent(ALICE, "key".to_owned(), "f".to_owned()));
        let withdrawn = secrets.patched(&vault(1), &[gone]).unwrap();
        assert!(!asked(&withdrawn, ALICE, "key", "f") && asked(&withdrawn, ALICE, "a", "z"));
    }

    #[test]
    fn debug_shows_no_value() {
        let secrets = empty().patched(&vault(1), &[sealed(ALICE, "key", CANARY, None)]).unwrap();
        let held = secrets.held(ALICE, "key", at(5));
        let shown = format!("{secrets:?} {held:?} {:?}", secrets.of(ALICE).collect::<Vec<_>>());
        assert!(!shown.contains(CANARY) && !shown.contains("sealed"), "{shown}");
    }
}
