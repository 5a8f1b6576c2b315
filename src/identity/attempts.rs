//! A limiter against guessing: failures per name and address, and per address, in memory that never grows.
//!
//! Each pair has one of a fixed number of places, by a keyed hash: two that share one share their limit, and nobody can
//! tell which do. A place holds one number, the moment at which its failures are forgotten (GCRA).

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Places for pairs, and as many for addresses.
const PLACES: usize = 32 * 1024;

/// Failures of one name from one address: so many at once, and as many in each minute.
const OF_ONE_NAME: u64 = 30;

/// Failures from one address, whatever the names.
const OF_ONE_ADDRESS: u64 = 600;

/// Logins that one address may begin in a minute, whatever becomes of them: each costs a power.
const BEGUN: u64 = 600;

/// The time after which all is forgotten.
const MINUTE: Duration = Duration::from_secs(60);

/// What was tried lately.
pub(super) struct Attempts {
    start: Instant,
    hasher: ahash::RandomState,
    names: Box<[AtomicU64]>,
    addresses: Box<[AtomicU64]>,
    begun: Box<[AtomicU64]>,
}

impl Attempts {
    pub(super) fn new(start: Instant) -> Self {
        let places = || (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { start, hasher: ahash::RandomState::new(), names: places(), addresses: places(), begun: places() }
    }

    /// Whether one more failure would be let through now.
    pub(super) fn admits(&self, name: &str, from: IpAddr, now: Instant) -> bool {
        let now = self.nanos(now);
        self.places(name, from)
            .into_iter()
            .flatten()
            .all(|(place, rate)| next(place.load(Ordering::Relaxed), rate, now).is_some())
    }

    /// Counts a login that begins; false: it is one too many.
    #[must_use]
    pub(super) fn begins(&self, from: IpAddr, now: Instant) -> bool {
        let now = self.nanos(now);
        let place = self.of_address(&self.begun, network(from));
        place.is_none_or(|place| {
            place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| next(held, BEGUN, now)).is_ok()
        })
    }

    /// Counts a failure before it is known to be one, so that many at once count as many; false: it is one too many.
    #[must_use]
    pub(super) fn count(&self, name: &str, from: IpAddr, now: Instant) -> bool {
        let now = self.nanos(now);
        let counted = |(place, rate): (&AtomicU64, u64)| {
            place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| next(held, rate, now)).is_ok()
        };
        self.places(name, from).into_iter().flatten().all(counted)
    }

    /// Takes back what was counted: it was no failure.
    pub(super) fn forgive(&self, name: &str, from: IpAddr) {
        for (place, rate) in self.places(name, from).into_iter().flatten() {
            // It never fails: the closure always has a value.
            let _ =
                place.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| Some(held.saturating_sub(each(rate))));
        }
    }

    fn places(&self, name: &str, from: IpAddr) -> [Option<(&AtomicU64, u64)>; 2] {
        let from = network(from);
        let name = place(&self.names, self.hasher.hash_one((name, from)));
        let address = self.of_address(&self.addresses, from);
        [name.map(|place| (place, OF_ONE_NAME)), address.map(|place| (place, OF_ONE_ADDRESS))]
    }

    fn of_address<'p>(&self, places: &'p [AtomicU64], network: IpAddr) -> Option<&'p AtomicU64> {
        place(places, self.hasher.hash_one(network))
    }

    fn nanos(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_nanos()).unwrap_or(u64::MAX / 2)
    }
}

fn place(places: &[AtomicU64], hash: u64) -> Option<&AtomicU64> {
    usize::try_from(hash % places.len() as u64).ok().and_then(|at| places.get(at))
}

/// What the place holds after one failure more; none where that is one too many.
fn next(held: u64, rate: u64, now: u64) -> Option<u64> {
    let next = held.max(now) + each(rate);
    (next - now <= each(rate) * rate).then_some(next)
}

/// How long one failure counts.
fn each(rate: u64) -> u64 {
    u64::try_from(MINUTE.as_nanos()).unwrap_or(u64::MAX) / rate
}

/// Whoever has one IPv6 address has its whole /64.
fn network(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "192.0.2.1";

    fn failures(attempts: &Attempts, name: &str, from: &str, now: Instant) -> usize {
        (0..1000).take_while(|_| attempts.count(name, from.parse().unwrap(), now)).count()
    }

    #[test]
    fn thirty_failures_pass_and_one_more_every_two_seconds() {
        let start = Instant::now();
        let attempts = Attempts::new(start);
        assert_eq!(failures(&attempts, "alice", HERE, start), 30);
        assert!(!attempts.admits("alice", HERE.parse().unwrap(), start + Duration::from_secs(1)));
        assert_eq!(failures(&attempts, "alice", HERE, start + Duration::from_secs(2)), 1);
        assert_eq!(failures(&attempts, "alice", HERE, start + Duration::from_secs(42)), 20);
        assert_eq!(failures(&attempts, "alice", HERE, start + Duration::from_secs(3600)), 30);
    }

    #[test]
    fn other_names_and_other_addresses_are_counted_apart_until_an_address_tries_too_many() {
        let start = Instant::now();
        let attempts = Attempts::new(start);
        assert_eq!(failures(&attempts, "alice", HERE, start), 30);
        assert_eq!(failures(&attempts, "alice", "192.0.2.2", start), 30);
        assert_eq!(failures(&attempts, "bob", HERE, start), 30);
        let sprayed = (0..2000).take_while(|n| attempts.count(&n.to_string(), HERE.parse().unwrap(), start)).count();
        assert!(sprayed < 600, "{sprayed}");
    }

    #[test]
    fn one_address_begins_so_many_logins_and_leaves_the_others_theirs() {
        let start = Instant::now();
        let attempts = Attempts::new(start);
        let begun = |from: &str| (0..2000).take_while(|_| attempts.begins(from.parse().unwrap(), start)).count();
        assert_eq!((begun(HERE), begun("192.0.2.2")), (600, 600));
        assert!(attempts.admits("alice", HERE.parse().unwrap(), start), "what began has not failed");
    }

    #[test]
    fn a_success_costs_nothing_and_one_network_is_one_address() {
        let start = Instant::now();
        let attempts = Attempts::new(start);
        for _ in 0..1000 {
            assert!(attempts.count("alice", HERE.parse().unwrap(), start));
            attempts.forgive("alice", HERE.parse().unwrap());
        }
        assert_eq!(failures(&attempts, "alice", "2001:db8::1", start), 30);
        assert_eq!(failures(&attempts, "alice", "2001:db8::ffff:1", start), 0);
        assert_eq!(failures(&attempts, "alice", "::ffff:192.0.2.9", start), 30);
        assert_eq!(failures(&attempts, "alice", "192.0.2.9", start), 0);
    }
}
