//! One call: a connection from the pool or a new one, the request in the form that the connection speaks, the head of
//! the response within its time.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, EXPECT, TE, UPGRADE};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::client::conn::{TrySendError, http2};
use tokio::time::Instant;

use super::alarm::Alarms;
use super::body::{Come, Time, UpstreamBody};
use super::connect::{Failure, Http, connect};
use super::error::{SendError, SendErrorKind, chain};
use super::h1::{self, Fault};
use super::outgoing::{Gate, Outgoing, Stage, Track};
use super::pool::{Lease, One, Pools, Shelf};
use super::request::RequestHead;
use super::speak::speak_two;
use super::{Endpoint, Upstream};
use crate::config::{Protocol, Timeouts};

/// How long to hold a body back for a `100 Continue` that may never come (RFC 9110 §10.1.1 asks for some bound).
const CONTINUE: Duration = Duration::from_secs(1);

/// A connection that waited this long may have been closed at the other end just now, so that a request is worth another
/// try. One that was used a moment ago and ends is more likely ended by what it was asked.
const MAY_BE_STALE: Duration = Duration::from_secs(1);

impl<B> Pools<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Sends the request to the endpoint, which is one of the upstream's, and waits for the head of the response.
    ///
    /// `Host`, version and framing are set here. Hop-by-hop headers must be gone, but for `Connection: upgrade` with
    /// `Upgrade` where one is asked for: then the connection is an HTTP/1.1 one, and after a 101
    /// [`UpstreamBody::take_switched`] has it. A body that is held is not asked for before the upstream says
    /// `100 Continue`, answers, or takes a second.
    ///
    /// A connection that turns out stale is replaced once, where nothing was sent, or the method is idempotent and there
    /// is no body. Dropping the future cancels the call.
    ///
    /// # Errors
    /// When there is no head of a response in time, from `start`, which is now. A timeout `first_byte` runs from the end of
    /// the request, `idle` while its body is under way.
    pub async fn send(
        &self,
        upstream: &Arc<Upstream>,
        endpoint: &Endpoint,
        head: &RequestHead,
        body: B,
        start: Instant,
    ) -> Result<Response<UpstreamBody<B>>, SendError<B>> {
        let shelf = self.shelf(upstream, endpoint);
        let mut body = Outgoing::new(body, head.held, start);
        let call = Call {
            start,
            timeouts: &upstream.timeouts,
            alarms: self.alarms(),
            upgrade: head.upgrade,
            track: body.track(),
            gate: body.gate(),
        };
        let mut fresh = false;
        loop {
            let kept = if fresh { None } else { take(&shelf, head.upgrade, start) };
            let (connection, age) = match kept {
                Some((connection, age)) => {
                    self.count_reuse();
                    (connection, Some(age))
                }
                // Boxed: most calls find a connection, and none of those should have room for the making of one.
                None => match Box::pin(self.open(&shelf, upstream, endpoint, head.upgrade)).await {
                    Ok(connection) => (connection, None),
                    Err(Failure { kind, detail }) => return Err(error(endpoint, kind, detail, Some(body))),
                },
            };
            let again = age.is_some_and(|age| age >= MAY_BE_STALE) && may_repeat(head, &body);
            let outcome = match connection {
                Connection::One(connection) => {
                    let informed = |status| {
                        if status == StatusCode::CONTINUE {
                            call.gate.iter().for_each(|gate| gate.open());
                        }
                    };
                    // Lent: a future that owned it would have room for it twice.
                    let sending = pin!(connection.send(head, &endpoint.host_header, body, informed));
                    call.wait(sending).await.map(|response| response.map(Come::One))
                }
                Connection::Two(mut sender) => {
                    body.announce(self.piping());
                    if let Some(gate) = &call.gate {
                        // hyper tells nothing of a 1xx in HTTP/2.
                        gate.open();
                    }
                    let Some(request) = for_two(head, endpoint, body) else {
                        let detail = "the target cannot be written for HTTP/2".to_owned();
                        return Err(error(endpoint, SendErrorKind::Protocol, detail, None));
                    };
                    // Boxed, so that the calls over HTTP/1 need no room for it.
                    let mut sending = Box::pin(sender.try_send_request(request));
                    call.wait(sending.as_mut()).await.map(|response| response.map(Come::Two))
                }
            };
            match outcome {
                Ok(response) => return call.accept(response, shelf, endpoint),
                Err(Broken::Late(kind)) => return Err(error(endpoint, kind, "time is up".to_owned(), None)),
                Err(Broken::Connection { kind, detail, unsent }) => {
                    let spare = (again && kind == SendErrorKind::Closed).then(Outgoing::none);
                    match unsent.map(|unsent| *unsent).or(spare) {
                        Some(again) if age.is_some() => {
                            tracing::debug!(origin = %endpoint.authority, "a kept connection was stale");
                            body = again;
                            fresh = true;
                        }
                        unsent => return Err(error(endpoint, call.kind_of(kind), detail, unsent)),
                    }
                }
            }
        }
    }

    /// Makes a connection. To an endpoint that speaks HTTP/2 there is one, and whoever comes while it is being made
    /// waits for it.
    async fn open(
        &self,
        shelf: &Rc<Shelf<B>>,
        upstream: &Arc<Upstream>,
        endpoint: &Endpoint,
        upgrade: bool,
    ) -> Result<Connection<B>, Failure> {
        if upgrade && upstream.protocol == Protocol::Http2 {
            return Err(Failure { kind: SendErrorKind::NoUpgrade, detail: "`protocol` is `http2`".to_owned() });
        }
        let shared = !upgrade && (upstream.protocol == Protocol::Http2 || shelf.is_two());
        let _dialing = if shared {
            let patience = upstream.timeouts.connect.unwrap_or(Duration::MAX);
            let guard = tokio::time::timeout(patience, shelf.dialing.lock()).await.map_err(|_| Failure {
                kind: SendErrorKind::ConnectTimeout,
                detail: "no connection in time".to_owned(),
            })?;
            if let Some(sender) = shelf.share_two(Instant::now()) {
                return Ok(Connection::Two(sender));
            }
            // Whoever went before may have found out that it speaks HTTP/1 after all.
            (upstream.protocol == Protocol::Http2 || shelf.is_two()).then_some(guard)
        } else {
            None
        };
        let (stream, http) = connect(upstream, endpoint, upgrade, self.metrics()).await?;
        match http {
            Http::One => {
                if !upgrade {
                    shelf.forget_two();
                }
                Ok(Connection::One(h1::Connection::new(stream)))
            }
            Http::Two => {
                let sender = speak_two(stream, self.piping()).await?;
                shelf.keep_two(&sender, Instant::now());
                Ok(Connection::Two(sender))
            }
        }
    }
}

