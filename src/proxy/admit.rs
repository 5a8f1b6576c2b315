//! Judges a request, and makes of it the call that goes out.
//!
//! What is known at once is judged at once, without a future. Where something has to be waited for, all is judged again
//! afterwards, by what holds then: no word from before a wait counts after it.

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

use super::authorize::{self, Call, Judge, Permitted};
use super::body::ProxyBody;
use super::error::{Kind, Problem};
use super::exchange::Exchange;
use super::forward::Outbound;
use super::gateway::{State, Worker};
use super::headers;
use super::inject::{self, Callers};
use super::names::Rules;
use super::route::Route;
use super::streams::Standing;
use super::target::Target;
use super::template::Values;
use super::{limit, progress, scope, token};
use crate::identity::{AuthError, Identity, check_origin};
use crate::upstream::RequestHead;
use crate::upstream::tunnel::Tunnel;
use crate::wiped::Buffer;

/// How often a request may wait before it is judged: each wait is for something else, unless somebody changes the service
/// again and again.
const MOST_WAITS: u32 = 8;

/// What becomes of a request that is not refused. Boxed: it goes from hand to hand, and into a future.
pub(super) enum Next {
    Answer(Box<Response<ProxyBody>>),
    Tunnel(Arc<Tunnel>, Box<Outbound>),
    Forward(Box<Outbound>),
    /// Something has to be waited for.
    Later(Box<Later>),
}

/// A request about which something has to be waited for.
pub(super) struct Later {
    arrived: Arrived,
    known: Known,
    what: Wait,
}

/// A request, as it came.
struct Arrived {
    head: Parts,
    /// Until the call has it.
    body: Option<Incoming>,
}

/// What a request is judged by.
struct Known {
    state: Arc<State>,
    now: Timestamp,
    /// Who calls, once that was waited for.
    who: Option<Arc<Identity>>,
    /// Whether the use that the call costs was taken.
    charged: bool,
    waits: u32,
}

/// What comes next.
enum Step {
    Next(Next),
    Wait(Wait),
}

/// What has to be waited for.
enum Wait {
    /// Who calls.
    Identity,
    /// A use of the caller's API token.
    Charge(Arc<Identity>),
    /// The note of the caller's consent, which is the first use of the service.
    Consent(Arc<Identity>, Arc<Route>),
}

/// Judges the request, as far as that can be done at once.
pub(super) fn admit(worker: &Worker, exchange: &Rc<Exchange>, request: Request<Incoming>) -> Result<Next, Problem> {
    let (head, body) = request.into_parts();
    let mut arrived = Arrived { head, body: Some(body) };
    let state = exchange.gateway.state(Instant::now())?;
    let mut known = Known { state, now: Timestamp::now(), who: None, charged: false, waits: 0 };
    Ok(match judge(worker, exchange, &mut arrived, &mut known)? {
        Step::Next(next) => next,
        // Boxed: few calls wait.
        Step::Wait(what) => Next::Later(Box::new(Later { arrived, known, what })),
    })
}

impl Later {
    /// Judges the request, waiting for what has to be waited for. Never comes to [`Next::Later`].
    pub(super) async fn admit(&mut self, worker: &Worker, exchange: &Rc<Exchange>) -> Result<Next, Problem> {
        loop {
            wait(worker, exchange, &self.arrived.head.headers, &mut self.known, &self.what).await?;
            match judge(worker, exchange, &mut self.arrived, &mut self.known)? {
                Step::Next(next) => return Ok(next),
                Step::Wait(what) => self.what = what,
            }
        }
    }
}

