//! What is kept: one transaction a change, with its audit record and revision; a feed of what changed.
//!
//! [`Store`] is the whole contract. SQLite is the embedded default; the same contract suite runs against every store.

mod access;
mod api_token;
mod chain;
mod mutation;
mod portion;
mod quota;
mod record;
pub mod sqlite;
mod trail;

use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::policy::{Subject, UserId};

pub use access::{Batch, Count, DAYS_KEPT, MOST_COUNTS, MOST_COUNTS_OF_USER, MOST_REFUSALS, Refusal, day};
pub use api_token::{ApiToken, ApiTokenId, KeyDigest};
pub use chain::{
    AUDIT_KEYS, AUDIT_PRUNED, Break, CHAIN_BEGINS, CHAIN_BROKEN, ChainHash, ChainKeys, Followed, Head, Mac, NoHead,
    Noted, Step,
};
pub use mutation::{Committed, DeclaredService, Mutation, NewUser, Resealed, Sealed, TunnelNote};
pub use portion::{GrantRow, Grants, Portion};
pub use quota::{
    MOST_API_TOKENS, MOST_CONNECTIONS, MOST_CONSENTS, MOST_GRANTS, MOST_GROUPS, MOST_IN_NAMESPACE, MOST_NAMESPACES,
    MOST_NODE_BYTES, MOST_NODES, MOST_SECRETS, MOST_SERVICES, MOST_SHARES,
};
pub use record::{
    Changes, Consent, Contents, Grant, Group, HEADER_ISSUER, Item, Key, Link, Namespace, Node, NodeKind, Origin,
    Password, Revision, Secret, Service, SigningKey, User, Withdrawal,
};
pub use trail::{Actor, Audit, AuditPage, AuditQuery};

/// Why the store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// What should be new is there already: `user`, `group`, `namespace`, `service`, `workspace`, `link`.
    #[error("{what} `{name}` exists already")]
    Exists {
        /// The kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// What should be there is not.
    #[error("no {what} `{name}`")]
    Missing {
        /// The kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The change contradicts what is there: a namespace that is not empty, a service of the file, too much of one user.
    #[error("{0}")]
    Refused(String),
    /// There is as much as may be; what can be removed instead.
    #[error("{0}")]
    Full(String),
    /// The store cannot be reached, or is busy for too long: try again.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// The store's data is damaged or of another version: a person must look.
    #[error("the store's data cannot be used: {0}")]
    Damaged(String),
}

/// Reads for the snapshot.
#[async_trait]
pub trait Feed: Send + Sync {
    /// Everything, at one revision.
    async fn load(&self) -> Result<Contents, StoreError>;

    /// Everything, at one revision, in portions while it is read, so that it need not be in memory as a whole. Groups come
    /// before users, users before links, and the grants of one subject together. The store's own thread waits where
    /// `portions` is full.
    ///
    /// What came is everything only where this is fine.
    async fn load_into(&self, portions: SyncSender<Portion>) -> Result<Revision, StoreError>;

    /// What changed after `since`.
    async fn changes(&self, since: Revision) -> Result<Changes, StoreError>;

    /// The newest revision that this process knows of; written by whoever writes, other processes included, within
    /// half a second.
    fn revisions(&self) -> watch::Receiver<Revision>;
}

/// The one way to change anything.
#[async_trait]
pub trait Writer: Send + Sync {
    /// Applies the whole change, its audit record and its revision in one transaction, durable before it returns.
    async fn commit(&self, actor: Actor, mutation: Mutation) -> Result<Committed, StoreError>;
}

/// Reads of what the snapshot does not hold.
#[async_trait]
pub trait Reader: Send + Sync {
    /// What checks the user's password, if one was set.
    async fn password(&self, user: UserId) -> Result<Option<Password>, StoreError>;

    /// Every password's envelope, for re-sealing under another vault key.
    async fn passwords(&self) -> Result<Vec<(UserId, Password)>, StoreError>;

    /// A value kept beside the data, such as the text that proves the vault key.
    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError>;

    /// The user of this name: for commands that have no snapshot.
    async fn user_named(&self, name: &str) -> Result<Option<User>, StoreError>;

    /// The group of this name.
    async fn group_named(&self, name: &str) -> Result<Option<Group>, StoreError>;

    /// The namespace of this name.
    async fn namespace_named(&self, name: &str) -> Result<Option<Namespace>, StoreError>;

    /// The service of this name in the namespace, absent ones of the file included.
    async fn service_named(&self, namespace: &str, name: &str) -> Result<Option<Service>, StoreError>;

    /// Up to `limit` grants of the subject, in no order that matters.
    async fn grants_of(&self, subject: &Subject, limit: usize) -> Result<Vec<Grant>, StoreError>;

    /// What is there now under the key.
    async fn item(&self, key: Key) -> Result<Item, StoreError>;

    /// The user's API tokens as they are now, uses and last use included, by name.
    async fn api_tokens(&self, user: UserId) -> Result<Vec<ApiToken>, StoreError>;

    /// Up to `limit` audit records after `seq`, in order.
    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<Audit>, StoreError>;
}

/// The access record, which is no change: it raises no revision and is not audited.
#[async_trait]
pub trait Recorder: Send + Sync {
    /// Adds the counts, keeps the refusals, and removes what is older than [`DAYS_KEPT`] or more than is kept.
    async fn record(&self, batch: Arc<Batch>) -> Result<(), StoreError>;

    /// The refusal of the request with this id.
    async fn refusal(&self, id: &str) -> Result<Option<Refusal>, StoreError>;

    /// Up to `limit` counts of the day `since` (days since 1970, UTC) and later ones, the newest first.
    async fn counts(&self, since: i32, limit: usize) -> Result<Vec<Count>, StoreError>;
}

/// The audit: its chain, and what is asked of it.
#[async_trait]
pub trait Auditor: Send + Sync {
    /// Follows the chain over up to `limit` entries after `from`, and is told by what it finds. Its end is compared with
    /// what the store says elsewhere of the last change.
    async fn follow_audit(&self, from: Followed, limit: usize) -> Result<Step, StoreError>;

    /// The entries that are asked for, the newest first. A page may have fewer than asked for, or none, and yet a next one:
    /// what one question looks at is bounded. `Missing` where the entry to go on after is not there.
    async fn find_audit(&self, query: AuditQuery) -> Result<AuditPage, StoreError>;

    /// The newest entry that has a hash.
    async fn audit_head(&self) -> Result<Option<Head>, StoreError>;

    /// The hash that the entry of this number has.
    async fn audit_mac(&self, seq: u64) -> Result<Option<Mac>, StoreError>;
}

/// What counts down or changes with use, which is no change: it raises no revision and is not audited.
#[async_trait]
pub trait Meter: Send + Sync {
    /// Takes one use off an API token that counts them, durable before it returns; how many are left then. None where
    /// there is none to take, and for a token that is gone, revoked, expired or does not count.
    async fn spend(&self, token: ApiTokenId, now: Timestamp) -> Result<Option<u64>, StoreError>;

    /// Notes when API tokens were last used; an earlier time than is known changes nothing.
    async fn note_uses(&self, used: Vec<(ApiTokenId, Timestamp)>) -> Result<(), StoreError>;
}

/// The whole contract of a store.
pub trait Store: Feed + Writer + Reader + Recorder + Auditor + Meter {}

impl<T: Feed + Writer + Reader + Recorder + Auditor + Meter> Store for T {}
