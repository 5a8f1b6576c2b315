//! The access record: what became of the last requests, and how often each caller was permitted what.
//!
//! Every worker writes a record of its own behind a mutex that nobody else holds for longer than it takes to look one
//! entry up, or to swap the counts: an uncontended lock is two atomic instructions, and no lock is held across an await.
//! Entries are written into the place of the oldest, with its buffers, so that a warm record allocates nothing but for
//! refusals and for names that are counted for the first time since the counts were taken.

mod ring;

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::RandomState;
use http::Method;
use jiff::Timestamp;
use smallvec::SmallVec;

pub use self::ring::Refused;
use self::ring::{Ring, cut};
use crate::policy::{Levels, Pattern, ResourceId, UserId};
use crate::problem::Kind;
use crate::telemetry::RequestId;

/// How many requests of identified callers a worker remembers.
const ENTRIES: usize = 4096;

/// How many others it remembers: whoever sends no credential must not push out those who did.
const ANONYMOUS: usize = 512;

/// The longest path or resource name that is kept, in bytes.
const LONGEST: usize = 256;

/// How many combinations are counted between two drains.
const MOST_COUNTED: usize = 16 * 1024;

/// How many resource names are counted apart, of one user, service and operation, between two drains.
const MOST_NAMES: u32 = 64;

/// How many combinations of one user are counted between two drains: nobody leaves others uncounted.
const MOST_OF_USER: u32 = 1024;

/// How many refusals wait for a drain, and how many of them may be one user's.
const MOST_REFUSALS: (usize, u32) = (512, 64);

/// Stands after each key of a name; no text has this byte.
const END: u8 = 0xFF;

/// The keys of a resource name, in one piece.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Name(SmallVec<[u8; 64]>);

/// One request, as remembered.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its id.
    pub id: RequestId,
    /// When it was decided or answered.
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
    /// From its head to the head of its answer.
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

/// How often somebody was permitted, and refused, the same thing on one day.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Days since 1970 (UTC).
    pub day: i32,
    /// Who.
    pub user: UserId,
    /// Of which service.
    pub service: ResourceId,
    /// Which operation.
    pub operation: Option<Arc<str>>,
    /// The levels that it needs.
    pub need: Levels,
    /// The resource that it needs them on; empty where too many were called to keep them apart.
    pub name: Name,
    /// How often grants permitted it.
    pub allowed: u64,
    /// How often they did not.
    pub refused: u64,
}

/// What came since the last drain.
#[derive(Debug, Default)]
pub struct Drained {
    /// The counts.
    pub counts: Vec<Counted>,
    /// The refusals of identified callers.
    pub refusals: Vec<Entry>,
    /// How many requests were not counted, because too many different ones came.
    pub uncounted: u64,
    /// How many refusals were not kept for the store.
    pub dropped: u64,
}

/// One worker's record.
#[derive(Debug, Default)]
pub struct Record(Mutex<Inner>);

/// The records of all workers: written by each its own, read by the API and the recorder.
#[derive(Debug, Default)]
pub struct Records(Mutex<Vec<Arc<Record>>>);

#[derive(Debug)]
struct Inner {
    identified: Ring,
    anonymous: Ring,
    counts: Counts,
    waiting: Waiting,
}

/// Refusals that wait for the store.
#[derive(Debug, Default)]
struct Waiting {
    refusals: Vec<Entry>,
    of_user: HashMap<UserId, u32>,
    dropped: u64,
}

#[derive(Debug, Default)]
struct Counts {
    seed: RandomState,
    by_hash: HashMap<u64, Counted, BuildHasherDefault<Hashed>>,
    /// How many names each user, service and operation has.
    names: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    /// How many combinations each user has.
    of_user: HashMap<UserId, u32, RandomState>,
    uncounted: u64,
}

