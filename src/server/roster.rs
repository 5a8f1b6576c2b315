//! The connections of one listener on one thread: told to drain, and waited for.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// Connections live on.
    Serve,
    /// Each connection ends after the requests in flight.
    Drain,
    /// Connections end now.
    Close,
}

/// Connections read the stage with a plain load whenever they are polled, and are woken when it changes: cheaper than a
/// notification that each of them would poll along with every request.
#[derive(Debug)]
pub(super) struct Roster {
    stage: Cell<Stage>,
    next: Cell<u64>,
    members: RefCell<HashMap<u64, Waker>>,
    waiting: RefCell<Option<Waker>>,
}

impl Roster {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            stage: Cell::new(Stage::Serve),
            next: Cell::new(0),
            members: RefCell::default(),
            waiting: RefCell::new(None),
        })
    }

    pub(super) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Moves on to `stage`, never back, and wakes every connection.
    pub(super) fn advance(&self, stage: Stage) {
        self.stage.set(self.stage.get().max(stage));
        for waker in self.members.borrow().values() {
            waker.wake_by_ref();
        }
    }

    /// Enters the connection of the current task.
    pub(super) async fn enter(self: Rc<Self>) -> Member {
        let id = self.next.get();
        self.next.set(id.wrapping_add(1));
        let waker = poll_fn(|cx| Poll::Ready(cx.waker().clone())).await;
        self.members.borrow_mut().insert(id, waker);
        Member { roster: self, id }
    }

    /// Waits until no connection is left.
    pub(super) async fn empty(&self) {
        poll_fn(|cx| {
            if self.members.borrow().is_empty() {
                return Poll::Ready(());
            }
            *self.waiting.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// A connection's place in the roster; leaves when dropped.
#[derive(Debug)]
pub(super) struct Member {
    roster: Rc<Roster>,
    id: u64,
}

impl Member {
    pub(super) fn stage(&self) -> Stage {
        self.roster.stage()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.roster.members.borrow_mut().remove(&self.id);
        if self.roster.members.borrow().is_empty()
            && let Some(waker) = self.roster.waiting.borrow_mut().take()
        {
            waker.wake();
        }
    }
}
