//! The gateway that is measured: the population as the state that requests read, users of it with tokens and secrets, and
//! services of it at one upstream. All but listener and store is what `serve` has.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use futures_util::FutureExt;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use uuid::Uuid;

use super::Questions;
use super::population::Random;
use super::through::Folder;
use crate::cli::Failure;
use crate::cli::open::{actor, block_on};
use crate::config::{self, Config, Register, parse_service};
use crate::identity::{Account, Identity};
use crate::identity::{
    ApiToken, AuthError, Authenticator, Directory, Enrol, Issuer, Newcomer, Profile, TokenCache, Uses,
};
use crate::policy::{Change, Grant, Levels, Pattern, ResourceId, Snapshot, Subject, UserId};
use crate::proxy::{FirstConsent, FirstUse, Gateway, Route, Routes, Shared, State, Unnoted};
use crate::store::sqlite::SqliteStore;
use crate::store::{Consent, Item, Link, Revision, Secret};
use crate::upstream::{Roots, TargetGuard, Upstream};
use crate::vault::{Context, ProcessKey, Secrets, Vault};

/// How many users call, one after the other.
const CALLERS: usize = 1000;

/// Questions that are asked to find them, at most.
const ATTEMPTS: u64 = 200_000;

/// The secret that each caller has, and each service asks for.
const SECRET: &str = "bench-key";

/// What a caller's key may look like.
const VALUE: &[u8] = b"sk-0123456789abcdef0123456789abcdef";

const CONFIG: &str = r#"
[listen]
proxy = "127.0.0.1:0"
api = "127.0.0.1:0"
[store]
url = "sqlite://bench.db"
max_staleness = "30d"
[vault]
key = "${KEY}"
[log]
access = false
[auth.local]
enabled = true
"#;

/// Whose calls are measured, of whatever origin.
pub(super) struct Ground {
    /// Who may do what.
    pub(super) policy: Snapshot,
    /// Who has an account.
    pub(super) directory: Arc<Directory>,
}

/// The gateway and its callers.
pub(super) struct House {
    pub(super) gateway: Arc<Gateway>,
    pub(super) config: Config,
    pub(super) callers: Vec<Caller>,
}

/// A user, and a service that they may call.
pub(super) struct Caller {
    /// Their token, as `Authorization`.
    pub(super) headers: HeaderMap,
    pub(super) route: Arc<Route>,
    pub(super) identity: Arc<Identity>,
}

impl Caller {
    /// A path of the service.
    pub(super) fn path(&self) -> String {
        format!("/{}/hello", self.route.label())
    }
}

impl House {
    /// Services of the ground stand at `upstream`, which no caller is sent anywhere else from.
    pub(super) fn build(ground: Ground, questions: &Questions, upstream: SocketAddr) -> Result<Self, Failure> {
        let config = configuration()?;
        let vault = Vault::new(&config.vault).map_err(|error| internal(&error))?;
        let issuer = issuer(&config, &vault)?;
        let Ground { mut policy, directory } = ground;
        let calls = calls(&mut policy, &directory, questions)?;
        let routes = compile(&calls, upstream)?;
        let secrets = secrets(&calls, &routes, &vault)?;
        let (authenticator, _fetchers) =
            Authenticator::new(&config.auth, Some(&issuer), Arc::new(Nobody)).map_err(|error| internal(&error))?;
        let callers =
            calls.iter().map(|(account, keys)| caller(account, keys, &routes, &issuer, &authenticator, &directory));
        let callers = callers.collect::<Result<_, _>>()?;
        let mut all = Routes::empty();
        routes.into_values().for_each(|route| all.put(route));
        let state = State { revision: 1, loaded: Instant::now(), policy, directory, routes: Arc::new(all), secrets };
        let shared = Shared {
            state: Arc::new(ArcSwap::from_pointee(state)),
            authenticator: Arc::new(authenticator),
            issuer: Some(issuer),
            uses: Arc::new(Nobody),
            first_use: Arc::new(Nobody),
            revisions: watch::channel(1).1,
        };
        Ok(Self { gateway: Gateway::new(&config, shared), config, callers })
    }
}