/// Judges the request by what is known.
fn judge(worker: &Worker, exchange: &Rc<Exchange>, arrived: &mut Arrived, known: &mut Known) -> Result<Step, Problem> {
    let gateway = &exchange.gateway;
    let Parts { method, uri, version, headers, extensions, .. } = &mut arrived.head;
    let (method, uri, version, headers) = (&*method, &*uri, *version, &*headers);

    exchange.judge_by(known.state.revision);
    let target = Target::split(&exchange.target, exchange.door)?;
    let state = known.state.clone();
    let found = state.route(&target);
    if let Some(route) = found {
        exchange.reach(route, headers);
        if let Some(answer) = route.cors().and_then(|cors| cors.preflight(method, headers)) {
            return Ok(Step::Next(Next::Answer(Box::new(exchange.own(answer)))));
        }
    }
    let public = found.and_then(|route| authorize::public(&Call { route, target: &target, method }));
    let (who, route, permit, operation) = if let (Some(permit), Some(route)) = (public, found) {
        (None, route, permit, None)
    } else {
        let Some(who) = identify(worker, exchange, headers, known) else { return Ok(Step::Wait(Wait::Identity)) };
        let who = who?;
        guard_origin(exchange, found, &who, (method, headers))?;
        scope::admit_call(&who, exchange.door, &target, method)?;
        if !known.charged {
            if scope::must_wait(&who) {
                return Ok(Step::Wait(Wait::Charge(who)));
            }
            scope::note(gateway, &who, known.now);
            known.charged = true;
        }
        let route = found.ok_or_else(|| unknown(&target))?;
        let call = Call { route, target: &target, method };
        let judge = Judge { policy: &state.policy, directory: &state.directory, decisions: Some(&worker.decisions) };
        if let Some(task) = progress::asked_task(exchange, &call, &who) {
            let polled = progress::poll(exchange, &judge, route, &who, &task, (state.revision, known.now));
            return polled.map(|answer| Step::Next(Next::Answer(Box::new(answer))));
        }
        let Permitted { permit, operation } =
            authorize::check_noting(&judge, &who, &call, known.now, |needed, permitted| {
                exchange.ask(needed, permitted, state.revision, known.now);
            })?;
        (Some(who), route, permit, operation.map(|operation| operation.name.clone()))
    };
    limit::check(headers, gateway.settings().body_bytes)?;

    let tunnel = if route.takes_tunnel() { gateway.tunnels().find(route.id()) } else { None };
    // Whoever opened a tunnel is not whom users and operator let secrets go to: nothing is injected into it.
    let injected_for = who.as_ref().filter(|_| tunnel.is_none());
    let values = injected_for.map(|who| Values::of(who, &state.secrets, known.now));
    if let (Some(who), Some(values)) = (injected_for, &values)
        && route.injection().lacks_consent(values)
    {
        // Nobody consents by a call that is refused.
        headers::check_expectation(headers)?;
        return Ok(Step::Wait(Wait::Consent(who.clone(), route.clone())));
    }
    let own_token = token::own(headers, route);
    let rules = rules(exchange, route);
    let mut out = worker.heads.take();
    out.method = method.clone();
    let body = arrived.body.take();
    let mut taken = headers::pass_request(headers, &rules, &mut out)?;
    taken.expects_continue &= body.as_ref().is_some_and(|body| !body.is_end_stream());
    let upgrade = upgrade(extensions, version, &mut taken.upgrade);
    let added = added(exchange, who.as_deref(), rules.trusted_peer);
    let trace = headers::add_to_request(&taken, uri, &added, &mut out);
    let callers = (taken.cookies.as_slice(), target.query());
    let query = inject(worker, exchange, route, (callers, &mut out), values.as_ref(), own_token)?;

    let named = std::mem::take(&mut taken.named);
    drop(taken);
    exchange.permit(operation.as_ref(), trace);
    let standing = Arc::new(Standing {
        gateway: gateway.clone(),
        route: route.clone(),
        who,
        target,
        method: method.clone(),
        permit,
        revision: state.revision,
    });
    // Nobody reads them again: what they hold goes now, their room is the answer's.
    out.make_room(std::mem::take(&mut arrived.head.headers));
    let outbound = Box::new(Outbound { standing, head: out, query, body, version, named, upgrade });
    Ok(Step::Next(match tunnel {
        Some(tunnel) => Next::Tunnel(tunnel, outbound),
        None => Next::Forward(outbound),
    }))
}

/// Who calls; none where that has to be waited for: the token is not known yet, the account is to be made, or the caller
/// asks for a revision.
fn identify(
    worker: &Worker,
    exchange: &Exchange,
    headers: &HeaderMap,
    known: &Known,
) -> Option<Result<Arc<Identity>, Problem>> {
    if let Some(who) = &known.who {
        return Some(Ok(who.clone()));
    }
    if exchange.gateway.asks_revision(headers) {
        return None;
    }
    let authenticator = &exchange.gateway.shared().authenticator;
    let who = authenticator.known(&worker.tokens, &known.state.directory, headers, exchange.ip(), known.now)?;
    Some(who.inspect(|who| exchange.identify(who)).map_err(Problem::from))
}

