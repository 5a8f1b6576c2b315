//! One request in the access record, and the name of the resource that it needed.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use smallvec::SmallVec;

use super::ring::Refused;
use crate::policy::{Levels, Pattern, ResourceId, UserId};
use crate::problem::Kind;
use crate::telemetry::RequestId;

/// The longest path or resource name that is kept, in bytes.
pub(super) const LONGEST: usize = 256;

/// Stands after each key of a name; no text has this byte.
const END: u8 = 0xFF;

/// The keys of a resource name, in one piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name(pub(super) SmallVec<[u8; 64]>);

/// One request, as remembered.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its id.
    pub id: RequestId,
    /// When it was decided or answered, to the microsecond.
    pub at: Timestamp,
    /// Whose it was, where somebody was identified.
    pub user: Option<UserId>,
    /// For which service, where it reached one.
    pub service: Option<ResourceId>,
    /// As which operation.
    pub operation: Option<Arc<str>>,
    /// Its method.
    pub method: Method,
    /// Its path without the query, cut at 256 bytes.
    pub path: String,
    /// The levels that it needed, where grants were asked.
    pub need: Option<Levels>,
    /// The resource that it needed them on; empty where that is longer than is kept.
    pub name: Name,
    /// What grants said, where they were asked.
    pub permitted: Option<bool>,
    /// The problem, where the answer was the gateway's own.
    pub problem: Option<&'static Kind>,
    /// The answer's status.
    pub status: u16,
    /// The revision that it was decided at.
    pub revision: u64,
    /// From its head to the head of its answer, to the microsecond.
    pub took: Duration,
    /// What of that was waiting for the upstream.
    pub upstream: Option<Duration>,
    /// What a refusal said, where that is not forgotten already.
    pub refused: Option<Arc<Refused>>,
}

/// What happened to a request, on its way into the record.
#[derive(Debug)]
pub struct Happened<'a> {
    /// See [`Entry::id`].
    pub id: &'a RequestId,
    /// See [`Entry::at`].
    pub at: Timestamp,
    /// See [`Entry::user`].
    pub user: Option<UserId>,
    /// See [`Entry::service`].
    pub service: Option<ResourceId>,
    /// See [`Entry::operation`].
    pub operation: Option<&'a Arc<str>>,
    /// See [`Entry::method`].
    pub method: &'a Method,
    /// See [`Entry::path`].
    pub path: &'a str,
    /// See [`Entry::need`].
    pub need: Option<Levels>,
    /// See [`Entry::name`].
    pub name: &'a Name,
    /// See [`Entry::permitted`].
    pub permitted: Option<bool>,
    /// See [`Entry::problem`].
    pub problem: Option<&'static Kind>,
    /// See [`Entry::status`].
    pub status: u16,
    /// See [`Entry::revision`].
    pub revision: u64,
    /// See [`Entry::took`].
    pub took: Duration,
    /// See [`Entry::upstream`].
    pub upstream: Option<Duration>,
    /// See [`Entry::refused`].
    pub refused: Option<Arc<Refused>>,
}

impl Name {
    /// No name.
    pub(super) const NONE: &'static Self = &Self(SmallVec::new_const());

    /// The name with these keys; empty where it is longer than is kept.
    #[must_use]
    pub fn of(keys: &[&str]) -> Self {
        let mut name = SmallVec::new();
        if keys.iter().map(|key| key.len() + 1).sum::<usize>() <= LONGEST {
            for key in keys {
                name.extend_from_slice(key.as_bytes());
                name.push(END);
            }
        }
        Self(name)
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.split_inclusive(|byte| *byte == END).filter_map(|key| {
            let (_, key) = key.split_last()?;
            std::str::from_utf8(key).ok()
        })
    }

    /// The name as a pattern; none where it was too long to be kept.
    #[must_use]
    pub fn pattern(&self) -> Option<Pattern> {
        if self.0.is_empty() { None } else { Pattern::literal(self.keys()).ok() }
    }
}
