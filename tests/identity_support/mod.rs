//! What the identity tests share: an identity provider on a loopback socket, its keys, a directory that enrols.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of this module")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken test environment should stop the test on the spot"
)]

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RsaKeyPair, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use carta_gateway::config::{Auth, JwtIssuer, Local, TrustedHeader, VaultConfig, VaultKey};
use carta_gateway::identity::{
    AuthError, Authenticator, Directory, Enrol, Fetchers, Identity, Issuer, Newcomer, Pace, Profile, TokenCache,
};
use carta_gateway::policy::UserId;
use carta_gateway::store::{Actor, Committed, Item, Link, Mutation, Revision, SigningKey, StoreError, User, Writer};
use carta_gateway::vault::Vault;
use http::header::{AUTHORIZATION, CACHE_CONTROL, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

pub const CLIENT: &str = "client-1";
pub const PROXY: &str = "10.0.0.1";
pub const HEADER: &str = "x-forwarded-email";

/// An RSA key of a provider.
pub struct Rsa {
    pub kid: String,
    pub pair: RsaKeyPair,
}

impl Rsa {
    pub fn new(kid: &str) -> Self {
        Self { kid: kid.into(), pair: RsaKeyPair::generate(KeySize::Rsa2048).unwrap() }
    }

    pub fn jwk(&self) -> Value {
        let public = RsaPublicKeyComponents::<Vec<u8>>::from(self.pair.public_key());
        json!({
            "kty": "RSA", "use": "sig", "kid": self.kid,
            "n": URL_SAFE_NO_PAD.encode(public.n), "e": URL_SAFE_NO_PAD.encode(public.e),
        })
    }

    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with(&json!({ "alg": "RS256", "typ": "JWT", "kid": self.kid }), claims)
    }

    pub fn sign_with(&self, header: &Value, claims: &Value) -> String {
        let message = message(header, claims);
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), message.as_bytes(), &mut signature).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

pub fn message(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}", part(header), part(claims))
}

/// An identity provider: what it answers can be changed while it runs.
#[derive(Clone)]
pub struct Provider {
    pub address: SocketAddr,
    pub scheme: &'static str,
    state: Arc<Mutex<Answers>>,
    hits: Arc<watch::Sender<usize>>,
    gate: Arc<tokio::sync::Semaphore>,
}

struct Answers {
    keys: Vec<Value>,
    discovery: Option<Value>,
    jwks: Option<String>,
    status: StatusCode,
}

impl Provider {
    pub async fn start(keys: &[&Rsa]) -> Self {
        Self::start_with(keys, None).await
    }

    pub async fn start_with(keys: &[&Rsa], tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let provider = Self {
            address: listener.local_addr().unwrap(),
            scheme: if tls.is_some() { "https" } else { "http" },
            state: Arc::new(Mutex::new(Answers {
                keys: keys.iter().map(|key| key.jwk()).collect(),
                discovery: None,
                jwks: None,
                status: StatusCode::OK,
            })),
            hits: Arc::new(watch::Sender::new(0)),
            gate: Arc::new(tokio::sync::Semaphore::new(1000)),
        };
        let serving = provider.clone();
        tokio::spawn(async move {
            loop {
                let Ok((tcp, _)) = listener.accept().await else { return };
                let (provider, tls) = (serving.clone(), tls.clone());
                tokio::spawn(async move {
                    let service = service_fn(move |request| provider.clone().answer(request));
                    let http = hyper::server::conn::http1::Builder::new();
                    let _ = match tls {
                        None => http.serve_connection(TokioIo::new(tcp), service).await,
                        Some(tls) => match tls.accept(tcp).await {
                            Ok(stream) => http.serve_connection(TokioIo::new(stream), service).await,
                            Err(_) => Ok(()),
                        },
                    };
                });
            }
        });
        provider
    }

