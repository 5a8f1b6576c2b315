//! The access line: one event a request at target `access`, when its answer is over.

use std::time::Duration;

use super::RequestId;

/// What a request was and what became of it. Every field is safe to log: the path comes without its query.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    /// The id that the caller has too.
    pub request_id: &'a RequestId,
    /// What the caller calls the request; see [`super::caller_request_id`].
    pub caller_request_id: Option<&'a str>,
    /// The login name, where somebody was identified.
    pub user: Option<&'a str>,
    /// `<namespace>/<service>`, where there is one.
    pub service: Option<&'a str>,
    /// The operation that matched.
    pub operation: Option<&'a str>,
    /// What was decided.
    pub decision: &'static str,
    /// The problem type, where the answer is the gateway's own.
    pub problem: Option<&'static str>,
    /// The request's method.
    pub method: &'a str,
    /// The request's path, without the query, as sent.
    pub path: &'a str,
    /// The answer's status.
    pub status: u16,
    /// From the head on its way to the upstream to the upstream's head.
    pub upstream: Option<Duration>,
    /// From the request's head to the end of the answer.
    pub total: Duration,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the answer's body.
    pub bytes_out: u64,
    /// The address that the connection came from.
    pub peer: std::net::IpAddr,
    /// The trace that the request belongs to.
    pub trace_id: Option<&'a str>,
    /// Whether the answer ended as it should.
    pub complete: bool,
}

/// Whether access lines are wanted at all, so that a caller need not collect them.
#[must_use]
pub fn wanted() -> bool {
    tracing::enabled!(target: "access", tracing::Level::INFO)
}

/// Writes the line. Gateway time is the total less the wait for the upstream's head.
pub fn write(line: &Line<'_>) {
    let gateway = line.total.saturating_sub(line.upstream.unwrap_or_default());
    tracing::info!(
        target: "access",
        request_id = line.request_id.as_str(),
        caller_request_id = line.caller_request_id,
        trace_id = line.trace_id,
        peer = %line.peer,
        user = line.user,
        method = line.method,
        path = line.path,
        service = line.service,
        operation = line.operation,
        decision = line.decision,
        problem = line.problem,
        status = line.status,
        upstream_us = line.upstream.map(micros),
        gateway_us = micros(gateway),
        total_us = micros(line.total),
        bytes_in = line.bytes_in,
        bytes_out = line.bytes_out,
        complete = line.complete,
    );
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
