//! API tokens as they are kept: by a digest of the key, never by the key.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::policy::UserId;

/// The id of an API token: no later token has it, whatever its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ApiTokenId(pub Uuid);

/// The SHA-256 of a key. Without `Debug`: nothing that is written anywhere needs it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyDigest(pub [u8; 32]);

/// An API token.
#[derive(Clone, PartialEq, Eq)]
pub struct ApiToken {
    /// Its id.
    pub id: ApiTokenId,
    /// As whom it acts.
    pub user: UserId,
    /// Its name, unique among those of the user.
    pub name: String,
    /// What finds it by its key.
    pub digest: KeyDigest,
    /// What the key begins with and lists show: no part of its 32 random bytes.
    pub hint: String,
    /// What it may be used for, as written.
    pub patterns: Vec<String>,
    /// When it ends, if it does.
    pub expires: Option<Timestamp>,
    /// How many uses are left, where they are counted. Only [`super::Meter`] takes from it.
    pub uses: Option<u64>,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Whether it is deleted where others are only revoked.
    pub auto_remove: bool,
    /// When it was made.
    pub created: Timestamp,
    /// When it was last used, as far as that was noted.
    pub last_used: Option<Timestamp>,
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiToken")
            .field("id", &self.id)
            .field("user", &self.user)
            .field("name", &self.name)
            .field("patterns", &self.patterns)
            .field("expires", &self.expires)
            .field("uses", &self.uses)
            .field("revoked", &self.revoked)
            .finish_non_exhaustive()
    }
}
