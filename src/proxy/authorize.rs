//! Whether this call may be made: the operation that it is, the levels and the resource that this needs, and the permit.

use std::cell::RefCell;

use http::Method;
use jiff::Timestamp;
use serde_json::Value;
use smallvec::SmallVec;

use super::error::{Kind, Problem};
use super::route::Route;
use super::target::{Segments, Target};
use super::why::{self, Names, View, Why};
use crate::config::{Operation, RequestPattern, Segment as PatternSegment, Unmatched};
use crate::identity::{Directory, Identity};
use crate::policy::{Denied, Levels, Permit, Recent, Snapshot, UserId};
use crate::telemetry::metrics::CacheMetrics;

/// How many decisions a worker remembers, in some 150 bytes each.
const DECISIONS: usize = 4096;

/// What was permitted.
#[derive(Debug)]
pub struct Permitted<'r> {
    /// The proof.
    pub permit: Permit,
    /// The operation that the call is, where the service has any.
    pub operation: Option<&'r Operation>,
}

/// What a call asks for.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The service.
    pub route: &'a Route,
    /// The path.
    pub target: &'a Target,
    /// The method.
    pub method: &'a Method,
}

/// What a call needs.
#[derive(Clone, Copy, Debug)]
pub struct Needed<'r, 'k> {
    /// The resource's name.
    pub keys: &'k [&'k str],
    /// The levels on it, all of them.
    pub need: Levels,
    /// The operation that the call is, where the service has any.
    pub operation: Option<&'r Operation>,
}

/// Why no levels would do for a call.
#[derive(Clone, Copy, Debug)]
pub enum NoQuestion<'r> {
    /// This operation reads a part of the path that can be read in two ways.
    Ambiguous(&'r Operation),
    /// It is no operation, and the service takes nothing else.
    Undeclared,
}

/// An operation with what tells whether its pattern reads an ambiguous segment.
#[derive(Debug)]
pub struct Judged {
    operation: Operation,
    /// One pattern for each segment before the first `**`.
    before: Vec<RequestPattern>,
    after: After,
}

/// How a pattern goes on after the segments that stand at fixed places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// It ends: that nothing follows is read too.
    End,
    /// With a last `**`: nothing more is read.
    Anything,
    /// With `**` and more: any segment may be read.
    More,
}

/// What one thread decided lately. Only ever true of the snapshot that a question is about, so that what a change took
/// away is gone with the first request that reads the changed snapshot.
#[derive(Debug)]
pub struct Decisions {
    recent: RefCell<Recent>,
    metrics: CacheMetrics,
}

/// Who decides: the snapshot, by way of what is remembered of it where there is a memory, and the names for a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Judge<'a> {
    /// Who may do what.
    pub policy: &'a Snapshot,
    /// Who is who.
    pub directory: &'a Directory,
    /// The thread's memory; none for what asks seldom.
    pub decisions: Option<&'a Decisions>,
}

type Keys<'a> = SmallVec<[&'a str; 8]>;

/// The permit for the call, or why there is none.
///
/// # Errors
/// 400 for an ambiguous path where an operation reads it, 403 otherwise.
pub fn check<'r>(
    judge: &Judge<'_>,
    identity: &Identity,
    call: &Call<'r>,
    now: Timestamp,
) -> Result<Permitted<'r>, Problem> {
    check_noting(judge, identity, call, now, |_, _| ())
}

/// As [`check`]; `note` hears what grants were asked and whether they permitted it, where they were asked at all.
///
/// # Errors
/// As [`check`].
pub fn check_noting<'r>(
    judge: &Judge<'_>,
    identity: &Identity,
    call: &Call<'r>,
    now: Timestamp,
    note: impl FnOnce(&Needed<'r, '_>, bool),
) -> Result<Permitted<'r>, Problem> {
    if identity.audience.is_some() {
        return Err(Problem::new(
            &Kind::TOKEN_SCOPE,
            "the token was made for a service to look up its caller, and is not good for calls\nuse a token of your own",
        ));
    }
    let judged = ask(call, |needed| {
        let denied = |denied: Denied| refusal(judge, call, needed.keys, &denied, now);
        let decided = judge.permit(identity.account.id, needed.keys, needed.need, now);
        note(&needed, decided.is_ok());
        Ok(Permitted { permit: decided.map_err(denied)?, operation: needed.operation })
    });
    judged.unwrap_or_else(|no_question| Err(no_question.problem(judge, call)))
}

