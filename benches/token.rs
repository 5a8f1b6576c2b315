//! What it costs to know who calls: a token for the first time, a token that is known, the trusted header, a password.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that cannot be set up should stop")]

use std::hint::black_box;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use carta_gateway::config::{Auth, Local, TrustedHeader, VaultConfig, VaultKey};
use carta_gateway::identity::srp::Verifier;
use carta_gateway::identity::{AuthError, Authenticator, Directory, Enrol, Issuer, Newcomer, Profile, TokenCache};
use carta_gateway::policy::UserId;
use carta_gateway::store::{Actor, Committed, HEADER_ISSUER, Item, Link, Mutation, Revision, StoreError, User, Writer};
use carta_gateway::vault::Vault;
use criterion::{Criterion, criterion_group, criterion_main};
use futures_util::FutureExt;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;

const USERS: usize = 1000;

fn token(c: &mut Criterion) {
    let stage = Stage::new();
    let mut group = c.benchmark_group("token");
    // Too small to keep anything: every request verifies the signature.
    let forgetful = TokenCache::new(1, 1);
    let mut next = 0;
    group.bench_function("cold RS256", |b| {
        b.iter(|| {
            next = (next + 1) % USERS;
            stage.ask(&forgetful, next);
        });
    });
    let cache = TokenCache::default();
    (0..USERS).for_each(|user| stage.ask(&cache, user));
    group.bench_function("cached, one of 1,000", |b| {
        b.iter(|| {
            next = (next + 1) % USERS;
            stage.ask(&cache, next);
        });
    });
    let mut header = HeaderMap::new();
    header.insert(HeaderName::from_static("x-forwarded-email"), HeaderValue::from_static("user-7@example.org"));
    group.bench_function("trusted header", |b| b.iter(|| stage.identify(&cache, &header)));
    group.finish();
    let kept = Verifier::new("carta", "alice", "Correct-Horse-9").unwrap();
    c.bench_function("password", |b| b.iter(|| black_box(kept.check("carta", "alice", "Correct-Horse-9"))));
}

struct Stage {
    authenticator: Authenticator,
    directory: Arc<Directory>,
    requests: Vec<HeaderMap>,
    now: Timestamp,
}

impl Stage {
    fn new() -> Self {
        let now = Timestamp::now();
        let config = Local {
            enabled: true,
            pool_id: "local_carta".into(),
            client_id: "client".into(),
            token_ttl: std::time::Duration::from_secs(8 * 3600),
            admin_keys: vec![],
        };
        let issuer = Issuer::new(&config, &"http://127.0.0.1:8081".parse().unwrap());
        let vault = Vault::new(&VaultConfig { key: VaultKey([7; 32]), previous: vec![] }).unwrap();
        let actor = Actor { user: None, via: "cli", from: "bench".into(), request_id: None };
        let keys = Keys(Mutex::default());
        issuer.ensure_key(&keys, &vault, actor, now).now_or_never().unwrap().unwrap();
        let users = (0..USERS).flat_map(|n| {
            let id = UserId(uuid::Uuid::from_u128(n as u128));
            let link = Link { issuer: HEADER_ISSUER.into(), subject: format!("user-{n}@example.org"), user: id };
            [Item::User(Box::new(user(id, n)), vec![]), Item::Link(link)]
        });
        let directory = Directory::empty().patched(&users.collect::<Vec<_>>());
        let requests = (0..USERS).map(|n| {
            let minted = issuer.mint(directory.by_name(&format!("user-{n}")).unwrap(), None, now).unwrap();
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {}", minted.token)).unwrap());
            headers
        });
        let requests = requests.collect();
        let header = TrustedHeader {
            name: HeaderName::from_static("x-forwarded-email"),
            trusted_proxies: vec!["127.0.0.1/32".parse().unwrap()],
            required: false,
            create_users: false,
            first_user_role: None,
            new_user_role: "Guest".into(),
        };
        let auth = Auth { local: config, jwt: vec![], header: Some(header) };
        let (authenticator, _) = Authenticator::new(&auth, Some(&issuer), Arc::new(Nobody)).unwrap();
        Self { authenticator, directory: Arc::new(directory), requests, now }
    }

    fn ask(&self, cache: &TokenCache, user: usize) {
        self.identify(cache, self.requests.get(user).unwrap());
    }

    fn identify(&self, cache: &TokenCache, headers: &HeaderMap) {
        let peer = [127, 0, 0, 1].into();
        let asked = self.authenticator.authenticate(cache, || self.directory.clone(), headers, peer, self.now);
        black_box(asked.now_or_never().unwrap().unwrap());
    }
}

fn user(id: UserId, n: usize) -> User {
    User {
        id,
        name: format!("user-{n}"),
        email: Some(format!("user-{n}@example.org")),
        email_verified: true,
        first_name: None,
        last_name: None,
        organization: None,
        role: "User".into(),
        administrator: false,
        disabled: false,
        tokens_dead_until: None,
        created: Timestamp::UNIX_EPOCH,
    }
}

struct Keys(Mutex<Vec<Mutation>>);

#[async_trait]
impl Writer for Keys {
    async fn commit(&self, _: Actor, mutation: Mutation) -> Result<Committed, StoreError> {
        self.0.lock().unwrap().push(mutation);
        Ok(Committed { revision: Revision(1), id: None })
    }
}

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
        Err(AuthError::NotInvited)
    }
}

criterion_group!(benches, token);
criterion_main!(benches);
