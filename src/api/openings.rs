//! What the audit is told of tunnels: who opened one, from where, and when it was closed for good.
//!
//! A client that breaks off and connects again, by the same user from the same address, is one opening, however often it does
//! so; and how often a service's tunnel changes hands is bounded.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::rate::{Rate, Taken};
use crate::policy::ResourceId;
use crate::store::Actor;

/// How long after its end a tunnel can be opened anew as the same one.
const GAP: Duration = Duration::from_secs(60);

/// How often the audit is told of one service's tunnel.
const RATE: Rate = Rate { burst: 20, each: Duration::from_secs(30) };

/// Beyond so many services those are forgotten of which nothing is to be known any more.
const SWEPT: usize = 1024;

/// The tunnels of this process, as the audit knows them.
#[derive(Debug, Default)]
pub struct Openings(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    services: HashMap<ResourceId, Kept, ahash::RandomState>,
    /// The number of the last opening.
    last: u64,
}

#[derive(Debug, Default)]
struct Kept {
    taken: Option<Taken>,
    /// Of whom the audit was told, and who is not there yet.
    announced: Vec<Actor>,
    opening: Option<Opening>,
}

#[derive(Debug)]
struct Opening {
    number: u64,
    by: Actor,
    since: Timestamp,
    /// How often a client connected.
    connections: u64,
    /// How many connections are there: two for a moment, when one takes the place of another.
    open: usize,
    /// When and how the last connection ended.
    ended: Option<(Instant, Timestamp, &'static str)>,
    /// Whether somebody waits for the gap to be over.
    watched: bool,
}

/// What became of a connection that was taken.
#[derive(Debug, PartialEq)]
pub(super) struct Entered {
    /// The opening that it is one of.
    pub(super) number: u64,
    /// Whether that began with it, and nobody announced it.
    pub(super) untold: bool,
    /// The opening that ended by it.
    pub(super) displaced: Option<Closed>,
}

/// An opening that is over.
#[derive(Debug, PartialEq)]
pub(super) struct Closed {
    /// Whose it was.
    pub(super) by: Actor,
    /// Since when, with how many connections.
    pub(super) before: Value,
    /// How it ended, and when.
    pub(super) after: Value,
}

/// What is to be done about an opening whose connection ended.
#[derive(Debug, PartialEq)]
pub(super) enum Due {
    /// Nothing: it goes on, or another took its place.
    Nothing,
    /// To ask again then.
    Later(Instant),
    /// To tell the audit.
    Closed(Closed),
}

impl Openings {
    /// Whether the audit must be told before this user's connection is taken. Then it counts as announced, until it comes or is
    /// [withdrawn](Openings::withdraw).
    ///
    /// # Errors
    /// How long to wait where it was told too often.
    pub(super) fn must_tell(&self, service: ResourceId, by: &Actor, now: Instant) -> Result<bool, Duration> {
        let mut inner = self.inner();
        if inner.services.len() >= SWEPT {
            inner.services.retain(|_, kept| kept.is_of_use(now));
        }
        let kept = inner.services.entry(service).or_default();
        if kept.opening.as_ref().is_some_and(|opening| opening.is_of(by) && !opening.is_over(now)) {
            return Ok(false);
        }
        if kept.announced.iter().any(|announced| is_same(announced, by)) {
            return Ok(false);
        }
        RATE.take(&mut kept.taken, 1, now)?;
        kept.announced.push(by.clone());
        Ok(true)
    }

    /// What was announced does not come. Whether it still counted: nothing came instead of it.
    pub(super) fn withdraw(&self, service: ResourceId, by: &Actor) -> bool {
        self.inner().services.get_mut(&service).is_some_and(|kept| kept.take_announced(by))
    }

    /// A connection is there: of the opening that is there, where it is the same one's; else of a new one.
    pub(super) fn enter(&self, service: ResourceId, by: Actor, (now, at): (Instant, Timestamp)) -> Entered {
        let mut inner = self.inner();
        let next = inner.last + 1;
        let kept = inner.services.entry(service).or_default();
        if let Some(same) = kept.opening.as_mut().filter(|opening| opening.is_of(&by) && !opening.is_over(now)) {
            (same.connections, same.open, same.ended) = (same.connections + 1, same.open + 1, None);
            return Entered { number: same.number, untold: false, displaced: None };
        }
        let untold = !kept.take_announced(&by);
        let displaced = kept.opening.as_ref().map(|opening| opening.closed("replaced"));
        kept.opening =
            Some(Opening { number: next, by, since: at, connections: 1, open: 1, ended: None, watched: false });
        inner.last = next;
        Entered { number: next, untold, displaced }
    }

