//! A gateway in this process, without store and commands: one worker thread behind a real listener, and a state that the
//! test changes as the refresher would.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this module")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken test environment should stop the test on the spot")]

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Instant;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use carta_gateway::batch;
use carta_gateway::config::{self, Config, TokenForwarding, VaultConfig, VaultKey, parse_service};
use carta_gateway::identity::{ApiToken, AuthError, Authenticator, Directory, Enrol, Issuer, Newcomer, Profile, Uses};
use carta_gateway::policy::{Change, Grant, Levels, Member, Pattern, Resource, ResourceId, Snapshot, Subject, UserId};
use carta_gateway::proxy::{self, Door, FirstConsent, FirstUse, Gateway, Peer, Route, Routes, Shared, State, Worker};
use carta_gateway::server::{Admission, Serving, bind, serve};
use carta_gateway::store::sqlite::SqliteStore;
use carta_gateway::store::{Actor, Consent, HEADER_ISSUER, Item, Link, Revision, Secret, User};
use carta_gateway::upstream::{Roots, TargetGuard, Upstream};
use carta_gateway::vault::{Context, ProcessKey, Secrets, Vault};
use jiff::Timestamp;
use serde_json::Value;
use tokio::runtime::Builder as Runtime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub const ALICE: UserId = UserId(Uuid::from_u128(1));
pub const BOB: UserId = UserId(Uuid::from_u128(2));
pub const OLGA: UserId = UserId(Uuid::from_u128(3));
pub const MP: ResourceId = ResourceId(Uuid::from_u128(10));

const HEAD: &str = r#"
[listen]
proxy = "127.0.0.1:0"
api = "127.0.0.1:0"
public_url = { proxy = "https://gw.example.org", api = "https://api.gw.example.org" }
[store]
url = "sqlite://unused.db"
[vault]
key = "${KEY}"
[auth.local]
enabled = true
pool_id = "local_carta"
[auth.header]
name = "X-Forwarded-Email"
trusted_proxies = ["127.0.0.1/32"]
create_users = false
"#;

/// The gateway.
pub struct House {
    pub gateway: Arc<Gateway>,
    pub first_uses: Arc<Notes>,
    pub enrolment: Arc<Enrolment>,
    /// What happens between the handing over of the next request and the first look at what becomes of it.
    pub handed: Handed,
    state: Arc<ArcSwap<State>>,
    revisions: watch::Sender<u64>,
    issuer: Arc<Issuer>,
    vault: Vault,
    proxy: SocketAddr,
    api: SocketAddr,
    stop: CancellationToken,
    threads: Vec<JoinHandle<()>>,
}

type Handed = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// Notes first uses, and shows them.
pub struct Notes {
    pub noted: Mutex<Vec<FirstConsent>>,
    /// What happens while the next one is waited for.
    pub meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    state: Arc<ArcSwap<State>>,
    vault: Vault,
}

/// Nobody has API tokens here.
struct NoUses;

#[async_trait]
impl Uses for NoUses {
    async fn spend(&self, _: &ApiToken, _: Timestamp) -> Result<bool, String> {
        Ok(false)
    }

    fn note(&self, _: &Arc<ApiToken>, _: Timestamp) {}
}

#[async_trait]
impl FirstUse for Notes {
    async fn consent(&self, first: FirstConsent) -> Result<(), proxy::Unnoted> {
        tokio::task::yield_now().await;
        let consent = Item::Consent(consent(first.user, &first.of));
        change(&self.state, |state| state.secrets = state.secrets.patched(&self.vault, &[consent]).unwrap());
        self.noted.lock().unwrap().push(first);
        if let Some(meanwhile) = self.meanwhile.lock().unwrap().take() {
            meanwhile();
        }
        Ok(())
    }
}

/// Lets nobody in, unless a test says what happens while an account is linked.
#[derive(Default)]
pub struct Enrolment {
    pub linking: Mutex<Option<Meanwhile>>,
}

type Meanwhile = Box<dyn FnOnce(Link) + Send>;

#[async_trait]
impl Enrol for Enrolment {
    async fn enrol(&self, _: Newcomer) -> Result<Revision, AuthError> {
        Err(AuthError::NotInvited)
    }

    async fn link(&self, link: Link) -> Result<Revision, AuthError> {
        let linking = self.linking.lock().unwrap().take().ok_or(AuthError::NotInvited)?;
        tokio::task::yield_now().await;
        linking(link);
        Ok(Revision(0))
    }

    async fn update(&self, _: UserId, _: Profile) -> Result<Revision, AuthError> {
        Ok(Revision(0))
    }
}

