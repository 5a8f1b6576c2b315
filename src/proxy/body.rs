//! Bodies on their way through: streamed, counted, bounded, their trailers filtered.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::answer;
use super::error::Kind;
use super::exchange::{Exchange, Ticket};
use super::headers::{self, Named};
use super::names::Rules;
use super::route::Route;
use super::streams::Watch;
use super::target::Door;
use crate::upstream::{BodyError, UpstreamBody, ends_early};

/// How many bytes of an answer may come without a pause before its watch awakes.
const UNWATCHED: usize = 1024 * 1024;

/// How long a short answer, which mostly comes at once, may take before its watch awakes.
const SOON: Duration = Duration::from_secs(1);

/// The caller's body on its way to the upstream; none where there is none.
#[derive(Debug)]
pub struct RequestBody(Option<Streamed>);

#[derive(Debug)]
struct Streamed {
    inner: Incoming,
    version: Version,
    passage: Rc<Passage>,
}

/// What a request's body is judged by, and what became of it.
#[derive(Debug)]
pub struct Passage {
    /// Counts.
    pub exchange: Rc<Exchange>,
    /// Where it goes.
    pub route: std::sync::Arc<Route>,
    /// What `Connection` listed.
    pub named: Named,
    /// Whether it was longer than it may be.
    pub too_large: Cell<bool>,
}

/// Why a caller's body broke off.
#[derive(Debug, thiserror::Error)]
pub enum RequestBodyError {
    /// The caller's connection ended, or what came is not HTTP.
    #[error("the caller's body broke off: {0}")]
    Broken(#[from] hyper::Error),
    /// The caller reset its stream, without an error but before the end.
    #[error("the caller's stream was reset before its end")]
    Reset,
    /// Longer than the limit.
    #[error("the caller's body is too large")]
    TooLarge,
}

impl RequestBody {
    /// The body of a request of this version, bounded and counted.
    #[must_use]
    pub fn new(inner: Incoming, version: Version, passage: Rc<Passage>) -> Self {
        Self(Some(Streamed { inner, version, passage }))
    }

    /// None.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = RequestBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, RequestBodyError>>> {
        let Some(this) = &mut self.0 else { return Poll::Ready(None) };
        Pin::new(&mut this.inner).poll_frame(cx).map(|polled| match polled {
            None if ends_early(&this.inner, this.version) => Some(Err(RequestBodyError::Reset)),
            polled => polled.map(|frame| this.passage.pass(frame?)),
        })
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(|body| body.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.0.as_ref().map_or(SizeHint::with_exact(0), |body| body.inner.size_hint())
    }
}

impl Passage {
    fn pass(&self, mut frame: Frame<Bytes>) -> Result<Frame<Bytes>, RequestBodyError> {
        if let Some(data) = frame.data_ref() {
            let sum = self.exchange.count_in(data.len());
            if self.exchange.gateway.settings().body_bytes.is_some_and(|most| sum > most) {
                self.too_large.set(true);
                return Err(RequestBodyError::TooLarge);
            }
        } else if let Some(trailers) = frame.trailers_mut() {
            // A trusted proxy's word goes in the head; in trailers nobody's is believed.
            let rules = Rules {
                injected: self.route.injection().set_headers(),
                identity_header: self.exchange.gateway.settings().identity_header.as_deref(),
                trusted_peer: false,
                judges_method: true,
            };
            headers::strip_request_trailers(trailers, &rules, &self.named);
        }
        Ok(frame)
    }
}

/// The answer's body: an upstream's, or our own words.
pub struct ProxyBody {
    inner: Inner,
    /// Tells what became of the request when this is dropped.
    ticket: Option<Ticket>,
    broken: bool,
}

enum Inner {
    Own(Option<Bytes>),
    /// An upstream's that came whole with its head; until it is handed over.
    Whole(Option<Bytes>),
    /// Boxed: hyper moves an answer several times, which costs more than the allocation.
    Upstream(Box<Passed>),
}

/// An upstream's body on its way to the caller.
#[derive(Debug)]
pub struct Passed {
    /// What comes.
    pub body: UpstreamBody<RequestBody>,
    /// Where to.
    pub door: Door,
    /// What `Connection` listed.
    pub named: Named,
    /// Ends a body when the permit does; none for an empty one. It costs something only when the upstream makes us wait,
    /// or sends much.
    pub watch: Option<Watch>,
    /// Bytes that passed while it slept.
    pub unwatched: usize,
    /// Set for an answer that says to be short: when its request began.
    pub brief: Option<Instant>,
}

/// Why an answer's body broke off.
#[derive(Debug, thiserror::Error)]
pub enum ProxyBodyError {
    /// The upstream's doing.
    #[error(transparent)]
    Upstream(#[from] BodyError),
    /// The permit that opened the stream no longer holds.
    #[error("the permit that opened the stream no longer holds")]
    PermitEnded,
}

impl ProxyBody {
    /// The upstream's body.
    #[must_use]
    pub fn passed(passed: Passed) -> Self {
        Self { inner: Inner::Upstream(Box::new(passed)), ticket: None, broken: false }
    }