/// Finds what the call needs, and hands it to `judge`.
///
/// # Errors
/// [`NoQuestion`] where no levels would do.
pub fn ask<'r, T>(call: &Call<'r>, judge: impl FnOnce(Needed<'r, '_>) -> T) -> Result<T, NoQuestion<'r>> {
    let route = call.route;
    let base = Needed { keys: &[route.namespace(), route.name()], need: route.level(), operation: None };
    if route.operations().is_empty() {
        return Ok(judge(base));
    }
    let segments = call.target.segments();
    let ambiguous = segments.iter().any(|segment| segment.ambiguous);
    for judged in route.operations() {
        let operation = &judged.operation;
        if ambiguous && judged.reads_ambiguous(call.method, &segments) {
            return Err(NoQuestion::Ambiguous(operation));
        }
        if let Some(captures) = operation.matches(call.method, &segments) {
            let keys: Keys<'_> = operation.resource_keys(&captures).collect();
            let need = operation.level.unwrap_or(route.level());
            return Ok(judge(Needed { keys: &keys, need, operation: Some(operation) }));
        }
    }
    match route.unmatched() {
        Unmatched::Level => Ok(judge(base)),
        Unmatched::Refuse => Err(NoQuestion::Undeclared),
    }
}

impl NoQuestion<'_> {
    /// What the caller is told.
    #[must_use]
    pub fn problem(&self, judge: &Judge<'_>, call: &Call<'_>) -> Problem {
        match self {
            Self::Ambiguous(operation) => Problem::new(
                &Kind::AMBIGUOUS_PATH,
                format!("the path can be read in more than one way where the operation `{}` reads it", operation.name),
            ),
            Self::Undeclared => Problem::new(
                &Kind::NO_OPERATION,
                format!(
                    "`{}` is no operation of `{}` that is declared\nask its owner to declare it",
                    call.method,
                    call.route.label()
                ),
            )
            .with("service", call.route.label())
            .with("owner", owner(judge, &[call.route.namespace(), call.route.name()])),
        }
    }
}

/// The permit for a public endpoint: open to all, GET and HEAD, at exactly the path that is listed. A path that could be
/// read in another way is not public.
pub fn public(call: &Call<'_>) -> Option<Permit> {
    let route = call.route;
    if route.public().is_empty() || !(call.method == Method::GET || call.method == Method::HEAD) {
        return None;
    }
    let remainder = call.target.remainder();
    let segments = call.target.segments();
    if segments.iter().any(|segment| segment.ambiguous) || (remainder.len() > 1 && remainder.ends_with('/')) {
        return None;
    }
    let is_it = |listed: &String| {
        let listed = listed.strip_prefix('/').unwrap_or(listed);
        let texts = segments.iter().map(AsRef::as_ref);
        if listed.is_empty() { segments.is_empty() } else { listed.split('/').eq(texts) }
    };
    route.public().iter().any(is_it).then(Snapshot::permit_public)
}

impl<'a> Judge<'a> {
    /// What ids are called.
    #[must_use]
    pub fn names(&self) -> Names<'a> {
        Names { policy: self.policy, directory: self.directory }
    }

    fn permit(&self, user: UserId, keys: &[&str], need: Levels, now: Timestamp) -> Result<Permit, Denied> {
        match self.decisions {
            Some(decisions) => decisions.permit(self.policy, user, keys, need, now),
            None => self.policy.permit(user, keys, need, now),
        }
    }
}