impl Record {
    /// Notes what happened.
    pub fn note(&self, happened: &Happened<'_>) {
        let mut inner = self.lock();
        let Inner { identified, anonymous, counts, waiting } = &mut *inner;
        let ring = if happened.user.is_some() { identified } else { anonymous };
        let entry = ring.put(happened);
        if happened.refused.is_some() && happened.user.is_some() {
            waiting.push(entry);
        }
        if let (Some(user), Some(service), Some(need), Some(permitted)) =
            (happened.user, happened.service, happened.need, happened.permitted)
        {
            let day = i32::try_from(happened.at.as_second().div_euclid(24 * 60 * 60)).unwrap_or_default();
            counts.count(
                &Countable { day, user, service, operation: happened.operation, need },
                happened.name,
                permitted,
            );
        }
    }

    /// Notes that the answer of a request that was noted before broke off.
    pub fn break_off(&self, id: &RequestId, why: &'static Kind) {
        let mut inner = self.lock();
        let Inner { identified, anonymous, .. } = &mut *inner;
        let found = identified.find(id).or_else(|| anonymous.find(id));
        if let Some(entry) = found {
            entry.problem = Some(why);
        }
    }

    /// What is remembered of the request.
    #[must_use]
    pub fn find(&self, id: &RequestId) -> Option<Entry> {
        let mut inner = self.lock();
        let Inner { identified, anonymous, .. } = &mut *inner;
        identified.find(id).or_else(|| anonymous.find(id)).cloned()
    }

