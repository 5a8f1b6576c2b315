//! What callers saw.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::json;

/// Latencies to three digits, and the calls that failed.
pub struct Seen {
    latency: Histogram<u64>,
    errors: u64,
    /// The first failure's words.
    why: Option<String>,
}

impl Default for Seen {
    fn default() -> Self {
        let latency = Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("the bounds are in order");
        Self { latency, errors: 0, why: None }
    }
}

impl Seen {
    pub fn answered(&mut self, after: Duration) {
        self.latency.saturating_record(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX));
    }

    pub fn failed(&mut self, why: &dyn std::fmt::Display) {
        self.errors += 1;
        self.why.get_or_insert_with(|| why.to_string());
    }

    /// Whether so much failed that it makes no sense to go on.
    pub fn hopeless(&self) -> bool {
        self.errors > 20
    }

    pub fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency).expect("the bounds are the same");
        self.errors += other.errors;
        if self.why.is_none() {
            self.why.clone_from(&other.why);
        }
    }

    /// In microseconds.
    pub fn told(&self, seconds: f64) -> serde_json::Value {
        let micros = |quantile: f64| self.latency.value_at_quantile(quantile) as f64 / 1000.0;
        json!({
            "requests": self.latency.len(),
            "errors": self.errors,
            "why": self.why,
            "seconds": seconds,
            "p50": micros(0.5),
            "p99": micros(0.99),
            "p999": micros(0.999),
            "max": self.latency.max() as f64 / 1000.0,
        })
    }
}