impl House {
    /// Serves `materials/mp` with this table, which alice may call. Further lines of configuration come first.
    pub fn start(more: &str, table: &Value) -> Self {
        let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
        let text = format!("{more}\n{HEAD}");
        let config = config::parse(&text, Path::new("/gateway.toml"), &|_| Some(key.to_owned()))
            .unwrap_or_else(|faults| panic!("{faults}"));
        let vault = Vault::new(&config.vault).unwrap();
        let issuer = issuer(&config, &vault);
        let directory = Directory::empty()
            .patched(&[user(ALICE, "alice"), user(BOB, "bob"), user(OLGA, "olga"), link(ALICE, "alice")].concat());
        let state = State {
            revision: 1,
            loaded: Instant::now(),
            policy: Snapshot::empty().patched(policy()),
            directory: Arc::new(directory),
            routes: Arc::default(),
            secrets: Secrets::empty(Arc::new(ProcessKey::random().unwrap())),
        };
        let state = Arc::new(ArcSwap::from_pointee(state));
        let (revisions, shown) = watch::channel(1);
        let enrolment = Arc::new(Enrolment::default());
        let (authenticator, _fetchers) = Authenticator::new(&config.auth, Some(&issuer), enrolment.clone()).unwrap();
        let first_uses = Arc::new(Notes {
            noted: Mutex::default(),
            meanwhile: Mutex::default(),
            state: state.clone(),
            vault: Vault::new(&config.vault).unwrap(),
        });
        let shared = Shared {
            state: state.clone(),
            authenticator: Arc::new(authenticator),
            issuer: Some(issuer.clone()),
            uses: Arc::new(NoUses),
            first_use: first_uses.clone(),
            revisions: shown,
        };
        let gateway = Gateway::new(&config, shared);
        let stop = CancellationToken::new();
        let handed = Handed::default();
        let mut threads = Vec::new();
        let mut open = |door| {
            let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = listener.local_addr().unwrap();
            let (gateway, limits, stop) = ((gateway.clone(), handed.clone()), config.limits.clone(), stop.clone());
            threads.push(std::thread::spawn(move || serve_on(listener, door, gateway, limits, stop)));
            address
        };
        let (proxy, api) = (open(Door::Proxy), open(Door::Api));
        let house =
            Self { gateway, first_uses, enrolment, handed, state, revisions, issuer, vault, proxy, api, stop, threads };
        house.service(MP, "materials", "mp", table, false);
        house
    }

    pub fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    pub fn api(&self) -> SocketAddr {
        self.api
    }

    /// Replaces the state by a changed one, at the next revision.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        self.revisions.send_replace(self::change(&self.state, change));
    }

    /// Adds a service, of the file where it is `trusted`.
    pub fn service(&self, id: ResourceId, namespace: &str, name: &str, table: &Value, trusted: bool) {
        let mut table = table.clone();
        let full = table["forward_token"] == "full";
        if full {
            table["forward_token"] = true.into();
        }
        let mut service = parse_service(namespace, name, &table).unwrap_or_else(|faults| panic!("{faults}"));
        service.trusted = trusted;
        if full {
            service.forward_token = TokenForwarding::Full;
        }
        let register =
            config::Register { allow_hosts: vec!["127.0.0.1".into()], allow_loopback: true, allow_private: false };
        let guard = Arc::new(TargetGuard::new(&register, &[]));
        let previous = self.state.load().routes.by_id(id).cloned();
        let route = Route::compile(id, Arc::new(service), previous.as_deref(), |service| {
            Upstream::new(service, guard, &Roots::default())
        });
        self.change(|state| {
            let mut routes = Routes::clone(&state.routes);
            routes.put(route);
            state.routes = Arc::new(routes);
            let pattern = Pattern::literal([namespace, name]).unwrap();
            state.policy = state.policy.patched([Change::Resource(Resource { id, name: pattern, owner: Some(OLGA) })]);
        });
    }

    pub fn policy(&self, changes: impl IntoIterator<Item = Change>) {
        self.change(|state| state.policy = state.policy.patched(changes));
    }

    pub fn token(&self, user: UserId) -> String {
        let account = self.state.load().directory.by_id(user).unwrap().clone();
        self.issuer.mint(&account, None, Timestamp::now()).unwrap().token
    }

    /// A token that ends after this time.
    pub fn token_for(&self, user: UserId, ttl: std::time::Duration) -> String {
        let account = self.state.load().directory.by_id(user).unwrap().clone();
        self.issuer.mint(&account, Some(ttl), Timestamp::now()).unwrap().token
    }

    /// Withdraws every key of the built-in issuer, as the refresher does when the store has them no longer.
    pub fn withdraw_keys(&self) {
        self.issuer.load(&self.vault, &[]);
        self.change(|_| ());
    }

    /// Stores a secret of the user.
    pub fn secret(&self, user: UserId, name: &str, value: &str) {
        let sealed = self.vault.seal(Context::Secret(user, name), value.as_bytes()).unwrap();
        let secret = Secret { user, name: name.to_owned(), sealed, created: Timestamp::now(), expires: None };
        self.change(|state| state.secrets = state.secrets.patched(&self.vault, &[Item::Secret(secret)]).unwrap());
    }

    /// Consents to all that `materials/mp` asks for.
    pub fn consent(&self, user: UserId) {
        let route = self.state.load().routes.by_id(MP).unwrap().clone();
        let items: Vec<_> = route.injection().uses().iter().map(|of| Item::Consent(self::consent(user, of))).collect();
        self.secrets(&items);
    }

    /// Changes secrets and consents.
    pub fn secrets(&self, items: &[Item]) {
        self.change(|state| state.secrets = state.secrets.patched(&self.vault, items).unwrap());
    }

    /// The consent to send this secret to `materials/mp` as it is.
    pub fn consent_to(&self, user: UserId, secret: &str) -> Consent {
        let route = self.state.load().routes.by_id(MP).unwrap().clone();
        consent(user, route.injection().uses().iter().find(|of| &*of.secret == secret).unwrap())
    }

    pub fn disable(&self, name: &str) {
        let Some(Item::User(mut user, groups)) = [user(ALICE, "alice"), user(BOB, "bob")]
            .concat()
            .into_iter()
            .find(|item| matches!(item, Item::User(user, _) if user.name == name))
        else {
            panic!("{name} is nobody")
        };
        user.disabled = true;
        self.change(|state| state.directory = Arc::new(state.directory.patched(&[Item::User(user, groups)])));
    }

    /// As if the store had been away for longer than it may be.
    pub fn grow_stale(&self) {
        let mut next = State::clone(&self.state.load());
        next.loaded = Instant::now().checked_sub(std::time::Duration::from_secs(3600)).unwrap();
        self.state.store(Arc::new(next));
    }
}