    /// Takes what came since the last time; the lock is held for a swap only.
    #[must_use]
    pub fn drain(&self) -> Drained {
        let mut fresh = Counts::default();
        let waiting = {
            let mut inner = self.lock();
            // As much room as was needed last time.
            fresh.by_hash.reserve(inner.counts.by_hash.len());
            std::mem::swap(&mut inner.counts, &mut fresh);
            std::mem::take(&mut inner.waiting)
        };
        Drained {
            counts: fresh.by_hash.into_values().collect(),
            refusals: waiting.refusals,
            uncounted: fresh.uncounted,
            dropped: waiting.dropped,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a panic left behind is at worst one odd entry.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Records {
    /// Adds the record of a worker.
    pub fn add(&self, record: &Arc<Record>) {
        self.lock().push(record.clone());
    }

    /// What any worker remembers of the request.
    #[must_use]
    pub fn find(&self, id: &RequestId) -> Option<Entry> {
        self.all().iter().find_map(|record| record.find(id))
    }

    /// Takes what came to any worker since the last time. Counts of several workers may be of the same thing.
    #[must_use]
    pub fn drain(&self) -> Drained {
        self.all().iter().fold(Drained::default(), |mut all, record| {
            let one = record.drain();
            all.counts.extend(one.counts);
            all.refusals.extend(one.refusals);
            all.uncounted += one.uncounted;
            all.dropped += one.dropped;
            all
        })
    }

    fn all(&self) -> Vec<Arc<Record>> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Record>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Name {
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

impl Default for Inner {
    fn default() -> Self {
        Self {
            identified: Ring::of(ENTRIES),
            anonymous: Ring::of(ANONYMOUS),
            counts: Counts::default(),
            waiting: Waiting::default(),
        }
    }
}

impl Entry {
    fn of(happened: &Happened<'_>) -> Self {
        let mut entry = Self {
            id: *happened.id,
            at: happened.at,
            user: None,
            service: None,
            operation: None,
            method: Method::GET,
            path: String::new(),
            need: None,
            name: Name::default(),
            permitted: None,
            problem: None,
            status: 0,
            revision: 0,
            took: Duration::ZERO,
            upstream: None,
            refused: None,
        };
        entry.become_of(happened);
        entry
    }

    /// Overwrites the entry, and keeps its buffers.
    fn become_of(&mut self, happened: &Happened<'_>) {
        (self.id, self.at, self.user, self.service) = (*happened.id, happened.at, happened.user, happened.service);
        self.operation = happened.operation.cloned();
        if self.method != *happened.method {
            self.method = happened.method.clone();
        }
        self.path.clear();
        self.path.push_str(cut(happened.path, LONGEST));
        self.name.0.clear();
        self.name.0.extend_from_slice(&happened.name.0);
        (self.need, self.permitted, self.problem) = (happened.need, happened.permitted, happened.problem);
        (self.status, self.revision, self.took) = (happened.status, happened.revision, happened.took);
        self.upstream = happened.upstream;
        self.refused = happened.refused.clone();
    }
}

impl Waiting {
    fn push(&mut self, entry: &Entry) {
        let (most, of_one) = MOST_REFUSALS;
        let Some(user) = entry.user else { return };
        let of_user = self.of_user.entry(user).or_default();
        if self.refusals.len() < most && *of_user < of_one {
            *of_user += 1;
            self.refusals.push(entry.clone());
        } else {
            self.dropped += 1;
        }
    }
}

/// What is counted, but for the resource.
struct Countable<'a> {
    day: i32,
    user: UserId,
    service: ResourceId,
    operation: Option<&'a Arc<str>>,
    need: Levels,
}

impl Counts {
    fn count(&mut self, what: &Countable<'_>, name: &Name, permitted: bool) {
        let group = self.hash(what);
        if let Some(counted) = self.find(group, what, name) {
            counted.count(permitted);
            return;
        }
        if !name.0.is_empty() {
            let names = self.names.entry(group).or_default();
            if *names == MOST_NAMES {
                return self.count(what, &Name::default(), permitted);
            }
            *names += 1;
        }
        let of_user = self.of_user.entry(what.user).or_default();
        if *of_user >= MOST_OF_USER && !name.0.is_empty() {
            return self.count(what, &Name::default(), permitted);
        }
        if *of_user >= MOST_OF_USER || self.by_hash.len() >= MOST_COUNTED {
            self.uncounted += 1;
            return;
        }
        *of_user += 1;
        let mut counted = Counted {
            day: what.day,
            user: what.user,
            service: what.service,
            operation: what.operation.cloned(),
            need: what.need,
            name: name.clone(),
            allowed: 0,
            refused: 0,
        };
        counted.count(permitted);
        let mut place = self.place(group, name);
        while self.by_hash.contains_key(&place) {
            place = place.wrapping_add(1);
        }
        self.by_hash.insert(place, counted);
    }

    fn find(&mut self, group: u64, what: &Countable<'_>, name: &Name) -> Option<&mut Counted> {
        let mut place = self.place(group, name);
        while !self.by_hash.get(&place)?.is_of(what, name) {
            place = place.wrapping_add(1);
        }
        self.by_hash.get_mut(&place)
    }

    fn hash(&self, what: &Countable<'_>) -> u64 {
        let mut hasher = self.seed.build_hasher();
        hasher.write_u128(what.user.0.as_u128());
        hasher.write_u128(what.service.0.as_u128());
        hasher.write_u64(u64::from(what.day.cast_unsigned()) << 8 | u64::from(what.need.bits()));
        hasher.write(what.operation.map_or(&[], |operation| operation.as_bytes()));
        hasher.finish()
    }

    fn place(&self, group: u64, name: &Name) -> u64 {
        let mut hasher = self.seed.build_hasher();
        hasher.write_u64(group);
        hasher.write(&name.0);
        hasher.finish()
    }
}

impl Counted {
    fn is_of(&self, what: &Countable<'_>, name: &Name) -> bool {
        self.user == what.user
            && self.service == what.service
            && self.name == *name
            && self.operation.as_ref() == what.operation
            && (self.day, self.need) == (what.day, what.need)
    }

    fn count(&mut self, permitted: bool) {
        if permitted { self.allowed += 1 } else { self.refused += 1 }
    }
}

/// Takes a number that is a hash already.
#[derive(Clone, Copy, Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

#[cfg(test)]
mod tests;
