//! Services behind a tunnel (`docs/API.md` §13): a service that nothing can connect to has connected to the gateway, and
//! calls go to it as messages over that one WebSocket.
//!
//! The connection lives on one runtime; calls come from every thread. A call waits in the tunnel's bounded line, and the
//! next one goes out when the one before was answered or nobody waits for it any more: the client works on one at a time.

mod connection;
mod message;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub use connection::Ending;
pub use message::{ANSWER_BYTES, Answer, MESSAGE_BYTES, Reply, Request, headers, params};

use crate::policy::{ResourceId, UserId};
use crate::telemetry::metrics::TunnelMetrics;

/// How many tunnels are open at once, and how many of one user's.
const MOST: (usize, usize) = (1024, 64);

/// How many calls wait in the line of one tunnel.
const LINE: usize = 64;

/// How many bytes wait in the lines of all tunnels.
const WAITING_BYTES: usize = 64 * 1024 * 1024;

/// The tunnels of this process: another replica's services are not reached from here.
#[derive(Debug)]
pub struct Tunnels {
    open: ArcSwap<Open>,
    /// For one writer at a time; readers take `open`.
    change: Mutex<()>,
    room: Arc<Semaphore>,
    running: TaskTracker,
    metrics: TunnelMetrics,
}

type Open = HashMap<ResourceId, Arc<Tunnel>, ahash::RandomState>;

/// One service's tunnel, as calls see it.
#[derive(Debug)]
pub struct Tunnel {
    service: ResourceId,
    opener: UserId,
    line: mpsc::Sender<Call>,
    room: Arc<Semaphore>,
    replaced: CancellationToken,
    waiting: TaskTracker,
    metrics: TunnelMetrics,
}

/// A tunnel that was announced: to be run over its connection.
#[derive(Debug)]
pub struct Opened {
    tunnels: Arc<Tunnels>,
    tunnel: Arc<Tunnel>,
    line: mpsc::Receiver<Call>,
}

/// Writes a call's message at the moment when it goes: by then its token may have run out, or its permit.
pub type Write = Box<dyn FnOnce() -> Result<String, Unsent> + Send>;

/// Hands an answer, or why nothing was sent, to whoever waits.
type Waits = oneshot::Sender<Result<Answer, Unsent>>;

/// A call in the line.
struct Call {
    task: Arc<str>,
    write: Write,
    answer: Waits,
    _place: Place,
}

/// A call's place in a line.
struct Place {
    _room: OwnedSemaphorePermit,
    metrics: TunnelMetrics,
}

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
    /// Its message was larger than [`MESSAGE_BYTES`].
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

/// No tunnel more is taken: of all, or of this user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// How many there may be.
    pub most: usize,
    /// Whether they are this user's own.
    pub own: bool,
}

impl Tunnels {
    /// None open.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            open: ArcSwap::default(),
            change: Mutex::default(),
            room: Arc::new(Semaphore::new(WAITING_BYTES)),
            running: TaskTracker::new(),
            metrics: TunnelMetrics::new(),
        })
    }

    /// The tunnel that is open for the service, if there is one. Takes no lock.
    #[must_use]
    pub fn find(&self, service: ResourceId) -> Option<Arc<Tunnel>> {
        let open = self.open.load();
        if open.is_empty() { None } else { open.get(&service).cloned() }
    }

    /// Announces a tunnel: calls wait for it from now on. The one that was open for the service ends.
    ///
    /// # Errors
    /// [`TooMany`], unless it takes the place of another.
    pub fn open(self: &Arc<Self>, service: ResourceId, opener: UserId) -> Result<Opened, TooMany> {
        let _one = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let open = self.open.load();
        let replaced = open.get(&service);
        let (of_all, of_one) = MOST;
        let others = || open.values().filter(|tunnel| tunnel.service != service);
        if others().filter(|tunnel| tunnel.opener == opener).count() >= of_one {
            return Err(TooMany { most: of_one, own: true });
        }
        if others().count() >= of_all {
            return Err(TooMany { most: of_all, own: false });
        }
        let (sender, line) = mpsc::channel(LINE);
        let tunnel = Arc::new(Tunnel {
            service,
            opener,
            line: sender,
            room: self.room.clone(),
            replaced: CancellationToken::new(),
            waiting: TaskTracker::new(),
            metrics: self.metrics.clone(),
        });
        let mut next = Open::clone(&open);
        next.insert(service, tunnel.clone());
        self.open.store(Arc::new(next));
        self.metrics.open.increment(1.0);
        if let Some(old) = replaced {
            old.replaced.cancel();
        }
        Ok(Opened { tunnels: self.clone(), tunnel, line })
    }

    /// The connections that are open, to be waited for, bounded, when the process ends.
    #[must_use]
    pub fn running(&self) -> &TaskTracker {
        &self.running
    }

    /// Forgets the tunnel, unless another has taken its place.
    fn forget(&self, tunnel: &Arc<Tunnel>) {
        let _one = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let open = self.open.load();
        if open.get(&tunnel.service).is_some_and(|known| Arc::ptr_eq(known, tunnel)) {
            let mut next = Open::clone(&open);
            next.remove(&tunnel.service);
            self.open.store(Arc::new(next));
        }
    }
}

impl Tunnel {
    /// Puts a call of this size, in bytes, into the line. `held`: whether the tunnel of a gateway that drains stays open
    /// for it.
    ///
    /// # Errors
    /// [`CallError::Busy`], [`CallError::Closed`].
    pub fn call(&self, task: Arc<str>, size: usize, held: bool, write: Write) -> Result<Waiting, CallError> {
        let enter = || {
            let bytes = u32::try_from(size).unwrap_or(u32::MAX);
            let room = self.room.clone().try_acquire_many_owned(bytes).map_err(|_| CallError::Busy)?;
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
        Ok(Waiting { answer, metrics: self.metrics.clone(), held: held.then(|| self.waiting.token()) })
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

impl Opened {
    /// Runs the tunnel over the connection that `connecting` comes to, in a task of its own, until it ends: as `lost`
    /// says, by `draining`, or by either side. `told` hears how.
    pub fn run<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        connecting: impl Future<Output = Option<S>> + Send + 'static,
        lost: impl Future<Output = ()> + Send + 'static,
        draining: CancellationToken,
        told: impl FnOnce(Ending) + Send + 'static,
    ) {
        let running = self.tunnels.running.clone();
        running.spawn(async move {
            let ends = ends(self.tunnel.clone(), lost, draining);
            let ending = match tokio::time::timeout(connection::HANDOVER, connecting).await {
                Ok(Some(socket)) => connection::run(socket, self, ends).await,
                _ => Ending::Broken,
            };
            told(ending);
        });
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.tunnels.forget(&self.tunnel);
        self.tunnels.metrics.open.decrement(1.0);
    }
}

/// Ready when the tunnel must end for a reason that is not its connection's.
async fn ends(tunnel: Arc<Tunnel>, lost: impl Future<Output = ()>, draining: CancellationToken) -> Ending {
    let drained = async {
        draining.cancelled().await;
        tunnel.waiting.close();
        tunnel.waiting.wait().await;
    };
    tokio::select! {
        () = lost => Ending::Lost,
        () = tunnel.replaced.cancelled() => Ending::Replaced,
        () = drained => Ending::Draining,
    }
}

/// An id that no other call has, and that nobody can guess.
#[must_use]
pub fn new_task() -> Arc<str> {
    uuid::Uuid::new_v4().simple().to_string().into()
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
