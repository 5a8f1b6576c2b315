//! How often each caller was permitted what, and refused, between two drains.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use ahash::RandomState;

use super::called::{Called, Lately};
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
    counted: HashSet<One, RandomState>,
    /// How many names each user, service and operation has.
    names: HashMap<(UserId, u64), u32, RandomState>,
    /// How many combinations each user has.
    of_user: HashMap<UserId, u32, RandomState>,
    uncounted: u64,
}

/// One user and what they called, and how often since the last drain: half a line of the processor's cache, and never in
/// two of them.
#[derive(Debug)]
#[repr(align(32))]
struct One {
    user: UserId,
    called: Arc<Called>,
    /// Full is full: nobody calls four billion times between two drains.
    allowed: Cell<u32>,
    refused: Cell<u32>,
}

impl Counts {
    /// Takes all that was counted, and how many requests were not. What is left is empty, and has the room that was needed:
    /// a table that grows is written again and again.
    pub(super) fn take(&mut self) -> (Vec<Counted>, u64) {
        let room = self.counted.len();
        let counted = self.counted.drain().filter_map(One::told).collect();
        self.names.clear();
        self.of_user.clear();
        self.counted.shrink_to(room);
        self.names.shrink_to(room);
        self.of_user.shrink_to(room);
        (counted, std::mem::take(&mut self.uncounted))
    }

    /// Counts a call of what was called, and gives it back.
    pub(super) fn count(
        &mut self,
        user: UserId,
        called: Arc<Called>,
        permitted: bool,
        lately: &mut Lately,
    ) -> Arc<Called> {
        let one = One { user, called, allowed: Cell::default(), refused: Cell::default() };
        if let Some(known) = self.counted.get(&one) {
            known.count(permitted);
            return one.called;
        }
        let called = one.called.clone();
        let named = !called.name.0.is_empty();
        if named {
            let names = self.names.entry((user, lately.hash(&called.anywhere()))).or_default();
            if *names == MOST_NAMES {
                self.count(user, lately.find(&called.anywhere()).clone(), permitted, lately);
                return called;
            }
            *names += 1;
        }
        let of_user = self.of_user.entry(user).or_default();
        if *of_user >= MOST_OF_USER && named {
            self.count(user, lately.find(&called.anywhere()).clone(), permitted, lately);
        } else if *of_user >= MOST_OF_USER || self.counted.len() >= MOST_COUNTED {
            self.uncounted += 1;
        } else {
            *of_user += 1;
            one.count(permitted);
            self.counted.insert(one);
        }
        called
    }
}

impl One {
    fn count(&self, permitted: bool) {
        let count = if permitted { &self.allowed } else { &self.refused };
        count.set(count.get().saturating_add(1));
    }

    fn told(self) -> Option<Counted> {
        let Called { day, need, service, operation, name, .. } = &*self.called;
        Some(Counted {
            day: *day,
            user: self.user,
            service: (*service)?,
            operation: operation.clone(),
            need: (*need)?,
            name: name.clone(),
            allowed: self.allowed.get().into(),
            refused: self.refused.get().into(),
        })
    }
}

/// What was called may have been forgotten and made anew meanwhile, so that it is compared as a whole.
impl PartialEq for One {
    fn eq(&self, other: &Self) -> bool {
        self.user == other.user && (Arc::ptr_eq(&self.called, &other.called) || self.called.is_same(&other.called))
    }
}

impl Eq for One {}

impl Hash for One {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(self.user.0.as_u128());
        state.write_u64(self.called.hash);
    }
}