    /// A connection ended. Whether the caller is the one who is to ask what is [`Openings::due`] from then on.
    pub(super) fn left(
        &self,
        service: ResourceId,
        number: u64,
        ending: &'static str,
        (now, at): (Instant, Timestamp),
    ) -> bool {
        let mut inner = self.inner();
        let Some(opening) = inner.opening(service, number) else { return false };
        opening.open = opening.open.saturating_sub(1);
        if opening.open > 0 {
            return false;
        }
        opening.ended = Some((now, at, ending));
        !std::mem::replace(&mut opening.watched, true)
    }

    /// What is to be done about this opening.
    pub(super) fn due(&self, service: ResourceId, number: u64, now: Instant) -> Due {
        let mut inner = self.inner();
        let Some(opening) = inner.opening(service, number) else { return Due::Nothing };
        match opening.ended {
            None => {
                opening.watched = false;
                Due::Nothing
            }
            Some((ended, _, _)) if now < ended + GAP => Due::Later(ended + GAP),
            Some(_) => {
                let closed = opening.closed("");
                inner.services.entry(service).or_default().opening = None;
                Due::Closed(closed)
            }
        }
    }

    /// Ends the opening where no connection of it is there: nobody comes back to a process that ends.
    pub(super) fn close(&self, service: ResourceId, number: u64) -> Option<Closed> {
        let mut inner = self.inner();
        let opening = inner.opening(service, number).filter(|opening| opening.open == 0)?;
        let closed = opening.closed("draining");
        inner.services.entry(service).or_default().opening = None;
        Some(closed)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn opening(&mut self, service: ResourceId, number: u64) -> Option<&mut Opening> {
        self.services.get_mut(&service)?.opening.as_mut().filter(|opening| opening.number == number)
    }
}

impl Kept {
    fn take_announced(&mut self, by: &Actor) -> bool {
        let place = self.announced.iter().position(|announced| is_same(announced, by));
        place.map(|place| self.announced.swap_remove(place)).is_some()
    }

    fn is_of_use(&self, now: Instant) -> bool {
        self.opening.is_some() || !self.announced.is_empty() || self.taken.is_some_and(|taken| !taken.is_back(now))
    }
}

/// Whether both came as the same user from the same place.
fn is_same(one: &Actor, other: &Actor) -> bool {
    (one.user, one.via, &one.from) == (other.user, other.via, &other.from)
}

impl Opening {
    fn is_of(&self, by: &Actor) -> bool {
        is_same(&self.by, by)
    }

    fn is_over(&self, now: Instant) -> bool {
        self.ended.is_some_and(|(ended, _, _)| now >= ended + GAP)
    }

