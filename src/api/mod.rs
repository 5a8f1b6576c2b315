//! Carta's REST API: handlers over commands that each take a [`Permit`](crate::policy::Permit).
//!
//! A request comes in by [`Front::answer`]. A call of a service takes the proxy's walk at once; everything else is
//! authenticated here and goes to the router, which has every URL.

mod access;
mod answer;
mod audit;
mod check;
mod cognito;
mod command;
mod error;
mod explain;
mod extract;
mod files;
mod front;
mod groups;
mod item;
mod login;
mod node;
mod openapi;
mod openings;
mod owner;
mod paging;
mod permissions;
mod permissions_v2;
mod presence;
mod preview;
mod projects;
mod rate;
mod reach;
mod records;
mod role;
mod router;
mod search;
mod secrets;
mod services;
mod shelf;
mod signs;
mod subject;
mod table;
mod tier;
mod tokens;
mod tunnels;
mod turn;
mod users;
mod view;
pub(crate) mod warn;
mod well_known;
mod workspaces;

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::identity::{AuthError, Authenticator, Identity, Issuer, Logins};
use crate::proxy::Gateway;
use crate::proxy::error::{Kind, Problem, X_REQUEST_ID};
use crate::proxy::record::Records;
use crate::store::{Actor, Mutation, Revision, Store};
use crate::telemetry::RequestId;
use crate::vault::Vault;
use error::Refusal;

pub use front::Front;
pub use openings::Openings;
pub use rate::Changes;
pub use view::{Catalog, View};

/// How long a request waits for the local snapshot to show a revision.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the handlers work with, for the whole process.
pub struct Api {
    /// The configuration.
    pub config: Arc<Config>,
    /// Where changes go.
    pub store: Arc<dyn Store>,
    /// Seals secrets.
    pub vault: Arc<Vault>,
    /// Says whether credentials still hold.
    pub authenticator: Arc<Authenticator>,
    /// The built-in issuer, where it is enabled.
    pub issuer: Option<Arc<Issuer>>,
    /// Logins by name and password, where the built-in issuer is enabled.
    pub logins: Option<Arc<Logins>>,
    /// What is answered from.
    pub current: Arc<ArcSwap<View>>,
    /// The revision that `current` shows.
    pub shown: watch::Receiver<Revision>,
    /// Whether calls are decided here.
    pub readiness: Readiness,
    /// What became of the last calls.
    pub records: Arc<Records>,
    /// Where calls are decided; here for the services behind tunnels.
    pub gateway: Arc<Gateway>,
    /// How many changes each user makes.
    pub changes: Changes,
    /// The tunnels, as the audit knows them.
    pub openings: Openings,
}

impl Api {
    /// What is there now.
    fn view(&self) -> Arc<View> {
        self.current.load_full()
    }

    /// Asks again, after a wait, what is asked of every request: whether the state may be decided on, and whether this
    /// is still who calls.
    fn still_decides_for(&self, identity: &Identity) -> Result<(), Refusal> {
        if let Some(stale) = self.readiness.staleness() {
            return Err(stale.into());
        }
        if self.authenticator.still_holds(identity, &self.view().state.directory, Timestamp::now()) {
            return Ok(());
        }
        Err(AuthError::Invalid("the credential was withdrawn while the request went on").into())
    }

    /// Each change leaves an entry in the audit: nobody but an administrator makes them as fast as they like.
    fn admit(&self, by: &Actor, mutation: &Mutation) -> Result<(), Refusal> {
        let Some(user) = by.user else { return Ok(()) };
        if self.view().state.directory.by_id(user).is_some_and(|account| account.administrator) {
            return Ok(());
        }
        self.changes.admit(user, mutation, Instant::now()).map_err(|wait| {
            let limits = &self.config.limits;
            let each = limits.change_each.unwrap_or_default().as_secs_f64();
            let detail = format!(
                "you have made {} changes, and one more comes back each {each} s\nwait as long as `Retry-After` says",
                limits.changes
            );
            Problem::new(&Kind::TOO_MANY_CHANGES, detail).retry_after(rate::seconds(wait)).into()
        })
    }

    /// Makes the change, and returns once the local snapshot shows it.
    async fn commit(&self, by: Actor, mutation: Mutation) -> Result<Revision, Refusal> {
        self.admit(&by, &mutation)?;
        let committed = self.store.commit(by, mutation).await?;
        if wait_for(&self.shown, committed.revision, PATIENCE).await {
            return Ok(committed.revision);
        }
        let detail = format!(
            "the change was made as revision {}, and this gateway does not show it yet\ndo not repeat it: look again later",
            committed.revision.0
        );
        Err(Problem::new(&Kind::REVISION_PENDING, detail).retry_after(1).into())
    }
}

/// Waits until `shown` is at least `revision`; false where that takes longer than `patience`.
pub async fn wait_for(shown: &watch::Receiver<Revision>, revision: Revision, patience: Duration) -> bool {
    let mut shown = shown.clone();
    matches!(tokio::time::timeout(patience, shown.wait_for(|shown| *shown >= revision)).await, Ok(Ok(_)))
}

/// Whether calls are decided here: asked by probes, and by the API before it decides anything itself.
#[derive(Clone)]
pub struct Readiness {
    /// What is answered from.
    pub current: Arc<ArcSwap<View>>,
    /// How old that may be.
    pub max_staleness: Duration,
    /// Cancelled when the process is about to end.
    pub draining: CancellationToken,
}

impl Readiness {
    /// Why not, if so.
    #[must_use]
    pub fn refusal(&self) -> Option<Problem> {
        if self.draining.is_cancelled() {
            return Some(Problem::new(&Kind::STALE_SNAPSHOT, "the gateway is about to end\nask another one"));
        }
        self.staleness()
    }

    /// The answer to a probe, where the path is one.
    #[must_use]
    pub fn probe(&self, path: &str) -> Option<Response<Bytes>> {
        let problem = match path {
            "/-/live" => None,
            "/-/ready" => self.refusal(),
            _ => return None,
        };
        let id = RequestId::mint();
        let mut answer = match problem {
            Some(problem) => problem.into_response(id.as_str()),
            None => Response::new(Bytes::from_static(b"ok\n")),
        };
        answer.headers_mut().entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("text/plain; charset=utf-8"));
        answer.headers_mut().insert(X_REQUEST_ID, id.header());
        Some(answer)
    }

    /// The problem of state that is too old to decide on.
    #[must_use]
    pub fn staleness(&self) -> Option<Problem> {
        let age = self.current.load().state.loaded.elapsed();
        (age > self.max_staleness).then(|| {
            let detail = format!("the store has been away for {} s\ntry again", age.as_secs());
            Problem::new(&Kind::STALE_SNAPSHOT, detail).retry_after(5)
        })
    }
}
