//! To the upstream and back: the request as it goes out, the answer as it comes in, and what it means when none comes.

use std::rc::Rc;
use std::sync::Arc;

use http::header::LOCATION;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use tokio::time::Instant;
use url::Url;

use super::answer::{self, Places};
use super::body::{Passage, Passed, ProxyBody, RequestBody};
use super::error::{Kind, Problem};
use super::exchange::{Exchange, Ticket};
use super::gateway::Worker;
use super::headers::Named;
use super::limit;
use super::route::{Fault, Route};
use super::streams::{Standing, Watch, watch_over};
use super::target::Target;
use super::upgrade;
use crate::upstream::{Endpoint, RequestHead, SendErrorKind, UpstreamBody};
use crate::wiped::Buffer;

/// An answer that says to be no longer than this, in bytes, is watched only when it is not soon over all the same.
const BRIEF: u64 = 64 * 1024;

/// How many endpoints are tried for a call of which nothing reached any.
const ATTEMPTS: usize = 3;

/// A call that was permitted, ready to go. The permit is in `standing`: nothing is forwarded without one.
#[derive(Debug)]
pub struct Outbound {
    /// Who may do this, and by what permit.
    pub standing: Arc<Standing>,
    /// Method and header lines as they go to the upstream; the target is the endpoint's to say.
    pub head: Box<RequestHead>,
    /// The query to send instead of the caller's, where the injection made one.
    pub query: Option<Buffer>,
    /// The caller's, until it is sent.
    pub body: Option<Incoming>,
    /// The version of HTTP that it came by.
    pub version: Version,
    /// What `Connection` listed.
    pub named: Named,
    /// The protocols that the caller asks to change to, and the caller's connection.
    pub upgrade: Option<(HeaderValue, OnUpgrade)>,
}

/// Sends the call and returns the upstream's answer as the caller gets it. Lent: a future that owned it would have room for
/// it twice.
///
/// # Errors
/// 502, 503 or 504, each cause its own problem; 408, 413 or 400 where it was the caller's body.
pub async fn send(
    worker: &Rc<Worker>,
    outbound: &mut Outbound,
    ticket: &mut Option<Ticket>,
) -> Result<Response<ProxyBody>, Problem> {
    let exchange = match ticket {
        Some(ticket) => ticket.share(),
        None => return Err(Problem::new(&Kind::INTERNAL, "the request was answered already")),
    };
    let route = &outbound.standing.route;
    let upstream = route.upstream().map_err(|fault| cannot_be_called(route, fault))?;
    let streamed = outbound.body.take().filter(|body| !body.is_end_stream());
    let lengthy = streamed.is_some();
    let (mut body, mut passage) = (RequestBody::none(), None);
    if let Some(streamed) = streamed {
        let named = outbound.named.clone();
        let of = Passage { exchange: exchange.clone(), route: route.clone(), named, too_large: false.into() };
        let of = Rc::new(of);
        body = RequestBody::new(streamed, outbound.version, of.clone());
        passage = Some(of);
    }

    let start = Instant::now();
    let attempts = upstream.endpoints().len().min(ATTEMPTS);
    for attempt in 1.. {
        let endpoint = worker
            .pools
            .pick(upstream)
            .ok_or_else(|| Problem::new(&Kind::UPSTREAM_UNREACHABLE, "the service has no endpoint"))?;
        address(&mut outbound.head, endpoint, &outbound.standing.target, outbound.query.as_ref())?;
        let now = if attempt == 1 { start } else { Instant::now() };
        let sending = worker.pools.send(upstream, endpoint, &outbound.head, body, now);
        let outcome =
            if lengthy { Box::pin(while_permitted(&outbound.standing, sending)).await? } else { sending.await };
        let took = exchange.upstream(start.into_std());
        match outcome {
            // Nobody watched over a call without a body, and a brief answer is not watched over either.
            Ok(_) if !outbound.standing.outlasted(took) => return Err(withdrawn()),
            Ok(response) => {
                let upgrade = outbound.upgrade.take();
                return receive(worker, response, endpoint, exchange, &outbound.standing, upgrade, ticket);
            }
            Err(error) => {
                let kind = error.kind();
                let again = attempt < attempts && error.is_unsent();
                let caused = if kind.is_callers() { "the caller" } else { "the service" };
                tracing::info!(request_id = %exchange.id, service = route.label(), %error, again, caused, "no answer");
                match error.into_unsent() {
                    Some(unsent) if again => body = unsent,
                    _ => return Err(problem(kind, &exchange, route, passage.as_deref())),
                }
            }
        }
    }
    Err(Problem::new(&Kind::INTERNAL, "no endpoint was tried"))
}

#[cold]
fn cannot_be_called(route: &Route, fault: &Fault) -> Problem {
    tracing::info!(service = route.label(), fault = &*fault.text, "the service cannot be called as its table stands");
    if fault.refused {
        let detail = format!("the service's address is not allowed as a target: `{}`", route.label());
        return Problem::new(&Kind::TARGET_REFUSED, detail);
    }
    let detail = format!("`{}` cannot be called as it is configured\ntell its owner", route.label());
    Problem::new(&Kind::SERVICE_MISCONFIGURED, detail)
}

/// An upload of any length ends when its permit does, as an answer of any length.
pub(super) async fn while_permitted<T>(standing: &Standing, sending: impl Future<Output = T>) -> Result<T, Problem> {
    tokio::select! {
        biased;
        outcome = sending => Ok(outcome),
        () = standing.ends() => Err(withdrawn()),
    }
}

