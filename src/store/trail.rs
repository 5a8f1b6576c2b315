//! Who makes a change, and what the audit keeps of it.

use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::{Mac, Revision};
use crate::policy::{ResourceId, UserId};

/// Who makes a change, for the audit record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The user, where one is known.
    pub user: Option<UserId>,
    /// How the change came: `api`, `api-token`, `cli`, `login`, `config`, `admin-key`, `tunnel`.
    pub via: &'static str,
    /// From where: the peer's address, with the name of its token or the id of its key, or the operating system's user.
    pub from: Arc<str>,
    /// The id of the request that made it.
    pub request_id: Option<Arc<str>>,
}

/// One line of the audit: a change that was made. It never holds a secret, a verifier or an envelope.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audit {
    /// Counts the records, without a gap.
    pub seq: u64,
    /// The revision that the change made.
    pub revision: Revision,
    /// When.
    pub at: Timestamp,
    /// The user who made it, where one is known.
    pub user: Option<UserId>,
    /// How the change came: as [`Actor::via`].
    pub via: String,
    /// From where: as [`Actor::from`].
    pub from: String,
    /// The request that made it.
    pub request_id: Option<String>,
    /// What was done, such as `grant.put`.
    pub what: String,
    /// To what, for people: `alice`, `materials/mp`.
    pub target: String,
    /// What was there before.
    pub before: Option<serde_json::Value>,
    /// What is there now.
    pub after: Option<serde_json::Value>,
    /// The namespace or service that it was about: by its id, which no later one of the same name has.
    pub resource: Option<ResourceId>,
    /// Its keyed hash; none for an entry of a store from before the chain.
    pub mac: Option<Mac>,
}

/// Which entries of the audit are asked for: those that every condition holds for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditQuery {
    /// Made by this user.
    pub user: Option<UserId>,
    /// About this namespace or service.
    pub resource: Option<ResourceId>,
    /// With exactly this target.
    pub target: Option<String>,
    /// Of exactly this kind.
    pub what: Option<String>,
    /// Made at this time or later.
    pub from: Option<Timestamp>,
    /// Made before this time.
    pub to: Option<Timestamp>,
    /// Older than this entry, which ended the page before.
    pub after: Option<u64>,
    /// The most entries of a page.
    pub limit: usize,
}

/// Some entries, the newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AuditPage {
    /// The entries.
    pub entries: Vec<Audit>,
    /// Where the next page goes on, where there may be one: as [`AuditQuery::after`].
    pub next: Option<u64>,
}
