//! Uses of API tokens, counted in the store; and when they were last used, brought there off every request's way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::identity::{ApiToken, Uses};
use crate::store::{ApiTokenId, Store};

/// Between two batches of last uses.
const PAUSE: Duration = Duration::from_secs(2);

/// How many tokens may wait to have their last use noted; a use beyond them is not noted.
const WAITING: usize = 64 * 1024;

/// Counts in the store.
pub(super) struct StoreUses {
    store: Arc<dyn Store>,
    used: Sender<Arc<ApiToken>>,
    /// Uses that wait for the store. Fewer than it takes, so that they keep no change out.
    room: Semaphore,
}

/// How many uses may wait at once.
const SPENDING: usize = 512;

impl StoreUses {
    /// With the line of tokens whose last use is to be noted, for [`run`].
    pub(super) fn new(store: Arc<dyn Store>) -> (Self, Receiver<Arc<ApiToken>>) {
        let (used, line) = mpsc::channel(WAITING);
        (Self { store, used, room: Semaphore::new(SPENDING) }, line)
    }
}

#[async_trait]
impl Uses for StoreUses {
    async fn spend(&self, token: &ApiToken, now: Timestamp) -> Result<bool, String> {
        let _place =
            self.room.try_acquire().map_err(|_| "too many uses of API tokens wait for the store".to_owned())?;
        let left = self.store.spend(token.id, now).await.map_err(|error| error.to_string())?;
        if left.is_none_or(|left| left == 0) {
            token.use_up();
        }
        Ok(left.is_some())
    }

    fn note(&self, token: &Arc<ApiToken>, now: Timestamp) {
        if token.touch(now) && self.used.try_send(token.clone()).is_err() {
            // No room: it may stand in line again later.
            let _ = token.take_use();
        }
    }
}

/// Notes last uses until `stop`, and once more then. What the store does not take is told again, or a later use is.
pub(super) async fn run(mut line: Receiver<Arc<ApiToken>>, store: Arc<dyn Store>, stop: CancellationToken) {
    let mut beat = tokio::time::interval(PAUSE);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting: BTreeMap<ApiTokenId, Timestamp> = BTreeMap::new();
    loop {
        let last = tokio::select! {
            biased;
            () = stop.cancelled() => true,
            _ = beat.tick() => false,
        };
        while waiting.len() < WAITING {
            let Ok(token) = line.try_recv() else { break };
            if let Some(at) = token.take_use() {
                waiting.insert(token.id, at);
            }
        }
        if !waiting.is_empty() {
            match store.note_uses(waiting.iter().map(|(token, at)| (*token, *at)).collect()).await {
                Ok(()) => waiting.clear(),
                Err(error) => tracing::debug!(%error, "the last uses of API tokens wait for the store"),
            }
        }
        if last {
            return;
        }
    }
}