enum Connection<B: 'static> {
    One(One<B>),
    Two(http2::SendRequest<Outgoing<B>>),
}

fn take<B>(shelf: &Shelf<B>, upgrade: bool, now: Instant) -> Option<(Connection<B>, Duration)>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    if !upgrade && let Some(sender) = shelf.share_two(now) {
        return Some((Connection::Two(sender), Duration::ZERO));
    }
    shelf.take_one(now).map(|(connection, age)| (Connection::One(connection), age))
}

/// The request for HTTP/2: target in absolute form for the pseudo-headers, no connection headers (RFC 9113 §8.2.2,
/// §8.3.1). None where the target cannot be written so.
fn for_two<B>(head: &RequestHead, endpoint: &Endpoint, body: Outgoing<B>) -> Option<Request<Outgoing<B>>> {
    let mut request = Request::new(body);
    *request.method_mut() = head.method.clone();
    *request.version_mut() = Version::HTTP_2;
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(PathAndQuery::try_from(head.target()).ok()?);
    parts.scheme = Some(endpoint.scheme.clone());
    parts.authority = Some(endpoint.authority.clone());
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    let mut headers = head.lines.to_map();
    for name in [CONNECTION, UPGRADE, EXPECT] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.remove(TE);
    }
    if let Some(length) = head.length.agreed() {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    *request.headers_mut() = headers;
    Some(request)
}

/// Whether a request may be sent twice: an idempotent method (RFC 9110 §9.2.2), no body, no upgrade.
fn may_repeat<B>(head: &RequestHead, body: &Outgoing<B>) -> bool
where
    Outgoing<B>: Body,
{
    head.method.is_idempotent() && body.is_end_stream() && !head.upgrade
}

/// Why there is no head.
enum Broken<B> {
    /// Too late.
    Late(SendErrorKind),
    /// The connection failed; with the request's body, if nothing of the request was sent.
    Connection { kind: SendErrorKind, detail: String, unsent: Option<Box<Outgoing<B>>> },
}

impl<B> From<h1::Failed<Outgoing<B>>> for Broken<B> {
    fn from(failed: h1::Failed<Outgoing<B>>) -> Self {
        let kind = match failed.fault {
            Fault::Closed(_) => SendErrorKind::Closed,
            Fault::Malformed(_) => SendErrorKind::Protocol,
            Fault::Body(_) => SendErrorKind::RequestBody,
        };
        Self::Connection { kind, detail: failed.fault.to_string(), unsent: failed.unsent }
    }
}

impl<B> From<TrySendError<Request<Outgoing<B>>>> for Broken<B> {
    fn from(mut failed: TrySendError<Request<Outgoing<B>>>) -> Self {
        let unsent = failed.take_message().map(|request| Box::new(request.into_body()));
        let error = failed.into_error();
        let ours = error.is_parse() || error.is_user();
        let kind = if ours { SendErrorKind::Protocol } else { SendErrorKind::Closed };
        Self::Connection { kind, detail: chain(&error), unsent }
    }
}

