//! The running process: build the parts in the order in which each can be refused clearly, spawn, drain.
//!
//! Three kinds of runtime: one current-thread runtime for each proxy worker, one for the API listener, and a
//! multi-thread one, *control*, for what no request waits for: the store, the refresher, the issuers' keys.

mod first_use;
mod listeners;
mod recorder;
mod uses;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::api::{Api, Changes, Openings, Readiness};
use crate::config::{Config, StoreUrl};
use crate::identity::{Authenticator, Issuer, LoginError, Logins, Pace, StoreEnrol};
use crate::proxy::{self, Gateway};
use crate::refresh::{self, Parts, RefreshError, Refresher};
use crate::server::TlsReload;
use crate::shell::word;
use crate::store::sqlite::SqliteStore;
use crate::store::{Actor, Store, StoreError};
use crate::telemetry::{self, metrics};
use crate::upstream::{Roots, TargetGuard};
use crate::vault::{self, KeyError, Vault};
use first_use::StoreFirstUse;
use listeners::{Bound, Shared};
use uses::StoreUses;

/// Between two sweeps of what metrics collected.
const UPKEEP: Duration = Duration::from_secs(5);

/// Why the gateway does not start. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration does not fit the machine or the store: a key, an address, an owner.
    #[error("{0}")]
    Configuration(String),
    /// The store cannot be used.
    #[error("{0}")]
    Store(String),
    /// The program failed where it should not.
    #[error("{0}")]
    Internal(String),
}

/// A gateway that serves.
pub struct Running {
    /// Where calls are taken.
    pub proxy: SocketAddr,
    /// Where the REST API is.
    pub api: SocketAddr,
    control: Runtime,
    tasks: TaskTracker,
    stop: CancellationToken,
    draining: CancellationToken,
    threads: Vec<JoinHandle<std::io::Result<()>>>,
}

/// Builds everything and serves. Returns once the state is loaded and every listener takes connections.
///
/// # Errors
/// [`StartError`]; nothing is left running then.
pub fn start(config: Config) -> Result<Running, StartError> {
    telemetry::init(&config.log.filter, config.log.json).map_err(StartError::Configuration)?;
    metrics::install().map_err(StartError::Internal)?;
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|error| StartError::Internal(format!("cannot start the control runtime: {error}")))?;
    let config = Arc::new(config);
    let tasks = TaskTracker::new();
    let (stop, draining) = (CancellationToken::new(), CancellationToken::new());
    let tls = config.listen.tls.as_ref().map(TlsReload::load).transpose().map_err(|error| refused(&error))?;
    let vault = Arc::new(Vault::new(&config.vault).map_err(|error| refused(&error))?);
    let built = control.block_on(async {
        let store = open_store(&config, &vault)?;
        vault::verify_key(&*store, &vault).await?;
        let bound = Bound::bind(&config)?;
        let built = build(&config, store, vault, &bound, (&tasks, &stop, &draining)).await?;
        Ok::<_, StartError>((bound, built))
    });
    let (bound, shared) = built?;
    if let Some(tls) = &tls {
        let watching = tls.clone().watch(stop.clone());
        tasks.spawn_on(
            async move {
                if let Err(error) = watching.await {
                    tracing::error!(%error, "certificates are not watched; SIGHUP will not read them either");
                }
            },
            control.handle(),
        );
    }
    let (proxy, api) = (bound.proxy, bound.api);
    let threads = bound.serve(&shared, tls, &draining)?;
    tasks.spawn_on(sweep(stop.clone()), control.handle());
    tracing::info!(%proxy, %api, version = env!("CARGO_PKG_VERSION"), "serving");
    Ok(Running { proxy, api, control, tasks, stop, draining, threads })
}

/// Everything that requests need, in the order in which it can be refused; the state is loaded when this returns.
async fn build(
    config: &Arc<Config>,
    store: Arc<dyn Store>,
    vault: Arc<Vault>,
    bound: &Bound,
    (tasks, stop, draining): (&TaskTracker, &CancellationToken, &CancellationToken),
) -> Result<Shared, StartError> {
    refresh::declare(&*store, config).await.map_err(|error| undeclared(&error))?;
    let local = &config.auth.local;
    let issuer = local.enabled.then(|| Arc::new(Issuer::new(local, &config.listen.public_api)));
    let guard = Arc::new(TargetGuard::new(&config.register, &[bound.proxy, bound.api]));
    let parts = Parts {
        store: store.clone(),
        vault: vault.clone(),
        issuer: issuer.clone(),
        config: config.clone(),
        guard,
        roots: Arc::new(Roots::default()),
    };
    let refresher = Refresher::load(parts).await?;
    let published = refresher.published();
    if let Some(issuer) = &issuer {
        let actor = Actor { user: None, via: "config", from: "start".into(), request_id: None };
        issuer
            .ensure_key(&*store, &vault, actor, Timestamp::now())
            .await
            .map_err(|error| StartError::Internal(error.to_string()))?;
    }
    let logins = match &issuer {
        Some(_) => Some(Arc::new(Logins::new(&local.pool_id, store.clone(), vault.clone()).await?)),
        None => None,
    };
    let enrol = Arc::new(StoreEnrol::new(store.clone(), published.shown.clone()));
    let (authenticator, fetchers) =
        Authenticator::new(&config.auth, issuer.as_deref(), enrol).map_err(|error| refused(&error))?;
    fetchers.start(Pace::default(), tasks, stop);
    let authenticator = Arc::new(authenticator);
    let first_use = Arc::new(StoreFirstUse::new(store.clone(), published.shown.clone()));
    let (uses, used) = StoreUses::new(store.clone());
    tasks.spawn(uses::run(used, store.clone(), stop.clone()));
    let shared = proxy::Shared {
        state: published.state.clone(),
        authenticator: authenticator.clone(),
        issuer: issuer.clone(),
        uses: Arc::new(uses),
        first_use,
        revisions: published.number.clone(),
    };
    let gateway = Gateway::new(config, shared);
    let readiness = Readiness {
        current: published.view.clone(),
        max_staleness: config.store.max_staleness,
        draining: draining.clone(),
    };
    tasks.spawn(recorder::run(gateway.clone(), store.clone(), stop.clone()));
    let api = Api {
        config: config.clone(),
        store,
        vault,
        authenticator,
        issuer,
        logins,
        current: published.view.clone(),
        shown: published.shown.clone(),
        readiness,
        records: gateway.records().clone(),
        gateway: gateway.clone(),
        changes: Changes::of(&config.limits),
        openings: Openings::default(),
    };
    tasks.spawn(refresher.run(stop.clone()));
    Ok(Shared { config: config.clone(), gateway, api: Arc::new(api) })
}

