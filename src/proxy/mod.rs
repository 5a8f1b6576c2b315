//! The walk of a request, and every step of it.
//!
//! [`walk`] is the whole of it: no layer elsewhere changes a request or an answer. It runs on one thread, reads one
//! immutable [`State`], a newer one after each wait, and takes no lock but its own thread's record.

pub mod alias;
pub mod answer;
pub mod authorize;
pub mod body;
pub mod consent;
pub mod cors;
pub mod error;
pub mod exchange;
pub mod forward;
pub mod gateway;
pub mod headers;
pub mod inject;
pub mod limit;
pub mod names;
mod prefer;
mod progress;
pub mod record;
pub mod route;
pub mod scope;
pub mod streams;
pub mod target;
pub mod tasks;
pub mod template;
pub mod token;
mod tunnelled;
mod upgrade;
pub mod why;

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;
use jiff::Timestamp;

use crate::identity::{AuthError, Identity, check_origin};
use crate::upstream::RequestHead;
use crate::upstream::tunnel::Tunnel;
use crate::wiped::Buffer;
use authorize::{Call, Judge, Permitted};
use body::ProxyBody;
use error::{Kind, Problem};
use exchange::{Exchange, Ticket};
use forward::Outbound;
use inject::Callers;
use names::Rules;
use streams::Standing;
use template::Values;

pub use consent::{FirstConsent, FirstUse, SecretUse, Unnoted};
pub use gateway::{Gateway, Peer, Settings, Shared, State, Worker};
pub use route::{Route, Routes};
pub use target::{Door, Target};

pub use crate::upstream::tunnel::{Ending, TooMany};

/// Takes a request to its answer. Never fails: a problem becomes the answer that tells of it.
pub fn walk(
    gateway: &Arc<Gateway>,
    worker: &Rc<Worker>,
    request: Request<Incoming>,
    peer: Peer,
    door: Door,
) -> impl Future<Output = Response<ProxyBody>> + use<> {
    let mut ticket = Some(Exchange::begin(gateway, &worker.record, &request, peer, door));
    let worker = worker.clone();
    let (head, body) = request.into_parts();
    // Here once, and lent from now on: every future that owned it would have room for it of its own.
    let mut arrived = Arrived { head, body: Some(body) };
    async move {
        let outcome = steps(&worker, &mut arrived, &mut ticket).await;
        match (outcome, ticket) {
            (Ok(answer), Some(ticket)) => answer.map(|body| body.with_ticket(ticket)),
            (Ok(answer), None) => answer,
            (Err(problem), Some(ticket)) => ticket.refuse(problem),
            (Err(problem), None) => problem.into_response(""),
        }
    }
}

/// A request, as it came.
struct Arrived {
    head: Parts,
    body: Option<Incoming>,
}

async fn steps(
    worker: &Rc<Worker>,
    arrived: &mut Arrived,
    ticket: &mut Option<Ticket>,
) -> Result<Response<ProxyBody>, Problem> {
    let exchange = ticket.as_ref().map(Ticket::share).ok_or_else(answered)?;
    let next = admit(worker, &exchange, arrived).await?;
    // Nobody reads them again: what they hold goes before the answer is waited for, their room is the answer's.
    let headers = std::mem::take(&mut arrived.head.headers);
    match next {
        Next::Answer(answer) => Ok(answer),
        Next::Tunnel(tunnel, outbound) => {
            drop(headers);
            // Boxed: other calls should have no room for it.
            Box::pin(tunnelled::send(worker, &tunnel, outbound, ticket)).await
        }
        Next::Forward(outbound) => {
            outbound.head.make_room(headers);
            forward::send(worker, outbound, ticket).await
        }
    }
}

/// What becomes of a request that is not refused.
enum Next {
    Answer(Response<ProxyBody>),
    Tunnel(Arc<Tunnel>, Outbound),
    Forward(Outbound),
}

