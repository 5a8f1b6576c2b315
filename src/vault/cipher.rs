//! What the envelopes and the process's key share of the cipher.

use aws_lc_rs::aead::{Algorithm, LessSafeKey, UnboundKey};
use zeroize::Zeroizing;

use super::VaultError;

/// Bytes of a key.
pub(super) const KEY: usize = 32;
/// Bytes of a tag.
pub(super) const TAG: usize = 16;

/// A fresh random key, and its bytes.
pub(super) fn fresh_key(algorithm: &'static Algorithm) -> Result<(LessSafeKey, Zeroizing<[u8; KEY]>), VaultError> {
    let mut bytes = Zeroizing::new([0; KEY]);
    aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_| VaultError::Cipher)?;
    Ok((key(algorithm, bytes.as_slice())?, bytes))
}

/// The key of these bytes; the library wipes its own copy when the key is dropped.
pub(super) fn key(algorithm: &'static Algorithm, bytes: &[u8]) -> Result<LessSafeKey, VaultError> {
    UnboundKey::new(algorithm, bytes).map(LessSafeKey::new).map_err(|_| VaultError::Cipher)
}
