//! What the walk stands on: the process's part, shared by all threads, and each thread's own.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use url::Url;

use super::alias::canonical_header;
use super::authorize::Decisions;
use super::body::RequestBody;
use super::consent::FirstUse;
use super::error::{Kind, Problem};
use super::inject::Buffers;
use super::record::{Record, Records};
use super::route::{Route, Routes};
use super::streams::Standing;
use super::target::{Door, Target};
use super::tasks::Tasks;
use super::token::MintedTokens;
use crate::config::Config;
use crate::identity::{Authenticator, Directory, Issuer, TokenCache, Uses};
use crate::policy::Snapshot;
use crate::telemetry::metrics::ServiceMetrics;
use crate::upstream::tunnel::Tunnels;
use crate::upstream::{Heads, Pools};
use crate::vault::Secrets;

/// How long a request waits for the revision that it asks for.
const REVISION_PATIENCE: Duration = Duration::from_secs(5);

/// Up to so many names are looked at one by one.
const FEW: usize = 16;

const MIN_REVISION: HeaderName = HeaderName::from_static("carta-min-revision");

/// How many tokens a worker remembers, and in how many bytes.
const TOKENS: (usize, usize) = (16 * 1024, 64 * 1024 * 1024);

/// Everything that requests read, immutable, at one revision.
#[derive(Clone, Debug)]
pub struct State {
    /// The revision that it shows.
    pub revision: u64,
    /// When the store was last known to have nothing newer.
    pub loaded: Instant,
    /// Who may do what.
    pub policy: Snapshot,
    /// Who has an account.
    pub directory: Arc<Directory>,
    /// The services.
    pub routes: Arc<Routes>,
    /// The secrets and consents.
    pub secrets: Secrets,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The address that the connection comes from.
    pub addr: IpAddr,
    /// Whether it came by TLS to this listener.
    pub tls: bool,
}

/// The process's part.
pub struct Gateway {
    shared: Shared,
    settings: Settings,
    unrouted: ServiceMetrics,
    records: Arc<Records>,
    tunnels: Arc<Tunnels>,
    tasks: Arc<Tasks<Standing>>,
}

/// What the rest of the process gives the gateway.
pub struct Shared {
    /// The state; whoever replaces it tells `revisions` afterwards.
    pub state: Arc<ArcSwap<State>>,
    /// Verifies credentials.
    pub authenticator: Arc<Authenticator>,
    /// Mints tokens for services, where it is enabled.
    pub issuer: Option<Arc<Issuer>>,
    /// Counts the uses of API tokens.
    pub uses: Arc<dyn Uses>,
    /// Notes consents.
    pub first_use: Arc<dyn FirstUse>,
    /// The revision of `state`.
    pub revisions: watch::Receiver<u64>,
}

/// What of the configuration the walk reads.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where callers reach the proxy listener.
    pub public_proxy: Url,
    /// Where callers reach the API listener.
    pub public_api: Url,
    /// The same as origins.
    origins: Origins,
    /// The most bytes of a request's body.
    pub body_bytes: Option<u64>,
    /// How long the state holds without word from the store.
    pub max_staleness: Duration,
    /// The canonical name of the header by which a trusted proxy names the user.
    pub identity_header: Option<Box<str>>,
    /// Whose word about a request's origin is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether each request leaves a line.
    pub access: bool,
}

#[derive(Clone, Debug)]
struct Origins {
    proxy: String,
    api: String,
}

/// One thread's part.
#[derive(Debug)]
pub struct Worker {
    /// Connections to upstreams.
    pub pools: Pools<RequestBody>,
    /// Tokens that were verified.
    pub tokens: TokenCache,
    /// What was decided lately.
    pub decisions: Decisions,
    /// What became of the last requests.
    pub record: Arc<Record>,
    /// Heads of requests for upstreams.
    pub heads: Heads,
    /// Buffers that secrets pass through.
    pub buffers: RefCell<Buffers>,
    /// Tokens minted for services.
    pub minted: MintedTokens,
    /// Connections that were upgraded and live on: to be waited for, bounded, when the thread ends.
    pub upgraded: TaskTracker,
}

impl Worker {
    /// A thread's part, new.
    #[must_use]
    pub fn new() -> Rc<Self> {
        let (tokens, bytes) = TOKENS;
        Rc::new(Self {
            pools: Pools::new(),
            tokens: TokenCache::new(tokens, bytes),
            decisions: Decisions::default(),
            record: Arc::default(),
            heads: Heads::default(),
            buffers: RefCell::default(),
            minted: MintedTokens::default(),
            upgraded: TaskTracker::new(),
        })
    }
}

impl Gateway {
    /// The gateway with this configuration.
    #[must_use]
    pub fn new(config: &Config, shared: Shared) -> Arc<Self> {
        Arc::new(Self {
            shared,
            settings: Settings::new(config),
            unrouted: ServiceMetrics::new("-", "-"),
            records: Arc::default(),
            tunnels: Tunnels::new(),
            tasks: Tasks::new(),
        })
    }