pub(super) fn withdrawn() -> Problem {
    Problem::new(&Kind::PERMISSION_DENIED, "the permission was withdrawn while the call went on")
}

/// The upstream's answer, as the caller gets it.
fn receive(
    worker: &Rc<Worker>,
    response: Response<UpstreamBody<RequestBody>>,
    endpoint: &Endpoint,
    exchange: Rc<Exchange>,
    standing: &Arc<Standing>,
    upgrade: Option<(HeaderValue, OnUpgrade)>,
    ticket: &mut Option<Ticket>,
) -> Result<Response<ProxyBody>, Problem> {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switches {
        let asked = upgrade.ok_or_else(|| {
            Problem::new(&Kind::UPSTREAM_PROTOCOL, "the service switches protocols though nobody asked")
        })?;
        let taken = ticket.take().ok_or_else(|| Problem::new(&Kind::INTERNAL, "the request was answered already"))?;
        return upgrade::open(worker, response, asked, standing.clone(), taken).map_err(|(taken, problem)| {
            *ticket = Some(taken);
            problem
        });
    }
    let (mut head, mut body) = response.into_parts();
    let named = pass(&mut head.headers, &exchange, endpoint, standing);
    // What else hyper attaches to a response is about its connection.
    let reason = head.extensions.remove::<hyper::ext::ReasonPhrase>();
    if let Some(upload) = body.upload() {
        watch_over(upload, standing.clone());
    }
    let is_brief = body.size_hint().exact().is_some_and(|length| length <= BRIEF);
    let passed_on = match is_brief.then(|| body.take_whole()).flatten() {
        Some(whole) => ProxyBody::whole(whole),
        None => {
            let watch = (!body.is_end_stream()).then(|| Watch::new(standing.clone()));
            let brief = is_brief.then_some(exchange.start);
            ProxyBody::passed(Passed { body, door: exchange.door, named, watch, unwatched: 0, brief })
        }
    };
    exchange.answer(head.status, None);
    head.version = Version::HTTP_11;
    head.extensions.clear();
    if let Some(reason) = reason {
        head.extensions.insert(reason);
    }
    let mut answer = Response::from_parts(head, passed_on);
    exchange.admit_origin(&mut answer);
    Ok(answer)
}

/// The headers of an answer, as the caller gets them.
fn pass(headers: &mut HeaderMap, exchange: &Exchange, endpoint: &Endpoint, standing: &Standing) -> Named {
    let named = answer::pass_headers(headers, exchange.door, &exchange.id);
    if headers.contains_key(LOCATION)
        && let Ok(asked) = Url::parse(&format!(
            "{}://{}{}{}",
            endpoint.scheme(),
            endpoint.authority(),
            endpoint.path(),
            standing.target.remainder()
        ))
    {
        let outer = exchange.gateway.settings().public_path(exchange.door);
        let prefix = [outer, standing.target.prefix()].concat();
        let places = Places { asked: &asked, bases: standing.route.bases(), prefix: &prefix };
        answer::rewrite_location(headers, &places);
    }
    named
}

/// The path of the base URL, what follows the service's name byte for byte, and the query.
fn address(
    head: &mut RequestHead,
    endpoint: &Endpoint,
    target: &Target,
    query: Option<&Buffer>,
) -> Result<(), Problem> {
    let (base, rest) = (endpoint.path(), target.remainder());
    let root = if base.is_empty() && rest.is_empty() { "/" } else { "" };
    let query = query.map(Buffer::bytes).or(target.query().map(str::as_bytes));
    let mark = if query.is_some() { "?" } else { "" };
    let pieces = [base.as_bytes(), rest.as_bytes(), root.as_bytes(), mark.as_bytes(), query.unwrap_or_default()];
    if head.aim(&pieces) {
        return Ok(());
    }
    Err(Problem::new(&Kind::URI_TOO_LONG, "the request target is too long for the service"))
}

/// Whose fault it is that there is no answer, and which.
fn problem(kind: SendErrorKind, exchange: &Exchange, route: &Route, passage: Option<&Passage>) -> Problem {
    let told = |problem: &'static Kind| Problem::new(problem, format!("{}: `{}`", kind.for_caller(), route.label()));
    match kind {
        SendErrorKind::Refused(_) => told(&Kind::TARGET_REFUSED),
        SendErrorKind::Resolve => told(&Kind::UPSTREAM_UNRESOLVED),
        SendErrorKind::Connect => told(&Kind::UPSTREAM_UNREACHABLE),
        SendErrorKind::ConnectTimeout => told(&Kind::UPSTREAM_CONNECT_TIMEOUT),
        SendErrorKind::Tls => told(&Kind::UPSTREAM_TLS),
        SendErrorKind::Closed => told(&Kind::UPSTREAM_CLOSED),
        SendErrorKind::Protocol | SendErrorKind::NoUpgrade => told(&Kind::UPSTREAM_PROTOCOL),
        SendErrorKind::FirstByteTimeout => told(&Kind::UPSTREAM_TIMEOUT),
        SendErrorKind::IdleTimeout => told(&Kind::UPSTREAM_IDLE),
        SendErrorKind::TotalTimeout => told(&Kind::UPSTREAM_TOTAL),
        SendErrorKind::CallerIdle => told(&Kind::REQUEST_TIMEOUT),
        SendErrorKind::RequestBody if passage.is_some_and(|passage| passage.too_large.get()) => {
            limit::too_large(exchange.gateway.settings().body_bytes.unwrap_or_default())
        }
        SendErrorKind::RequestBody => told(&Kind::MALFORMED_REQUEST),
    }
}
