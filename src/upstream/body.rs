//! The response's body: keeps the time between its pieces, and gives the connection back at its end.

use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::alarm::{Alarm, Alarms};
use super::error::chain;
use super::h1;
use super::outgoing::{Outgoing, Track, Upload};
use super::pool::{Lease, One};
use super::stream::Stream;

/// How long what is left of a request's body may take after its response was over.
const SETTLE: Duration = Duration::from_secs(60);

/// A response's body. Dropped before its end it cancels the call: an HTTP/1 connection is closed, an HTTP/2 stream
/// reset.
pub struct UpstreamBody<B: 'static> {
    inner: Come<B>,
    version: Version,
    lease: Option<Lease<B>>,
    request: Option<Rc<Track>>,
    /// The same, even when the response is over.
    upload: Option<Rc<Track>>,
    held: bool,
    time: Time,
    over: bool,
}

/// A response's body, by the version that it comes by.
pub(super) enum Come<B: 'static> {
    One(h1::Reply<Stream, Outgoing<B>>),
    Two(Incoming),
}

/// Why a response's body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// No byte moved in either direction for `idle`.
    #[error("the service stopped sending in the middle of its answer")]
    IdleTimeout,
    /// The call took longer than `total`.
    #[error("the call took longer than it may")]
    TotalTimeout,
    /// The connection ended, or what came is not HTTP.
    #[error("the service's answer broke off: {0}")]
    Broken(String),
}

impl<B> UpstreamBody<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// `lease`: the connection to give back; none where it is shared, or not to be used again. `request`: the request's
    /// body, where it is still under way; `held`: it was never let go, and never will be.
    pub(super) fn new(
        (inner, version): (Come<B>, Version),
        lease: Option<Lease<B>>,
        request: Option<Rc<Track>>,
        held: bool,
        time: Time,
    ) -> Self {
        let upload = request.clone();
        let mut body = Self { inner, version, lease, request, upload, held, time, over: false };
        if body.inner.is_end_stream() {
            body.finish();
        }
        body
    }

    /// The body, where all of it came with the head: then it is over.
    pub fn take_whole(&mut self) -> Option<Bytes> {
        let Come::One(reply) = &mut self.inner else { return None };
        if self.over {
            return Some(Bytes::new());
        }
        let whole = reply.take_whole()?;
        self.finish();
        Some(whole)
    }

    /// All of it was read: the connection is free, as soon as it says so itself.
    fn finish(&mut self) {
        self.over = true;
        match self.lease.take().and_then(|lease| Some((lease, self.inner.take_kept()?))) {
            Some((lease, connection)) => {
                self.request = None;
                lease.give_back(connection);
            }
            None if self.held => self.cancel(),
            None => {
                if let Some(request) = self.request.take() {
                    tokio::task::spawn_local(settle(request, self.time.idle, self.time.end));
                }
            }
        }
    }
}

impl<B> Come<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let broken = |error: &(dyn Error + 'static)| BodyError::Broken(chain(error));
        match self {
            Self::One(reply) => Pin::new(reply).poll_frame(cx).map_err(|fault| broken(&fault)),
            Self::Two(incoming) => Pin::new(incoming).poll_frame(cx).map_err(|error| broken(&error)),
        }
    }

    /// The connection, where it can be used again.
    fn take_kept(&mut self) -> Option<One<B>> {
        match self {
            Self::One(reply) => reply.take_kept(),
            Self::Two(_) => None,
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::One(reply) => reply.is_end_stream(),
            Self::Two(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::One(reply) => reply.size_hint(),
            Self::Two(incoming) => incoming.size_hint(),
        }
    }

    fn ends_early(&self, version: Version) -> bool {
        matches!(self, Self::Two(incoming) if ends_early(incoming, version))
    }
}

/// Whether a body that gives nothing more breaks off: a reset without an error is an end to hyper, wherever it comes, and
/// only END_STREAM is one (RFC 9113 §8.1).
#[must_use]
pub fn ends_early(body: &Incoming, version: Version) -> bool {
    version == Version::HTTP_2 && !body.is_end_stream()
}