/// Replaces the state by a changed one, at the next revision, which is returned.
fn change(state: &ArcSwap<State>, change: impl FnOnce(&mut State)) -> u64 {
    let mut next = State::clone(&state.load());
    next.revision += 1;
    next.loaded = Instant::now();
    change(&mut next);
    let revision = next.revision;
    state.store(Arc::new(next));
    revision
}

fn consent(user: UserId, of: &proxy::SecretUse) -> Consent {
    Consent {
        user,
        secret: of.secret.to_string(),
        service: MP,
        fingerprint: of.fingerprint.to_string(),
        origins: of.origins.to_string(),
        at: Timestamp::now(),
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.cancel();
        for thread in self.threads.drain(..) {
            let outcome = thread.join();
            assert!(outcome.is_ok() || std::thread::panicking(), "a worker panicked");
        }
    }
}

fn serve_on(
    listener: std::net::TcpListener,
    door: Door,
    (gateway, handed): (Arc<Gateway>, Handed),
    limits: config::Limits,
    stop: CancellationToken,
) {
    let serving = Serving {
        tls: None,
        admission: Admission::new(limits.connections),
        limits,
        access: true,
        drain: std::time::Duration::from_millis(100),
        stop,
    };
    let runtime = batch::Runtime::with_batches().unwrap();
    runtime.block_on(async move {
        let worker = Worker::new();
        let handler = move |request, peer: carta_gateway::server::Peer| {
            let peer = Peer { addr: peer.addr.ip(), tls: peer.tls };
            let answer = proxy::walk(&gateway, &worker, request, peer, door);
            if let Some(meanwhile) = handed.lock().unwrap().take() {
                meanwhile();
            }
            answer
        };
        serve(listener, serving, handler).await.unwrap();
    });
}

/// What alice may do: execute `materials.mp`.
pub fn alices(levels: Levels) -> Change {
    let pattern = Pattern::parse("materials.mp").unwrap();
    Change::Grant(Grant { subject: Subject::User(ALICE), pattern, levels, expires: None })
}

fn policy() -> Vec<Change> {
    let member = |id| Change::Member(Member { id, role: "Guest".into(), groups: vec![] });
    vec![member(ALICE), member(BOB), member(OLGA), alices(Levels::EXECUTE)]
}

fn user(id: UserId, name: &str) -> Vec<Item> {
    let user = User {
        id,
        name: name.to_owned(),
        email: Some(format!("{name}@example.org")),
        email_verified: true,
        first_name: None,
        last_name: None,
        organization: None,
        role: "Guest".to_owned(),
        administrator: false,
        disabled: false,
        tokens_dead_until: None,
        created: Timestamp::UNIX_EPOCH,
    };
    vec![Item::User(Box::new(user), vec![])]
}

fn link(id: UserId, name: &str) -> Vec<Item> {
    let subject = format!("{name}@example.org");
    vec![Item::Link(Link { issuer: HEADER_ISSUER.to_owned(), subject, user: id })]
}

/// The keys of a store's audit.
fn audit_keys() -> Arc<Vault> {
    Arc::new(Vault::new(&VaultConfig { key: VaultKey([7; 32]), previous: vec![] }).unwrap())
}

/// The built-in issuer, with a key.
fn issuer(config: &Config, vault: &Vault) -> Arc<Issuer> {
    let issuer = Issuer::new(&config.auth.local, &config.listen.public_api);
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(&folder.path().join("keys.db"), audit_keys()).unwrap();
    let actor = Actor { user: None, via: "test", from: "test".into(), request_id: None };
    let runtime = Runtime::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(issuer.ensure_key(&store, vault, actor, Timestamp::now())).unwrap();
    Arc::new(issuer)
}