    /// What is told of its end; `otherwise`: how it ends where a connection is still there.
    fn closed(&self, otherwise: &'static str) -> Closed {
        let (ending, at) = self.ended.map_or((otherwise, None), |(_, at, ending)| (ending, Some(at)));
        Closed {
            by: Actor { via: "tunnel", request_id: None, ..self.by.clone() },
            before: json!({ "user": self.by.user, "since": self.since, "connections": self.connections }),
            after: json!({ "ending": ending, "at": at }),
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::policy::UserId;

    const SERVICE: ResourceId = ResourceId(Uuid::from_u128(9));

    fn of(user: u128, from: &str) -> Actor {
        Actor { user: Some(UserId(Uuid::from_u128(user))), via: "api", from: from.into(), request_id: Some("r".into()) }
    }

    /// An hour of openings, by the second.
    struct Hour(Openings, Instant);

    impl Hour {
        fn new() -> Self {
            Self(Openings::default(), Instant::now())
        }

        fn at(&self, second: u64) -> Instant {
            self.1 + Duration::from_secs(second)
        }

        /// Connects: whether the audit is told, and what becomes of the connection.
        fn connect(&self, by: &Actor, second: u64) -> (bool, Entered) {
            let told = self.0.must_tell(SERVICE, by, self.at(second)).unwrap();
            (told, self.0.enter(SERVICE, by.clone(), (self.at(second), Timestamp::UNIX_EPOCH)))
        }

        fn leave(&self, number: u64, second: u64) -> bool {
            self.0.left(SERVICE, number, "broken", (self.at(second), Timestamp::UNIX_EPOCH))
        }

        fn due(&self, number: u64, second: u64) -> Due {
            self.0.due(SERVICE, number, self.at(second))
        }
    }

    #[test]
    fn a_client_that_reconnects_again_and_again_is_one_opening() {
        let (hour, tess) = (Hour::new(), of(1, "10.0.0.1"));
        let (told, Entered { number: first, untold: false, displaced: None }) = hour.connect(&tess, 0) else {
            panic!()
        };
        assert!(told);
        let mut watchers = 0;
        for second in 1..3000 {
            watchers += usize::from(hour.leave(first, second));
            let (told, entered) = hour.connect(&tess, second);
            assert_eq!((told, entered), (false, Entered { number: first, untold: false, displaced: None }));
        }
        assert_eq!(watchers, 1, "one waits for the end, however often it ends");
        assert_eq!(hour.due(first, 3000), Due::Nothing);
        assert!(hour.leave(first, 3000), "nobody waits any more");
        assert_eq!(hour.due(first, 3059), Due::Later(hour.at(3060)));
        let Due::Closed(closed) = hour.due(first, 3060) else { panic!("it is not over") };
        assert_eq!(
            (closed.before["connections"].as_u64(), closed.after["ending"].as_str()),
            (Some(3000), Some("broken"))
        );
        assert_eq!((closed.by.user, closed.by.via, closed.by.request_id), (tess.user, "tunnel", None));
        assert_eq!(hour.due(first, 3061), Due::Nothing);
        let (told, entered) = hour.connect(&tess, 3062);
        assert_eq!((told, entered), (true, Entered { number: first + 1, untold: false, displaced: None }));
    }

    #[test]
    fn another_user_or_address_closes_the_opening_before() {
        let hour = Hour::new();
        let (_, Entered { number: first, .. }) = hour.connect(&of(1, "10.0.0.1"), 0);
        for (second, by) in [(1, of(2, "10.0.0.1")), (2, of(2, "10.0.0.2"))] {
            let (told, entered) = hour.connect(&by, second);
            assert!(told);
            assert_eq!(entered.displaced.unwrap().after["ending"], "replaced");
        }
        // The end of the connection that was replaced is no news.
        assert!(!hour.leave(first, 3));
    }

    #[test]
    fn who_is_told_of_and_never_comes_changes_nothing_for_who_is_there() {
        let (hour, tess) = (Hour::new(), of(1, "10.0.0.1"));
        let (_, Entered { number: first, .. }) = hour.connect(&tess, 0);
        let tom = of(2, "10.0.0.1");
        let must_tell = |second| hour.0.must_tell(SERVICE, &tom, hour.at(second));
        // Of two handshakes at once one is told of.
        assert_eq!((must_tell(1), must_tell(1)), (Ok(true), Ok(false)));
        assert_eq!(hour.connect(&tess, 2), (false, Entered { number: first, untold: false, displaced: None }));
        // The one who was told of left: the other, who comes all the same, is news.
        assert!(hour.0.withdraw(SERVICE, &tom) && !hour.0.withdraw(SERVICE, &tom));
        let late = hour.0.enter(SERVICE, tom.clone(), (hour.at(3), Timestamp::UNIX_EPOCH));
        assert!(late.untold && late.displaced.is_some());
    }

    #[test]
    fn a_connection_that_takes_the_place_of_the_same_ones_leaves_the_opening_open() {
        let (hour, tess) = (Hour::new(), of(1, "10.0.0.1"));
        let (_, Entered { number: first, .. }) = hour.connect(&tess, 0);
        assert_eq!(hour.connect(&tess, 1).1.number, first);
        assert!(!hour.leave(first, 2), "the newer one is still there");
        assert!(hour.0.close(SERVICE, first).is_none());
        assert!(hour.leave(first, 3));
        assert_eq!(hour.0.close(SERVICE, first).unwrap().before["connections"], 2);
        assert!(hour.0.close(SERVICE, first).is_none());
    }

    #[test]
    fn an_opening_whose_end_nobody_told_yet_is_closed_by_the_next() {
        let (hour, tess) = (Hour::new(), of(1, "10.0.0.1"));
        let (_, Entered { number: first, .. }) = hour.connect(&tess, 0);
        hour.leave(first, 1);
        let (told, entered) = hour.connect(&tess, 100);
        assert!(told && !entered.untold);
        assert_eq!(entered.displaced.unwrap().after["ending"], "broken");
        assert_eq!(hour.due(first, 101), Due::Nothing);
    }

    #[test]
    fn two_who_fight_over_a_service_are_told_of_so_often_only() {
        let hour = Hour::new();
        let told = |second: u64| {
            let by = of(u128::from(second % 2), "10.0.0.1");
            let told = hour.0.must_tell(SERVICE, &by, hour.at(second));
            if told.is_ok() {
                hour.0.enter(SERVICE, by, (hour.at(second), Timestamp::UNIX_EPOCH));
            }
            told == Ok(true)
        };
        let times = (0..3600).filter(|second| told(*second)).count();
        assert!((20..=20 + 120).contains(&times), "{times}");
    }
}