/// What stays the same from one attempt to the next.
struct Call<'a> {
    start: Instant,
    timeouts: &'a Timeouts,
    alarms: &'a Rc<Alarms>,
    upgrade: bool,
    track: Option<Rc<Track>>,
    gate: Option<Arc<Gate>>,
}

impl Call<'_> {
    async fn wait<B, F, R, E>(&self, mut sending: Pin<&mut F>) -> Result<Response<R>, Broken<B>>
    where
        F: Future<Output = Result<Response<R>, E>>,
        E: Into<Broken<B>>,
    {
        let mut alarm = None;
        poll_fn(|cx| {
            if let Poll::Ready(outcome) = sending.as_mut().poll(cx) {
                return Poll::Ready(outcome.map_err(Into::into));
            }
            while let Some((deadline, due)) = self.due() {
                let Some(set) = &mut alarm else {
                    alarm = Some(self.alarms.set(deadline, cx));
                    break;
                };
                if !set.is_over(deadline, cx) {
                    break;
                }
                match due {
                    Due::Fail(kind) => return Poll::Ready(Err(Broken::Late(kind))),
                    Due::Open => self.gate.iter().for_each(|gate| gate.open()),
                }
            }
            Poll::Pending
        })
        .await
    }

    /// What comes next if nothing else happens.
    fn due(&self) -> Option<(Instant, Due)> {
        let at = |from: Instant, time: Option<Duration>, kind| time.map(|time| (from + time, Due::Fail(kind)));
        let track = self.track.as_deref();
        let (stage, moved) = track.map_or((Stage::Done, self.start), |track| (track.stage(), track.moved()));
        let step = match stage {
            Stage::Done | Stage::Broken => at(moved, self.timeouts.first_byte, SendErrorKind::FirstByteTimeout),
            Stage::Callers => at(moved, self.timeouts.idle, SendErrorKind::CallerIdle),
            Stage::Ours => at(moved, self.timeouts.idle, SendErrorKind::IdleTimeout),
        };
        let total = at(self.start, self.timeouts.total, SendErrorKind::TotalTimeout);
        let gate = self.gate.as_ref().filter(|gate| !gate.is_open()).map(|_| (self.start + CONTINUE, Due::Open));
        sooner(sooner(step, total), gate)
    }

    /// Judges the head and binds the body to its connection.
    fn accept<B>(
        &self,
        response: Response<Come<B>>,
        shelf: Rc<Shelf<B>>,
        endpoint: &Endpoint,
    ) -> Result<Response<UpstreamBody<B>>, SendError<B>>
    where
        B: Body<Data = Bytes> + Unpin + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switched && (!self.upgrade || matches!(response.body(), Come::Two(_))) {
            let detail = "it switches protocols though nobody asked".to_owned();
            return Err(error(endpoint, SendErrorKind::Protocol, detail, None));
        }
        let held = self.gate.as_ref().is_some_and(|gate| !gate.is_open());
        let under_way = self.track.clone().filter(|track| track.stage() != Stage::Done);
        if let Come::One(reply) = response.body()
            && !held
            && let Some(connection) = reply.connection().filter(|connection| !connection.is_sent())
        {
            tokio::task::spawn_local(go_on(connection.clone(), self.track.clone()));
        }
        // A body that was never let go keeps its connection from ending the request.
        let lease = matches!(response.body(), Come::One(_)).then_some(Lease(shelf)).filter(|_| !switched && !held);
        let end = self.timeouts.total.map(|total| self.start + total);
        let time = Time::new(self.alarms, self.timeouts.idle, end);
        let version = response.version();
        Ok(response.map(|body| UpstreamBody::new((body, version), lease, under_way, held, time)))
    }

    fn kind_of(&self, kind: SendErrorKind) -> SendErrorKind {
        let broke_off = self.track.as_ref().is_some_and(|track| track.stage() == Stage::Broken);
        if broke_off { SendErrorKind::RequestBody } else { kind }
    }
}

/// Goes on sending a request whose response has begun: whoever reads the one may not do so before all of the other went.
async fn go_on<B>(connection: One<B>, track: Option<Rc<Track>>)
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    poll_fn(|cx| {
        if track.as_ref().is_some_and(|track| track.is_cancelled(cx)) {
            connection.break_off();
            return Poll::Ready(());
        }
        connection.poll_send(cx)
    })
    .await;
}

/// What a deadline means.
enum Due {
    /// The call fails.
    Fail(SendErrorKind),
    /// The body goes without a `100 Continue`.
    Open,
}

fn sooner(one: Option<(Instant, Due)>, other: Option<(Instant, Due)>) -> Option<(Instant, Due)> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.0 < one.0 { other } else { one }),
        (one, other) => one.or(other),
    }
}

#[cold]
fn error<B>(endpoint: &Endpoint, kind: SendErrorKind, detail: String, unsent: Option<Outgoing<B>>) -> SendError<B>
where
    B: Body,
{
    SendError::new(kind, &endpoint.authority, detail, unsent.and_then(Outgoing::into_inner))
}
