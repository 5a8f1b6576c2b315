//! Brings the access record from the workers to the store, off every request's way: what the store does not take waits,
//! bounded, and what is too much is counted and gone.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::proxy::Gateway;
use crate::proxy::record::{Counted, Drained, Entry};
use crate::store::{Batch, Count, Refusal, Store};
use crate::telemetry::metrics;

/// Between two batches.
const PAUSE: Duration = Duration::from_secs(2);

/// How many counts and refusals wait while the store is away.
const WAITING: (usize, usize) = (64 * 1024, 4096);

/// Records until `stop`, and once more then.
pub(super) async fn run(gateway: Arc<Gateway>, store: Arc<dyn Store>, stop: CancellationToken) {
    let mut beat = tokio::time::interval(PAUSE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting = Batch::default();
    let mut away = false;
    loop {
        let last = tokio::select! {
            biased;
            () = stop.cancelled() => true,
            _ = beat.tick() => false,
        };
        add(&mut waiting, gateway.records().drain());
        if !(waiting.counts.is_empty() && waiting.refusals.is_empty()) {
            match store.record(waiting.clone()).await {
                Ok(()) => {
                    waiting = Batch::default();
                    away = false;
                }
                Err(error) if away => tracing::debug!(%error, "the access record still waits for the store"),
                Err(error) => {
                    away = true;
                    tracing::warn!(%error, "the access record waits for the store");
                }
            }
        }
        if last {
            return;
        }
    }
}

/// Adds what came to what waits, as much as may wait.
fn add(waiting: &mut Batch, drained: Drained) {
    let (most_counts, most_refusals) = WAITING;
    let counts = waiting.counts.len() + drained.counts.len();
    let refusals = waiting.refusals.len() + drained.refusals.len();
    waiting.counts.extend(drained.counts.into_iter().map(count));
    waiting.counts.truncate(most_counts);
    waiting.refusals.extend(drained.refusals.into_iter().filter_map(refusal));
    waiting.refusals.truncate(most_refusals);
    metrics::unrecorded("count", drained.uncounted + counts.saturating_sub(most_counts) as u64);
    metrics::unrecorded("refusal", drained.dropped + refusals.saturating_sub(most_refusals) as u64);
}

fn count(counted: Counted) -> Count {
    Count {
        day: counted.day,
        user: counted.user,
        service: counted.service,
        operation: counted.operation.map(|operation| operation.to_string()),
        need: counted.need,
        resource: counted.name.pattern(),
        allowed: counted.allowed,
        refused: counted.refused,
    }
}

fn refusal(entry: Entry) -> Option<Refusal> {
    let refused = entry.refused?;
    Some(Refusal {
        id: entry.id.to_string(),
        at: entry.at,
        user: entry.user?,
        service: entry.service,
        operation: entry.operation.map(|operation| operation.to_string()),
        method: entry.method.to_string(),
        path: entry.path,
        need: entry.need,
        resource: entry.name.pattern(),
        permitted: entry.permitted,
        problem: entry.problem?.slug.to_owned(),
        status: entry.status,
        revision: entry.revision,
        took: u64::try_from(entry.took.as_micros()).unwrap_or(u64::MAX),
        detail: refused.detail().to_owned(),
        why: refused.why(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Levels, ResourceId, UserId};
    use crate::proxy::record::Name;
    use uuid::Uuid;

    #[test]
    fn what_waits_while_the_store_is_away_is_bounded() {
        let mut waiting = Batch::default();
        let counted = Counted {
            day: 1,
            user: UserId(Uuid::nil()),
            service: ResourceId(Uuid::nil()),
            operation: None,
            need: Levels::READ,
            name: Name::default(),
            allowed: 1,
            refused: 0,
        };
        for _ in 0..10 {
            add(&mut waiting, Drained { counts: vec![counted.clone(); 16 * 1024], ..Drained::default() });
        }
        assert_eq!(waiting.counts.len(), WAITING.0);
    }
}
