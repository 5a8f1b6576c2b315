//! What a listener answers itself, because no handler should see it or none ever can: in the form of the gateway's other
//! problems, counted and logged as they are.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};

use super::Peer;
use crate::problem::{Kind, Problem};
use crate::telemetry::metrics::{Decision, ServiceMetrics};
use crate::telemetry::{RequestId, access, caller_request_id};

/// Tells callers, the log and the metrics of refusals.
#[derive(Debug)]
pub(super) struct Refusals {
    metrics: ServiceMetrics,
    access: bool,
}

impl Refusals {
    /// `access`: whether each leaves a line.
    pub(super) fn new(access: bool) -> Self {
        Self { metrics: ServiceMetrics::new("-", "-"), access }
    }

    /// The answer to this request.
    pub(super) fn answer<B>(&self, problem: Problem, request: &Request<B>, peer: Peer) -> Response<Bytes> {
        let path = request.uri().path();
        let caller_id = caller_request_id(request.headers());
        self.tell(problem, (request.method().as_str(), path), caller_id, peer)
    }

    /// The answer to what could not be read as a request, as bytes of HTTP/1.1 after which the connection ends.
    pub(super) fn last_words(&self, problem: Problem, peer: Peer) -> Vec<u8> {
        let response = self.tell(problem, NO_HEAD, None, peer);
        let mut words = String::new();
        // Writing to a string does not fail.
        let _ = write!(words, "HTTP/1.1 {}\r\nconnection: close\r\n", response.status());
        for (name, value) in response.headers() {
            let _ = write!(words, "{name}: {}\r\n", value.to_str().unwrap_or_default());
        }
        let _ = write!(words, "content-length: {}\r\n\r\n", response.body().len());
        let mut words = words.into_bytes();
        words.extend_from_slice(response.body());
        words
    }

    /// Notes a refusal that goes without words of ours: hyper's bare status for what it cannot read, or a connection that
    /// is just closed.
    pub(super) fn wordless(&self, kind: &'static Kind, peer: Peer) {
        self.note(&RequestId::mint(), kind, NO_HEAD, None, peer, 0);
    }

    fn tell(&self, problem: Problem, head: (&str, &str), caller_id: Option<&str>, peer: Peer) -> Response<Bytes> {
        let (id, kind) = (RequestId::mint(), problem.kind());
        tracing::debug!(request_id = %id, problem = kind.slug, detail = problem.detail(), "request refused");
        let response = problem.into_response::<Bytes>(id.as_str());
        self.note(&id, kind, head, caller_id, peer, response.body().len());
        response
    }

    fn note(
        &self,
        id: &RequestId,
        kind: &'static Kind,
        (method, path): (&str, &str),
        caller_id: Option<&str>,
        peer: Peer,
        bytes: usize,
    ) {
        let decision = if kind.status.is_server_error() { Decision::Error } else { Decision::Refuse };
        let (status, bytes) = (kind.status.as_u16(), bytes as u64);
        self.metrics.answered(decision, status, Duration::ZERO, None);
        self.metrics.bytes(0, bytes);
        if !self.access || !access::wanted() {
            return;
        }
        access::write(&access::Line {
            request_id: id,
            caller_request_id: caller_id,
            user: None,
            service: None,
            operation: None,
            decision: decision.label(),
            problem: Some(kind.slug),
            method,
            path,
            status,
            upstream: None,
            total: Duration::ZERO,
            bytes_in: 0,
            bytes_out: bytes,
            peer: peer.addr.ip(),
            trace_id: None,
            complete: true,
        });
    }
}

/// Method and path where no head was read.
const NO_HEAD: (&str, &str) = ("-", "-");