/// Waits, and sees to it that all is judged by what holds afterwards.
async fn wait(
    worker: &Worker,
    exchange: &Exchange,
    headers: &HeaderMap,
    known: &mut Known,
    what: &Wait,
) -> Result<(), Problem> {
    known.waits += 1;
    if known.waits > MOST_WAITS {
        let detail = "the service was changed again and again while the call waited\ntry again";
        return Err(Problem::new(&Kind::STORE_UNAVAILABLE, detail).retry_after(1));
    }
    let gateway = &exchange.gateway;
    let (who, gone) = match what {
        Wait::Identity => {
            let (who, renewed) = identified(worker, exchange, headers, known).await?;
            if renewed && !gateway.shared().authenticator.still_holds(&who, &known.state.directory, known.now) {
                return Err(AuthError::Invalid("what proves who you are ended while the call waited").into());
            }
            known.who = Some(who);
            return Ok(());
        }
        Wait::Charge(who) => {
            scope::charge(gateway, who, known.now).await?;
            known.charged = true;
            (who, AuthError::API_TOKEN.into())
        }
        Wait::Consent(who, route) => {
            first_uses(exchange, known, route, who).await?;
            let detail = "the permission was withdrawn while the call waited";
            (who, Problem::new(&Kind::PERMISSION_DENIED, detail))
        }
    };
    known.renew(exchange)?;
    if !gateway.shared().authenticator.still_holds(who, &known.state.directory, known.now) {
        return Err(gone);
    }
    known.who = Some(who.clone());
    Ok(())
}

impl Known {
    /// What is known now.
    fn renew(&mut self, exchange: &Exchange) -> Result<(), Problem> {
        self.state = exchange.gateway.state(Instant::now())?;
        self.now = Timestamp::now();
        Ok(())
    }
}

/// Who calls, and whether what is known became that of now: where the answer took its time, made the account, or waited for
/// the revision that the caller asks for. Whoever is nobody waits for none.
async fn identified(
    worker: &Worker,
    exchange: &Exchange,
    headers: &HeaderMap,
    known: &mut Known,
) -> Result<(Arc<Identity>, bool), Problem> {
    let shared = exchange.gateway.shared();
    let mut renewed = false;
    loop {
        let (first, asked) = (Cell::new(Some(known.state.directory.clone())), Cell::new(0_u32));
        let directory = || {
            asked.set(asked.get().saturating_add(1));
            first.take().unwrap_or_else(|| shared.state.load().directory.clone())
        };
        let (peer, now) = (exchange.ip(), known.now);
        let authenticating = shared.authenticator.authenticate(&worker.tokens, directory, headers, peer, now);
        let (who, waited) = noting_pauses(pin!(authenticating)).await;
        let who = who?;
        exchange.identify(&who);
        // Whoever looked twice found another directory, or made it one.
        if waited || asked.get() > 1 {
            known.renew(exchange)?;
            renewed = true;
        }
        if !exchange.gateway.reach(headers, &known.state).await? {
            return Ok((who, renewed));
        }
        // By that revision the caller may be somebody else, or nobody.
        known.renew(exchange)?;
        renewed = true;
    }
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
fn guard_origin(
    exchange: &Exchange,
    route: Option<&Arc<Route>>,
    who: &Identity,
    (method, headers): (&Method, &HeaderMap),
) -> Result<(), Problem> {
    let own = [exchange.gateway.settings().own_origin(exchange.door)];
    let admits =
        |origin: &str| route.and_then(|route| route.cors()).is_some_and(|cors| cors.admits_credentials(origin));
    Ok(check_origin(who, method, headers, &own, admits)?)
}

/// Notes first uses, one after the other, each followed by a look at the secrets as they are then.
async fn first_uses(exchange: &Exchange, known: &mut Known, route: &Route, who: &Identity) -> Result<(), Problem> {
    let gateway = &exchange.gateway;
    let program = route.injection();
    let named = inject::Named { service: route.label(), api: gateway.settings().api() };
    for _ in 0..=program.uses().len() {
        let values = Values::of(who, &known.state.secrets, known.now);
        let trusted = (route.id(), route.is_trusted());
        if program.consent(&values, trusted, &named, &*gateway.shared().first_use).await? {
            return Ok(());
        }
        known.renew(exchange)?;
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
