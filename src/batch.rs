//! Batches: what the connections of a worker have to write is written together, when none of its tasks is ready.
//!
//! A busy worker finds many connections ready at a time. To write for each as soon as its bytes are there goes through
//! the whole way from parsing to the kernel's sockets for every one of them, and each part of that way pushes the others
//! out of the processor's caches; and the other side, which is woken by the first bytes, is often asleep again when the
//! next are sent. To read and judge for all first, then to write for all, takes a sixth less time, and costs an idle
//! worker next to nothing: it writes as soon as it has done the one thing that there was to do.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Deref;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::{io, rc, sync};

use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::task::unconstrained;

/// After so many looks at callers' connections a batch is written, though there is more to do: who came first should not
/// wait for all who came later, nor for connections that always have more. A call takes about six.
const MOST_LOOKS: usize = 128;

/// So many bytes that go at once count as another look: they took their time too.
const LOOK: usize = 4 * 1024;

/// A connection that has something to write.
pub trait Deferred {
    /// Writes it, or leaves word with the task that waits for it. False: it is in use, and is asked again with the next
    /// batch.
    fn write(&self) -> bool;
}

/// A connection that the batch does not keep: one that is gone has nothing to write.
pub enum Entry {
    /// One that stays on its thread.
    Local(rc::Weak<dyn Deferred>),
    /// One that could leave it.
    Shared(sync::Weak<dyn Deferred + Send + Sync>),
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry")
    }
}

impl Entry {
    fn write(&self) -> bool {
        match self {
            Self::Local(connection) => connection.upgrade().is_none_or(|connection| connection.write()),
            Self::Shared(connection) => connection.upgrade().is_none_or(|connection| connection.write()),
        }
    }
}

thread_local! {
    static BATCH: Batch = const {
        Batch { gathers: Cell::new(false), waiting: RefCell::new(VecDeque::new()), looks: Cell::new(0) }
    };
}

struct Batch {
    gathers: Cell<bool>,
    waiting: RefCell<VecDeque<Entry>>,
    looks: Cell<usize>,
}

/// The runtime of one thread, to be used on that thread.
#[derive(Debug)]
pub struct Runtime(LocalRuntime);

impl Runtime {
    /// One that writes batches.
    ///
    /// # Errors
    /// When the system has no more descriptors.
    pub fn with_batches() -> io::Result<Self> {
        let runtime = builder().on_thread_park(|| BATCH.with(Batch::write)).build_local(LocalOptions::default())?;
        BATCH.with(|batch| batch.gathers.set(true));
        Ok(Self(runtime))
    }

    /// One that does not, for tasks that stay ready without a look at a connection, as long checks of the API do.
    ///
    /// # Errors
    /// As [`Self::with_batches`].
    pub fn without_batches() -> io::Result<Self> {
        builder().build_local(LocalOptions::default()).map(Self)
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new_current_thread();
    builder.enable_all();
    builder
}

impl Deref for Runtime {
    type Target = LocalRuntime;

