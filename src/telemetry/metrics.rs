//! Prometheus metrics. Labels are bounded: services that exist, decisions and status classes that are listed here.

use std::collections::BTreeSet;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

static PROMETHEUS: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// Seconds: from a tenth of a millisecond, where a cached answer is, to a minute.
const DURATIONS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0];

/// What became of a request, as the label `decision`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It was permitted and forwarded.
    Allow,
    /// The user is known and not permitted.
    Deny,
    /// Nobody was identified.
    Unauthenticated,
    /// It was malformed, or lacked what its service needs.
    Refuse,
    /// The gateway, or what it depends on, could not decide.
    Error,
}

/// Every decision, in the order of the handles.
const DECISIONS: [Decision; 5] =
    [Decision::Allow, Decision::Deny, Decision::Unauthenticated, Decision::Refuse, Decision::Error];

/// The most registered services that have series of their own.
pub const MOST_REGISTERED: usize = 1000;

/// The status classes, in the order of the handles.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

impl Decision {
    /// The label's value.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Unauthenticated => "unauthenticated",
            Self::Refuse => "refuse",
            Self::Error => "error",
        }
    }

    const fn place(self) -> usize {
        match self {
            Self::Allow => 0,
            Self::Deny => 1,
            Self::Unauthenticated => 2,
            Self::Refuse => 3,
            Self::Error => 4,
        }
    }
}

/// The handles of one service, looked up once, so that a request costs additions only.
#[derive(Clone)]
pub struct ServiceMetrics {
    requests: [[Counter; CLASSES.len()]; DECISIONS.len()],
    duration: [Histogram; DECISIONS.len()],
    upstream: Histogram,
    bytes_in: Counter,
    bytes_out: Counter,
}

impl std::fmt::Debug for ServiceMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ServiceMetrics")
    }
}

impl ServiceMetrics {
    /// The handles of a service, `-` and `-` for requests that reached none.
    #[must_use]
    pub fn new(namespace: &str, service: &str) -> Self {
        let labels = [("namespace", namespace.to_owned()), ("service", service.to_owned())];
        let with = |name: &'static str, value: &'static str| {
            let mut all = labels.to_vec();
            all.push((name, value.to_owned()));
            all
        };
        Self {
            requests: DECISIONS.map(|decision| {
                CLASSES.map(|class| {
                    let mut all = with("decision", decision.label());
                    all.push(("status", class.to_owned()));
                    counter!("carta_gateway_requests_total", &all)
                })
            }),
            duration: DECISIONS.map(|decision| {
                histogram!("carta_gateway_request_duration_seconds", &with("decision", decision.label()))
            }),
            upstream: histogram!("carta_gateway_upstream_duration_seconds", &labels),
            bytes_in: counter!("carta_gateway_bytes_total", &with("direction", "in")),
            bytes_out: counter!("carta_gateway_bytes_total", &with("direction", "out")),
        }
    }

    /// The handles of a service that somebody registered. Names can be made up without end, so after
    /// [`MOST_REGISTERED`] of them in the life of the process a new one is counted under `-` and `-`.
    #[must_use]
    pub fn of_registered(namespace: &str, service: &str) -> Self {
        static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        let name = format!("{namespace}/{service}");
        let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
        let known = seen.contains(&name) || (seen.len() < MOST_REGISTERED && seen.insert(name));
        if known { Self::new(namespace, service) } else { Self::new("-", "-") }
    }

    /// Counts an answered request: at its end, with all that it took.
    pub fn answered(&self, decision: Decision, status: u16, total: Duration, upstream: Option<Duration>) {
        let class = usize::from((status / 100).clamp(1, 5) - 1);
        if let Some(counter) = self.requests.get(decision.place()).and_then(|row| row.get(class)) {
            counter.increment(1);
        }
        if let Some(histogram) = self.duration.get(decision.place()) {
            histogram.record(total.as_secs_f64());
        }
        if let Some(upstream) = upstream {
            self.upstream.record(upstream.as_secs_f64());
        }
    }

