//! Which endpoint a call goes to: by weight, past those that could not be reached a moment ago.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::{Endpoint, Upstream};

/// How long an endpoint is passed over after a first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(2);

/// The longest pause is the first one doubled so many times: about a minute.
const DOUBLINGS: u32 = 5;

/// Whether an endpoint could be reached of late, as all threads see it.
#[derive(Debug, Default)]
pub(super) struct Health {
    failures: AtomicU32,
    /// Milliseconds of [`clock`] until which to pass the endpoint over; 0: not at all.
    paused_until: AtomicU64,
}

impl Health {
    /// A connection was made.
    pub(super) fn succeed(&self) {
        if self.paused_until.load(Ordering::Relaxed) != 0 {
            self.paused_until.store(0, Ordering::Relaxed);
            self.failures.store(0, Ordering::Relaxed);
        }
    }

    /// A connection could not be made.
    pub(super) fn fail(&self) {
        self.fail_at(clock());
    }

    fn fail_at(&self, now: u64) {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        let pause = FIRST_PAUSE.saturating_mul(1 << before.min(DOUBLINGS));
        self.paused_until.store(now + u64::try_from(pause.as_millis()).unwrap_or(u64::MAX / 2), Ordering::Relaxed);
    }

    fn is_paused(&self, now: u64) -> bool {
        // Without a failure there is no need of the time.
        self.paused_until.load(Ordering::Relaxed) > now
    }
}

/// Picks by weight among the endpoints that are not paused, or among all where none is left. `chance` is any number.
pub(super) fn pick(upstream: &Upstream, chance: impl FnOnce() -> u64) -> Option<&Endpoint> {
    match upstream.endpoints() {
        [only] => Some(only),
        several => {
            let now = clock();
            let chance = chance();
            by_weight(several.iter().filter(|endpoint| !endpoint.health.is_paused(now)), chance)
                .or_else(|| by_weight(several.iter(), chance))
                .or(several.first())
        }
    }
}

fn by_weight<'a>(endpoints: impl Iterator<Item = &'a Endpoint> + Clone, chance: u64) -> Option<&'a Endpoint> {
    let total: u64 = endpoints.clone().map(|endpoint| u64::from(endpoint.weight)).sum();
    let mut mark = chance.checked_rem(total)?;
    for endpoint in endpoints {
        match mark.checked_sub(u64::from(endpoint.weight)) {
            Some(rest) => mark = rest,
            None => return Some(endpoint),
        }
    }
    None
}

/// Milliseconds since the first look, never 0.
fn clock() -> u64 {
    static START: OnceLock<Instant> = OnceLock::new();
    u64::try_from(START.get_or_init(Instant::now).elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(weights: &[u32]) -> Vec<Endpoint> {
        weights
            .iter()
            .enumerate()
            .map(|(index, &weight)| {
                let url = format!("http://h{index}.test/").parse().unwrap();
                Endpoint::new(index, &crate::config::Endpoint { url, weight }).unwrap()
            })
            .collect()
    }

    #[test]
    fn shares_follow_the_weights() {
        let endpoints = endpoints(&[3, 0, 1]);
        let mut counts = [0; 3];
        for chance in 0..400 {
            counts[by_weight(endpoints.iter(), chance).unwrap().index] += 1;
        }
        assert_eq!(counts, [300, 0, 100]);
        assert!(by_weight([].iter(), 7).is_none());
    }

    #[test]
    fn a_failing_endpoint_is_paused_for_longer_and_longer_until_it_answers() {
        let health = Health::default();
        assert!(!health.is_paused(1));
        health.fail_at(1000);
        assert!(health.is_paused(2999) && !health.is_paused(3000));
        health.fail_at(3000);
        assert!(health.is_paused(6999) && !health.is_paused(7000));
        for _ in 0..50 {
            health.fail_at(7000);
        }
        assert!(health.is_paused(70_000) && !health.is_paused(71_000));
        health.succeed();
        assert!(!health.is_paused(1));
    }
}
