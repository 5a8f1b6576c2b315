//! One connection: find out its protocol, let hyper serve it, and watch the clock over it.

use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::{Service, service_fn};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use super::doze;
use super::guard::{Activity, Answering, check};
use super::listen::House;
use super::refusal::Refusals;
use super::roster::{Member, Stage};
use super::stall::Streams;
use super::wire::{Meter, Wire};
use super::{Http, Peer};
use crate::config::Limits;
use crate::problem::{Kind, Problem};

/// What a client of HTTP/2 says first (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a peer may take over our last words.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// How many times hyper may hold a head in its buffer; bounds what a connection may occupy, both ways.
const BUFFER: usize = 64 * 1024;

/// How much of all uploads on one HTTP/2 connection may wait for their upstreams, in bytes.
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How much of one of them: an upload whose upstream takes nothing must leave room for the others.
const STREAM_WINDOW: u32 = CONNECTION_WINDOW / 2;

/// How much of an answer over HTTP/2 is handed over at a time, in bytes. A caller that does not take this much in the
/// time that it may stand still counts as one that takes nothing.
const PIECE: usize = 16 * 1024;

/// Serves the connection to its end. `http` is what TLS agreed on; without it the first bytes tell.
pub(super) async fn serve<S, H, F, B>(
    mut stream: S,
    place: OwnedSemaphorePermit,
    http: Option<Http>,
    peer: Peer,
    house: &Rc<House<H, F>>,
    member: &Member,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>, Peer) -> F + 'static,
    F: Future<Output = Response<B>> + 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let limits = &house.limits;
    let (http, front) = match http {
        Some(http) => (http, Bytes::new()),
        None => {
            let mut front = BytesMut::new();
            match Box::pin(tokio::time::timeout(limits.header_timeout, sniff(&mut stream, &mut front, member))).await {
                Ok(Some(http)) => (http, front.freeze()),
                Ok(None) => return,
                // A connection opened in advance and never used has done nothing wrong.
                Err(_elapsed) if front.is_empty() => return,
                Err(_elapsed) => return Box::pin(say_timeout(&mut stream, peer, &house.refusals)).await,
            }
        }
    };
    let meter = Arc::new(Meter::default());
    let activity = Rc::new(Activity::default());
    let wire = Wire::new(stream, front, Arc::clone(&meter), place);
    let watch = || Watch::new(http, limits, &activity, &meter);
    let piece = if http == Http::Two { PIECE } else { usize::MAX };
    let service = {
        let (house, activity, meter) = (Rc::clone(house), Rc::clone(&activity), Arc::clone(&meter));
        service_fn(move |request: Request<Incoming>| {
            if http == Http::One && request.extensions().get::<OnUpgrade>().is_some() {
                meter.be_prompt();
            }
            let open = activity.begin(!request.body().is_end_stream());
            let verdict = check(&request, &house.limits)
                // Boxed, so that the answers to all other calls need no room for it.
                .map_err(|problem| Box::new(house.refusals.answer(problem, &request, peer)))
                .map(|()| house.desks.take((house.handler)(request, peer)));
            match verdict {
                Ok(answer) => Answering::Handler { answer, piece, open: Some(open) },
                Err(refusal) => Answering::Refusal { refusal: Some(refusal), open: Some(open) },
            }
        })
    };
    match http {
        Http::One => {
            let mut awake = (wire, service);
            // Boxed, so that a connection has no room for calls while there are none.
            while let Some(mut quiet) =
                Box::pin(serve_one(awake, peer, (limits, &house.refusals), watch(), member)).await
            {
                if !doze::until_spoken_to(&mut quiet.0, limits.keep_alive, member).await {
                    return;
                }
                awake = quiet;
            }
        }
        Http::Two => Box::pin(serve_two(wire, service, peer, limits, watch(), member)).await,
    }
}

/// Serves calls until the connection ends. Some: it goes on, but nothing was asked for a while.
async fn serve_one<S, V, B>(
    (wire, service): (Wire<S>, V),
    peer: Peer,
    (limits, refusals): (&Limits, &Refusals),
    watch: Watch<'_>,
    member: &Member,
) -> Option<(Wire<S>, V)>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut builder = http1::Builder::new();
    // The watch keeps the time: hyper would set up a timer anew for every request.
    builder.timer(TokioTimer::new()).header_read_timeout(None);
    builder.max_header_size(limits.header_bytes).max_buf_size(limits.header_bytes.max(BUFFER));
    if limits.headers > 100 {
        // Up to 100 fit on hyper's stack; fewer are counted by `check`.
        builder.max_headers(limits.headers);
    }
    let activity = Rc::clone(&watch.activity);
    let mut connection = builder.serve_connection(TokioIo::new(wire), service).with_upgrades();
    match watch.over(&mut connection, |connection| Pin::new(connection).graceful_shutdown(), member).await {
        End::Done(outcome) => {
            if let Err(error) = outcome {
                tracing::debug!(peer = %peer.addr, %error, "connection ended early");
                if error.is_parse_too_large() {
                    refusals.wordless(&Kind::HEADERS_TOO_LARGE, peer);
                } else if error.is_parse() {
                    refusals.wordless(&Kind::MALFORMED_REQUEST, peer);
                }
            }
            if activity.had_body()
                && let Some(parts) = connection.into_parts()
            {
                farewell(&mut parts.io.into_inner(), &[]).await;
            }
        }
        End::HeadTooSlow => {
            tracing::debug!(peer = %peer.addr, "the head of a request did not arrive in time");
            // With nothing in the buffer it is not a head that came, but the rest of a body that nobody read.
            if let Some(parts) = connection.into_parts().filter(|parts| !parts.read_buf.is_empty()) {
                say_timeout(&mut parts.io.into_inner(), peer, refusals).await;
            }
        }
        End::Quiet => {
            let parts = connection.into_parts()?;
            let mut wire = parts.io.into_inner();
            wire.put_back(&parts.read_buf);
            return Some((wire, parts.service));
        }
        End::Abandoned(why) => tracing::debug!(peer = %peer.addr, why, "connection closed"),
    }
    None
}