    async fn answer(self, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, std::convert::Infallible> {
        let path = request.uri().path().to_owned();
        if path == "/jwks" {
            self.hits.send_modify(|hits| *hits += 1);
        }
        let _pass = self.gate.acquire().await;
        let answers = self.state.lock().unwrap();
        let body = match path.as_str() {
            "/jwks" => answers.jwks.clone().unwrap_or_else(|| json!({ "keys": answers.keys }).to_string()),
            "/.well-known/openid-configuration" => {
                let usual = json!({ "issuer": self.issuer(), "jwks_uri": format!("{}/jwks", self.issuer()) });
                answers.discovery.clone().unwrap_or(usual).to_string()
            }
            _ => String::new(),
        };
        let answer = Response::builder().status(answers.status).header(CACHE_CONTROL, "max-age=600");
        Ok(answer.header(LOCATION, "/jwks").body(Full::from(body)).unwrap())
    }

    pub fn issuer(&self) -> String {
        format!("{}://localhost:{}", self.scheme, self.address.port())
    }

    pub fn publish(&self, keys: &[&Rsa]) {
        let mut answers = self.state.lock().unwrap();
        answers.keys = keys.iter().map(|key| key.jwk()).collect();
        answers.jwks = None;
    }

    pub fn publish_text(&self, jwks: &str) {
        self.state.lock().unwrap().jwks = Some(jwks.into());
    }

    pub fn discover(&self, document: Value) {
        self.state.lock().unwrap().discovery = Some(document);
    }

    pub fn fail(&self, status: u16) {
        self.state.lock().unwrap().status = StatusCode::from_u16(status).unwrap();
    }

    /// How often the keys were fetched.
    pub fn hits(&self) -> usize {
        *self.hits.borrow()
    }

    /// Returns once a fetch that began after this was called is over. Fetches of one issuer come one after another.
    pub async fn fetched_anew(&self) {
        let enough = self.hits() + 3;
        self.hits.subscribe().wait_for(|hits| *hits >= enough).await.unwrap();
    }

    /// Answers nothing until the permit is dropped.
    pub async fn hold(&self) -> tokio::sync::OwnedSemaphorePermit {
        self.gate.clone().acquire_many_owned(1000).await.unwrap()
    }

    pub fn config(&self) -> JwtIssuer {
        JwtIssuer {
            issuer: self.issuer(),
            audience: vec![CLIENT.into()],
            jwks_url: None,
            ca: None,
            user_claim: "preferred_username".into(),
            email_claim: "email".into(),
            groups_claim: "groups".into(),
            create_users: true,
            new_user_role: "Guest".into(),
        }
    }

    /// Claims of a token for the user, good for an hour.
    pub fn claims(&self, user: &str) -> Value {
        let now = Timestamp::now().as_second();
        json!({
            "iss": self.issuer(), "sub": format!("sub-{user}"), "aud": CLIENT, "preferred_username": user,
            "iat": now, "exp": now + 3600,
        })
    }
}

/// A directory that makes accounts at once, as the store and the feed do between them.
#[derive(Default)]
pub struct Accounts {
    pub directory: ArcSwap<Directory>,
    pub made: Mutex<Vec<Newcomer>>,
}

impl Accounts {
    pub fn with(users: &[User]) -> Arc<Self> {
        let accounts = Arc::new(Self::default());
        for user in users {
            accounts.patch(Item::User(Box::new(user.clone()), vec![]));
        }
        accounts
    }

    pub fn patch(&self, item: Item) {
        self.directory.rcu(|directory| directory.patched(std::slice::from_ref(&item)));
    }

    pub fn made(&self) -> usize {
        self.made.lock().unwrap().len()
    }
}

#[async_trait]
impl Enrol for Accounts {
    async fn enrol(&self, newcomer: Newcomer) -> Result<Revision, AuthError> {
        let mut made = self.made.lock().unwrap();
        if self.directory.load().by_name(&newcomer.name).is_none() {
            let mut new = user(1000 + made.len() as u128, &newcomer.name);
            new.email = newcomer.email.clone();
            new.email_verified = newcomer.email_verified;
            new.role = newcomer.role.clone();
            let link = Link { issuer: newcomer.issuer.clone(), subject: newcomer.subject.clone(), user: new.id };
            self.patch(Item::User(Box::new(new), vec![]));
            self.patch(Item::Link(link));
            made.push(newcomer);
        }
        Ok(Revision(1))
    }

    async fn link(&self, link: Link) -> Result<Revision, AuthError> {
        self.patch(Item::Link(link));
        Ok(Revision(1))
    }

