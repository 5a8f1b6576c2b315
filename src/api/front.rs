//! The way in: calls of services go to the proxy's walk, the rest to the router, once it is known who asks.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Body;
use http::header::{ALLOW, CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use jiff::Timestamp;
use tower::ServiceExt;

use super::answer::CARTA_MIN_REVISION;
use super::error::Refusal;
use super::extract::Asker;
use super::{Api, PATIENCE, router, wait_for};
use crate::identity::{AuthError, Identity, check_origin};
use crate::proxy::body::ProxyBody;
use crate::proxy::error::{Kind, Problem, X_REQUEST_ID};
use crate::proxy::target::Door;
use crate::proxy::{self, Gateway, Peer, Worker, scope};
use crate::store::Revision;
use crate::telemetry::metrics::{Decision, ServiceMetrics};
use crate::telemetry::{RequestId, access, caller_request_id};

/// The API listener's way in: one a thread.
#[derive(Clone)]
pub struct Front {
    api: Arc<Api>,
    gateway: Arc<Gateway>,
    worker: Rc<Worker>,
    router: Router,
    /// The origins of this gateway's own pages.
    own_origins: Rc<[String]>,
}

impl Front {
    /// The way in of one thread.
    #[must_use]
    pub fn new(api: Arc<Api>, gateway: Arc<Gateway>, worker: Rc<Worker>) -> Self {
        let own_origins = [&api.config.listen.public_api].map(|url| url.origin().ascii_serialization()).into();
        Self { router: router::router(api.clone()), api, gateway, worker, own_origins }
    }

    /// Answers the request: never fails, and always says by which id.
    pub async fn answer(&self, request: Request<Incoming>, peer: Peer) -> Response<ProxyBody> {
        if router::is_call(request.uri().path()) {
            return proxy::walk(&self.gateway, &self.worker, request, peer, Door::Api).await;
        }
        let started = Instant::now();
        let id = RequestId::mint();
        let asked = Asked::of(&request, &self.gateway);
        let mut user = None;
        let response = match self.asker(&request, peer).await {
            Ok(identity) => {
                user = identity.as_ref().ok().map(|identity| identity.account.name.clone());
                match self.admit_and_charge(&request, &identity).await {
                    Ok(()) => self.route(request, identity, peer, &id).await,
                    Err(problem) => Whole::of_problem(problem, &id),
                }
            }
            Err(problem) => Whole::of_problem(problem, &id),
        };
        asked.log(&response, &id, user.as_deref(), peer, started);
        response.into_response(&id)
    }

    /// Who asks, once the local snapshot shows the revision that they ask for. Whoever is nobody waits for none, and
    /// learns none.
    async fn asker(
        &self,
        request: &Request<Incoming>,
        peer: Peer,
    ) -> Result<Result<Arc<Identity>, AuthError>, Problem> {
        loop {
            let identity = self.identify(request, peer).await;
            // Asked once more after a wait: by that revision they may be somebody else, or nobody.
            if identity.is_err() || !self.reach(request.headers().get(CARTA_MIN_REVISION)).await? {
                return Ok(identity);
            }
        }
    }

    async fn identify(&self, request: &Request<Incoming>, peer: Peer) -> Result<Arc<Identity>, AuthError> {
        if router::is_public(request) {
            return Err(AuthError::Missing);
        }
        let shared = self.gateway.shared();
        let directory = || shared.state.load().directory.clone();
        let (tokens, headers) = (&self.worker.tokens, request.headers());
        shared.authenticator.authenticate(tokens, directory, headers, peer.addr, Timestamp::now()).await
    }

    /// As [`Self::admit`], and takes the use that the request costs where its API token counts them.
    async fn admit_and_charge(
        &self,
        request: &Request<Incoming>,
        identity: &Result<Arc<Identity>, AuthError>,
    ) -> Result<(), Problem> {
        self.admit(request, identity)?;
        let Ok(identity) = identity else { return Ok(()) };
        if router::is_free(request.method(), request.uri().path())
            || !scope::charge(&self.gateway, identity, Timestamp::now()).await?
        {
            return Ok(());
        }
        self.api.still_decides_for(identity).map_err(|refusal| refusal.0)
    }

    /// What holds for every URL, before a handler is asked.
    fn admit(&self, request: &Request<Incoming>, identity: &Result<Arc<Identity>, AuthError>) -> Result<(), Problem> {
        let path = request.uri().path();
        let Ok(identity) = identity else { return Ok(()) };
        let own: Vec<&str> = self.own_origins.iter().map(String::as_str).collect();
        check_origin(identity, request.method(), request.headers(), &own, |_| false)
            .map_err(|error| Refusal::from(error).0)?;
        if identity.audience.is_some() && !router::is_for_services(request.method(), path) {
            let detail = "this token was made for a service to look up its caller\nuse a token of your own";
            return Err(Problem::new(&Kind::TOKEN_SCOPE, detail));
        }
        if !router::is_free(request.method(), path) {
            scope::admit_path(identity, request.method(), path)?;
        }
        if path.starts_with("/-/") {
            return Ok(());
        }
        self.api.readiness.staleness().map_or(Ok(()), Err)
    }

    /// Waits, bounded, until the local snapshot shows the revision; whether that had to be waited for.
    async fn reach(&self, wanted: Option<&HeaderValue>) -> Result<bool, Problem> {
        let Some(wanted) = wanted else { return Ok(false) };
        let number = wanted.to_str().ok().and_then(|text| text.trim().parse().ok());
        let revision = Revision(number.ok_or_else(|| {
            Problem::new(&Kind::INVALID_INPUT, "`Carta-Min-Revision` is no number\nsend what `Carta-Revision` said")
        })?);
        if *self.api.shown.borrow() >= revision {
            return Ok(false);
        }
        if wait_for(&self.api.shown, revision, PATIENCE).await {
            return Ok(true);
        }
        let shown = self.api.shown.borrow().0;
        let detail = format!("this gateway shows revision {shown}, and {} was asked for\ntry again", revision.0);
        Err(Problem::new(&Kind::REVISION_PENDING, detail).retry_after(1))
    }

    async fn route(
        &self,
        request: Request<Incoming>,
        identity: Result<Arc<Identity>, AuthError>,
        peer: Peer,
        id: &RequestId,
    ) -> Whole {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Asker {
            identity,
            peer: peer.addr,
            tls: peer.tls,
            request_id: id.as_str().into(),
        });
        let response = match self.router.clone().oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
        let (mut parts, body) = response.into_parts();
        if let Some(problem) = parts.extensions.remove::<Problem>() {
            let mut whole = Whole::of_problem(problem, id);
            if let Some(allow) = parts.headers.remove(ALLOW) {
                whole.response.headers_mut().insert(ALLOW, allow);
            }
            return whole;
        }
        match body.collect().await {
            Ok(body) => Whole { problem: None, response: Response::from_parts(parts, body.to_bytes()) },
            Err(error) => {
                tracing::error!(request_id = id.as_str(), %error, "an answer could not be made");
                Whole::of_problem(Problem::new(&Kind::INTERNAL, "the gateway failed"), id)
            }
        }
    }
}

