//! How often something may be done: a number of times at once, then one time each so long.

use std::time::{Duration, Instant};

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
