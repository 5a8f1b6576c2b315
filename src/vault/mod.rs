//! Secrets at rest and in memory: envelopes under the vault key, and once more under a key of the process.

mod associated;
mod chain;
mod cipher;
mod envelope;
mod memory;
mod owned;
mod rotate;
mod secrets;

use std::sync::Arc;

use crate::policy::UserId;

pub use envelope::Vault;
pub use memory::{Held, ProcessKey};
pub use rotate::{KeyError, Rotated, audit_keys_are_current, compare_key, rotate, verify_key};
pub use secrets::{Listed, Own, SecretFault, Secrets};

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
    /// The keys of the audit's chain.
    AuditKeys,
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
