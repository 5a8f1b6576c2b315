//! Lets go of an HTTP/2 stream whose caller takes nothing.
//!
//! hyper asks a body for nothing as long as the caller gives no window (RFC 9113 §5.2), so that no clock in the body
//! would ever be looked at, and whatever the body holds, an upstream's connection for one, would be held for as long as
//! the caller answers pings. The clock is therefore around the stream. It is looked at only when the caller keeps us
//! waiting: an answer that fits into its window costs no timer.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::rt::Executor;
use tokio::time::{Instant, Sleep};

use super::guard::{Activity, Turn};

/// Spawns hyper's HTTP/2 streams on the thread of their connection, each under a clock.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    activity: Rc<Activity>,
    limit: Duration,
}

impl Streams {
    /// Streams of a connection; each may wait for its caller for `limit` at a time.
    pub(super) fn new(activity: &Rc<Activity>, limit: Duration) -> Self {
        Self { activity: Rc::clone(activity), limit }
    }
}

impl<F: Future + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        let Self { activity, limit } = self.clone();
        tokio::task::spawn_local(Watched { stream, activity, limit, wait: Wait::default(), sleep: None });
    }
}

pin_project_lite::pin_project! {
    /// A stream. Dropped before its end it resets itself, and drops handler and body.
    struct Watched<F> {
        #[pin]
        stream: F,
        activity: Rc<Activity>,
        limit: Duration,
        wait: Wait,
        sleep: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future> Future for Watched<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        this.activity.take_turn();
        if this.stream.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        this.wait.note(this.activity.take_turn(), Instant::now);
        let Some(deadline) = this.wait.deadline(*this.limit) else { return Poll::Pending };
        let sleep = this.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        while sleep.as_mut().poll(cx).is_ready() {
            // It was set before the last piece went, or its time has come.
            if Instant::now() >= deadline {
                tracing::debug!("a stream was reset: its caller takes no bytes");
                return Poll::Ready(());
            }
            sleep.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

/// Since when the caller keeps a stream waiting.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wait(Option<Instant>);

impl Wait {
    /// The stream came to a stop; `turn`: what its body said last, if it was asked at all meanwhile.
    fn note(&mut self, turn: Option<Turn>, now: impl FnOnce() -> Instant) {
        match turn {
            Some(Turn::Callers) => self.0 = Some(now()),
            Some(Turn::Ours) => self.0 = None,
            None => {}
        }
    }

    fn deadline(&self, limit: Duration) -> Option<Instant> {
        self.0.map(|since| since + limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_body_that_gave_and_is_not_asked_again_waits_for_the_caller() {
        let (start, limit) = (Instant::now(), Duration::from_secs(75));
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut wait = Wait::default();
        wait.note(None, || at(0));
        assert_eq!(wait.deadline(limit), None, "the handler is at work");
        wait.note(Some(Turn::Callers), || at(10));
        assert_eq!(wait.deadline(limit), Some(at(85)));
        wait.note(None, || at(20));
        assert_eq!(wait.deadline(limit), Some(at(85)), "nothing moved");
        wait.note(Some(Turn::Callers), || at(30));
        assert_eq!(wait.deadline(limit), Some(at(105)), "a piece went");
        wait.note(Some(Turn::Ours), || at(40));
        assert_eq!(wait.deadline(limit), None, "now the body is waited for");
    }
}
