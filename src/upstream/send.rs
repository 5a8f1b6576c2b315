//! One call: a connection from the pool or a new one, the request in the form that the connection speaks, the head of
//! the response within its time.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::{TrySendError, http1, http2};
use tokio::time::Instant;

use super::alarm::Alarms;
use super::body::{Time, UpstreamBody};
use super::connect::{Failure, Http, connect};
use super::error::{SendError, SendErrorKind, chain};
use super::outgoing::{Gate, Outgoing, Stage, Track};
use super::pool::{Lease, Pools, Shelf};
use super::speak::{speak_one, speak_two};
use super::{Endpoint, Upstream};
use crate::config::{Protocol, Timeouts};

/// How long to hold a body back for a `100 Continue` that may never come (RFC 9110 §10.1.1 asks for some bound).
const CONTINUE: Duration = Duration::from_secs(1);

/// A connection that waited this long may have been closed at the other end just now, so that a request is worth a
/// copy. On a busy one it would be the most expensive part of the call.
const MAY_BE_STALE: Duration = Duration::from_secs(1);

impl<B> Pools<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    /// Sends the request to the endpoint, which is one of the upstream's, and waits for the head of the response.
    ///
    /// Of the request's target only path and query count, byte for byte; `Host`, version and framing are set here.
    /// Hop-by-hop headers must be gone, but for `Connection: upgrade` with `Upgrade` where one is asked for: then the
    /// connection is an HTTP/1.1 one, and after a 101 `hyper::upgrade::on` has it. With `Expect: 100-continue` the body
    /// is not asked for before the upstream says so, answers, or takes a second.
    ///
    /// A connection that turns out stale is replaced once, where nothing was sent, or the method is idempotent and there
    /// is no body. Dropping the future cancels the call.
    ///
    /// # Errors
    /// When there is no head of a response in time. A timeout `first_byte` runs from the end of the request, `idle`
    /// while its body is under way.
    pub async fn send(
        &self,
        upstream: &Arc<Upstream>,
        endpoint: &Endpoint,
        request: Request<B>,
    ) -> Result<Response<UpstreamBody<B>>, SendError<B>> {
        let start = Instant::now();
        let shelf = self.shelf(upstream, endpoint);
        let upgrade = request.headers().contains_key(UPGRADE);
        let held =
            request.headers().get(EXPECT).is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let mut request = request.map(|body| Outgoing::new(body, held, start));
        let call = Call {
            start,
            timeouts: &upstream.timeouts,
            alarms: self.alarms(),
            upgrade,
            track: request.body().track(),
            gate: request.body().gate(),
        };
        let mut fresh = false;
        loop {
            let kept = if fresh { None } else { take(&shelf, upgrade, start) };
            let (mut connection, age) = match kept {
                Some((connection, age)) => {
                    self.count_reuse();
                    (connection, Some(age))
                }
                // Boxed: most calls find a connection, and none of those should have room for the making of one.
                None => match Box::pin(self.open(&shelf, upstream, endpoint, upgrade)).await {
                    Ok(connection) => (connection, None),
                    Err(Failure { kind, detail }) => return Err(error(endpoint, kind, detail, Some(request))),
                },
            };
            let spare = age.filter(|age| *age >= MAY_BE_STALE).and_then(|_| spare(&request));
            let outcome = match &mut connection {
                Connection::One(sender) => {
                    shape_one(&mut request, endpoint);
                    if let Some(gate) = call.gate.clone() {
                        hyper::ext::on_informational(&mut request, move |head| {
                            if head.status() == StatusCode::CONTINUE {
                                gate.open();
                            }
                        });
                    }
                    call.wait(sender.try_send_request(request)).await
                }
                Connection::Two(sender) => {
                    shape_two(&mut request, endpoint);
                    request.body_mut().announce(self.piping());
                    if let Some(gate) = &call.gate {
                        // hyper tells nothing of a 1xx in HTTP/2.
                        gate.open();
                    }
                    call.wait(sender.try_send_request(request)).await
                }
            };
            match outcome {
                Ok(response) => return call.accept(response, connection, shelf, endpoint),
                Err(Broken::Late(kind)) => return Err(error(endpoint, kind, "time is up".to_owned(), None)),
                Err(Broken::Hyper { error: cause, unsent }) => {
                    let again = unsent
                        .map(|unsent| *unsent)
                        .or_else(|| spare.filter(|_| !cause.is_parse() && !cause.is_user()));
                    match again {
                        Some(again) if age.is_some() => {
                            tracing::debug!(origin = %endpoint.authority, "a kept connection was stale");
                            request = again;
                            fresh = true;
                        }
                        unsent => {
                            let kind = call.kind_of(&cause);
                            return Err(error(endpoint, kind, chain(&cause), unsent));
                        }
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
                speak_one(stream).await.map(Connection::One)
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
    One(http1::SendRequest<Outgoing<B>>),
    Two(http2::SendRequest<Outgoing<B>>),
}

fn take<B>(shelf: &Shelf<B>, upgrade: bool, now: Instant) -> Option<(Connection<B>, Duration)> {
    if !upgrade && let Some(sender) = shelf.share_two(now) {
        return Some((Connection::Two(sender), Duration::ZERO));
    }
    shelf.take_one(now).map(|(sender, age)| (Connection::One(sender), age))
}

/// HTTP/1.1: target in origin form (RFC 9112 §3.2.1).
fn shape_one<B: Body>(request: &mut Request<Outgoing<B>>, endpoint: &Endpoint)
where
    Outgoing<B>: Body,
{
    *request.version_mut() = Version::HTTP_11;
    if request.uri().authority().is_some() {
        *request.uri_mut() = Uri::from(path_and_query(request.uri()));
    }
    let unknown = !request.body().is_end_stream() && request.body().size_hint().exact().is_none();
    let bodiless = matches!(*request.method(), Method::GET | Method::HEAD);
    let headers = request.headers_mut();
    headers.insert(HOST, endpoint.host_header.clone());
    if unknown && bodiless {
        // hyper would drop such a body, for methods that mostly have none.
        headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
}

/// HTTP/2: target in absolute form for the pseudo-headers, no connection headers (RFC 9113 §8.2.2, §8.3.1).
fn shape_two<B>(request: &mut Request<Outgoing<B>>, endpoint: &Endpoint) {
    *request.version_mut() = Version::HTTP_2;
    let mut parts = http::uri::Parts::default();
    parts.path_and_query = Some(path_and_query(request.uri()));
    parts.scheme = Some(endpoint.scheme.clone());
    parts.authority = Some(endpoint.authority.clone());
    if let Ok(uri) = Uri::from_parts(parts) {
        *request.uri_mut() = uri;
    }
    let headers = request.headers_mut();
    for name in [HOST, CONNECTION, TRANSFER_ENCODING, UPGRADE, EXPECT] {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
    if headers.get(TE).is_some_and(|te| te != "trailers") {
        headers.remove(TE);
    }
}

fn path_and_query(uri: &Uri) -> PathAndQuery {
    uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"))
}

/// A copy of a request that may be sent twice: an idempotent method (RFC 9110 §9.2.2), no body, no upgrade.
fn spare<B>(request: &Request<Outgoing<B>>) -> Option<Request<Outgoing<B>>>
where
    B: Body,
    Outgoing<B>: Body,
{
    let harmless = request.method().is_idempotent() && request.body().is_end_stream();
    if !harmless || request.headers().contains_key(UPGRADE) {
        return None;
    }
    let mut copy = Request::new(Outgoing::none());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = HeaderMap::clone(request.headers());
    Some(copy)
}

/// Why there is no head.
enum Broken<B> {
    /// Too late.
    Late(SendErrorKind),
    /// The connection failed; with the request, if nothing of it was sent.
    Hyper { error: hyper::Error, unsent: Option<Box<Request<Outgoing<B>>>> },
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
    async fn wait<B, F>(&self, sending: F) -> Result<Response<Incoming>, Broken<B>>
    where
        F: Future<Output = Result<Response<Incoming>, TrySendError<Request<Outgoing<B>>>>>,
    {
        let mut sending = pin!(sending);
        let mut alarm = None;
        poll_fn(|cx| {
            if let Poll::Ready(outcome) = sending.as_mut().poll(cx) {
                return Poll::Ready(outcome.map_err(|mut error| Broken::Hyper {
                    unsent: error.take_message().map(Box::new),
                    error: error.into_error(),
                }));
            }
            while let Some((deadline, due)) = self.due() {
                if !alarm.get_or_insert_with(|| self.alarms.set(deadline, cx)).is_over(deadline, cx) {
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
        let body = self.track.as_deref().map_or(Stage::Done, Track::stage);
        let moved = self.track.as_deref().map_or(self.start, Track::moved);
        let at = |from: Instant, time: Option<Duration>, kind| time.map(|time| (from + time, Due::Fail(kind)));
        let step = match body {
            Stage::Done | Stage::Broken => at(moved, self.timeouts.first_byte, SendErrorKind::FirstByteTimeout),
            Stage::Callers => at(moved, self.timeouts.idle, SendErrorKind::CallerIdle),
            Stage::Ours => at(moved, self.timeouts.idle, SendErrorKind::IdleTimeout),
        };
        let total = at(self.start, self.timeouts.total, SendErrorKind::TotalTimeout);
        let gate = self.gate.iter().find(|gate| !gate.is_open()).map(|_| (self.start + CONTINUE, Due::Open));
        [step, total, gate].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Judges the head and binds the body to its connection.
    fn accept<B>(
        &self,
        response: Response<Incoming>,
        connection: Connection<B>,
        shelf: Rc<Shelf<B>>,
        endpoint: &Endpoint,
    ) -> Result<Response<UpstreamBody<B>>, SendError<B>>
    where
        B: Body<Data = Bytes> + Unpin + 'static,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if switched && (!self.upgrade || matches!(connection, Connection::Two(_))) {
            let detail = "it switches protocols though nobody asked".to_owned();
            return Err(error(endpoint, SendErrorKind::Protocol, detail, None));
        }
        let held = self.gate.as_ref().is_some_and(|gate| !gate.is_open());
        let lease = match connection {
            // A body that was never let go keeps its connection from ending the request.
            Connection::One(sender) if !switched && !held => Some(Lease { sender, shelf }),
            Connection::One(_) | Connection::Two(_) => None,
        };
        let end = self.timeouts.total.map(|total| self.start + total);
        let under_way = self.track.clone().filter(|track| track.stage() != Stage::Done);
        let time = Time::new(self.alarms, self.timeouts.idle, end);
        let version = response.version();
        Ok(response.map(|body| UpstreamBody::new((body, version), lease, under_way, held, time)))
    }

    fn kind_of(&self, error: &hyper::Error) -> SendErrorKind {
        if self.track.as_ref().is_some_and(|track| track.stage() == Stage::Broken) {
            SendErrorKind::RequestBody
        } else if error.is_parse() || error.is_user() {
            SendErrorKind::Protocol
        } else {
            SendErrorKind::Closed
        }
    }
}

/// What a deadline means.
enum Due {
    /// The call fails.
    Fail(SendErrorKind),
    /// The body goes without a `100 Continue`.
    Open,
}

#[cold]
fn error<B>(
    endpoint: &Endpoint,
    kind: SendErrorKind,
    detail: String,
    unsent: Option<Request<Outgoing<B>>>,
) -> SendError<B>
where
    B: Body,
{
    let unsent = unsent.and_then(|request| {
        let (parts, body) = request.into_parts();
        body.into_inner().map(|body| Request::from_parts(parts, body))
    });
    SendError::new(kind, &endpoint.authority, detail, unsent)
}
