//! How often something may be done: a number of times at once, then one time each so long.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::config::Limits;
use crate::policy::UserId;
use crate::store::Mutation;

/// Beyond so many users those are forgotten who have all again.
const SWEPT: usize = 1024;

/// Bytes of a change that count as one: its audit entry is for good.
const BYTES: usize = 1024;

/// Bytes of the entry of a change that has nothing large.
const ENTRY: usize = 200;

/// How many changes each user makes.
#[derive(Debug)]
pub struct Changes {
    /// None: as many as they like.
    rate: Option<Rate>,
    taken: Mutex<HashMap<UserId, Taken, ahash::RandomState>>,
}

impl Changes {
    /// As many as the configuration says.
    #[must_use]
    pub fn of(limits: &Limits) -> Self {
        let rate = limits.change_each.map(|each| Rate { burst: limits.changes, each });
        Self { rate, taken: Mutex::default() }
    }

    /// Admits a change of this user.
    ///
    /// # Errors
    /// How long to wait where they made too many.
    pub(super) fn admit(&self, user: UserId, change: &Mutation, now: Instant) -> Result<(), Duration> {
        let Some(rate) = self.rate else { return Ok(()) };
        let mut all = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= SWEPT {
            all.retain(|_, taken| !taken.is_back(now));
        }
        let mut taken = all.get(&user).copied();
        let admitted = rate.take(&mut taken, weight(change), now);
        if let Some(taken) = taken {
            all.insert(user, taken);
        }
        admitted
    }
}

/// How many a change counts as: one, and one more for each KiB that its entries have for good.
fn weight(change: &Mutation) -> u32 {
    u32::try_from(bytes(change) / BYTES).unwrap_or(u32::MAX).saturating_add(1)
}

/// How many bytes the entries of a change have, as far as its user chooses.
fn bytes(change: &Mutation) -> usize {
    match change {
        Mutation::Batch(parts) => parts.iter().map(bytes).sum(),
        Mutation::PutSecrets(secrets) => secrets.len() * ENTRY,
        // The entry has the table that was and the one that is.
        Mutation::PutService { table, .. } => 2 * table.to_string().len(),
        Mutation::PutConsent(consent) => 2 * consent.origins.len(),
        // With the table, and what was granted on the name.
        Mutation::RenameService { .. } => 16 * BYTES,
        _ => ENTRY,
    }
}

/// A rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rate {
    /// How many at once.
    pub(super) burst: u32,
    /// How long until one more comes back.
    pub(super) each: Duration,
}

/// What was taken of a rate: until when something of it is missing.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken(Instant);

impl Rate {
    /// Takes so many, of which more than there are at once count as all of them.
    ///
    /// # Errors
    /// How long until so many are there again.
    pub(super) fn take(self, taken: &mut Option<Taken>, number: u32, now: Instant) -> Result<(), Duration> {
        let from = taken.map_or(now, |taken| taken.0.max(now));
        let over = from + self.each.saturating_mul(number.min(self.burst));
        let most = now + self.each.saturating_mul(self.burst);
        if over > most {
            return Err(over - most);
        }
        *taken = Some(Taken(over));
        Ok(())
    }
}

impl Taken {
    /// Whether all of it has come back.
    pub(super) fn is_back(self, now: Instant) -> bool {
        self.0 <= now
    }
}

/// A wait as `Retry-After` says it: whole seconds, not fewer than it takes.
pub(super) fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_secs().saturating_add(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3, each: Duration::from_secs(10) };

    #[test]
    fn each_user_has_changes_of_their_own_and_large_ones_count_more() {
        let (changes, now) = (Changes { rate: Some(RATE), taken: Mutex::default() }, Instant::now());
        let user = |number| UserId(uuid::Uuid::from_u128(number));
        let small = Mutation::DeleteSecret(user(1), "x".to_owned());
        for _ in 0..3 {
            assert_eq!(changes.admit(user(1), &small, now), Ok(()));
        }
        assert_eq!(changes.admit(user(1), &small, now), Err(RATE.each));
        let large = Mutation::PutService {
            namespace: "a".to_owned(),
            name: "b".to_owned(),
            replaces: None,
            owner: user(2),
            table: serde_json::json!({ "x": "y".repeat(BYTES) }),
        };
        assert_eq!((weight(&small), weight(&Mutation::Batch(vec![small.clone(); 4]))), (1, 1));
        assert_eq!(weight(&Mutation::Batch(vec![small.clone(), large.clone()])), 3);
        assert_eq!(changes.admit(user(2), &large, now), Ok(()));
        assert!(changes.admit(user(2), &small, now).is_err());
        assert_eq!(changes.admit(user(2), &small, now + RATE.each), Ok(()));
    }

    #[test]
    fn so_many_go_at_once_and_then_one_each_so_long() {
        let (mut taken, start) = (None, Instant::now());
        let mut take = |number, second| RATE.take(&mut taken, number, start + Duration::from_secs(second));
        assert_eq!([take(1, 0), take(1, 0), take(1, 0)], [Ok(()); 3]);
        assert_eq!(take(1, 4), Err(Duration::from_secs(6)));
        assert_eq!([take(1, 10), take(1, 10)], [Ok(()), Err(Duration::from_secs(10))]);
        // All are back, and no more than all.
        assert_eq!([take(3, 1000), take(1, 1000)], [Ok(()), Err(Duration::from_secs(10))]);
    }

    #[test]
    fn what_is_more_than_there_ever_are_takes_all() {
        let (mut taken, start) = (None, Instant::now());
        assert_eq!(RATE.take(&mut taken, 1000, start), Ok(()));
        assert!(RATE.take(&mut taken, 1, start).is_err());
        let over = taken.unwrap();
        assert!(!over.is_back(start) && over.is_back(start + Duration::from_secs(30)));
    }
}
