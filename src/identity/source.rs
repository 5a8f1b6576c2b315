//! One issuer that is trusted: its rules, its keys as they are now, and a way to ask for newer ones.

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;

use super::AuthError;
use super::jwks::Refetch;
use super::jwt::{Accepted, Rules, Token};
use super::key::{Key, KeySet};
use crate::config::JwtIssuer;

/// An issuer whose tokens are accepted.
pub(super) struct Source {
    pub(super) rules: Rules,
    /// Shared with whoever renews it.
    pub(super) keys: Arc<ArcSwap<KeySet>>,
    /// How accounts come of its tokens, and where its keys come from; none for the built-in issuer.
    pub(super) remote: Option<Remote>,
}

/// What only another issuer has.
pub(super) struct Remote {
    pub(super) config: JwtIssuer,
    pub(super) refetch: Refetch,
}

impl Source {
    /// Judges a token whose `iss` is this issuer's: claims first, because they cost nothing and an expired token is no
    /// reason to fetch keys; then the key that its `kid` and `alg` name, then the signature.
    pub(super) async fn verify(
        &self,
        token: &Token<'_>,
        now: Timestamp,
    ) -> Result<(Accepted, Arc<Key>, u64), AuthError> {
        let accepted = token.accept(&self.rules, now)?;
        let (key, generation) = match self.key(token, now) {
            Some(found) => found,
            None => {
                if let Some(remote) = &self.remote {
                    remote.refetch.ask().await?;
                }
                let unknown = AuthError::Invalid("the token's key is not among its issuer's keys");
                self.ensure_usable(now)?;
                self.key(token, now).ok_or(unknown)?
            }
        };
        if !token.signed_by(&key) {
            return Err(AuthError::Invalid("the token's signature does not verify"));
        }
        Ok((accepted, key, generation))
    }

    /// Keys that are missing or too old are never replaced by others: nobody can be identified then.
    pub(super) fn ensure_usable(&self, now: Timestamp) -> Result<(), AuthError> {
        if self.keys.load().usable(now) {
            return Ok(());
        }
        Err(AuthError::Unavailable("the keys of the token's issuer cannot be had at the moment\ntry again later"))
    }

    fn key(&self, token: &Token<'_>, now: Timestamp) -> Option<(Arc<Key>, u64)> {
        let keys = self.keys.load();
        let key = keys.usable(now).then(|| keys.find(token.kid.as_deref(), &token.algorithm, now)).flatten()?;
        Some((key.clone(), keys.generation))
    }
}
