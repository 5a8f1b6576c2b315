//! The first use of a service of the file is the user's consent: noted in the store before the secret goes anywhere.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::watch;

use crate::api::wait_for;
use crate::proxy::{FirstConsent, FirstUse, Unnoted};
use crate::store::{Actor, Consent, Mutation, Revision, Store, StoreError};

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
    async fn consent(&self, first: FirstConsent) -> Result<(), Unnoted> {
        let actor = Actor { user: Some(first.user), via: "api", from: "first use".into(), request_id: None };
        let consent = Consent {
            user: first.user,
            secret: first.of.secret.to_string(),
            service: first.service,
            fingerprint: first.of.fingerprint.to_string(),
            origins: first.of.origins.to_string(),
            at: Timestamp::now(),
        };
        let revision = match self.store.commit(actor, Mutation::FirstUse(consent)).await {
            Ok(committed) => committed.revision,
            // The user withdrew, said something else or deleted the secret meanwhile: the call is judged by that.
            Err(StoreError::Refused(_) | StoreError::Missing { .. }) => *self.store.revisions().borrow(),
            Err(StoreError::Full(why)) => return Err(Unnoted::Full(why)),
            Err(error) => return Err(Unnoted::Unavailable(error.to_string())),
        };
        if wait_for(&self.shown, revision, PATIENCE).await {
            return Ok(());
        }
        Err(Unnoted::Unavailable(format!("revision {} is not shown yet", revision.0)))
    }
}
