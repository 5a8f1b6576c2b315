//! The line in which calls wait for a tunnel, and the room that they take there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::message::Answer;
use crate::policy::{ResourceId, UserId};
use crate::telemetry::metrics::TunnelMetrics;

/// How many calls wait in the line of one tunnel.
pub(super) const LINE: usize = 64;

/// How many bytes wait in the lines of all tunnels, beside what waits in each one's own share.
pub(super) const WAITING_BYTES: usize = 64 * 1024 * 1024;

/// How many of those bytes wait in the lines of one user's tunnels.
pub(super) const OPENER_BYTES: usize = 16 * 1024 * 1024;

/// How many bytes wait in the line of a tunnel whatever fills the others.
pub(super) const OWN_BYTES: usize = 256 * 1024;

/// One service's tunnel, as calls see it.
#[derive(Debug)]
pub struct Tunnel {
    pub(super) service: ResourceId,
    pub(super) opener: UserId,
    pub(super) replaced: CancellationToken,
    pub(super) waiting: TaskTracker,
    connected: AtomicBool,
    rooms: Rooms,
    line: mpsc::Sender<Call>,
    metrics: TunnelMetrics,
}

/// Where a call of a tunnel may wait, in bytes: in the tunnel's own room, else in its opener's part of the room of all.
#[derive(Debug)]
struct Rooms {
    own: Arc<Semaphore>,
    openers: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

/// Writes a call's message at the moment when it goes: by then its token may have run out, or its permit.
pub type Write = Box<dyn FnOnce() -> Result<String, Unsent> + Send>;

/// Hands an answer, or why nothing was sent, to whoever waits.
pub(super) type Waits = oneshot::Sender<Result<Answer, Unsent>>;

/// A call in the line.
pub(super) struct Call {
    pub(super) task: Arc<str>,
    pub(super) write: Write,
    pub(super) answer: Waits,
    _place: Place,
}

/// A call's place in a line.
struct Place {
    _room: Room,
    metrics: TunnelMetrics,
}

/// What a call takes of the room there is: its tunnel's own, or its opener's and that of all.
type Room = (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>);

/// A call that waits for its answer. Whoever drops it gives the call up.
#[derive(Debug)]
pub struct Waiting {
    answer: oneshot::Receiver<Result<Answer, Unsent>>,
    metrics: TunnelMetrics,
    held: Option<TaskTrackerToken>,
}

/// Why a call was not sent when its turn came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsent {
    /// Its permit no longer held.
    Withdrawn,
    /// Its message was larger than [`super::MESSAGE_BYTES`].
    TooLarge,
    /// Its token could not be made.
    NoToken,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// The line is full.
    Busy,
    /// The tunnel is closed, or closed meanwhile.
    Closed,
    /// It took longer than it may.
    TimedOut,
    /// It was not sent.
    Unsent(Unsent),
}

impl Tunnel {
    /// The tunnel of this service, which shares a room with all others, and with those of the same user one that `sibling`
    /// has; and the end of its line.
    pub(super) fn new(
        service: ResourceId,
        opener: UserId,
        (all, sibling): (&Arc<Semaphore>, Option<&Self>),
        metrics: TunnelMetrics,
    ) -> (Arc<Self>, mpsc::Receiver<Call>) {
        let openers = sibling.map(|sibling| sibling.rooms.openers.clone());
        let rooms = Rooms {
            own: Arc::new(Semaphore::new(OWN_BYTES)),
            openers: openers.unwrap_or_else(|| Arc::new(Semaphore::new(OPENER_BYTES))),
            all: all.clone(),
        };
        let (line, end) = mpsc::channel(LINE);
        let (replaced, waiting, connected) = (CancellationToken::new(), TaskTracker::new(), AtomicBool::new(false));
        (Arc::new(Self { service, opener, replaced, waiting, connected, rooms, line, metrics }), end)
    }

    /// Whether its connection is there.
    pub(super) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Its connection is there. To be told and asked by who has the tunnels' lock.
    pub(super) fn connect(&self) {
        self.connected.store(true, Ordering::Relaxed);
    }

    /// Keeps the tunnel of a gateway that drains open as long as this is held.
    pub fn hold(&self) -> TaskTrackerToken {
        self.waiting.token()
    }

    /// Puts a call of this size, in bytes, into the line. `held`: by [`Tunnel::hold`], for a caller who waits.
    ///
    /// # Errors
    /// [`CallError::Busy`], [`CallError::Closed`].
    pub fn call(
        &self,
        task: Arc<str>,
        size: usize,
        held: Option<TaskTrackerToken>,
        write: Write,
    ) -> Result<Waiting, CallError> {
        let enter = || {
            let room = self.rooms.take(size).ok_or(CallError::Busy)?;
            let (sender, answer) = oneshot::channel();
            self.metrics.waiting.increment(1.0);
            let place = Place { _room: room, metrics: self.metrics.clone() };
            let call = Call { task, write, answer: sender, _place: place };
            self.line.try_send(call).map_err(|refused| match refused {
                mpsc::error::TrySendError::Full(_) => CallError::Busy,
                mpsc::error::TrySendError::Closed(_) => CallError::Closed,
            })?;
            Ok(answer)
        };
        let answer = enter().inspect_err(|error: &CallError| self.metrics.ended(error.label()))?;
        Ok(Waiting { answer, metrics: self.metrics.clone(), held })
    }
}

impl Rooms {
    /// Room for this many bytes. None where there is not enough.
    fn take(&self, size: usize) -> Option<Room> {
        let bytes = u32::try_from(size).ok()?;
        let of = |room: &Arc<Semaphore>| room.clone().try_acquire_many_owned(bytes).ok();
        match of(&self.own) {
            Some(own) => Some((own, None)),
            None => Some((of(&self.openers)?, Some(of(&self.all)?))),
        }
    }
}

impl Waiting {
    /// The answer. Safe to drop: the call is given up only with `self`.
    ///
    /// # Errors
    /// [`CallError::Closed`], [`CallError::Unsent`].
    pub async fn answer(&mut self) -> Result<Answer, CallError> {
        let answer = match (&mut self.answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(unsent)) => Err(CallError::Unsent(unsent)),
            Err(_) => Err(CallError::Closed),
        };
        self.metrics.ended(answer.as_ref().map_or_else(|error| error.label(), |_| "answered"));
        answer
    }

    /// Nobody is at the other end of a connection any more: no drain is held up for it.
    pub fn let_go(&mut self) {
        self.held = None;
    }

    /// Counts that it was waited for in vain.
    pub fn give_up(&self) {
        self.metrics.ended(CallError::TimedOut.label());
    }
}

impl CallError {
    fn label(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Closed => "closed",
            Self::TimedOut => "timeout",
            Self::Unsent(_) => "unsent",
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.waiting.decrement(1.0);
    }
}

impl std::fmt::Debug for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Call({})", self.task)
    }
}
