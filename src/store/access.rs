//! The access record: what grants permitted and refused, counted by day, and the refusals themselves. It raises no
//! revision and leaves no audit record.

use jiff::Timestamp;

use crate::policy::{Levels, Pattern, ResourceId, UserId};

/// How many days what was recorded is kept.
pub const DAYS_KEPT: i32 = 7;

/// The most refusals that are kept, whatever their age; of more the oldest go.
pub const MOST_REFUSALS: i64 = 100_000;

/// The most counts that are kept, whatever their age; of more the oldest go.
pub const MOST_COUNTS: i64 = 500_000;

/// The most counts of one user on one day that are kept apart by resource; further ones are added up without it.
pub const MOST_COUNTS_OF_USER: i64 = 5000;

/// What came since the last batch.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// Added to what is there for the same day, user, service, operation, levels and resource.
    pub counts: Vec<Count>,
    /// Kept by their ids.
    pub refusals: Vec<Refusal>,
}

/// How often grants permitted somebody something on one day, and how often they did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Count {
    /// Days since 1970 (UTC).
    pub day: i32,
    /// Who.
    pub user: UserId,
    /// Of which service.
    pub service: ResourceId,
    /// Which operation, by name.
    pub operation: Option<String>,
    /// The levels that were needed.
    pub need: Levels,
    /// The resource that they were needed on; none where too many were called to keep them apart.
    pub resource: Option<Pattern>,
    /// How often they permitted it.
    pub allowed: u64,
    /// How often they did not.
    pub refused: u64,
}

/// A call that got an answer of the gateway's own.
#[derive(Clone, Debug, PartialEq)]
pub struct Refusal {
    /// The request's id.
    pub id: String,
    /// When.
    pub at: Timestamp,
    /// Whose call it was.
    pub user: UserId,
    /// Of which service, where it reached one.
    pub service: Option<ResourceId>,
    /// As which operation, by name.
    pub operation: Option<String>,
    /// Its method.
    pub method: String,
    /// Its path, without the query.
    pub path: String,
    /// The levels that it needed, where grants were asked.
    pub need: Option<Levels>,
    /// The resource that it needed them on.
    pub resource: Option<Pattern>,
    /// What grants said, where they were asked.
    pub permitted: Option<bool>,
    /// The problem's type.
    pub problem: String,
    /// The answer's status.
    pub status: u16,
    /// The revision that it was decided at.
    pub revision: u64,
    /// Microseconds from its head to the head of its answer.
    pub took: u64,
    /// What the caller was told.
    pub detail: String,
    /// What is told to who may see everything.
    pub why: Option<serde_json::Value>,
}

/// The day of the moment: days since 1970 (UTC).
#[must_use]
pub fn day(at: Timestamp) -> i32 {
    i32::try_from(at.as_second().div_euclid(24 * 60 * 60)).unwrap_or_default()
}