/// Judges the request, and makes of it the call that goes out.
async fn admit(worker: &Rc<Worker>, exchange: &Rc<Exchange>, arrived: &mut Arrived) -> Result<Next, Problem> {
    let gateway = &exchange.gateway;
    let Parts { method, uri, version, headers, extensions, .. } = &mut arrived.head;
    let (method, uri, version, headers) = (&*method, &*uri, *version, &*headers);
    let body = arrived.body.take().ok_or_else(answered)?;

    let mut state = gateway.state(exchange.start)?;
    exchange.judge_by(state.revision);
    let target = Target::parse(uri, exchange.door)?;
    let early = state.route(&target).cloned();
    if let Some(route) = &early {
        exchange.reach(route, headers);
        if let Some(answer) = route.cors().and_then(|cors| cors.preflight(method, headers)) {
            return Ok(Next::Answer(exchange.own(answer)));
        }
    }
    let mut now = Timestamp::now();
    let public = early.as_ref().and_then(|route| authorize::public(&Call { route, target: &target, method }));
    let (who, route, permit, operation) = if let (Some(permit), Some(route)) = (public, &early) {
        (None, route.clone(), permit, None)
    } else {
        let before = state.revision;
        let who = identify(worker, exchange, &mut state, headers, &mut now).await?;
        guard_origin(exchange, || state.route(&target), &who, (method, headers))?;
        scope::admit_call(&who, exchange.door, &target, method)?;
        charge(exchange, &mut state, &who, &mut now).await?;
        let route = if state.revision == before { early } else { state.route(&target).cloned() };
        let route = route.ok_or_else(|| unknown(&target))?;
        exchange.reach(&route, headers);
        let call = Call { route: &route, target: &target, method };
        let judge = Judge { policy: &state.policy, directory: &state.directory, decisions: Some(&worker.decisions) };
        if let Some(task) = progress::asked_task(exchange, &call, &who) {
            let polled = progress::poll(exchange, &judge, &route, &who, &task, (state.revision, now));
            return polled.map(Next::Answer);
        }
        let Permitted { permit, operation } =
            authorize::check_noting(&judge, &who, &call, now, |needed, permitted| {
                exchange.ask(needed, permitted, state.revision, now);
            })?;
        let operation = operation.map(|operation| operation.name.clone());
        (Some(who), route, permit, operation)
    };
    limit::check(headers, gateway.settings().body_bytes)?;

    let revision = state.revision;
    let tunnel = if route.takes_tunnel() { gateway.tunnels().find(route.id()) } else { None };
    // Whoever opened a tunnel is not whom users and operator let secrets go to: nothing is injected into it.
    let injected_for = who.as_deref().filter(|_| tunnel.is_none());
    let mut values = injected_for.map(|who| Values::of(who, &state.secrets, now));
    let waits = values.as_ref().is_some_and(|values| route.injection().lacks_consent(values));
    if waits && let Some(who) = injected_for {
        // Nobody consents by a call that is refused.
        headers::check_expectation(headers)?;
        // Boxed: few calls are the first.
        Box::pin(first_uses(exchange, &mut state, &route, who, &mut now)).await?;
        values = Some(Values::of(who, &state.secrets, now));
    }
    let own_token = token::own(headers, &route);
    let rules = rules(exchange, &route);
    let mut out = worker.heads.take();
    out.method = method.clone();
    let mut taken = headers::pass_request(headers, &rules, &mut out)?;
    taken.expects_continue &= !body.is_end_stream();
    let upgrade = upgrade(extensions, version, &mut taken.upgrade);
    let added = added(exchange, who.as_deref(), rules.trusted_peer);
    let trace = headers::add_to_request(&taken, uri, &added, &mut out);
    let callers = (taken.cookies.as_slice(), target.query());
    let query = inject(worker, exchange, &route, (callers, &mut out), values.as_ref(), own_token)?;

    let named = taken.named;
    let standing = Standing { gateway: gateway.clone(), who, route, target, method: method.clone(), permit, revision };
    let standing = Arc::new(standing);
    if waits && !standing.holds() {
        return Err(Problem::new(&Kind::PERMISSION_DENIED, "the permission was withdrawn while the call waited"));
    }
    exchange.permit(operation.as_ref(), trace);
    let outbound = Outbound { standing, head: out, query, body, version, named, upgrade };
    Ok(match tunnel {
        Some(tunnel) => Next::Tunnel(tunnel, outbound),
        None => Next::Forward(outbound),
    })
}

/// Who calls; `state` and `now` become those of now where the answer took its time, made the account, or waited for the
/// revision that the caller asks for. Whoever is nobody waits for none.
async fn identify(
    worker: &Worker,
    exchange: &Exchange,
    state: &mut Arc<State>,
    headers: &HeaderMap,
    now: &mut Timestamp,
) -> Result<Arc<Identity>, Problem> {
    let shared = exchange.gateway.shared();
    loop {
        let (first, asked) = (Cell::new(Some(state.directory.clone())), Cell::new(0_u32));
        let directory = || {
            asked.set(asked.get().saturating_add(1));
            first.take().unwrap_or_else(|| shared.state.load().directory.clone())
        };
        let authenticating = shared.authenticator.authenticate(&worker.tokens, directory, headers, exchange.ip(), *now);
        let (who, waited) = noting_pauses(pin!(authenticating)).await;
        let who = who?;
        exchange.identify(&who);
        // Whoever looked twice found another directory, or made it one.
        if waited || asked.get() > 1 {
            *state = exchange.gateway.state(Instant::now())?;
            *now = Timestamp::now();
        }
        if !exchange.gateway.reach(headers, state).await? {
            return Ok(who);
        }
        // By that revision the caller may be somebody else, or nobody.
        *state = exchange.gateway.state(Instant::now())?;
        *now = Timestamp::now();
    }
}