    /// Counts the bytes of a request's bodies.
    pub fn bytes(&self, inbound: u64, outbound: u64) {
        self.bytes_in.increment(inbound);
        self.bytes_out.increment(outbound);
    }
}

/// Counts how a cache does.
#[derive(Clone)]
pub struct CacheMetrics {
    hits: Counter,
    misses: Counter,
}

impl CacheMetrics {
    /// The handles of the cache that is called `cache`: `token`, `decision`.
    #[must_use]
    pub fn new(cache: &'static str) -> Self {
        Self {
            hits: counter!("carta_gateway_cache_total", "cache" => cache, "result" => "hit"),
            misses: counter!("carta_gateway_cache_total", "cache" => cache, "result" => "miss"),
        }
    }

    /// Counts one look-up.
    pub fn count(&self, hit: bool) {
        if hit { self.hits.increment(1) } else { self.misses.increment(1) }
    }
}

impl std::fmt::Debug for CacheMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CacheMetrics")
    }
}

/// How the upstream connections do, over all services.
#[derive(Clone)]
pub struct PoolMetrics {
    /// Connections that are open.
    pub open: Gauge,
    /// Connections that wait in a pool.
    pub idle: Gauge,
    /// Requests that went over a kept connection.
    pub reused: Counter,
    /// Connections made.
    pub connected: Counter,
    /// Connections that could not be made.
    pub failed: Counter,
}

impl PoolMetrics {
    /// The handles.
    #[must_use]
    pub fn new() -> Self {
        Self {
            open: gauge!("carta_gateway_upstream_connections", "state" => "open"),
            idle: gauge!("carta_gateway_upstream_connections", "state" => "idle"),
            reused: counter!("carta_gateway_upstream_connects_total", "result" => "reused"),
            connected: counter!("carta_gateway_upstream_connects_total", "result" => "connected"),
            failed: counter!("carta_gateway_upstream_connects_total", "result" => "failed"),
        }
    }
}

impl Default for PoolMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for PoolMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PoolMetrics")
    }
}

/// How the service tunnels do, over all services.
#[derive(Clone)]
pub struct TunnelMetrics {
    /// Tunnels that are open.
    pub open: Gauge,
    /// Calls that wait for their turn.
    pub waiting: Gauge,
    /// Messages of clients that answered nothing.
    pub ignored: Counter,
    calls: [Counter; TUNNELLED.len()],
}

/// What becomes of a call by a tunnel.
const TUNNELLED: [&str; 5] = ["answered", "busy", "closed", "timeout", "unsent"];

impl TunnelMetrics {
    /// The handles.
    #[must_use]
    pub fn new() -> Self {
        Self {
            open: gauge!("carta_gateway_tunnels"),
            waiting: gauge!("carta_gateway_tunnel_waiting"),
            ignored: counter!("carta_gateway_tunnel_ignored_total"),
            calls: TUNNELLED.map(|result| counter!("carta_gateway_tunnel_calls_total", "result" => result)),
        }
    }

    /// Counts a call that ended so: `answered`, `busy`, `closed`, `timeout` or `unsent`.
    pub fn ended(&self, result: &str) {
        let place = TUNNELLED.iter().position(|known| *known == result);
        if let Some(counter) = place.and_then(|place| self.calls.get(place)) {
            counter.increment(1);
        }
    }
}

impl Default for TunnelMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for TunnelMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TunnelMetrics")
    }
}

/// Makes this process's recorder; handles made before are without effect. A second call changes nothing.
///
/// # Errors
/// The recorder's words where another one is installed already.
pub fn install() -> Result<(), String> {
    let mut fault = None;
    PROMETHEUS.get_or_init(|| {
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_owned()), &DURATIONS)
            .and_then(PrometheusBuilder::install_recorder);
        recorder.inspect_err(|error| fault = Some(error.to_string())).ok()
    });
    describe();
    gauge!("carta_gateway_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    fault.map_or(Ok(()), Err)
}