/// Under a key that nobody keeps.
fn configuration() -> Result<Config, Failure> {
    use base64::Engine;
    let mut key = zeroize::Zeroizing::new([0_u8; 32]);
    aws_lc_rs::rand::fill(&mut *key).map_err(|error| internal(&error))?;
    let key = zeroize::Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(*key));
    config::parse(CONFIG, Path::new("bench"), &|_| Some((*key).clone())).map_err(|faults| internal(&faults))
}

/// An issuer whose keys are nowhere else.
fn issuer(config: &Config, vault: &Vault) -> Result<Arc<Issuer>, Failure> {
    let folder = Folder::make()?;
    let keys = Arc::new(Vault::new(&config.vault).map_err(|error| internal(&error))?);
    let store = SqliteStore::open(&folder.path().join("keys.db"), keys)?;
    let issuer = Issuer::new(&config.auth.local, &config.listen.public_api);
    block_on(async {
        issuer.ensure_key(&store, vault, actor(), Timestamp::now()).await.map_err(|error| internal(&error))
    })?;
    Ok(Arc::new(issuer))
}

type Calls<'q> = Vec<(Arc<Account>, [&'q str; 2])>;

/// Users with a service each that they may call, drawn at random; where grants let nobody call anything, one is given, to
/// nobody but this process.
fn calls<'q>(policy: &mut Snapshot, directory: &Directory, questions: &'q Questions) -> Result<Calls<'q>, Failure> {
    let (users, services) = (questions.users.len() as u64, questions.services.len() as u64);
    let (now, mut random, mut found) = (Timestamp::now(), Random(11), Vec::new());
    let account = |user: UserId| directory.by_id(user).filter(|account| !account.disabled).cloned();
    let fits = |keys: &[&str; 2]| keys.iter().all(|key| config::valid_name(key)) && !config::reserved_name(keys[0]);
    let (mut last, mut seen) = (None, HashSet::new());
    // Enough to meet nearly all pairs where there are few.
    for _ in 0..users.saturating_mul(services).saturating_mul(4).min(ATTEMPTS) {
        let Some((user, keys)) = questions.of(random.below(users), random.below(services)) else { break };
        if !fits(&keys) || seen.contains(&user) {
            continue;
        }
        let Some(account) = account(user) else { continue };
        if policy.permit(user, &keys, Levels::EXECUTE, now).is_ok() {
            seen.insert(user);
            found.push((account, keys));
        } else {
            last = Some((account, keys));
        }
        if found.len() == CALLERS {
            break;
        }
    }
    if let (true, Some((account, keys))) = (found.is_empty(), last) {
        let pattern = Pattern::literal(keys).unwrap_or_default();
        let grant = Grant { subject: Subject::User(account.id), pattern, levels: Levels::EXECUTE, expires: None };
        *policy = policy.patched([Change::Grant(grant)]);
        found.push((account, keys));
    }
    if found.is_empty() {
        return Err(Failure::NotFine("there is no user or no service that calls could be made with".to_owned()));
    }
    Ok(found)
}

type Compiled<'q> = HashMap<[&'q str; 2], Arc<Route>>;

/// One upstream for all: a connection to it is not what is measured.
fn compile<'q>(calls: &Calls<'q>, upstream: SocketAddr) -> Result<Compiled<'q>, Failure> {
    let table = json!({
        "base_url": format!("http://{upstream}"),
        "inject": {"headers": {"X-Api-Key": format!("{{secret:{SECRET}}}")}},
    });
    let register = Register { allow_hosts: vec!["127.0.0.1".into()], allow_loopback: true, allow_private: false };
    let guard = Arc::new(TargetGuard::new(&register, &[]));
    let (mut routes, mut shared): (Compiled<'q>, Option<Arc<Upstream>>) = (HashMap::new(), None);
    for (_, keys) in calls {
        if routes.contains_key(keys) {
            continue;
        }
        let [namespace, name] = *keys;
        let mut service = parse_service(namespace, name, &table).map_err(|faults| internal(&faults))?;
        service.trusted = true;
        let id = ResourceId(Uuid::from_u64_pair(u64::MAX, routes.len() as u64));
        let route = Route::compile(id, Arc::new(service), None, |service| match &shared {
            Some(upstream) => Ok(upstream.clone()),
            None => Upstream::new(service, guard.clone(), &Roots::default()),
        });
        shared = Some(route.upstream().map_err(|_fault| internal(&"the upstream cannot be called"))?.clone());
        routes.insert(*keys, route);
    }
    Ok(routes)
}