    /// The upstream's body, which came whole with its head.
    #[must_use]
    pub fn whole(body: Bytes) -> Self {
        Self { inner: Inner::Whole(Some(body).filter(|body| !body.is_empty())), ticket: None, broken: false }
    }

    /// Nothing.
    #[must_use]
    pub fn empty() -> Self {
        Self { inner: Inner::Own(None), ticket: None, broken: false }
    }

    /// The body that tells, when it is over, what became of the request.
    #[must_use]
    pub fn with_ticket(mut self, ticket: Ticket) -> Self {
        self.ticket = Some(ticket);
        self
    }

    fn count(&self, bytes: usize) {
        if let Some(ticket) = &self.ticket {
            ticket.count_out(bytes);
        }
    }

    fn break_off(&mut self, error: ProxyBodyError) -> ProxyBodyError {
        self.broken = true;
        if let Some(ticket) = &self.ticket {
            ticket.break_off(match &error {
                ProxyBodyError::PermitEnded => &Kind::PERMISSION_DENIED,
                ProxyBodyError::Upstream(BodyError::IdleTimeout) => &Kind::UPSTREAM_IDLE,
                ProxyBodyError::Upstream(BodyError::TotalTimeout) => &Kind::UPSTREAM_TOTAL,
                ProxyBodyError::Upstream(BodyError::Broken(_)) => &Kind::UPSTREAM_CLOSED,
            });
            tracing::debug!(request_id = %ticket.id, %error, "an answer broke off");
        }
        error
    }
}

/// Without what it says.
impl std::fmt::Debug for ProxyBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ProxyBody").field("broken", &self.broken).finish_non_exhaustive()
    }
}

impl Default for ProxyBody {
    fn default() -> Self {
        Self::empty()
    }
}

impl From<Bytes> for ProxyBody {
    fn from(text: Bytes) -> Self {
        Self { inner: Inner::Own(Some(text).filter(|text| !text.is_empty())), ticket: None, broken: false }
    }
}

impl Body for ProxyBody {
    type Data = Bytes;
    type Error = ProxyBodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ProxyBodyError>>> {
        let this = &mut *self;
        let polled = match &mut this.inner {
            Inner::Own(text) | Inner::Whole(text) => Poll::Ready(text.take().map(|text| Ok(Frame::data(text)))),
            Inner::Upstream(passed) => passed.poll(cx),
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                this.count(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(this.break_off(error)))),
            Poll::Ready(None) => {
                if let Some(ticket) = &this.ticket {
                    ticket.complete();
                }
                Poll::Ready(None)
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Own(text) | Inner::Whole(text) => text.is_none(),
            Inner::Upstream(passed) => passed.body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Own(text) | Inner::Whole(text) => {
                SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64))
            }
            Inner::Upstream(passed) => passed.body.size_hint(),
        }
    }
}

impl Drop for ProxyBody {
    fn drop(&mut self) {
        // hyper asks for nothing after the last byte that was promised, nor for what HEAD leaves out.
        if let Some(ticket) = &self.ticket
            && !self.broken
            && (self.is_end_stream() || matches!(self.inner, Inner::Own(_)))
        {
            ticket.complete();
        }
    }
}

impl Passed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyBodyError>>> {
        let ended = Poll::Ready(Some(Err(ProxyBodyError::PermitEnded)));
        let mut asleep = None;
        match &mut self.watch {
            Some(watch) if watch.is_awake() => {
                if watch.poll(cx).is_ready() {
                    return ended;
                }
            }
            watch => asleep = watch.as_mut(),
        }
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        if let Some(watch) = asleep {
            let late = || self.brief.is_none_or(|began| began.elapsed() >= SOON);
            let due = match &polled {
                Poll::Pending => late(),
                Poll::Ready(Some(Ok(_))) if self.brief.is_some() => late(),
                Poll::Ready(Some(Ok(frame))) => {
                    self.unwatched += frame.data_ref().map_or(0, Bytes::len);
                    self.unwatched > UNWATCHED
                }
                Poll::Ready(_) => false,
            };
            if due && watch.poll(cx).is_ready() {
                return ended;
            }
        }
        polled.map(|polled| {
            polled.map(|frame| {
                let mut frame = frame?;
                if let Some(trailers) = frame.trailers_mut() {
                    answer::strip_trailers(trailers, self.door, &self.named);
                }
                Ok(frame)
            })
        })
    }
}