async fn serve_two<S, V, B>(wire: Wire<S>, service: V, peer: Peer, limits: &Limits, watch: Watch<'_>, member: &Member)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    V: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
    V::Future: 'static,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    // As long as an HTTP/1 connection on which nothing moves.
    let mut builder = http2::Builder::new(Streams::new(&watch.activity, limits.keep_alive));
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .initial_stream_window_size(STREAM_WINDOW)
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(limits.keep_alive)
        .keep_alive_timeout(Duration::from_secs(20))
        .max_send_buf_size(2 * BUFFER);
    let mut connection = builder.serve_connection(TokioIo::new(wire), service);
    match watch.over(&mut connection, |connection| Pin::new(connection).graceful_shutdown(), member).await {
        End::Done(Ok(())) => {}
        End::Done(Err(error)) => tracing::debug!(peer = %peer.addr, %error, "connection ended early"),
        End::HeadTooSlow => tracing::debug!(peer = %peer.addr, "no request arrived in time"),
        End::Quiet => {}
        End::Abandoned(why) => tracing::debug!(peer = %peer.addr, why, "connection closed"),
    }
}

/// Reads until the bytes are the preface of HTTP/2, or cannot be. None: the connection is over.
async fn sniff<S: AsyncRead + Unpin>(stream: &mut S, front: &mut BytesMut, member: &Member) -> Option<Http> {
    loop {
        let mut chunk = [0; 1024];
        let mut chunk = ReadBuf::new(&mut chunk);
        poll_fn(|cx| {
            if member.stage() > Stage::Serve {
                return Poll::Ready(None);
            }
            Poll::Ready(ready!(Pin::new(&mut *stream).poll_read(cx, &mut chunk)).ok())
        })
        .await?;
        if chunk.filled().is_empty() {
            return None;
        }
        front.extend_from_slice(chunk.filled());
        let known = front.len().min(PREFACE.len());
        if front.get(..known) != PREFACE.get(..known) {
            return Some(Http::One);
        }
        if known == PREFACE.len() {
            return Some(Http::Two);
        }
    }
}

/// Why the watch let go of a connection.
enum End {
    /// It came to its own end, or was upgraded.
    Done(hyper::Result<()>),
    /// A request's head stood half sent for too long.
    HeadTooSlow,
    /// Nothing was asked for a while, and nothing is under way.
    Quiet,
    /// Nothing more is to be expected of it.
    Abandoned(&'static str),
}

/// The clock over a connection. One timer, set anew only when it fires or something nearer comes up, so that a request
/// on a kept-alive connection costs one look at the clock.
struct Watch<'a> {
    http: Http,
    limits: &'a Limits,
    activity: Rc<Activity>,
    meter: Arc<Meter>,
    state: State,
    deadline: Option<Instant>,
    armed: Option<Instant>,
    draining: bool,
}

/// What the connection is waiting for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first request.
    Fresh,
    /// Our own work.
    Busy,
    /// The peer to take bytes; so many had gone when it stopped.
    Stalled { written: u64 },
    /// The next request, of which nothing has come after so many calls and bytes.
    Idle { calls: u64, read: u64 },
    /// The rest of a head, after so many calls.
    Head { calls: u64 },
    /// The peer to hang up, after GOAWAY.
    Leaving,
}

impl<'a> Watch<'a> {
    /// A watch from the first byte of a request on.
    fn new(http: Http, limits: &'a Limits, activity: &Rc<Activity>, meter: &Arc<Meter>) -> Self {
        Self {
            http,
            limits,
            activity: Rc::clone(activity),
            meter: Arc::clone(meter),
            state: match activity.calls() {
                0 => State::Fresh,
                calls => State::Head { calls },
            },
            deadline: None,
            armed: None,
            draining: false,
        }
    }

