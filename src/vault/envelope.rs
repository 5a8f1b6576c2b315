//! Envelopes: each value under a fresh data key, each data key under the vault key.
//!
//! ```text
//! offset  bytes  what
//!      0      1  version: 1
//!      1      8  id of the vault key
//!      9     12  nonce of the wrapped data key
//!     21     48  the data key, AES-256-GCM-SIV under the vault key, with its tag
//!     69      n  the value, AES-256-GCM under the data key, with its tag (16)
//! ```
//!
//! Both ciphers take everything in front of the wrapped key and the [`Context`] as associated data. The wrapping cipher
//! is the one that a repeated nonce does not break, because its nonces are random and its key lives for years; the data
//! key seals once, so its nonce is zero.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce};
use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use zeroize::Zeroizing;

use super::associated::associated;
use super::cipher::{KEY, TAG, fresh_key, key};
use super::{Context, VaultError};
use crate::config::{VaultConfig, VaultKey};

const VERSION: u8 = 1;
const ID: usize = 8;
const HEAD: usize = 1 + ID;
const WRAPPED: usize = KEY + TAG;

/// Seals under one key, opens under several.
pub struct Vault {
    primary: Wrapping,
    previous: Vec<Wrapping>,
}

impl Vault {
    /// The vault with these keys.
    ///
    /// # Errors
    /// [`VaultError::Cipher`] where the library refuses a key.
    pub fn new(config: &VaultConfig) -> Result<Self, VaultError> {
        let primary = Wrapping::new(&config.key)?;
        let previous = config.previous.iter().map(Wrapping::new).collect::<Result<_, _>>()?;
        Ok(Self { primary, previous })
    }

    /// Seals a value.
    ///
    /// # Errors
    /// [`VaultError::Cipher`] where the cipher fails or there are no random bytes.
    pub fn seal(&self, context: Context<'_>, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
        let (data_key, data_key_bytes) = fresh_key(&AES_256_GCM)?;
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| VaultError::Cipher)?;
        let head = &self.primary.head;

        let mut wrapped = data_key_bytes;
        let wrapped_tag = associated(head, context, |aad| {
            let nonce = Nonce::assume_unique_for_key(nonce);
            self.primary.key.seal_in_place_separate_tag(nonce, Aad::from(aad), wrapped.as_mut_slice())
        })
        .map_err(|_| VaultError::Cipher)?;
        let mut body = Zeroizing::new(Vec::with_capacity(plain.len() + TAG));
        body.extend_from_slice(plain);
        let body_tag = associated(head, context, |aad| {
            data_key.seal_in_place_separate_tag(only_nonce(), Aad::from(aad), body.as_mut_slice())
        })
        .map_err(|_| VaultError::Cipher)?;
        Ok([head, nonce.as_slice(), wrapped.as_slice(), wrapped_tag.as_ref(), body.as_slice(), body_tag.as_ref()]
            .concat())
    }

    /// Opens an envelope.
    ///
    /// # Errors
    /// [`VaultError::UnknownKey`] for an envelope under a key that is not configured, [`VaultError::Damaged`] for one
    /// that does not open.
    pub fn open(&self, context: Context<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let Envelope { head, nonce, wrapped, body } = Envelope::parse(sealed)?;
        let wrapping = self.keys().find(|key| key.head == *head).ok_or_else(|| VaultError::UnknownKey(id(head)))?;

        let mut data_key = Zeroizing::new(*wrapped);
        associated(head, context, |aad| {
            let nonce = Nonce::assume_unique_for_key(*nonce);
            wrapping.key.open_in_place(nonce, Aad::from(aad), data_key.as_mut_slice()).map(|_| ())
        })
        .map_err(|_| VaultError::Damaged)?;
        let data_key = key(&AES_256_GCM, data_key.get(..KEY).unwrap_or_default())?;
        let mut plain = Zeroizing::new(body.to_vec());
        let length = associated(head, context, |aad| {
            data_key.open_in_place(only_nonce(), Aad::from(aad), plain.as_mut_slice()).map(|plain| plain.len())
        })
        .map_err(|_| VaultError::Damaged)?;
        plain.truncate(length);
        Ok(plain)
    }

    /// Whether the envelope is sealed under the key that seals now.
    #[must_use]
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        Envelope::parse(sealed).is_ok_and(|envelope| *envelope.head == self.primary.head)
    }

    /// The id of the key that seals now: for people, says nothing of the key.
    #[must_use]
    pub fn key_id(&self) -> String {
        id(&self.primary.head)
    }

    fn keys(&self) -> impl Iterator<Item = &Wrapping> {
        std::iter::once(&self.primary).chain(&self.previous)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.keys().map(|key| id(&key.head))).finish()
    }
}

/// A vault key as it wraps data keys.
struct Wrapping {
    /// The start of every envelope under it: the version and its public id.
    head: [u8; HEAD],
    key: LessSafeKey,
}

