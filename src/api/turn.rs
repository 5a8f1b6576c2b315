//! Turns at work that takes a processor for a second or two.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::policy::UserId;
use crate::proxy::error::{Kind, Problem};

/// How many wait for their turn; whoever comes after them is told to come back.
const WAITING: usize = 8;

/// How many requests of one user are taken at once: one of them works or stands in the line, the others wait for it.
/// Clients send many together (pycarta's audit of all permissions ten), and those who wait take nobody's place.
const OF_ONE: usize = 64;

/// A few at a time, and a short line of those who wait. Nobody stands in it twice, so that whoever asks for much waits for
/// themselves, and others wait for no more than one of each.
#[derive(Debug)]
pub(super) struct Turns {
    line: Semaphore,
    work: Semaphore,
    users: Mutex<BTreeMap<UserId, User>>,
}

/// A user who works or waits.
#[derive(Debug)]
struct User {
    requests: usize,
    one: Arc<Semaphore>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _work: SemaphorePermit<'static>,
    _line: SemaphorePermit<'static>,
    _one: OwnedSemaphorePermit,
    _request: Request,
}

/// A request that counts for its user, until it is dropped.
#[derive(Debug)]
struct Request {
    turns: &'static Turns,
    user: UserId,
}

impl Turns {
    /// One at a time.
    pub(super) const fn new() -> Self {
        Self::of(1, WAITING)
    }

    /// So many at a time, and so many who wait.
    pub(super) const fn of(work: usize, waiting: usize) -> Self {
        Self {
            line: Semaphore::const_new(work + waiting),
            work: Semaphore::const_new(work),
            users: Mutex::new(BTreeMap::new()),
        }
    }

    /// Waits for a turn of this user's.
    ///
    /// # Errors
    /// 503 `busy` where too many wait already, or too many of the user's own.
    pub(super) async fn take(&'static self, user: UserId) -> Result<Turn, Problem> {
        let busy = |why: &str| Problem::new(&Kind::BUSY, format!("{why}\nask again in a few seconds")).retry_after(5);
        let all = || busy("too many of these are being worked on");
        let (request, one) = self.enter(user).ok_or_else(|| busy("too many of your own are being worked on"))?;
        // No semaphore is ever closed.
        let one = one.acquire_owned().await.map_err(|_| all())?;
        let line = self.line.try_acquire().map_err(|_| all())?;
        let work = self.work.acquire().await.map_err(|_| all())?;
        Ok(Turn { _work: work, _line: line, _one: one, _request: request })
    }

    fn enter(&'static self, user: UserId) -> Option<(Request, Arc<Semaphore>)> {
        let mut users = self.users();
        let entry = users.entry(user).or_insert_with(|| User { requests: 0, one: Arc::new(Semaphore::new(1)) });
        if entry.requests >= OF_ONE {
            return None;
        }
        entry.requests += 1;
        Some((Request { turns: self, user }, entry.one.clone()))
    }

    fn users(&self) -> MutexGuard<'_, BTreeMap<UserId, User>> {
        // Nothing that is done under the lock can fail halfway.
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut users = self.turns.users();
        let Some(user) = users.get_mut(&self.user) else { return };
        user.requests -= 1;
        if user.requests == 0 {
            users.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use uuid::Uuid;

    use super::*;

    fn user(number: usize) -> UserId {
        UserId(Uuid::from_u128(number as u128))
    }

    fn poll<T>(future: Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn one_works_a_few_wait_and_the_next_is_told_to_come_back() {
        static TURNS: Turns = Turns::new();
        let Poll::Ready(Ok(first)) = poll(pin!(TURNS.take(user(99)))) else { panic!("free") };
        let mut waiting: Vec<_> = (0..WAITING).map(|number| Box::pin(TURNS.take(user(number)))).collect();
        assert!(waiting.iter_mut().all(|one| poll(one.as_mut()).is_pending()));
        let Poll::Ready(Err(problem)) = poll(pin!(TURNS.take(user(98)))) else { panic!("no room to wait") };
        assert_eq!(problem.kind(), &Kind::BUSY);
        drop(first);
        assert!(matches!(poll(waiting[0].as_mut()), Poll::Ready(Ok(_))), "the next one's turn");
        // Whoever gave up waiting leaves a place.
        drop(waiting);
        assert!(matches!(poll(pin!(TURNS.take(user(98)))), Poll::Ready(Ok(_))));
        assert!(TURNS.users().is_empty(), "and nobody is remembered");
    }

    #[test]
    fn the_lists_that_an_audit_asks_for_at_once_are_all_made() {
        static TURNS: Turns = Turns::of(2, 64);
        let mut asked: Vec<_> = (0..10).map(|_| Box::pin(TURNS.take(user(1)))).collect();
        while !asked.is_empty() {
            let mut turns = Vec::new();
            asked.retain_mut(|one| match poll(one.as_mut()) {
                Poll::Ready(turn) => {
                    turns.push(turn.unwrap());
                    false
                }
                Poll::Pending => true,
            });
            assert_eq!(turns.len(), 1, "one after the other");
        }
    }

    #[test]
    fn whoever_asks_for_much_waits_for_themselves_and_nobody_else_does() {
        static TURNS: Turns = Turns::of(2, 2);
        let Poll::Ready(Ok(first)) = poll(pin!(TURNS.take(user(1)))) else { panic!("free") };
        let mut more: Vec<_> = (1..OF_ONE).map(|_| Box::pin(TURNS.take(user(1)))).collect();
        assert!(more.iter_mut().all(|one| poll(one.as_mut()).is_pending()));
        let Poll::Ready(Err(problem)) = poll(pin!(TURNS.take(user(1)))) else { panic!("no more of one user") };
        assert_eq!(problem.kind(), &Kind::BUSY);
        // The other turn and the line are there for others.
        let Poll::Ready(Ok(_second)) = poll(pin!(TURNS.take(user(2)))) else { panic!("a turn was free") };
        let (mut third, mut fourth) = (pin!(TURNS.take(user(3))), pin!(TURNS.take(user(4))));
        assert!(poll(third.as_mut()).is_pending() && poll(fourth.as_mut()).is_pending());
        // The one who waits comes before the next request of the first.
        drop(first);
        assert!(matches!(poll(third.as_mut()), Poll::Ready(Ok(_))), "the third one's turn");
    }
}
