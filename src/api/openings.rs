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

/// What the audit is to be told.
#[derive(Debug, PartialEq)]
pub(super) struct News {
    /// What ends by it.
    pub(super) closed: Option<Closed>,
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
    /// What the audit must be told before this user's connection is taken; nothing where it is told already.
    ///
    /// # Errors
    /// How long to wait where it was told too often.
    pub(super) fn news(&self, service: ResourceId, by: &Actor, now: Instant) -> Result<Option<News>, Duration> {
        let mut inner = self.inner();
        if inner.services.len() >= SWEPT {
            inner
                .services
                .retain(|_, kept| kept.opening.is_some() || kept.taken.is_some_and(|taken| !taken.is_back(now)));
        }
        let kept = inner.services.entry(service).or_default();
        if kept.opening.as_ref().is_some_and(|opening| opening.is_of(by) && !opening.is_over(now)) {
            return Ok(None);
        }
        RATE.take(&mut kept.taken, 1, now)?;
        Ok(Some(News { closed: kept.opening.as_ref().map(|opening| opening.closed("replaced")) }))
    }

    /// A connection is taken: of the opening that is there, where it is the same one's. The opening's number.
    pub(super) fn enter(&self, service: ResourceId, by: Actor, (now, at): (Instant, Timestamp)) -> u64 {
        let mut inner = self.inner();
        let next = inner.last + 1;
        let kept = inner.services.entry(service).or_default();
        let same = kept.opening.take().filter(|opening| opening.is_of(&by) && !opening.is_over(now));
        let opening = kept.opening.insert(same.unwrap_or(Opening {
            number: next,
            by,
            since: at,
            connections: 0,
            open: 0,
            ended: None,
            watched: false,
        }));
        opening.connections += 1;
        opening.open += 1;
        opening.ended = None;
        let number = opening.number;
        inner.last = inner.last.max(number);
        number
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

impl Opening {
    fn is_of(&self, by: &Actor) -> bool {
        (self.by.user, self.by.via, &self.by.from) == (by.user, by.via, &by.from)
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

        /// Connects: what the audit is told, and the opening's number.
        fn connect(&self, by: &Actor, second: u64) -> (Option<News>, u64) {
            let news = self.0.news(SERVICE, by, self.at(second)).unwrap();
            (news, self.0.enter(SERVICE, by.clone(), (self.at(second), Timestamp::UNIX_EPOCH)))
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
        let (news, first) = hour.connect(&tess, 0);
        assert_eq!(news, Some(News { closed: None }));
        let mut watchers = 0;
        for second in 1..3000 {
            watchers += usize::from(hour.leave(first, second));
            assert_eq!(hour.connect(&tess, second), (None, first));
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
        assert_eq!(hour.connect(&tess, 3062), (Some(News { closed: None }), first + 1));
    }

    #[test]
    fn another_user_or_address_closes_the_opening_before() {
        let hour = Hour::new();
        let (_, first) = hour.connect(&of(1, "10.0.0.1"), 0);
        for (second, by) in [(1, of(2, "10.0.0.1")), (2, of(2, "10.0.0.2"))] {
            let (news, _) = hour.connect(&by, second);
            assert_eq!(news.unwrap().closed.unwrap().after["ending"], "replaced");
        }
        // The end of the connection that was replaced is no news.
        assert!(!hour.leave(first, 3));
    }

    #[test]
    fn a_connection_that_takes_the_place_of_the_same_ones_leaves_the_opening_open() {
        let (hour, tess) = (Hour::new(), of(1, "10.0.0.1"));
        let (_, first) = hour.connect(&tess, 0);
        assert_eq!(hour.connect(&tess, 1), (None, first));
        assert!(!hour.leave(first, 2), "the newer one is still there");
        assert!(hour.leave(first, 3));
    }

    #[test]
    fn an_opening_whose_end_nobody_told_yet_is_closed_by_the_next() {
        let (hour, tess) = (Hour::new(), of(1, "10.0.0.1"));
        let (_, first) = hour.connect(&tess, 0);
        hour.leave(first, 1);
        let (news, second) = hour.connect(&tess, 100);
        assert_eq!(news.unwrap().closed.unwrap().after["ending"], "broken");
        assert_ne!(first, second);
        assert_eq!(hour.due(first, 101), Due::Nothing);
    }

    #[test]
    fn two_who_fight_over_a_service_are_told_of_so_often_only() {
        let hour = Hour::new();
        let told = |second: u64| {
            let by = of(u128::from(second % 2), "10.0.0.1");
            let news = hour.0.news(SERVICE, &by, hour.at(second));
            if news.is_ok() {
                hour.0.enter(SERVICE, by, (hour.at(second), Timestamp::UNIX_EPOCH));
            }
            news.is_ok_and(|news| news.is_some())
        };
        let times = (0..3600).filter(|second| told(*second)).count();
        assert!((20..=20 + 120).contains(&times), "{times}");
    }
}