/// A secret of each caller, and the consent to send it.
fn secrets(calls: &Calls<'_>, routes: &Compiled<'_>, vault: &Vault) -> Result<Secrets, Failure> {
    let (mut items, now) = (Vec::new(), Timestamp::now());
    for (account, keys) in calls {
        let user = account.id;
        let sealed = vault.seal(Context::Secret(user, SECRET), VALUE).map_err(|error| internal(&error))?;
        items.push(Item::Secret(Secret { user, name: SECRET.to_owned(), sealed, created: now, expires: None }));
        let Some(route) = routes.get(keys) else { continue };
        items.extend(route.injection().uses().iter().map(|of| {
            Item::Consent(Consent {
                user,
                secret: of.secret.to_string(),
                service: route.id(),
                fingerprint: of.fingerprint.to_string(),
                origins: of.origins.to_string(),
                at: now,
            })
        }));
    }
    let process = Arc::new(ProcessKey::random().map_err(|error| internal(&error))?);
    Secrets::empty(process).patched(vault, &items).map_err(|error| internal(&error))
}

fn caller(
    account: &Account,
    keys: &[&str; 2],
    routes: &Compiled<'_>,
    issuer: &Issuer,
    authenticator: &Authenticator,
    directory: &Arc<Directory>,
) -> Result<Caller, Failure> {
    let now = Timestamp::now();
    let token = issuer.mint(account, None, now).map_err(|error| internal(&error))?.token;
    let mut headers = HeaderMap::new();
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|error| internal(&error))?;
    value.set_sensitive(true);
    headers.insert(AUTHORIZATION, value);
    let identity = known(authenticator, &TokenCache::new(1, 1), directory, &headers, now)?;
    let route = routes.get(keys).cloned().ok_or_else(|| internal(&"a service is missing"))?;
    Ok(Caller { headers, route, identity })
}

/// Who calls, as the walk finds out.
pub(super) fn known(
    authenticator: &Authenticator,
    cache: &TokenCache,
    directory: &Arc<Directory>,
    headers: &HeaderMap,
    now: Timestamp,
) -> Result<Arc<Identity>, Failure> {
    let asked = authenticator.authenticate(cache, || directory.clone(), headers, [127, 0, 0, 1].into(), now);
    let who = asked.now_or_never().ok_or_else(|| internal(&"a token had to wait"))?;
    who.map_err(|error| internal(&error))
}

pub(super) fn internal(error: &dyn std::fmt::Display) -> Failure {
    Failure::Internal(error.to_string())
}

/// Lets nobody in and notes nothing: all callers are there, and have consented.
struct Nobody;

#[async_trait]
impl Enrol for Nobody {
    async fn enrol(&self, _: Newcomer) -> Result<Revision, AuthError> {
        Err(AuthError::NotInvited)
    }

    async fn link(&self, _: Link) -> Result<Revision, AuthError> {
        Err(AuthError::NotInvited)
    }

    async fn update(&self, _: UserId, _: Profile) -> Result<Revision, AuthError> {
        Ok(Revision(1))
    }
}

#[async_trait]
impl Uses for Nobody {
    async fn spend(&self, _: &ApiToken, _: Timestamp) -> Result<bool, String> {
        Ok(false)
    }

    fn note(&self, _: &Arc<ApiToken>, _: Timestamp) {}
}

#[async_trait]
impl FirstUse for Nobody {
    async fn consent(&self, _: FirstConsent) -> Result<(), Unnoted> {
        Err(Unnoted::Unavailable("nothing is noted here".to_owned()))
    }
}
