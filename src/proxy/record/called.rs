//! What the calls of many users have in common: kept once, shared by all that is remembered of them.

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use ahash::RandomState;

use super::Happened;
use super::entry::Name;
use crate::policy::{Levels, ResourceId};

/// How many are found again: a power of two.
const KNOWN: usize = 1024;

/// What was called, without who called it.
#[derive(Debug)]
pub(super) struct Called {
    /// Of all that follows.
    pub(super) hash: u64,
    /// Days since 1970 (UTC), where it is counted; 0 elsewhere.
    pub(super) day: i32,
    pub(super) need: Option<Levels>,
    pub(super) service: Option<ResourceId>,
    pub(super) operation: Option<Arc<str>>,
    pub(super) name: Name,
}

/// What is asked for, before it is known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sought<'a> {
    pub(super) day: i32,
    pub(super) need: Option<Levels>,
    pub(super) service: Option<ResourceId>,
    pub(super) operation: Option<&'a Arc<str>>,
    pub(super) name: &'a Name,
}

/// What was called lately. Bounded: a newer one takes an older one's place, and what was forgotten is made anew.
#[derive(Debug)]
pub(super) struct Lately {
    seed: RandomState,
    /// Two places for each: with one alone, two that are called again and again could keep each other out.
    places: Box<[[Option<Arc<Called>>; 2]]>,
}

impl<'a> Sought<'a> {
    pub(super) fn of(happened: &Happened<'a>, day: i32) -> Self {
        let Happened { need, service, operation, name, .. } = *happened;
        Self { day, need, service, operation, name }
    }

    fn is(&self, called: &Called) -> bool {
        self.service == called.service
            && (self.day, self.need) == (called.day, called.need)
            && *self.name == called.name
            && self.operation == called.operation.as_ref()
    }
}

impl Called {
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.hash == other.hash && self.sought(&self.name).is(other)
    }

    /// The same on any resource.
    pub(super) fn anywhere(&self) -> Sought<'_> {
        self.sought(Name::NONE)
    }

    fn sought<'a>(&'a self, name: &'a Name) -> Sought<'a> {
        let Self { day, need, service, .. } = *self;
        Sought { day, need, service, operation: self.operation.as_ref(), name }
    }
}

impl Lately {
    /// What is sought: as it was made before where that is not forgotten.
    pub(super) fn find(&mut self, sought: &Sought<'_>) -> &Arc<Called> {
        let hash = self.hash(sought);
        let mask = self.places.len() - 1;
        // Truncated on purpose: the lowest bits choose.
        #[expect(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "masked by the number of places")]
        let [first, second] = &mut self.places[hash as usize & mask];
        let is_it =
            |known: &Option<Arc<Called>>| known.as_ref().is_some_and(|called| called.hash == hash && sought.is(called));
        if !is_it(first) {
            // The one that was asked for last stands first.
            std::mem::swap(first, second);
            if !is_it(first) {
                *first = None;
            }
        }
        first.get_or_insert_with(|| Arc::new(sought.made(hash)))
    }

    /// What tells what is sought from almost everything else.
    pub(super) fn hash(&self, sought: &Sought<'_>) -> u64 {
        let mut hasher = self.seed.build_hasher();
        hasher.write_u128(sought.service.map_or(0, |service| service.0.as_u128()));
        let need = sought.need.map_or(0, |need| 1 + u64::from(need.bits()));
        hasher.write_u64(u64::from(sought.day.cast_unsigned()) << 16 | need);
        hasher.write(sought.operation.map_or(&[], |operation| operation.as_bytes()));
        hasher.write(&sought.name.0);
        hasher.finish()
    }
}

impl Sought<'_> {
    fn made(&self, hash: u64) -> Called {
        let Self { day, need, service, operation, name } = *self;
        Called { hash, day, need, service, operation: operation.cloned(), name: name.clone() }
    }
}

impl Default for Lately {
    fn default() -> Self {
        Self { seed: RandomState::new(), places: vec![const { [const { None }; 2] }; KNOWN / 2].into() }
    }
}