impl Decisions {
    fn permit(
        &self,
        policy: &Snapshot,
        user: UserId,
        keys: &[&str],
        need: Levels,
        now: Timestamp,
    ) -> Result<Permit, Denied> {
        let mut recent = self.recent.borrow_mut();
        let (before, _) = recent.hits_and_misses();
        let outcome = recent.permit(policy, user, keys, need, now);
        self.metrics.count(recent.hits_and_misses().0 > before);
        outcome
    }
}

impl Default for Decisions {
    fn default() -> Self {
        Self { recent: RefCell::new(Recent::new(DECISIONS)), metrics: CacheMetrics::new("decision") }
    }
}

impl Judged {
    /// Prepares the operation.
    #[must_use]
    pub fn new(operation: Operation) -> Self {
        let segments = &operation.requests.segments;
        let fixed = segments.iter().position(|segment| *segment == PatternSegment::Rest).unwrap_or(segments.len());
        let alone = |segment: &PatternSegment| RequestPattern { methods: Vec::new(), segments: vec![segment.clone()] };
        let before = segments.iter().take(fixed).map(alone).collect();
        let after = match segments.len() - fixed {
            0 => After::End,
            1 => After::Anything,
            _ => After::More,
        };
        Self { operation, before, after }
    }

    /// The operation.
    #[must_use]
    pub fn operation(&self) -> &Operation {
        &self.operation
    }

    /// Whether a segment that can be read in two ways stands where this pattern decides by it: reading stops at the
    /// first segment that does not fit.
    fn reads_ambiguous(&self, method: &Method, segments: &Segments<'_>) -> bool {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        let methods = &self.operation.requests.methods;
        if !methods.is_empty() && !methods.contains(method) {
            return false;
        }
        let mut ahead = segments.iter();
        for pattern in &self.before {
            match ahead.next() {
                Some(segment) if segment.ambiguous => return true,
                Some(segment) if pattern.matches(method, &[&segment.text]).is_some() => {}
                _ => return false,
            }
        }
        match self.after {
            After::End => ahead.next().is_some_and(|segment| segment.ambiguous),
            After::Anything => false,
            After::More => ahead.any(|segment| segment.ambiguous),
        }
    }
}

/// 403: the caller learns the level, the resource, its owner and why; the owner also sees the grants.
fn refusal(judge: &Judge<'_>, call: &Call<'_>, keys: &[&str], denied: &Denied, now: Timestamp) -> Problem {
    let names = judge.names();
    let (name, resource) = (names.user(denied.user), why::resource(keys));
    let missing = denied.need.without(denied.held);
    let missing = if missing.is_empty() { denied.need } else { missing };
    let owner = owner(judge, keys);
    let whom = owner.as_str().map_or_else(|| "an administrator".to_owned(), |owner| format!("its owner `{owner}`"));
    let detail = format!(
        "`{name}` lacks {missing} on `{resource}`, which calling `{}` needs\nask {whom} for it",
        call.route.label()
    );
    let explained = judge.policy.explain(denied.user, keys, denied.need, now);
    let told = Why::of(names, &explained, keys, now);
    let view = View::of(judge.policy, denied.user, keys, now);
    let problem = Problem::new(&Kind::PERMISSION_DENIED, detail)
        .with("user", name)
        .with("level", denied.need.to_string())
        .with("held", denied.held.to_string())
        .with("resource", resource)
        .with("owner", owner)
        .with("why", told.json(view))
        .keeping(told.json(View::Full));
    match why::owned(judge.policy, denied.user, keys) {
        Some(from) => problem.with("grants", names.grants(keys, from)),
        None => problem,
    }
}

fn owner(judge: &Judge<'_>, keys: &[&str]) -> Value {
    let account = judge.policy.owner(keys).and_then(|owner| judge.directory.by_id(owner));
    account.map_or(Value::Null, |account| (*account.name).into())
}