/// Takes the use that the call costs, where its API token counts them; then all is judged by what holds after the wait.
async fn charge(
    exchange: &Exchange,
    state: &mut Arc<State>,
    who: &Identity,
    now: &mut Timestamp,
) -> Result<(), Problem> {
    let gateway = &exchange.gateway;
    if !scope::charge(gateway, who, *now).await? {
        return Ok(());
    }
    *state = gateway.state(Instant::now())?;
    *now = Timestamp::now();
    if gateway.shared().authenticator.still_holds(who, &state.directory, *now) {
        return Ok(());
    }
    Err(AuthError::API_TOKEN.into())
}

/// What the future comes to, and whether it had to be waited for.
async fn noting_pauses<F: Future>(mut future: Pin<&mut F>) -> (F::Output, bool) {
    let mut waited = false;
    let output = poll_fn(|cx| {
        let polled = future.as_mut().poll(cx);
        waited |= polled.is_pending();
        polled
    })
    .await;
    (output, waited)
}

/// A page of another origin calls only where the service's rules let it, with the credentials that a browser adds.
fn guard_origin<'r>(
    exchange: &Exchange,
    route: impl Fn() -> Option<&'r Arc<Route>>,
    who: &Identity,
    (method, headers): (&Method, &HeaderMap),
) -> Result<(), Problem> {
    let own = [exchange.gateway.settings().own_origin(exchange.door)];
    let admits =
        |origin: &str| route().and_then(|route| route.cors()).is_some_and(|cors| cors.admits_credentials(origin));
    Ok(check_origin(who, method, headers, &own, admits)?)
}

/// Notes first uses, one after the other, each followed by a look at the secrets as they are then. Then `state` and `now`
/// are those of after it.
async fn first_uses(
    exchange: &Exchange,
    state: &mut Arc<State>,
    route: &Route,
    who: &Identity,
    now: &mut Timestamp,
) -> Result<(), Problem> {
    let gateway = &exchange.gateway;
    let program = route.injection();
    let named = inject::Named { service: route.label(), api: gateway.settings().api() };
    for _ in 0..=program.uses().len() {
        let values = Values::of(who, &state.secrets, *now);
        let trusted = (route.id(), route.is_trusted());
        if program.consent(&values, trusted, &named, &*gateway.shared().first_use).await? {
            return Ok(());
        }
        *state = gateway.state(Instant::now())?;
        *now = Timestamp::now();
    }
    let detail = "your consent was noted and changed again and again\ntry again";
    Err(Problem::new(&Kind::STORE_UNAVAILABLE, detail).retry_after(1))
}

/// Adds the injection and the forwarded token; the query to send, where it is another than the caller's.
fn inject(
    worker: &Worker,
    exchange: &Exchange,
    route: &Route,
    (callers, out): (Callers<'_>, &mut RequestHead),
    values: Option<&Values<'_>>,
    own_token: Option<HeaderValue>,
) -> Result<Option<Buffer>, Problem> {
    let gateway = &exchange.gateway;
    let program = route.injection();
    let Some(values) = values else { return Ok(program.only_strip(callers, &mut out.lines)) };
    let named = inject::Named { service: route.label(), api: gateway.settings().api() };
    let forwarded = token::forwarded(gateway, &worker.minted, values.identity, route, own_token, values.now)?;
    if let Some((name, value)) = forwarded {
        out.lines.add(&name, &value);
    }
    program.apply(callers, values, &named, &mut worker.buffers.borrow_mut(), &mut out.lines)
}

fn rules<'a>(exchange: &'a Exchange, route: &'a Route) -> Rules<'a> {
    let settings = exchange.gateway.settings();
    Rules {
        injected: route.injection().set_headers(),
        identity_header: settings.identity_header.as_deref(),
        trusted_peer: settings.trusts(exchange.ip()),
        judges_method: !(route.operations().is_empty() && route.public().is_empty()),
    }
}

fn added<'a>(exchange: &'a Exchange, who: Option<&'a Identity>, trusted_peer: bool) -> headers::Added<'a> {
    headers::Added {
        user: who.map(|who| &*who.account.name),
        email: who.and_then(|who| who.account.email.as_deref()),
        request_id: &exchange.id,
        peer: exchange.ip(),
        tls: exchange.peer.tls,
        trusted_peer,
    }
}

/// The upgrade that the caller asks for, and the connection that it is for. HTTP/1.1 only.
fn upgrade(
    extensions: &mut Extensions,
    version: Version,
    protocols: &mut Option<HeaderValue>,
) -> Option<(HeaderValue, OnUpgrade)> {
    let caller = extensions.remove::<OnUpgrade>().filter(|_| version == Version::HTTP_11);
    if caller.is_none() {
        *protocols = None;
    }
    protocols.clone().zip(caller)
}

/// 404, told only to callers who are identified.
fn unknown(target: &Target) -> Problem {
    let name: String = format!("{}/{}", target.namespace(), target.service()).chars().take(130).collect();
    Problem::new(&Kind::UNKNOWN_SERVICE, format!("there is no service `{name}`\ncall `/<namespace>/<service>/…`"))
}

fn answered() -> Problem {
    Problem::new(&Kind::INTERNAL, "the request was answered already")
}