    fn deref(&self) -> &LocalRuntime {
        &self.0
    }
}

/// Whatever runs on the thread next may have nobody who writes batches.
impl Drop for Runtime {
    fn drop(&mut self) {
        BATCH.with(|batch| batch.gathers.set(false));
    }
}

/// Puts a connection into the batch. False: there is none, and what is to be written goes at once.
pub fn defer(entry: impl FnOnce() -> Entry) -> bool {
    BATCH.with(|batch| {
        let gathers = batch.gathers.get();
        if gathers {
            batch.waiting.borrow_mut().push_back(entry());
        }
        gathers
    })
}

/// What a connection costs before its first byte is read, its handshake with it: as much as so many bytes.
pub const GREETING: usize = 8 * LOOK;

/// To be called with each look at a caller's connection, which must not be in use by then, and with how many bytes go
/// there: bounds how long a batch grows. Whatever keeps a worker busy has to look: the runtime says that no task is ready,
/// and nothing else.
pub fn look(bytes: usize) {
    BATCH.with(|batch| {
        let looks = batch.looks.get() + 1 + bytes / LOOK;
        batch.looks.set(looks);
        if looks >= MOST_LOOKS {
            // Who looks has done what its own turn allows, not what that of the others does.
            let _written = unbounded(|_| {
                batch.write();
                Poll::Ready(())
            });
        }
    });
}

/// Polls this as if its task had done nothing in its turn: else tokio tells a task whose turn is over that nothing came, and
/// that nothing can go, whatever is so. Wakes nobody.
pub fn unbounded<T>(call: impl FnMut(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    pin!(unconstrained(poll_fn(call))).poll(&mut Context::from_waker(Waker::noop()))
}

impl Batch {
    fn write(&self) {
        self.looks.set(0);
        let count = self.waiting.borrow().len();
        if count == 0 {
            return;
        }
        // What is said while the batch is written goes at once. A panic leaves the others in the batch; in the runtime's own
        // time it ends the worker, and the process with it, as nobody could tell what of the connection's bytes went.
        let _writing = Writing::begin(&self.gathers);
        for _ in 0..count {
            let Some(entry) = self.waiting.borrow_mut().pop_front() else { break };
            if !entry.write() {
                self.waiting.borrow_mut().push_back(entry);
            }
        }
    }
}

/// Gathers again when it ends, whatever a connection does when it is asked to write.
struct Writing<'b> {
    gathers: &'b Cell<bool>,
    before: bool,
}

impl<'b> Writing<'b> {
    fn begin(gathers: &'b Cell<bool>) -> Self {
        Self { gathers, before: gathers.replace(false) }
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.gathers.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use tokio::sync::Notify;
    use tokio::task::yield_now;

    use super::*;

    /// Notes that it was written, if it was not in use.
    struct Noted {
        number: u32,
        in_use: Cell<bool>,
        written: Written,
        told: Rc<Notify>,
    }

    impl Deferred for Noted {
        fn write(&self) -> bool {
            if self.in_use.replace(false) {
                return false;
            }
            self.written.borrow_mut().push(self.number);
            self.told.notify_one();
            true
        }
    }

    type Written = Rc<RefCell<Vec<u32>>>;

    /// So many of them in a batch.
    fn defer_all(count: u32) -> (Vec<Rc<Noted>>, Written, Rc<Notify>) {
        let (written, told) = (Written::default(), Rc::<Notify>::default());
        let noted = |number| {
            let noted =
                Noted { number, in_use: Cell::new(false), written: Rc::clone(&written), told: Rc::clone(&told) };
            let noted = Rc::new(noted);
            let entry: rc::Weak<Noted> = Rc::downgrade(&noted);
            assert!(defer(|| Entry::Local(entry)));
            noted
        };
        ((0..count).map(noted).collect(), written, told)
    }

    #[test]
    fn a_batch_is_written_in_its_order_when_no_task_is_ready() {
        let runtime = Runtime::with_batches().unwrap();
        for _ in 0..3 {
            runtime.block_on(async {
                let (_noted, written, told) = defer_all(3);
                for _ in 0..10 {
                    yield_now().await;
                    assert!(written.borrow().is_empty(), "a task was ready");
                }
                told.notified().await;
                assert_eq!(*written.borrow(), [0, 1, 2]);
            });
        }
    }

    #[test]
    fn a_connection_that_is_gone_is_passed_over_and_one_in_use_is_asked_again() {
        let runtime = Runtime::with_batches().unwrap();
        runtime.block_on(async {
            let (mut noted, written, _told) = defer_all(4);
            noted.remove(1);
            noted[1].in_use.set(true);
            BATCH.with(Batch::write);
            assert_eq!(*written.borrow(), [0, 3]);
            BATCH.with(Batch::write);
            assert_eq!(*written.borrow(), [0, 3, 2]);
            BATCH.with(Batch::write);
            assert_eq!(written.borrow().len(), 3, "nothing is written twice");
        });
    }

    #[test]
    fn after_so_many_looks_a_batch_is_written_though_tasks_are_ready() {
        let runtime = Runtime::with_batches().unwrap();
        runtime.block_on(async {
            BATCH.with(Batch::write);
            let (_noted, written, _told) = defer_all(2);
            (1..MOST_LOOKS).for_each(|_| look(LOOK - 1));
            assert!(written.borrow().is_empty());
            look(0);
            assert_eq!(*written.borrow(), [0, 1]);
            let (_more, written, _told) = defer_all(1);
            look(LOOK * MOST_LOOKS);
            assert_eq!(*written.borrow(), [0]);
        });
    }

    #[test]
    fn what_is_said_while_a_batch_is_written_does_not_wait_for_the_next() {
        struct Tries(Cell<Option<bool>>);
        impl Deferred for Tries {
            fn write(&self) -> bool {
                self.0.set(Some(defer(|| Entry::Local(rc::Weak::<Self>::new()))));
                true
            }
        }
        let _runtime = Runtime::with_batches().unwrap();
        let tries = Rc::new(Tries(Cell::new(None)));
        let entry: rc::Weak<Tries> = Rc::downgrade(&tries);
        assert!(defer(|| Entry::Local(entry)));
        BATCH.with(Batch::write);
        assert_eq!(tries.0.get(), Some(false));
    }

    #[test]
    fn a_connection_that_panics_takes_no_other_with_it() {
        struct Bad;
        impl Deferred for Bad {
            fn write(&self) -> bool {
                panic!("as it should")
            }
        }
        let _runtime = Runtime::with_batches().unwrap();
        let bad = Rc::new(Bad);
        let entry: rc::Weak<Bad> = Rc::downgrade(&bad);
        assert!(defer(|| Entry::Local(entry)));
        let (_noted, written, _told) = defer_all(2);
        let panicked = std::panic::catch_unwind(|| BATCH.with(Batch::write));
        assert!(panicked.is_err());
        BATCH.with(Batch::write);
        assert_eq!(*written.borrow(), [0, 1]);
        assert!(defer(|| Entry::Local(rc::Weak::<Bad>::new())), "it still gathers");
    }

    #[test]
    fn a_thread_whose_runtime_is_gone_gathers_nothing() {
        drop(Runtime::with_batches().unwrap());
        let _other = Runtime::without_batches().unwrap();
        assert!(!defer(|| unreachable!("there is no batch")));
    }

    #[test]
    fn on_a_thread_that_is_no_workers_nothing_waits() {
        assert!(!defer(|| unreachable!("there is no batch")));
    }
}