/// Waits for the end of a request whose response is over, as HTTP/2 allows, and breaks it off when it stands still for
/// `idle`, at `end`, or after [`SETTLE`].
async fn settle(request: Rc<Track>, idle: Option<Duration>, end: Option<Instant>) {
    let last = Instant::now() + SETTLE;
    let last = end.map_or(last, |end| end.min(last));
    loop {
        let deadline = idle.map_or(last, |idle| last.min(request.moved() + idle));
        let overdue = deadline <= Instant::now();
        if overdue {
            return request.cancel();
        }
        if tokio::time::timeout_at(deadline, request.ended()).await.is_ok() {
            return;
        }
    }
}

impl<B> UpstreamBody<B> {
    /// The connection after a 101, with what came behind the head.
    #[must_use]
    pub fn take_switched(&mut self) -> Option<impl AsyncRead + AsyncWrite + Unpin + use<B>> {
        match &mut self.inner {
            Come::One(reply) => reply.take_switched(),
            Come::Two(_) => None,
        }
    }

    /// The request's body, where it is still under way.
    #[must_use]
    pub fn upload(&self) -> Option<Upload> {
        self.upload.clone().map(Upload)
    }

    fn cancel(&self) {
        if let Some(request) = &self.request {
            request.cancel();
        }
    }
}

impl<B> Drop for UpstreamBody<B> {
    fn drop(&mut self) {
        if !self.over {
            self.cancel();
        }
    }
}

impl<B> Body for UpstreamBody<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.over {
            return Poll::Ready(None);
        }
        let polled = match this.inner.poll_frame(cx) {
            Poll::Pending => Some(Err(ready!(this.time.poll_expired(this.request.as_deref(), cx)))),
            Poll::Ready(None) if this.inner.ends_early(this.version) => {
                Some(Err(BodyError::Broken("the stream was reset before its end".to_owned())))
            }
            Poll::Ready(polled) => polled,
        };
        match &polled {
            Some(Err(_)) => {
                this.over = true;
                this.lease = None;
                this.cancel();
            }
            Some(Ok(_)) if this.time.is_over() => {
                this.over = true;
                this.lease = None;
                this.cancel();
                return Poll::Ready(Some(Err(BodyError::TotalTimeout)));
            }
            Some(Ok(frame)) => {
                this.time.quiet = None;
                // Whoever reads us may stop at trailers, or at the last byte that was promised.
                if frame.is_trailers() || this.inner.is_end_stream() {
                    this.finish();
                }
            }
            None => this.finish(),
        }
        Poll::Ready(polled)
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> std::fmt::Debug for UpstreamBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamBody").field("over", &self.over).finish_non_exhaustive()
    }
}

/// The time between pieces, and of the call as a whole. Only a body that keeps us waiting sets an alarm.
pub(super) struct Time {
    alarms: Rc<Alarms>,
    idle: Option<Duration>,
    end: Option<Instant>,
    /// Since when we wait for a piece.
    quiet: Option<Instant>,
    alarm: Option<Alarm>,
}

impl Time {
    pub(super) fn new(alarms: &Rc<Alarms>, idle: Option<Duration>, end: Option<Instant>) -> Self {
        Self { alarms: Rc::clone(alarms), idle, end, quiet: None, alarm: None }
    }

    /// Whether the whole call took too long, though pieces keep coming.
    fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() >= end)
    }

    /// Ready when time is up. `request`: what moves there counts too.
    fn poll_expired(&mut self, request: Option<&Track>, cx: &Context<'_>) -> Poll<BodyError> {
        if self.idle.is_none() && self.end.is_none() {
            return Poll::Pending;
        }
        let quiet = *self.quiet.get_or_insert_with(Instant::now);
        let moved = request.map_or(quiet, |track| track.moved().max(quiet));
        let idle = self.idle.map(|idle| moved + idle);
        let Some(deadline) = idle.into_iter().chain(self.end).min() else { return Poll::Pending };
        let alarm = self.alarm.get_or_insert_with(|| self.alarms.set(deadline, cx));
        if !alarm.is_over(deadline, cx) {
            return Poll::Pending;
        }
        let total = self.end.is_some_and(|end| end <= deadline);
        Poll::Ready(if total { BodyError::TotalTimeout } else { BodyError::IdleTimeout })
    }
}