    /// What the rest of the process gave.
    #[must_use]
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What of the configuration the walk reads.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The metrics of requests that reach no service.
    #[must_use]
    pub fn unrouted(&self) -> &ServiceMetrics {
        &self.unrouted
    }

    /// What became of the last requests.
    #[must_use]
    pub fn records(&self) -> &Arc<Records> {
        &self.records
    }

    /// The services behind tunnels.
    #[must_use]
    pub fn tunnels(&self) -> &Arc<Tunnels> {
        &self.tunnels
    }

    /// The calls by tunnels that callers ask for instead of waiting.
    #[must_use]
    pub fn tasks(&self) -> &Arc<Tasks<Standing>> {
        &self.tasks
    }

    /// The state as it is now.
    ///
    /// # Errors
    /// 503 where it is older than it may be.
    pub fn state(&self, now: Instant) -> Result<Arc<State>, Problem> {
        let state = self.shared.state.load_full();
        if now.saturating_duration_since(state.loaded) > self.settings.max_staleness {
            let detail = "the store has been away for too long to decide by what is remembered\ntry again later";
            return Err(Problem::new(&Kind::STALE_SNAPSHOT, detail).retry_after(5));
        }
        Ok(state)
    }

    /// Whether a request asks for a revision.
    pub fn asks_revision(&self, headers: &HeaderMap) -> bool {
        // To look at a few names costs less than to hash one.
        let may = headers.len() > FEW || headers.keys().any(|sent| *sent == MIN_REVISION);
        may && headers.contains_key(MIN_REVISION)
    }

    /// Waits, bounded, until there is a state that shows the revision that a request asks for, if it does:
    /// `Carta-Min-Revision`. Whether that had to be waited for, as `state` is older.
    ///
    /// # Errors
    /// 503 where the revision does not come in time; 400 for one that is no number.
    pub async fn reach(&self, headers: &HeaderMap, state: &State) -> Result<bool, Problem> {
        let Some(asked) = headers.get(MIN_REVISION) else { return Ok(false) };
        let Some(least) = asked.to_str().ok().and_then(|text| text.parse::<u64>().ok()) else {
            return Err(Problem::new(&Kind::MALFORMED_REQUEST, "`Carta-Min-Revision` is no number"));
        };
        if state.revision >= least {
            return Ok(false);
        }
        let mut revisions = self.shared.revisions.clone();
        let showing = tokio::time::timeout(REVISION_PATIENCE, revisions.wait_for(|shown| *shown >= least));
        let shown = Box::pin(showing).await;
        if !matches!(shown, Ok(Ok(_))) {
            let detail = format!("revision {least} is not here yet\ntry again");
            return Err(Problem::new(&Kind::REVISION_PENDING, detail).retry_after(1));
        }
        Ok(true)
    }
}

impl State {
    /// The service that the path names.
    #[must_use]
    pub fn route(&self, target: &Target) -> Option<&Arc<Route>> {
        self.routes.find(target.namespace(), target.service())
    }
}

impl Settings {
    fn new(config: &Config) -> Self {
        let header = config.auth.header.as_ref();
        let origin = |url: &Url| url.origin().ascii_serialization();
        let (proxy, api) = (&config.listen.public_proxy, &config.listen.public_api);
        Self {
            origins: Origins { proxy: origin(proxy), api: origin(api) },
            public_proxy: proxy.clone(),
            public_api: api.clone(),
            body_bytes: config.limits.body_bytes,
            max_staleness: config.store.max_staleness,
            identity_header: header.map(|header| canonical_header(header.name.as_str())),
            trusted_proxies: [
                config.listen.trusted_proxies.as_slice(),
                header.map_or(&[], |header| header.trusted_proxies.as_slice()),
            ]
            .concat(),
            access: config.log.access,
        }
    }

    /// The origin of the listener, as browsers write it.
    #[must_use]
    pub fn own_origin(&self, door: Door) -> &str {
        match door {
            Door::Proxy => &self.origins.proxy,
            Door::Api => &self.origins.api,
        }
    }

    /// The path that callers write before the listener's own paths, without a trailing slash.
    #[must_use]
    pub fn public_path(&self, door: Door) -> &str {
        match door {
            Door::Proxy => self.public_proxy.path().trim_end_matches('/'),
            Door::Api => self.public_api.path().trim_end_matches('/'),
        }
    }

    /// Where the API is, without a trailing slash.
    #[must_use]
    pub fn api(&self) -> &str {
        self.public_api.as_str().trim_end_matches('/')
    }

    /// Whether this peer's word about where a request came from is believed.
    #[must_use]
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|proxies| proxies.contains(&peer))
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").field("settings", &self.settings).finish_non_exhaustive()
    }
}
