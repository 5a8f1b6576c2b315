//! How often each caller was permitted what, and refused, between two drains.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher};
use std::sync::Arc;

use ahash::RandomState;

use super::entry::Name;
use crate::policy::{Levels, ResourceId, UserId};

/// How many combinations are counted between two drains.
const MOST_COUNTED: usize = 16 * 1024;

/// How many resource names are counted apart, of one user, service and operation, between two drains.
const MOST_NAMES: u32 = 64;

/// How many combinations of one user are counted between two drains: nobody leaves others uncounted.
pub(super) const MOST_OF_USER: u32 = 1024;

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

#[derive(Debug, Default)]
pub(super) struct Counts {
    seed: RandomState,
    by_hash: HashMap<u64, Counted, BuildHasherDefault<Hashed>>,
    /// How many names each user, service and operation has.
    names: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    /// How many combinations each user has.
    of_user: HashMap<UserId, u32, RandomState>,
    uncounted: u64,
}

/// What is counted, but for the resource.
pub(super) struct Countable<'a> {
    pub(super) day: i32,
    pub(super) user: UserId,
    pub(super) service: ResourceId,
    pub(super) operation: Option<&'a Arc<str>>,
    pub(super) need: Levels,
}

impl Counts {
    /// Empty, with as much room as was needed since the last time.
    pub(super) fn anew(&self) -> Self {
        let mut fresh = Self::default();
        fresh.by_hash.reserve(self.by_hash.len());
        fresh
    }

    /// All that was counted, and how many requests were not.
    pub(super) fn taken(self) -> (Vec<Counted>, u64) {
        (self.by_hash.into_values().collect(), self.uncounted)
    }

    pub(super) fn count(&mut self, what: &Countable<'_>, name: &Name, permitted: bool) {
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