    async fn update(&self, id: UserId, profile: Profile) -> Result<Revision, AuthError> {
        let account = self.directory.load().by_id(id).cloned().ok_or(AuthError::Unavailable("no such user"))?;
        let Profile { email, email_verified, first_name, last_name, organization } = profile;
        let known = User { role: account.role.to_string(), ..user(id.0.as_u128(), &account.name) };
        let after = User { email, email_verified, first_name, last_name, organization, ..known };
        self.patch(Item::User(Box::new(after), vec![]));
        Ok(Revision(1))
    }
}

pub fn user(n: u128, name: &str) -> User {
    User {
        id: UserId(Uuid::from_u128(n)),
        name: name.into(),
        email: None,
        email_verified: false,
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

pub fn vault() -> Vault {
    Vault::new(&VaultConfig { key: VaultKey([7; 32]), previous: vec![] }).unwrap()
}

/// Remembers the signing keys that it is given.
#[derive(Default)]
pub struct Keys(pub Mutex<Vec<SigningKey>>);

impl Keys {
    pub fn items(&self) -> Vec<Item> {
        self.0.lock().unwrap().iter().map(|key| Item::SigningKey(Box::new(key.clone()))).collect()
    }
}

#[async_trait]
impl Writer for Keys {
    async fn commit(&self, _: Actor, mutation: Mutation) -> Result<Committed, StoreError> {
        let mut keys = self.0.lock().unwrap();
        match mutation {
            Mutation::PutSigningKey(key) => keys.push(key),
            Mutation::RetireSigningKey(kid, at) => {
                let key = keys.iter_mut().find(|key| key.kid == kid).unwrap();
                key.retired = Some(key.retired.map_or(at, |earlier| earlier.min(at)));
            }
            other => panic!("unexpected {other:?}"),
        }
        Ok(Committed { revision: Revision(1), id: None })
    }
}

pub fn actor() -> Actor {
    Actor { user: None, via: "cli", from: "test".into(), request_id: None }
}

pub fn local() -> Local {
    Local {
        enabled: true,
        pool_id: "local_carta".into(),
        client_id: CLIENT.into(),
        token_ttl: Duration::from_secs(8 * 3600),
        admin_keys: vec![],
    }
}

pub fn header_rules() -> TrustedHeader {
    TrustedHeader {
        name: HeaderName::from_static(HEADER),
        trusted_proxies: vec![format!("{PROXY}/32").parse().unwrap()],
        required: false,
        create_users: true,
        first_user_role: Some("Admin".into()),
        new_user_role: "Guest".into(),
    }
}

/// A built-in issuer with one key.
pub async fn issuer(keys: &Keys) -> Issuer {
    let issuer = Issuer::new(&local(), &"http://127.0.0.1:8081/".parse().unwrap());
    issuer.ensure_key(keys, &vault(), actor(), Timestamp::now()).await.unwrap();
    issuer
}

/// A gateway as far as identity goes.
pub struct Door {
    pub authenticator: Authenticator,
    pub accounts: Arc<Accounts>,
    pub cache: TokenCache,
    fetchers: Option<Fetchers>,
    stop: CancellationToken,
    pub tasks: TaskTracker,
}

impl Door {
    pub fn new(
        local_issuer: Option<&Issuer>,
        jwt: Vec<JwtIssuer>,
        header: Option<TrustedHeader>,
        accounts: Arc<Accounts>,
    ) -> Self {
        let auth = Auth { local: local(), jwt, header };
        let (authenticator, fetchers) = Authenticator::new(&auth, local_issuer, accounts.clone()).unwrap();
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        Self { authenticator, accounts, cache: TokenCache::default(), fetchers: Some(fetchers), stop, tasks }
    }

    /// With the fetchers running.
    pub fn open(jwt: Vec<JwtIssuer>, header: Option<TrustedHeader>, accounts: Arc<Accounts>) -> Self {
        Self::new(None, jwt, header, accounts).fetching(Pace::default())
    }

    /// Starts the fetchers.
    pub fn fetching(mut self, pace: Pace) -> Self {
        if let Some(fetchers) = self.fetchers.take() {
            fetchers.start(pace, &self.tasks, &self.stop);
        }
        self
    }

    pub async fn ask(&self, lines: &[(&str, &str)], peer: &str, now: Timestamp) -> Result<Arc<Identity>, AuthError> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let peer: IpAddr = peer.parse().unwrap();
        let directory = || self.accounts.directory.load_full();
        self.authenticator.authenticate(&self.cache, directory, &headers, peer, now).await
    }

    pub async fn token(&self, token: &str) -> Result<Arc<Identity>, AuthError> {
        self.token_at(token, Timestamp::now()).await
    }

    pub async fn token_at(&self, token: &str, now: Timestamp) -> Result<Arc<Identity>, AuthError> {
        self.ask(&[(AUTHORIZATION.as_str(), &format!("Bearer {token}"))], "192.0.2.1", now).await
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
