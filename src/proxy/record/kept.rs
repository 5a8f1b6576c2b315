//! An entry as the ring keeps it: small, because every call writes one into memory that no call has touched for long.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use smallvec::SmallVec;

use super::called::Called;
use super::entry::{Entry, Happened, LONGEST};
use super::ring::{Refused, cut};
use crate::policy::UserId;
use crate::problem::Kind;
use crate::telemetry::RequestId;

/// The methods that most requests have, each under its number.
const METHODS: [Method; 9] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::DELETE,
    Method::HEAD,
    Method::OPTIONS,
    Method::PATCH,
    Method::CONNECT,
    Method::TRACE,
];

/// Stands for no time.
const NEVER: u64 = u64::MAX;

/// One request, in two lines of the processor's cache where its path is short.
#[derive(Debug)]
#[repr(align(64))]
pub(super) struct Kept {
    /// The lower half of its id; the upper one is its mark.
    id: u64,
    /// In microseconds since 1970 (UTC), as are the times below in microseconds.
    at: i64,
    user: UserId,
    called: Arc<Called>,
    revision: u64,
    took: u64,
    /// [`NEVER`] where none was asked.
    upstream: u64,
    rare: Option<Box<Rare>>,
    path: SmallVec<[u8; 40]>,
    status: u16,
    /// Among [`METHODS`]; beyond them where it is another.
    method: u8,
    permitted: Option<bool>,
    identified: bool,
}

const _: () = assert!(size_of::<Kept>() == 128, "an entry takes more than two lines of the processor's cache");

/// What few requests have.
#[derive(Debug, Default)]
struct Rare {
    problem: Option<&'static Kind>,
    refused: Option<Arc<Refused>>,
    method: Option<Method>,
}

/// The half of the id that is kept beside the entry.
pub(super) fn mark(id: &RequestId) -> u64 {
    // Truncated on purpose, as below.
    (id.bits() >> 64) as u64
}

impl Kept {
    pub(super) fn of(happened: &Happened<'_>, called: Arc<Called>) -> Self {
        let mut kept = Self {
            id: 0,
            at: 0,
            user: UserId(uuid::Uuid::nil()),
            called: called.clone(),
            revision: 0,
            took: 0,
            upstream: NEVER,
            rare: None,
            path: SmallVec::new(),
            status: 0,
            method: 0,
            permitted: None,
            identified: false,
        };
        kept.become_of(happened, called);
        kept
    }

    /// Overwrites the entry, and keeps its buffers.
    pub(super) fn become_of(&mut self, happened: &Happened<'_>, called: Arc<Called>) {
        (self.id, self.at) = (happened.id.bits() as u64, happened.at.as_microsecond());
        (self.identified, self.user) = (happened.user.is_some(), happened.user.unwrap_or(UserId(uuid::Uuid::nil())));
        self.called = called;
        (self.revision, self.status, self.permitted) = (happened.revision, happened.status, happened.permitted);
        (self.took, self.upstream) = (micros(happened.took), happened.upstream.map_or(NEVER, micros));
        self.path.clear();
        self.path.extend_from_slice(cut(happened.path, LONGEST).as_bytes());
        let method = METHODS.iter().position(|known| known == happened.method).unwrap_or(METHODS.len());
        self.method = u8::try_from(method).unwrap_or(u8::MAX);
        let other = METHODS.get(method).is_none().then(|| happened.method.clone());
        let rare = Rare { problem: happened.problem, refused: happened.refused.clone(), method: other };
        self.rare = rare.is_there().then(|| Box::new(rare));
    }

    /// The entry, which has this mark.
    pub(super) fn entry(&self, mark: u64) -> Entry {
        let (called, rare) = (&*self.called, self.rare.as_deref());
        let method = METHODS.get(usize::from(self.method)).or_else(|| rare?.method.as_ref());
        Entry {
            id: RequestId::of_bits(u128::from(mark) << 64 | u128::from(self.id)),
            at: Timestamp::from_microsecond(self.at).unwrap_or_default(),
            user: self.identified.then_some(self.user),
            service: called.service,
            operation: called.operation.clone(),
            method: method.cloned().unwrap_or_default(),
            path: String::from_utf8_lossy(&self.path).into_owned(),
            need: called.need,
            name: called.name.clone(),
            permitted: self.permitted,
            problem: rare.and_then(|rare| rare.problem),
            status: self.status,
            revision: self.revision,
            took: Duration::from_micros(self.took),
            upstream: (self.upstream != NEVER).then(|| Duration::from_micros(self.upstream)),
            refused: rare.and_then(|rare| rare.refused.clone()),
        }
    }

    /// Whether it is the entry of this id, whose mark is looked at before.
    pub(super) fn is_of(&self, id: &RequestId) -> bool {
        self.id == id.bits() as u64
    }

    /// Its answer broke off.
    pub(super) fn break_off(&mut self, why: &'static Kind) {
        self.rare.get_or_insert_default().problem = Some(why);
    }

    /// How many bytes what its refusal said takes.
    pub(super) fn refused_bytes(&self) -> usize {
        self.rare.as_ref().and_then(|rare| rare.refused.as_ref()).map_or(0, |refused| refused.bytes())
    }

    /// Forgets what its refusal said.
    pub(super) fn lighten(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.refused = None;
        }
    }
}

impl Rare {
    fn is_there(&self) -> bool {
        self.problem.is_some() || self.refused.is_some() || self.method.is_some()
    }
}

fn micros(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000).saturating_add(time.subsec_micros().into())
}
