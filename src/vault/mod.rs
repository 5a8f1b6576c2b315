//! Secrets at rest and in memory: envelopes under the vault key, and once more under a key of the process.

use std::sync::Arc;

use jiff::Timestamp;

use crate::policy::UserId;

/// What a sealed value belongs to: bound to it as associated data, so that an envelope moved elsewhere never opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context<'a> {
    /// A user's secret, by lower-case name.
    Secret(UserId, &'a str),
    /// A user's password verifier.
    Password(UserId),
    /// A private key of the issuer, by `kid`.
    SigningKey(&'a str),
    /// The text that proves at start that this is the right vault key.
    Check,
}

/// Why a value could not be sealed or opened. Never holds any of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// No configured key has the id that the envelope names.
    #[error("sealed under vault key {0}, which is not configured")]
    UnknownKey(String),
    /// The envelope is damaged, or belongs to another user, name or key.
    #[error("the envelope does not open: it is damaged or belongs to something else")]
    Damaged,
    /// The operating system gave no random bytes, or the cipher failed.
    #[error("the cipher failed")]
    Cipher,
}

/// One secret as the snapshot holds it: sealed under the process's key.
#[derive(Clone)]
pub struct Held {
    /// Nonce, ciphertext and tag.
    #[allow(dead_code, reason = "read where it is opened")]
    pub(crate) sealed: Arc<[u8]>,
    /// When it ends, if it does.
    pub expires: Option<Timestamp>,
    /// When it was stored.
    pub created: Timestamp,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").field("created", &self.created).field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// What a consent is looked up by.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConsentKey {
    /// Whose secret.
    pub user: UserId,
    /// Which secret, lower case.
    pub secret: Arc<str>,
    /// Digest of service, origins and template.
    pub fingerprint: Arc<str>,
}
