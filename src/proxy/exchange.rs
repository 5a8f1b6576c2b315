//! One request and what became of it: counted while it goes on, told to metrics and the access line when it is over.

use std::cell::{Cell, RefCell};
use std::net::IpAddr;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::ORIGIN;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use jiff::Timestamp;

use super::authorize::Needed;
use super::body::ProxyBody;
use super::error::{Kind, Problem, X_REQUEST_ID};
use super::gateway::{Gateway, Peer};
use super::record::{Happened, Name, Record, Refused};
use super::route::Route;
use super::target::{Door, RawTarget};
use crate::identity::Identity;
use crate::policy::Levels;
use crate::telemetry::metrics::Decision;
use crate::telemetry::{RequestId, TraceParent, access, caller_request_id};

/// One request, from its head to the end of its answer.
pub struct Exchange {
    /// The process's part.
    pub gateway: Arc<Gateway>,
    /// The id that caller, operator and upstream share.
    pub id: RequestId,
    /// Who is at the other end of the connection.
    pub peer: Peer,
    /// Which listener it came in by.
    pub door: Door,
    /// When its head was there.
    pub start: Instant,
    method: Method,
    /// What it asks for.
    pub target: RawTarget,
    caller_id: Option<Box<str>>,
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    complete: Cell<bool>,
    facts: RefCell<Facts>,
    record: Arc<Record>,
}

/// What is learned on the way.
#[derive(Debug, Default)]
struct Facts {
    route: Option<Arc<Route>>,
    /// The page's that asks, where the service has rules for them.
    origin: Option<HeaderValue>,
    user: Option<Arc<Identity>>,
    revision: u64,
    asked: Option<Asked>,
    operation: Option<Arc<str>>,
    trace: Option<TraceParent>,
    forwarded: bool,
    problem: Option<&'static Kind>,
    status: Option<StatusCode>,
    upstream: Option<Duration>,
    /// When it came: what is noted of the answer is noted then.
    came: Option<Instant>,
    refused: Option<Arc<Refused>>,
    noted: bool,
}

/// What grants were asked, and what they said.
#[derive(Debug)]
struct Asked {
    at: Timestamp,
    need: Levels,
    name: Name,
    permitted: bool,
}

/// Tells what became of the request when it is dropped, which is when the answer is over.
pub struct Ticket(Rc<Exchange>);

impl Exchange {
    /// Begins with a request's head.
    pub fn begin<B>(
        gateway: &Arc<Gateway>,
        record: &Arc<Record>,
        request: &Request<B>,
        peer: Peer,
        door: Door,
    ) -> Ticket {
        // Nothing but the access line tells it.
        let caller_id = Some(request.headers()).filter(|_| gateway.settings().access).and_then(caller_request_id);
        Ticket(Rc::new(Self {
            gateway: gateway.clone(),
            id: RequestId::mint(),
            peer,
            door,
            start: Instant::now(),
            method: request.method().clone(),
            target: RawTarget::of(request.uri()),
            caller_id: caller_id.map(Into::into),
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            complete: Cell::new(false),
            facts: RefCell::default(),
            record: record.clone(),
        }))
    }

    /// The address of the peer.
    pub fn ip(&self) -> IpAddr {
        self.peer.addr
    }

    /// It is for this service.
    pub fn reach(&self, route: &Arc<Route>, headers: &HeaderMap) {
        let mut facts = self.facts.borrow_mut();
        facts.origin = route.cors().and_then(|_| headers.get(ORIGIN).cloned());
        facts.route = Some(route.clone());
    }

    /// It comes from this user.
    pub fn identify(&self, who: &Arc<Identity>) {
        self.facts.borrow_mut().user = Some(who.clone());
    }

    /// Grants at this revision were asked for this, and permitted it or not.
    pub fn ask(&self, needed: &Needed<'_, '_>, permitted: bool, revision: u64, at: Timestamp) {
        let mut facts = self.facts.borrow_mut();
        facts.revision = revision;
        facts.operation = needed.operation.map(|operation| operation.name.clone());
        facts.asked = Some(Asked { at, need: needed.need, name: Name::of(needed.keys), permitted });
    }

    /// It is judged by the state of this revision, whatever was found before.
    pub fn judge_by(&self, revision: u64) {
        let mut facts = self.facts.borrow_mut();
        (facts.revision, facts.asked, facts.operation) = (revision, None, None);
    }

    /// It was permitted, as this operation, and is about to be forwarded.
    pub fn permit(&self, operation: Option<&Arc<str>>, trace: TraceParent) {
        let mut facts = self.facts.borrow_mut();
        facts.operation = operation.cloned();
        facts.trace = Some(trace);
        facts.forwarded = true;
    }

    /// It was permitted, as this operation, and is answered here.
    pub fn permit_answer(&self, operation: Option<&Arc<str>>) {
        let mut facts = self.facts.borrow_mut();
        facts.operation = operation.cloned();
        facts.forwarded = true;
    }

    /// The upstream's head came, or failed to, just now; how long it took since then.
    pub fn upstream(&self, since: Instant) -> Duration {
        let now = Instant::now();
        let took = now.saturating_duration_since(since);
        let mut facts = self.facts.borrow_mut();
        (facts.upstream, facts.came) = (Some(took), Some(now));
        took
    }

    /// It is answered with this status, and with this problem where the answer is ours.
    pub fn answer(&self, status: StatusCode, problem: Option<&'static Kind>) {
        let mut facts = self.facts.borrow_mut();
        facts.status = Some(status);
        facts.problem = problem;
        self.note(&mut facts);
    }