fn open_store(config: &Config, vault: &Arc<Vault>) -> Result<Arc<dyn Store>, StartError> {
    match &config.store.url {
        StoreUrl::Sqlite(path) => Ok(Arc::new(SqliteStore::open(path, vault.clone())?)),
    }
}

async fn sweep(stop: CancellationToken) {
    let mut beat = tokio::time::interval(UPKEEP);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beat.tick() => metrics::upkeep(),
        }
    }
}

impl Running {
    /// Serves until SIGTERM or SIGINT, or until a listener fails, then drains. A second signal ends at once what still
    /// drains.
    ///
    /// # Errors
    /// [`StartError::Internal`] when signals cannot be received, or a listener's thread failed.
    pub fn until_signal(self) -> Result<(), StartError> {
        let cannot = |error: std::io::Error| StartError::Internal(format!("cannot receive signals: {error}"));
        self.control.block_on(async {
            let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
            let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
            // Reserved for reading the configuration again; until then it must not end the process.
            let mut hangup = signal(SignalKind::hangup()).map_err(cannot)?;
            loop {
                tokio::select! {
                    _ = terminate.recv() => return Ok::<_, StartError>(()),
                    _ = interrupt.recv() => return Ok(()),
                    () = self.draining.cancelled() => return Ok(()),
                    _ = hangup.recv() => tracing::info!("SIGHUP: restart to read the configuration again"),
                }
            }
        })?;
        tracing::info!("draining");
        let again = async {
            let (Ok(mut terminate), Ok(mut interrupt)) =
                (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
            else {
                return std::future::pending().await;
            };
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        self.end(again)
    }

    /// Takes no more connections, lets requests in flight finish within the drain time, and ends.
    ///
    /// # Errors
    /// [`StartError::Internal`] when a listener's thread failed.
    pub fn stop(self) -> Result<(), StartError> {
        self.end(std::future::pending())
    }

    /// Drains, until `impatient` is ready.
    fn end(self, impatient: impl Future<Output = ()>) -> Result<(), StartError> {
        self.draining.cancel();
        let (threads, control) = (self.threads, &self.control);
        let fine = control.block_on(async {
            let (tell, told) = oneshot::channel();
            // A thread of its own, which nobody waits for when time is short.
            std::thread::spawn(move || {
                let ended: Vec<_> = threads.into_iter().map(JoinHandle::join).collect();
                let _ = tell.send(ended.iter().all(|ended| matches!(ended, Ok(Ok(())))));
            });
            tokio::select! {
                fine = told => fine.unwrap_or(false),
                () = impatient => {
                    tracing::warn!("ended before everything was drained");
                    true
                }
            }
        });
        self.stop.cancel();
        self.tasks.close();
        self.control.block_on(async {
            // What the store was told is durable already; nothing here is worth waiting longer for.
            let _ = tokio::time::timeout(UPKEEP, self.tasks.wait()).await;
        });
        self.control.shutdown_timeout(UPKEEP);
        tracing::info!("ended");
        if fine {
            return Ok(());
        }
        Err(StartError::Internal("a listener's thread failed; the log has the reason".to_owned()))
    }
}

fn refused(error: &dyn std::error::Error) -> StartError {
    StartError::Configuration(error.to_string())
}

/// Why the services of the file cannot be taken as they are declared.
fn undeclared(error: &StoreError) -> StartError {
    let why = match error {
        StoreError::Missing { what: "user", name } => format!(
            "a service of the configuration is owned by `{name}`, and there is no such user\nmake the user: carta-gateway \
             user add {}",
            word(name)
        ),
        StoreError::Missing { .. } | StoreError::Refused(_) | StoreError::Full(_) | StoreError::Exists { .. } => {
            format!("a service of the configuration cannot be declared: {error}\n`carta-gateway check` says where")
        }
        StoreError::Unavailable(_) | StoreError::Damaged(_) => return StartError::Store(error.to_string()),
    };
    StartError::Configuration(why)
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<LoginError> for StartError {
    fn from(error: LoginError) -> Self {
        match error {
            LoginError::Store(error) => error.into(),
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<KeyError> for StartError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Wrong { .. } => Self::Configuration(error.to_string()),
            KeyError::Damaged | KeyError::Store(_) => Self::Store(error.to_string()),
            KeyError::Vault(_) => Self::Internal(error.to_string()),
        }
    }
}

impl From<RefreshError> for StartError {
    fn from(error: RefreshError) -> Self {
        match error {
            RefreshError::Store(error) => error.into(),
            RefreshError::Vault(_) | RefreshError::Compile(_) => Self::Internal(error.to_string()),
        }
    }
}
