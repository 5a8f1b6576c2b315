//! The keys of the audit's chain: random, sealed in the store under the vault key.
//!
//! Random and not derived from the vault key, so that entries stay verifiable when the vault key is changed and the old one
//! is thrown away. [`Vault::further_keys`] adds one key at each rotation: who has learned an older vault key, and with it the
//! keys up to then, cannot make entries that follow those hashed with the new one.

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::cipher::KEY;
use super::{Context, Vault, VaultError};
use crate::store::{ChainHash, ChainKeys, Mac, StoreError};

/// The keys, the oldest first.
struct Ring(Vec<hmac::Key>);

impl Vault {
    /// The keys that are sealed in the text, with one more, sealed under the key that seals now.
    ///
    /// # Errors
    /// [`VaultError`] where they do not open.
    pub fn further_keys(&self, sealed: &str) -> Result<String, VaultError> {
        let known = self.ring(sealed)?;
        let mut keys = Zeroizing::new(Vec::with_capacity(known.len() + KEY));
        keys.extend_from_slice(&known);
        self.sealed_with_fresh(keys)
    }

    fn ring(&self, sealed: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let sealed = STANDARD.decode(sealed).map_err(|_| VaultError::Damaged)?;
        let keys = self.open(Context::AuditKeys, &sealed)?;
        if keys.is_empty() || !keys.len().is_multiple_of(KEY) { Err(VaultError::Damaged) } else { Ok(keys) }
    }

    fn sealed_with_fresh(&self, mut keys: Zeroizing<Vec<u8>>) -> Result<String, VaultError> {
        let mut fresh = Zeroizing::new([0; KEY]);
        aws_lc_rs::rand::fill(fresh.as_mut_slice()).map_err(|_| VaultError::Cipher)?;
        keys.extend_from_slice(fresh.as_slice());
        self.seal(Context::AuditKeys, &keys).map(|sealed| STANDARD.encode(sealed))
    }
}

impl ChainKeys for Vault {
    fn make(&self) -> Result<String, StoreError> {
        let none = Zeroizing::new(Vec::with_capacity(KEY));
        self.sealed_with_fresh(none).map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    fn open(&self, sealed: &str) -> Result<Box<dyn ChainHash>, StoreError> {
        let keys = self.ring(sealed).map_err(|error| {
            StoreError::Damaged(format!(
                "the keys of the audit do not open: {error}\nname the vault key that was in use, or restore a backup"
            ))
        })?;
        Ok(Box::new(Ring(keys.chunks(KEY).map(|key| hmac::Key::new(HMAC_SHA256, key)).collect())))
    }
}

impl ChainHash for Ring {
    fn newest(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    fn hash(&self, key: u32, bytes: &[u8]) -> Option<Mac> {
        let key = self.0.get(usize::try_from(key).ok()?.checked_sub(1)?)?;
        hmac::sign(key, bytes).as_ref().try_into().ok().map(Mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{VaultConfig, VaultKey};

    fn vault(key: u8, previous: &[u8]) -> Vault {
        let previous = previous.iter().map(|&byte| VaultKey([byte; 32])).collect();
        Vault::new(&VaultConfig { key: VaultKey([key; 32]), previous }).unwrap()
    }

    #[test]
    fn a_further_key_leaves_the_older_ones_as_they_are_and_needs_no_older_vault_key() {
        let first = vault(1, &[]).make().unwrap();
        let second = vault(2, &[1]).further_keys(&first).unwrap();
        let (one, two) =
            (ChainKeys::open(&vault(1, &[]), &first).unwrap(), ChainKeys::open(&vault(2, &[]), &second).unwrap());
        assert_eq!((one.newest(), two.newest()), (1, 2));
        assert_eq!(one.hash(1, b"x"), two.hash(1, b"x"));
        assert_ne!(two.hash(1, b"x"), two.hash(2, b"x"));
        assert_eq!((two.hash(0, b"x"), two.hash(3, b"x")), (None, None));
        assert!(ChainKeys::open(&vault(1, &[]), &second).is_err());
        assert!(ChainKeys::open(&vault(1, &[]), "not sealed").is_err());
    }

    #[test]
    fn no_two_stores_have_the_same_keys() {
        let vault = vault(1, &[]);
        let [one, two] = [(); 2].map(|()| ChainKeys::open(&vault, &vault.make().unwrap()).unwrap());
        assert_ne!(one.hash(1, b"x"), two.hash(1, b"x"));
    }

    #[test]
    fn the_hash_is_hmac_sha_256() {
        // RFC 4231 §4.3.
        let ring = Ring(vec![hmac::Key::new(HMAC_SHA256, b"Jefe")]);
        let mac = ring.hash(1, b"what do ya want for nothing?").unwrap();
        assert_eq!(mac.to_string(), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