    /// The answer breaks off for this reason.
    pub fn break_off(&self, why: &'static Kind) {
        let mut facts = self.facts.borrow_mut();
        facts.problem = Some(why);
        self.note(&mut facts);
    }

    /// Notes in the record what became of it, before the caller can ask: when its answer begins, not when it is over.
    /// What reached no service and nobody's account is nobody's to ask about.
    fn note(&self, facts: &mut Facts) {
        if std::mem::replace(&mut facts.noted, true) {
            if let Some(why) = facts.problem {
                self.record.break_off(&self.id, why);
            }
            return;
        }
        if facts.user.is_none() && facts.route.is_none() {
            return;
        }
        let (nothing, asked) = (Name::default(), facts.asked.as_ref());
        self.record.note(&Happened {
            id: &self.id,
            at: asked.map_or_else(Timestamp::now, |asked| asked.at),
            user: facts.user.as_ref().map(|who| who.account.id),
            service: facts.route.as_ref().map(|route| route.id()),
            operation: facts.operation.as_ref(),
            method: &self.method,
            path: self.target.path(),
            need: asked.map(|asked| asked.need),
            name: asked.map_or(&nothing, |asked| &asked.name),
            permitted: asked.map(|asked| asked.permitted),
            problem: facts.problem,
            status: facts.status.map_or(499, |status| status.as_u16()),
            revision: facts.revision,
            took: facts.came.unwrap_or_else(Instant::now).saturating_duration_since(self.start),
            upstream: facts.upstream,
            refused: facts.refused.take(),
        });
    }

    /// Counts bytes of the request's body; the sum.
    pub fn count_in(&self, bytes: usize) -> u64 {
        let sum = self.bytes_in.get().saturating_add(bytes as u64);
        self.bytes_in.set(sum);
        sum
    }

    /// Counts bytes of the answer's body.
    pub fn count_out(&self, bytes: usize) {
        self.bytes_out.set(self.bytes_out.get().saturating_add(bytes as u64));
    }

    /// The answer ended as it should.
    pub fn complete(&self) {
        self.complete.set(true);
    }

    /// Lets pages of other origins read the answer where the service's rules say so.
    pub fn admit_origin<B>(&self, response: &mut Response<B>) {
        let facts = self.facts.borrow();
        if let Some(cors) = facts.route.as_ref().and_then(|route| route.cors()) {
            cors.admit(facts.origin.as_ref(), response.headers_mut());
        }
    }

    /// An answer of ours that is no problem: with the request's id.
    pub fn own<B>(&self, mut response: Response<B>) -> Response<B> {
        self.answer(response.status(), None);
        response.headers_mut().insert(X_REQUEST_ID, self.id.header());
        response
    }

    fn finish(&self) {
        let mut facts = self.facts.borrow_mut();
        if !facts.noted {
            self.note(&mut facts);
        }
        let total = self.start.elapsed();
        let decision = facts.decision();
        // Nothing was answered: the caller left before.
        let status = facts.status.map_or(499, |status| status.as_u16());
        let metrics = facts.route.as_ref().map_or(self.gateway.unrouted(), |route| route.metrics());
        metrics.answered(decision, status, total, facts.upstream);
        metrics.bytes(self.bytes_in.get(), self.bytes_out.get());
        if !self.gateway.settings().access || !access::wanted() {
            return;
        }
        access::write(&access::Line {
            request_id: &self.id,
            caller_request_id: self.caller_id.as_deref(),
            user: facts.user.as_ref().map(|who| &*who.account.name),
            service: facts.route.as_ref().map(|route| route.label()),
            operation: facts.operation.as_deref(),
            decision: decision.label(),
            problem: facts.problem.map(|kind| kind.slug),
            method: self.method.as_str(),
            path: self.target.path(),
            status,
            upstream: facts.upstream,
            total,
            bytes_in: self.bytes_in.get(),
            bytes_out: self.bytes_out.get(),
            peer: self.ip(),
            trace_id: facts.trace.as_ref().map(TraceParent::trace_id),
            complete: self.complete.get(),
        });
    }
}

impl Ticket {
    /// The answer to a request that goes no further.
    pub fn refuse(self, mut problem: Problem) -> Response<ProxyBody> {
        let why = problem.take_kept().map(|why| *why);
        self.facts.borrow_mut().refused = Some(Arc::new(Refused::of(problem.detail(), why)));
        self.answer(problem.status(), Some(problem.kind()));
        let mut response = problem.into_response::<ProxyBody>(self.id.as_str());
        self.admit_origin(&mut response);
        response.map(|body| body.with_ticket(self))
    }

    /// A handle for those who count.
    pub fn share(&self) -> Rc<Exchange> {
        self.0.clone()
    }
}

impl Deref for Ticket {
    type Target = Exchange;

    fn deref(&self) -> &Exchange {
        &self.0
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.finish();
    }
}

impl std::fmt::Debug for Ticket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ticket({})", self.id)
    }
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Exchange({})", self.id)
    }
}

impl Facts {
    fn decision(&self) -> Decision {
        if self.forwarded {
            return Decision::Allow;
        }
        match self.status.map(|status| status.as_u16()) {
            Some(401) => Decision::Unauthenticated,
            Some(403 | 404) => Decision::Deny,
            Some(500..) => Decision::Error,
            _ => Decision::Refuse,
        }
    }
}
