//! The request's body on its way: how far it is, whether it may go yet, and whether it may go on.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Instant;

/// A request's body. None: there is none, or it was let go.
pub(super) struct Outgoing<B> {
    body: Option<B>,
    track: Option<Rc<Track>>,
    gate: Option<Arc<Gate>>,
    piping: Option<Rc<Piping>>,
}

impl<B: Body> Outgoing<B> {
    /// An empty body is not tracked: it is as far as it will ever be. `held`: wait for the gate to open.
    pub(super) fn new(body: B, held: bool, now: Instant) -> Self {
        if body.is_end_stream() {
            return Self { body: Some(body), track: None, gate: None, piping: None };
        }
        let track = Track {
            stage: Cell::new(Stage::Ours),
            moved: Cell::new(now),
            cancelled: Cell::new(false),
            gone: Cell::new(false),
            waker: RefCell::default(),
            watchers: RefCell::default(),
        };
        Self { body: Some(body), track: Some(Rc::new(track)), gate: held.then(Arc::default), piping: None }
    }

    /// No body at all.
    pub(super) fn none() -> Self {
        Self { body: None, track: None, gate: None, piping: None }
    }

    pub(super) fn track(&self) -> Option<Rc<Track>> {
        self.track.clone()
    }

    pub(super) fn gate(&self) -> Option<Arc<Gate>> {
        self.gate.clone()
    }

    /// It goes over HTTP/2: on being asked for its first piece it says whose it is, for hyper asks once before it makes
    /// a task of the sending.
    pub(super) fn announce(&mut self, piping: &Rc<Piping>) {
        self.piping = self.track.is_some().then(|| Rc::clone(piping));
    }

    pub(super) fn into_inner(mut self) -> Option<B> {
        self.body.take()
    }
}

impl<B> Drop for Outgoing<B> {
    fn drop(&mut self) {
        if let Some(track) = &self.track {
            track.gone.set(true);
            track.tell();
        }
    }
}

impl<B> Body for Outgoing<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = OutgoingError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, OutgoingError>>> {
        let this = &mut *self;
        if let Some(piping) = this.piping.take() {
            piping.0.set(this.track.clone());
        }
        if this.track.as_ref().is_some_and(|track| track.is_cancelled(cx)) {
            return Poll::Ready(Some(Err(OutgoingError::Cancelled)));
        }
        if this.gate.as_ref().is_some_and(|gate| gate.is_shut(cx)) {
            return Poll::Pending;
        }
        let Some(body) = &mut this.body else { return Poll::Ready(None) };
        let polled = Pin::new(&mut *body).poll_frame(cx);
        if let Some(track) = &this.track {
            track.note(&polled, body.is_end_stream());
        }
        polled.map_err(|error| OutgoingError::Body(error.into()))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or(SizeHint::with_exact(0), Body::size_hint)
    }
}

/// Why a request's body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum OutgoingError {
    /// By its own doing.
    #[error("the request's body broke off: {0}")]
    Body(Box<dyn Error + Send + Sync>),
    /// Nobody wants the response any more.
    #[error("the call was cancelled")]
    Cancelled,
}

/// How far a request's body is.
#[derive(Debug)]
pub(super) struct Track {
    stage: Cell<Stage>,
    moved: Cell<Instant>,
    cancelled: Cell<bool>,
    /// Nobody holds the body any more.
    gone: Cell<bool>,
    /// Whoever sends the body.
    waker: RefCell<Option<Waker>>,
    /// Those who wait for its end.
    watchers: RefCell<Vec<Waker>>,
}

/// Whose turn it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Ours and the upstream's: a piece is under way, or none was asked for.
    Ours,
    /// The caller's: a piece was asked for and has not come.
    Callers,
    /// Nobody's: it is all handed over.
    Done,
    /// It broke off.
    Broken,
}

impl Track {
    pub(super) fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// When a piece last moved.
    pub(super) fn moved(&self) -> Instant {
        self.moved.get()
    }

    /// Breaks the body off, and with it the HTTP/1 connection or HTTP/2 stream that it goes to.
    pub(super) fn cancel(&self) {
        if self.stage.get() != Stage::Done
            && !self.cancelled.replace(true)
            && let Some(waker) = self.waker.borrow_mut().take()
        {
            waker.wake();
        }
    }

    /// Returns when the body is over, whole or not.
    pub(super) async fn ended(&self) {
        poll_fn(|cx| {
            if self.is_over() {
                return Poll::Ready(());
            }
            let mut watchers = self.watchers.borrow_mut();
            if !watchers.iter().any(|watcher| watcher.will_wake(cx.waker())) {
                watchers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }

    fn is_over(&self) -> bool {
        self.gone.get() || matches!(self.stage.get(), Stage::Done | Stage::Broken)
    }

    fn tell(&self) {
        // Not under the borrow: a waker may do anything.
        let watchers = self.watchers.take();
        watchers.into_iter().for_each(Waker::wake);
    }

    /// Whether the body is to be broken off; the task of `cx` is woken when it is.
    pub(super) fn is_cancelled(&self, cx: &Context<'_>) -> bool {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.cancelled.get()
    }

    fn note<E>(&self, polled: &Poll<Option<Result<Frame<Bytes>, E>>>, is_end: bool) {
        let stage = match polled {
            Poll::Pending => Stage::Callers,
            Poll::Ready(Some(Err(_))) => Stage::Broken,
            Poll::Ready(None) => Stage::Done,
            Poll::Ready(Some(Ok(frame))) if is_end || frame.is_trailers() => Stage::Done,
            Poll::Ready(Some(Ok(_))) => Stage::Ours,
        };
        if polled.is_ready() {
            self.moved.set(Instant::now());
        }
        self.stage.set(stage);
        if self.is_over() {
            self.tell();
        }
    }
}

/// The body that was asked for its first piece a moment ago, between that and the making of its task.
#[derive(Default)]
pub(super) struct Piping(Cell<Option<Rc<Track>>>);

impl Piping {
    /// The body that the task that is made now sends; none if it is over already, and the task is another.
    pub(super) fn take(&self) -> Option<Rc<Track>> {
        self.0.take().filter(|track| !track.gone.get())
    }
}

impl std::fmt::Debug for Piping {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Piping")
    }
}

/// A request's body that was still under way when its response began.
#[derive(Debug)]
pub struct Upload(pub(super) Rc<Track>);

impl Upload {
    /// Returns when the body is over, whole or not.
    pub async fn ended(&self) {
        self.0.ended().await;
    }

    /// Breaks the body off, and with it the response if that is not over.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

/// Holds a body back until the upstream says `100 Continue` (RFC 9110 §10.1.1). Opened from hyper's callback, which
/// wants to be `Send`.
#[derive(Debug, Default)]
pub(super) struct Gate {
    open: AtomicBool,
    waker: AtomicWaker,
}

impl Gate {
    pub(super) fn open(&self) {
        self.open.store(true, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    fn is_shut(&self, cx: &Context<'_>) -> bool {
        if self.is_open() {
            return false;
        }
        self.waker.register(cx.waker());
        !self.is_open()
    }
}