impl Wrapping {
    /// Derives the wrapping key and its public id from the configured bytes, each for its own purpose, so that the id
    /// says nothing of the key.
    fn new(configured: &VaultKey) -> Result<Self, VaultError> {
        let root = Salt::new(HKDF_SHA256, b"carta-gateway vault 1").extract(&configured.0);
        let expand = |purpose: &[u8], out: &mut [u8]| {
            root.expand(&[purpose], Length(out.len())).and_then(|okm| okm.fill(out)).map_err(|_| VaultError::Cipher)
        };
        let mut bytes = Zeroizing::new([0; KEY]);
        expand(b"wrap", bytes.as_mut_slice())?;
        let mut head = [VERSION; HEAD];
        expand(b"id", head.split_at_mut(HEAD - ID).1)?;
        Ok(Self { head, key: key(&AES_256_GCM_SIV, bytes.as_slice())? })
    }
}

/// How many bytes to derive.
#[derive(Clone, Copy)]
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// The parts of an envelope.
struct Envelope<'a> {
    head: &'a [u8; HEAD],
    nonce: &'a [u8; NONCE_LEN],
    wrapped: &'a [u8; WRAPPED],
    body: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn parse(sealed: &'a [u8]) -> Result<Self, VaultError> {
        let parse = || {
            let (head, rest) = sealed.split_first_chunk::<HEAD>()?;
            let (nonce, rest) = rest.split_first_chunk()?;
            let (wrapped, body) = rest.split_first_chunk()?;
            (head.first() == Some(&VERSION)).then_some(Self { head, nonce, wrapped, body })
        };
        parse().ok_or(VaultError::Damaged)
    }
}

/// The nonce of a key that seals one value.
fn only_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// The id in the head of an envelope, as people read it.
fn id(head: &[u8; HEAD]) -> String {
    head.iter().skip(HEAD - ID).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::UserId;
    use uuid::Uuid;

    const ALICE: UserId = UserId(Uuid::from_u128(1));
    const BOB: UserId = UserId(Uuid::from_u128(2));
    const CANARY: &[u8] = b"canary-91c0";

    fn vault(key: u8, previous: &[u8]) -> Vault {
        let previous = previous.iter().map(|&byte| VaultKey([byte; 32])).collect();
        Vault::new(&VaultConfig { key: VaultKey([key; 32]), previous }).unwrap()
    }

    #[test]
    fn a_value_opens_for_its_own_context_only() {
        let vault = vault(1, &[]);
        let sealed = vault.seal(Context::Secret(ALICE, "key"), CANARY).unwrap();
        assert_eq!(vault.open(Context::Secret(ALICE, "key"), &sealed).unwrap().as_slice(), CANARY);
        for other in [
            Context::Secret(BOB, "key"),
            Context::Secret(ALICE, "ke"),
            Context::Password(ALICE),
            Context::SigningKey("key"),
            Context::Check,
        ] {
            assert_eq!(vault.open(other, &sealed), Err(VaultError::Damaged), "{other:?}");
        }
    }

    #[test]
    fn an_envelope_with_any_bit_changed_does_not_open() {
        let vault = vault(1, &[]);
        let sealed = vault.seal(Context::Check, CANARY).unwrap();
        for byte in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[byte] ^= 1 << (byte % 8);
            assert!(vault.open(Context::Check, &changed).is_err(), "byte {byte}");
        }
        for length in 0..sealed.len() {
            assert!(vault.open(Context::Check, &sealed[..length]).is_err(), "length {length}");
        }
    }

    #[test]
    fn the_same_value_never_gives_the_same_envelope_and_none_shows_the_value() {
        let vault = vault(1, &[]);
        let (one, two) = (vault.seal(Context::Check, CANARY).unwrap(), vault.seal(Context::Check, CANARY).unwrap());
        let heads = one.iter().zip(&two).take_while(|(a, b)| a == b).count();
        assert!((HEAD..HEAD + 4).contains(&heads), "only version and key id are the same: {heads}");
        assert!(!one.windows(CANARY.len()).any(|window| window == CANARY));
    }

    #[test]
    fn an_empty_value_is_a_value() {
        let vault = vault(1, &[]);
        let sealed = vault.seal(Context::Check, b"").unwrap();
        assert!(vault.open(Context::Check, &sealed).unwrap().is_empty());
    }

    #[test]
    fn a_previous_key_still_opens_and_never_seals() {
        let old = vault(1, &[]).seal(Context::Check, CANARY).unwrap();
        let rotated = vault(2, &[1]);
        assert_eq!(rotated.open(Context::Check, &old).unwrap().as_slice(), CANARY);
        assert!(!rotated.is_current(&old));
        let new = rotated.seal(Context::Check, CANARY).unwrap();
        assert!(rotated.is_current(&new));
        let error = vault(1, &[]).open(Context::Check, &new).unwrap_err();
        assert_eq!(error, VaultError::UnknownKey(rotated.key_id()));
    }

    #[test]
    fn a_key_id_of_another_key_does_not_make_it_open() {
        let (one, two) = (vault(1, &[2]), vault(2, &[]));
        let mut sealed = one.seal(Context::Check, CANARY).unwrap();
        sealed[..HEAD].copy_from_slice(&two.primary.head);
        assert_eq!(one.open(Context::Check, &sealed), Err(VaultError::Damaged));
    }

    #[test]
    fn debug_and_errors_show_key_ids_only() {
        let vault = vault(0xab, &[0xcd]);
        let shown = format!("{vault:?} {:?}", VaultConfig { key: VaultKey([0xab; 32]), previous: vec![] });
        assert!(shown.contains(&vault.key_id()), "{shown}");
        assert!(!shown.contains("abababab") && !shown.contains("171"), "{shown}");
    }
}
