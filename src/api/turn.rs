//! Turns at work that takes a processor for a second or two.

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::proxy::error::{Kind, Problem};

/// How many wait for their turn; whoever comes after them is told to come back.
const WAITING: usize = 8;

/// A few at a time, and a short line of those who wait.
#[derive(Debug)]
pub(super) struct Turns {
    line: Semaphore,
    work: Semaphore,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _line: SemaphorePermit<'static>,
    _work: SemaphorePermit<'static>,
}

impl Turns {
    /// One at a time.
    pub(super) const fn new() -> Self {
        Self::of(1, WAITING)
    }

    /// So many at a time, and so many who wait.
    pub(super) const fn of(work: usize, waiting: usize) -> Self {
        Self { line: Semaphore::const_new(work + waiting), work: Semaphore::const_new(work) }
    }

    /// Waits for a turn.
    ///
    /// # Errors
    /// 503 `busy` where too many wait already.
    pub(super) async fn take(&'static self) -> Result<Turn, Problem> {
        let busy = || {
            let detail = "too many of these are being worked on\nask again in a few seconds";
            Problem::new(&Kind::BUSY, detail).retry_after(5)
        };
        // Neither semaphore is ever closed.
        let line = self.line.try_acquire().map_err(|_| busy())?;
        let work = self.work.acquire().await.map_err(|_| busy())?;
        Ok(Turn { _line: line, _work: work })
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn one_works_a_few_wait_and_the_next_is_told_to_come_back() {
        static TURNS: Turns = Turns::new();
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready(Ok(first)) = pin!(TURNS.take()).poll(&mut context) else { panic!("free") };
        let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(TURNS.take())).collect();
        assert!(waiting.iter_mut().all(|one| one.as_mut().poll(&mut context).is_pending()));
        let Poll::Ready(Err(problem)) = pin!(TURNS.take()).poll(&mut context) else { panic!("no room to wait") };
        assert_eq!(problem.kind(), &Kind::BUSY);
        drop(first);
        assert!(matches!(waiting[0].as_mut().poll(&mut context), Poll::Ready(Ok(_))), "the next one's turn");
        // Whoever gave up waiting leaves a place.
        drop(waiting);
        assert!(matches!(pin!(TURNS.take()).poll(&mut context), Poll::Ready(Ok(_))));
    }
}