    async fn over<C>(mut self, connection: &mut C, mut shut: impl FnMut(&mut C), member: &Member) -> End
    where
        C: Future<Output = hyper::Result<()>> + Unpin,
    {
        let mut sleep = pin!(tokio::time::sleep(self.limits.header_timeout));
        self.deadline = Some(sleep.deadline());
        poll_fn(|cx| {
            match member.stage() {
                Stage::Serve => {}
                Stage::Drain if self.draining => {}
                Stage::Drain => {
                    self.draining = true;
                    shut(connection);
                }
                Stage::Close => return Poll::Ready(End::Abandoned("the drain time is over")),
            }
            loop {
                if let Poll::Ready(outcome) = Pin::new(&mut *connection).poll(cx) {
                    return Poll::Ready(End::Done(outcome));
                }
                self.look();
                if !self.expired(sleep.as_mut(), cx) {
                    return Poll::Pending;
                }
                match self.state {
                    State::Head { .. } | State::Fresh if self.http == Http::One && self.meter.read() > 0 => {
                        return Poll::Ready(End::HeadTooSlow);
                    }
                    State::Idle { .. } if self.may_doze() => return Poll::Ready(End::Quiet),
                    State::Fresh | State::Head { .. } | State::Idle { .. } => {
                        shut(connection);
                        self.state = State::Leaving;
                        self.deadline = Some(Instant::now() + FAREWELL);
                    }
                    State::Stalled { .. } => return Poll::Ready(End::Abandoned("the peer takes no bytes")),
                    State::Leaving => return Poll::Ready(End::Abandoned("the peer does not leave")),
                    State::Busy => {}
                }
            }
        })
        .await
    }

    /// Finds out what the connection is waiting for now.
    fn look(&mut self) {
        let calls = self.activity.calls();
        let (open, blocked) = (self.activity.open() > 0, self.meter.blocked());
        // What hyper has of an answer that is over for us is lost to the caller if the connection dozes.
        if blocked && (open || self.http == Http::One && self.state != State::Leaving) {
            let written = self.meter.written();
            self.enter(State::Stalled { written }, Some(self.limits.keep_alive));
            return;
        }
        if open {
            self.enter(State::Busy, None);
            return;
        }
        let read = self.meter.read();
        match self.state {
            State::Idle { calls: then, .. } | State::Head { calls: then } if then != calls => self.idle(calls, read),
            State::Busy | State::Stalled { .. } => self.idle(calls, read),
            State::Fresh if calls > 0 => self.idle(calls, read),
            State::Idle { read: then, .. } if then != read && self.http == Http::One => {
                self.enter(State::Head { calls }, Some(self.limits.header_timeout));
            }
            State::Fresh | State::Idle { .. } | State::Head { .. } | State::Leaving => {}
        }
    }

    fn idle(&mut self, calls: u64, read: u64) {
        let keep_alive = self.limits.keep_alive;
        let time = if self.may_doze() { keep_alive.min(doze::AFTER) } else { keep_alive };
        self.enter(State::Idle { calls, read }, Some(time));
    }

    /// Whether the next byte can only be a request's. After a body it could be the body's, which nobody may have read
    /// to its end: taken for a request, it would be one that the caller never made (RFC 9112 §11.2).
    fn may_doze(&self) -> bool {
        self.http == Http::One && !self.activity.had_body()
    }

    fn enter(&mut self, state: State, time: Option<Duration>) {
        if self.state != state {
            self.state = state;
            self.deadline = time.map(|time| Instant::now() + time);
        }
    }

    /// Whether the deadline has passed; sees to it that the task is woken when it does.
    fn expired(&mut self, mut sleep: Pin<&mut Sleep>, cx: &mut std::task::Context<'_>) -> bool {
        let Some(deadline) = self.deadline else { return false };
        let armed = self.armed.is_some_and(|armed| armed <= deadline) && !sleep.is_elapsed();
        if armed {
            return false;
        }
        if sleep.is_elapsed() && Instant::now() >= deadline {
            return true;
        }
        sleep.as_mut().reset(deadline);
        self.armed = Some(deadline);
        sleep.poll(cx).is_ready()
    }
}

/// Tells the peer that it was too slow (RFC 9110 §15.5.9), if it listens at all.
async fn say_timeout<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, peer: Peer, refusals: &Refusals) {
    let problem =
        Problem::new(&Kind::REQUEST_TIMEOUT, "the head of the request did not arrive in time\nsend it at once");
    farewell(stream, &refusals.last_words(problem, peer)).await;
}

/// Writes last words and waits for the peer to read them: closing a socket with unread input would reset it, and what
/// was written last with it (RFC 9112 §9.6).
pub(super) async fn farewell<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, words: &[u8]) {
    let goodbye = async {
        stream.write_all(words).await?;
        stream.shutdown().await?;
        let mut rest = [0; 4096];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // Best effort: a peer that is gone or stubborn has no claim to it. Boxed for the sake of connections that end
    // without.
    let _outcome = Box::pin(tokio::time::timeout(FAREWELL, goodbye)).await;
}
