//! Brings the access record from the workers to the store, off every request's way: what the store does not take waits,
//! bounded, and what is too much is counted and gone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::policy::{Levels, Pattern, ResourceId, UserId};
use crate::proxy::Gateway;
use crate::proxy::record::{Drained, Entry};
use crate::store::{Batch, Count, Refusal, Store};
use crate::telemetry::metrics;

/// Between two batches.
const PAUSE: Duration = Duration::from_secs(2);

/// How many counts and refusals wait while the store is away.
const WAITING: (usize, usize) = (64 * 1024, 4096);

/// How many of them may be one user's: nobody pushes out what is recorded of others.
const OF_ONE: (usize, usize) = (4096, 256);

/// Records until `stop`, and once more then.
pub(super) async fn run(gateway: Arc<Gateway>, store: Arc<dyn Store>, stop: CancellationToken) {
    let mut beat = tokio::time::interval(PAUSE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting = Waiting::default();
    // What the store has not taken yet; it is offered again as it is, and what comes meanwhile waits behind it.
    let mut offered: Option<Arc<Batch>> = None;
    let mut away = false;
    loop {
        let last = tokio::select! {
            biased;
            () = stop.cancelled() => true,
            _ = beat.tick() => false,
        };
        waiting.add(gateway.records().drain());
        while let Some(batch) = offered.take().or_else(|| waiting.take().map(Arc::new)) {
            match store.record(batch.clone()).await {
                Ok(()) => away = false,
                Err(error) => {
                    offered = Some(batch);
                    if away {
                        tracing::debug!(%error, "the access record still waits for the store");
                    } else {
                        tracing::warn!(%error, "the access record waits for the store");
                    }
                    away = true;
                    break;
                }
            }
        }
        if last {
            return;
        }
    }
}

/// What is counted: day, user, service, operation, levels, resource.
type Key = (i32, UserId, ResourceId, Option<Arc<str>>, Levels, Option<Pattern>);

/// What waits for the store: counts of the same are one, and nobody has more than a share.
#[derive(Default)]
struct Waiting {
    counts: HashMap<Key, (u64, u64)>,
    refusals: Vec<Refusal>,
    of_user: HashMap<UserId, (usize, usize)>,
}

impl Waiting {
    /// Adds what came, as much as may wait.
    fn add(&mut self, drained: Drained) {
        let (mut uncounted, mut dropped) = (drained.uncounted, drained.dropped);
        for one in drained.counts {
            let key = (one.day, one.user, one.service, one.operation, one.need, one.name.pattern());
            if let Some((allowed, refused)) = self.counts.get_mut(&key) {
                (*allowed, *refused) = (*allowed + one.allowed, *refused + one.refused);
                continue;
            }
            let (of_user, _) = self.of_user.entry(one.user).or_default();
            if self.counts.len() >= WAITING.0 || *of_user >= OF_ONE.0 {
                uncounted += one.allowed + one.refused;
                continue;
            }
            *of_user += 1;
            self.counts.insert(key, (one.allowed, one.refused));
        }
        for one in drained.refusals.into_iter().filter_map(refusal) {
            let (_, of_user) = self.of_user.entry(one.user).or_default();
            if self.refusals.len() >= WAITING.1 || *of_user >= OF_ONE.1 {
                dropped += 1;
                continue;
            }
            *of_user += 1;
            self.refusals.push(one);
        }
        metrics::unrecorded("count", uncounted);
        metrics::unrecorded("refusal", dropped);
    }

    /// All that waits, where something does.
    fn take(&mut self) -> Option<Batch> {
        let Self { counts, refusals, .. } = std::mem::take(self);
        let count = |((day, user, service, operation, need, resource), (allowed, refused)): (Key, (u64, u64))| {
            let operation = operation.map(|operation| operation.to_string());
            Count { day, user, service, operation, need, resource, allowed, refused }
        };
        let batch = Batch { counts: counts.into_iter().map(count).collect(), refusals };
        (!batch.counts.is_empty() || !batch.refusals.is_empty()).then_some(batch)
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
    use crate::proxy::record::{Counted, Name};
    use uuid::Uuid;

    fn counted(user: u128, name: usize) -> Counted {
        Counted {
            day: 1,
            user: UserId(Uuid::from_u128(user)),
            service: ResourceId(Uuid::nil()),
            operation: None,
            need: Levels::READ,
            name: Name::of(&["a", &name.to_string()]),
            allowed: 1,
            refused: 2,
        }
    }

    fn drained(counts: impl IntoIterator<Item = Counted>) -> Drained {
        Drained { counts: counts.into_iter().collect(), ..Drained::default() }
    }

    #[test]
    fn what_waits_while_the_store_is_away_is_bounded() {
        let mut waiting = Waiting::default();
        for user in 0..40 {
            waiting.add(drained((0..OF_ONE.0).map(|name| counted(user, name))));
        }
        assert_eq!(waiting.counts.len(), WAITING.0);
        assert_eq!(waiting.take().unwrap().counts.len(), WAITING.0);
        assert_eq!(waiting.take(), None);
    }

    #[test]
    fn one_user_takes_no_more_than_a_share_of_what_waits() {
        let mut waiting = Waiting::default();
        waiting.add(drained((0..WAITING.0).map(|name| counted(1, name))));
        assert_eq!(waiting.counts.len(), OF_ONE.0);
        waiting.add(drained([counted(2, 0)]));
        assert_eq!(waiting.counts.len(), OF_ONE.0 + 1);
    }

    #[test]
    fn counts_of_the_same_wait_as_one() {
        let mut waiting = Waiting::default();
        for _ in 0..10 {
            waiting.add(drained((0..100).map(|name| counted(1, name))));
        }
        let batch = waiting.take().unwrap();
        assert_eq!(batch.counts.len(), 100);
        assert!(batch.counts.iter().all(|count| (count.allowed, count.refused) == (10, 20)));
    }
}