/// An answer of the API: always whole, because none is large.
struct Whole {
    problem: Option<&'static str>,
    response: Response<bytes::Bytes>,
}

impl Whole {
    fn of_problem(problem: Problem, id: &RequestId) -> Self {
        Self { problem: Some(problem.kind().slug), response: problem.into_response(id.as_str()) }
    }

    fn into_response(mut self, id: &RequestId) -> Response<ProxyBody> {
        let headers = self.response.headers_mut();
        headers.insert(X_REQUEST_ID, id.header());
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        self.response.map(ProxyBody::from)
    }
}

/// What the access line says of a request, kept while the request itself is used up.
struct Asked<'a> {
    metrics: &'a ServiceMetrics,
    access: bool,
    method: http::Method,
    path: String,
    caller_id: Option<Box<str>>,
    bytes: u64,
}

impl<'a> Asked<'a> {
    fn of(request: &Request<Incoming>, gateway: &'a Gateway) -> Self {
        let bytes = http_body::Body::size_hint(request.body()).exact().unwrap_or(0);
        Self {
            metrics: gateway.unrouted(),
            access: gateway.settings().access,
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            caller_id: caller_request_id(request.headers()).map(Into::into),
            bytes,
        }
    }

    /// Probes leave no line: they come every second and say nothing.
    fn log(&self, answer: &Whole, id: &RequestId, user: Option<&str>, peer: Peer, started: Instant) {
        let (status, total) = (answer.response.status(), started.elapsed());
        if self.path.starts_with("/-/") {
            return;
        }
        self.metrics.answered(decision(status), status.as_u16(), total, None);
        if !self.access || !access::wanted() {
            return;
        }
        access::write(&access::Line {
            request_id: id,
            caller_request_id: self.caller_id.as_deref(),
            user,
            service: None,
            operation: None,
            decision: decision(status).label(),
            problem: answer.problem,
            method: self.method.as_str(),
            path: &self.path,
            status: status.as_u16(),
            upstream: None,
            total,
            bytes_in: self.bytes,
            bytes_out: answer.response.body().len() as u64,
            peer: peer.addr,
            trace_id: None,
            complete: true,
        });
    }
}

fn decision(status: StatusCode) -> Decision {
    match status.as_u16() {
        401 => Decision::Unauthenticated,
        403 => Decision::Deny,
        500.. => Decision::Error,
        400.. => Decision::Refuse,
        _ => Decision::Allow,
    }
}
