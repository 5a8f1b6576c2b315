//! Secrets in memory: sealed once more under a key that lives and dies with the process.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce};
use smallvec::SmallVec;
use zeroize::{Zeroize, Zeroizing};

use super::associated::associated;
use super::cipher::{TAG, fresh_key};
use super::{Context, VaultError};

/// Keeps these bytes out of the way of every other use of a key.
const DOMAIN: &[u8] = b"carta-gateway memory 1";

/// One secret as the snapshot holds it: sealed under the process's key.
#[derive(Clone)]
pub struct Held {
    /// Nonce, ciphertext and tag; of most secrets in place, where what comes before was fetched already.
    sealed: SmallVec<[u8; 64]>,
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Held(…)")
    }
}

/// The key of this process: random, never written anywhere, so that a page of memory that leaks holds no secret that
/// opens without another page.
pub struct ProcessKey {
    key: LessSafeKey,
    /// The next nonce. Counted and not random: the key is fresh for each process, so a count can never repeat.
    next: AtomicU64,
}

impl ProcessKey {
    /// A fresh key.
    ///
    /// # Errors
    /// [`VaultError::Cipher`] where the operating system gives no random bytes.
    pub fn random() -> Result<Self, VaultError> {
        let (key, _) = fresh_key(&AES_256_GCM)?;
        Ok(Self { key, next: AtomicU64::new(0) })
    }

    /// Seals a value for the snapshot.
    ///
    /// # Errors
    /// [`VaultError::Cipher`] where the cipher fails.
    pub fn hold(&self, context: Context<'_>, plain: &[u8]) -> Result<Held, VaultError> {
        let nonce = self.nonce();
        let mut sealed = Zeroizing::new(Vec::with_capacity(NONCE_LEN + plain.len() + TAG));
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let (_, body) = sealed.split_at_mut_checked(NONCE_LEN).ok_or(VaultError::Cipher)?;
        let tag = associated(DOMAIN, context, |aad| {
            self.key.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), body)
        })
        .map_err(|_| VaultError::Cipher)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(Held { sealed: SmallVec::from_slice(&sealed) })
    }

    /// Opens a held value into `out`, which holds exactly the value afterwards, and nothing after an error.
    ///
    /// `out` is wiped before it grows, so that no copy of what it held stays behind; keep it for the next value, and
    /// nothing is allocated.
    ///
    /// # Errors
    /// [`VaultError::Damaged`] where the value belongs to another context or process.
    pub fn open_into(&self, context: Context<'_>, held: &Held, out: &mut Zeroizing<Vec<u8>>) -> Result<(), VaultError> {
        let (nonce, body) = held.sealed.split_first_chunk::<NONCE_LEN>().ok_or(VaultError::Damaged)?;
        if out.capacity() < body.len() {
            out.zeroize();
            out.reserve_exact(body.len());
        }
        out.clear();
        out.extend_from_slice(body);
        let opened = associated(DOMAIN, context, |aad| {
            let nonce = Nonce::assume_unique_for_key(*nonce);
            self.key.open_in_place(nonce, Aad::from(aad), out.as_mut_slice()).map(|plain| plain.len())
        });
        match opened {
            Ok(length) => {
                out.truncate(length);
                Ok(())
            }
            Err(_) => {
                out.zeroize();
                Err(VaultError::Damaged)
            }
        }
    }

    fn nonce(&self) -> [u8; NONCE_LEN] {
        let mut nonce = [0; NONCE_LEN];
        let count = self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        for (to, from) in nonce.iter_mut().zip(count) {
            *to = from;
        }
        nonce
    }
}

impl fmt::Debug for ProcessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ProcessKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::UserId;
    use uuid::Uuid;

    const ALICE: UserId = UserId(Uuid::from_u128(1));
    const BOB: UserId = UserId(Uuid::from_u128(2));
    const CANARY: &str = "canary-7f3a";

    fn held(key: &ProcessKey, context: Context<'_>) -> Held {
        key.hold(context, CANARY.as_bytes()).unwrap()
    }

    #[test]
    fn a_held_value_opens_for_its_own_context_only() {
        let key = ProcessKey::random().unwrap();
        let held = held(&key, Context::Secret(ALICE, "key"));
        let mut out = Zeroizing::new(Vec::new());
        key.open_into(Context::Secret(ALICE, "key"), &held, &mut out).unwrap();
        assert_eq!(out.as_slice(), CANARY.as_bytes());
        for other in [Context::Secret(BOB, "key"), Context::Secret(ALICE, "other"), Context::Password(ALICE)] {
            assert_eq!(key.open_into(other, &held, &mut out), Err(VaultError::Damaged));
            assert!(out.is_empty());
        }
    }

    #[test]
    fn a_held_value_never_opens_in_another_process() {
        let context = Context::Secret(ALICE, "key");
        let held = held(&ProcessKey::random().unwrap(), context);
        let mut out = Zeroizing::new(Vec::new());
        assert_eq!(ProcessKey::random().unwrap().open_into(context, &held, &mut out), Err(VaultError::Damaged));
    }

    #[test]
    fn a_buffer_that_is_large_enough_stays_where_it_is() {
        let key = ProcessKey::random().unwrap();
        let held = held(&key, Context::Check);
        let mut out = Zeroizing::new(Vec::with_capacity(64));
        let before = out.as_ptr();
        key.open_into(Context::Check, &held, &mut out).unwrap();
        key.open_into(Context::Check, &held, &mut out).unwrap();
        assert_eq!(out.as_ptr(), before);
        assert_eq!(out.as_slice(), CANARY.as_bytes());
    }

    #[test]
    fn no_two_values_share_a_nonce() {
        let key = ProcessKey::random().unwrap();
        let (one, two) = (held(&key, Context::Check), held(&key, Context::Check));
        assert_ne!(one.sealed[..NONCE_LEN], two.sealed[..NONCE_LEN]);
    }

    #[test]
    fn debug_shows_neither_key_nor_value() {
        let key = ProcessKey::random().unwrap();
        let held = held(&key, Context::Check);
        assert_eq!(format!("{key:?}"), "ProcessKey(…)");
        let shown = format!("{held:?} {held:#?}");
        assert!(!shown.contains(CANARY) && !shown.contains("sealed"), "{shown}");
    }
}
