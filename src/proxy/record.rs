//! The access record: what became of the last requests, and how often each caller was permitted what.
//!
//! Every worker writes a record of its own behind a mutex that nobody else holds for longer than it takes to look one
//! entry up, or to swap the counts: an uncontended lock is two atomic instructions, and no lock is held across an await.
//! Entries are written into the place of the oldest, with its buffers, and share what other calls were of too, so that a
//! warm record allocates nothing but for refusals and for names that were not called lately.

mod called;
mod counts;
mod entry;
mod kept;
mod ring;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::called::{Lately, Sought};
pub use self::counts::Counted;
use self::counts::Counts;
pub use self::entry::{Entry, Happened, Name};
pub use self::ring::Refused;
use self::ring::Ring;
use crate::policy::UserId;
use crate::problem::Kind;
use crate::telemetry::RequestId;

/// How many requests of identified callers a worker remembers.
const ENTRIES: usize = 4096;

/// How many others it remembers: whoever sends no credential must not push out those who did.
const ANONYMOUS: usize = 512;

/// How many refusals wait for a drain, and how many of them may be one user's.
const MOST_REFUSALS: (usize, u32) = (512, 64);

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
pub struct Record {
    inner: Mutex<Inner>,
    /// Those of the drain before, emptied, for the next: held for as long as a drain takes, which no worker waits for.
    spare: Mutex<Counts>,
}

/// The records of all workers: written by each its own, read by the API and the recorder.
#[derive(Debug, Default)]
pub struct Records(Mutex<Vec<Arc<Record>>>);

#[derive(Debug)]
struct Inner {
    identified: Ring,
    anonymous: Ring,
    lately: Lately,
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

impl Record {
    /// Notes what happened.
    pub fn note(&self, happened: &Happened<'_>) {
        let mut inner = self.lock();
        let Inner { identified, anonymous, lately, counts, waiting } = &mut *inner;
        let counted = happened.user.zip(happened.permitted).filter(|_| happened.service.and(happened.need).is_some());
        let day = counted.map(|_| happened.at.as_second().div_euclid(24 * 60 * 60));
        let day = day.and_then(|day| i32::try_from(day).ok()).unwrap_or_default();
        let mut called = lately.find(&Sought::of(happened, day)).clone();
        if let Some((user, permitted)) = counted {
            called = counts.count(user, called, permitted, lately);
        }
        let ring = if happened.user.is_some() { identified } else { anonymous };
        ring.put(happened, called);
        if let (Some(_), Some(user)) = (&happened.refused, happened.user) {
            waiting.push(user, || ring.newest());
        }
    }

    /// Notes that the answer of a request that was noted before broke off.
    pub fn break_off(&self, id: &RequestId, why: &'static Kind) {
        let mut inner = self.lock();
        let _remembered = inner.identified.break_off(id, why) || inner.anonymous.break_off(id, why);
    }

    /// What is remembered of the request.
    #[must_use]
    pub fn find(&self, id: &RequestId) -> Option<Entry> {
        let inner = self.lock();
        inner.identified.find(id).or_else(|| inner.anonymous.find(id))
    }

    /// Takes what came since the last time; the lock is held for a swap only.
    #[must_use]
    pub fn drain(&self) -> Drained {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = {
            let mut inner = self.lock();
            std::mem::swap(&mut inner.counts, &mut *spare);
            std::mem::take(&mut inner.waiting)
        };
        let (counts, uncounted) = spare.take();
        Drained { counts, refusals: waiting.refusals, uncounted, dropped: waiting.dropped }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a panic left behind is at worst one odd entry.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
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

impl Default for Inner {
    fn default() -> Self {
        Self {
            identified: Ring::of(ENTRIES),
            anonymous: Ring::of(ANONYMOUS),
            lately: Lately::default(),
            counts: Counts::default(),
            waiting: Waiting::default(),
        }
    }
}

impl Waiting {
    fn push(&mut self, user: UserId, entry: impl FnOnce() -> Option<Entry>) {
        let (most, of_one) = MOST_REFUSALS;
        let of_user = self.of_user.entry(user).or_default();
        if self.refusals.len() < most && *of_user < of_one {
            *of_user += 1;
            self.refusals.extend(entry());
        } else {
            self.dropped += 1;
        }
    }
}

#[cfg(test)]
mod tests;
