//! The first use of a service of the file is the user's consent: noted in the store before the secret goes anywhere.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::api::wait_for;
use crate::proxy::{FirstConsent, FirstUse};
use crate::store::{Actor, Consent, Mutation, Revision, Store};

/// How long a call waits for its consent to be shown.
const PATIENCE: Duration = Duration::from_secs(5);

/// Notes first uses in the store.
pub(super) struct StoreFirstUse {
    store: Arc<dyn Store>,
    shown: watch::Receiver<Revision>,
}

impl StoreFirstUse {
    /// `shown` is the revision of the snapshot that requests read.
    pub(super) fn new(store: Arc<dyn Store>, shown: watch::Receiver<Revision>) -> Self {
        Self { store, shown }
    }
}

#[async_trait]
impl FirstUse for StoreFirstUse {
    async fn consent(&self, first: FirstConsent) -> Result<(), String> {
        let actor = Actor { user: Some(first.user), via: "api", from: "first use".into(), request_id: None };
        let consent = Consent {
            user: first.user,
            secret: first.of.secret.to_string(),
            service: first.service,
            fingerprint: first.of.fingerprint.to_string(),
            origins: first.of.origins.to_string(),
            at: Timestamp::now(),
        };
        let committed =
            self.store.commit(actor, Mutation::FirstUse(consent)).await.map_err(|error| error.to_string())?;
        if wait_for(&self.shown, committed.revision, PATIENCE).await {
            return Ok(());
        }
        Err(format!("revision {} is not shown yet", committed.revision.0))
    }
}