/// Folds what histograms collected since: to be called every few seconds, or memory grows with the requests.
pub fn upkeep() {
    if let Some(Some(handle)) = PROMETHEUS.get() {
        handle.run_upkeep();
    }
}

/// Shows which snapshot requests read, and how long ago it was known to be the newest.
pub fn snapshot(revision: u64, age: Duration) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 changes are out of reach")]
    gauge!("carta_gateway_snapshot_revision").set(revision as f64);
    gauge!("carta_gateway_snapshot_age_seconds").set(age.as_secs_f64());
}

/// Shows the number of the newest entry of the audit.
pub fn audit_head(seq: u64) {
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 entries are out of reach")]
    gauge!("carta_gateway_audit_entries").set(seq as f64);
}

/// Counts a time at which the audit was not what it had been.
pub fn audit_broken() {
    counter!("carta_gateway_audit_broken_total").increment(1);
}

/// Counts what the access record could not keep: `what` is `count` or `refusal`.
pub fn unrecorded(what: &'static str, number: u64) {
    counter!("carta_gateway_unrecorded_total", "what" => what).increment(number);
}

/// The text that Prometheus scrapes; empty before [`install`].
#[must_use]
pub fn render() -> String {
    PROMETHEUS.get().and_then(Option::as_ref).map(PrometheusHandle::render).unwrap_or_default()
}

fn describe() {
    describe_counter!("carta_gateway_requests_total", "Requests answered, by service, decision and status class.");
    describe_histogram!("carta_gateway_request_duration_seconds", "From a request's head to the end of its answer.");
    describe_histogram!("carta_gateway_upstream_duration_seconds", "From the upstream's request to its answer's head.");
    describe_counter!("carta_gateway_bytes_total", "Bytes of bodies, by service and direction.");
    describe_counter!("carta_gateway_cache_total", "Look-ups in the gateway's caches.");
    describe_gauge!("carta_gateway_upstream_connections", "Upstream connections, open and idle.");
    describe_counter!("carta_gateway_upstream_connects_total", "Requests by how they came to a connection.");
    describe_gauge!("carta_gateway_tunnels", "Service tunnels that are open.");
    describe_gauge!("carta_gateway_tunnel_waiting", "Calls that wait for their turn in the lines of tunnels.");
    describe_counter!("carta_gateway_tunnel_calls_total", "Calls by a service tunnel, by what became of them.");
    describe_counter!("carta_gateway_tunnel_ignored_total", "Messages of tunnels' clients that answered nothing.");
    describe_counter!("carta_gateway_unrecorded_total", "What the access record could not keep.");
    describe_gauge!("carta_gateway_audit_entries", "Number of the newest entry of the audit.");
    describe_counter!("carta_gateway_audit_broken_total", "Times at which the audit was not what it had been.");
    describe_gauge!("carta_gateway_snapshot_revision", "Revision of the snapshot that requests read.");
    describe_gauge!("carta_gateway_snapshot_age_seconds", "Since the snapshot was last known to be the newest.");
    describe_gauge!("carta_gateway_build_info", "The running version.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counted_request_is_in_the_text() {
        install().unwrap();
        let service = ServiceMetrics::new("materials", "mp");
        service.answered(Decision::Deny, 403, Duration::from_millis(2), None);
        let text = render();
        let line = r#"carta_gateway_requests_total{namespace="materials",service="mp",decision="deny",status="4xx"} 1"#;
        assert!(text.contains(line), "{text}");
        assert!(text.contains("carta_gateway_build_info"), "{text}");
    }

    #[test]
    fn names_that_are_made_up_without_end_make_no_series_without_end() {
        install().unwrap();
        for number in 0..=MOST_REGISTERED {
            let service = ServiceMetrics::of_registered("made-up", &format!("svc-{number}"));
            service.answered(Decision::Allow, 200, Duration::from_millis(1), None);
        }
        let text = render();
        assert!(text.contains(r#"service="svc-0""#));
        assert!(!text.contains(&format!("service=\"svc-{MOST_REGISTERED}\"")));
    }
}
