//! The forms of answers that are made member by member: what they have is in `explain.rs`, `preview.rs` and
//! `proxy/why.rs`, and the tests hold the two against each other.
#![expect(dead_code, reason = "schemas of what is made elsewhere")]

use jiff::Timestamp;
use utoipa::ToSchema;

/// Why a decision is what it is, by the walk that made it. What is told depends on who asks.
#[derive(ToSchema)]
pub(in crate::api) struct Why {
    /// `allowed` or `refused`.
    decision: String,
    /// In words.
    #[schema(nullable = false)]
    reason: Option<String>,
    #[schema(nullable = false)]
    user: Option<String>,
    #[schema(nullable = false)]
    need: Option<String>,
    #[schema(nullable = false)]
    held: Option<String>,
    #[schema(nullable = false)]
    resource: Option<String>,
    /// `owner`, `granted`, `own-deny`, `deny`, `too-little` or `nothing`.
    #[schema(nullable = false)]
    because: Option<String>,
    /// The owner of the resource, where it has one.
    owner: Option<String>,
    /// Subjects, the owner first.
    #[schema(nullable = false)]
    who_can_give: Option<Vec<String>>,
    /// Whether there are more of them, or may be, as not all grants were looked at.
    #[schema(nullable = false)]
    who_can_give_more: Option<bool>,
    /// The smallest grant that would allow it, with the command that makes it.
    #[schema(nullable = false)]
    smallest_change: Option<Grant>,
    /// To who administers the resource: the grants that decided.
    #[schema(nullable = false)]
    deciding: Option<Vec<Grant>>,
    /// To who administers the resource: those that did not count, with what beat each.
    #[schema(nullable = false)]
    beaten: Option<Vec<Grant>>,
    /// Lists that were left out of a long one.
    #[schema(nullable = false)]
    shortened: Option<serde_json::Value>,
}

/// A grant.
#[derive(ToSchema)]
pub(in crate::api) struct Grant {
    subject: String,
    resource: String,
    levels: String,
    #[schema(nullable = false)]
    expires: Option<Timestamp>,
    #[schema(nullable = false)]
    command: Option<String>,
    #[schema(nullable = false)]
    beaten_by: Option<String>,
    #[schema(nullable = false)]
    why: Option<String>,
}

/// What would be decided now.
#[derive(ToSchema)]
pub(in crate::api) struct Decision {
    user: String,
    method: String,
    path: String,
    /// `namespace/service`.
    service: String,
    #[schema(required = false)]
    operation: Option<String>,
    revision: u64,
    at: Timestamp,
    /// `allowed` or `refused`.
    decision: String,
    #[schema(nullable = false)]
    why: Option<Why>,
    #[schema(nullable = false)]
    note: Option<String>,
    /// The type of problem that the call would be refused with, where no grants are asked.
    #[schema(nullable = false)]
    problem: Option<String>,
    #[schema(nullable = false)]
    status: Option<u16>,
    #[schema(nullable = false)]
    detail: Option<String>,
}

/// What became of a call.
#[derive(ToSchema)]
pub(in crate::api) struct PastCall {
    request_id: String,
    at: Timestamp,
    user: Option<String>,
    method: String,
    path: String,
    /// `namespace/service`.
    service: Option<String>,
    operation: Option<String>,
    /// `allowed`, `refused`, or `undecided`.
    decision: String,
    status: u16,
    revision: u64,
    took_us: u64,
    #[schema(nullable = false)]
    upstream_us: Option<u64>,
    #[schema(nullable = false)]
    problem: Option<String>,
    #[schema(nullable = false)]
    detail: Option<String>,
    #[schema(nullable = false)]
    why: Option<Why>,
    #[schema(nullable = false)]
    now: Option<Now>,
}

/// What the same question would be answered now.
#[derive(ToSchema)]
pub(in crate::api) struct Now {
    revision: u64,
    at: Timestamp,
    decision: String,
    /// Whether that is not what was decided then.
    differs: bool,
    why: Why,
    #[schema(nullable = false)]
    note: Option<String>,
}

/// What changes of permissions would do.
#[derive(ToSchema)]
pub(in crate::api) struct Preview {
    revision: u64,
    /// Whether everything was compared.
    complete: bool,
    users: u64,
    resources: u64,
    evaluations: u64,
    /// The first 1000.
    gains: Vec<Difference>,
    /// The first 1000.
    losses: Vec<Difference>,
    counts: Counts,
    calls: Calls,
    /// Names for which a change makes another grant answer than before.
    warnings: Vec<String>,
}

/// What one user gains or loses on one resource.
#[derive(ToSchema)]
pub(in crate::api) struct Difference {
    user: String,
    resource: String,
    levels: String,
    before: String,
    after: String,
}

/// How many there are.
#[derive(ToSchema)]
pub(in crate::api) struct Counts {
    gains: u64,
    losses: u64,
    /// On resources that the caller does not administer, reached by shares.
    elsewhere: u64,
}

/// Calls of the last days that would have gone the other way.
#[derive(ToSchema)]
pub(in crate::api) struct Calls {
    days: i64,
    complete: bool,
    would_be_refused: Vec<CallCount>,
    would_be_allowed: Vec<CallCount>,
    /// Calls of too many resources to be kept apart.
    unjudged: u64,
}

/// How often a user made a call.
#[derive(ToSchema)]
pub(in crate::api) struct CallCount {
    user: String,
    /// `namespace/service`.
    service: String,
    operation: Option<String>,
    resource: String,
    count: u64,
}
