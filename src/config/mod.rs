//! Configuration: what was written (`ConfigFile`) becomes what is true ([`Config`]) once, with every fault reported.

mod bounds;
mod decode;
mod defaults;
mod fault;
mod file;
mod header;
mod name;
mod operation;
mod pattern;
mod pem;
mod reference;
mod resolve;
mod scenario;
mod scenario_file;
mod schema;
mod service;
mod service_file;
mod syntax;
mod template;
mod tree;
mod value;
mod written;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::Url;

pub use bounds::SECRET_NAME_BYTES;
pub use fault::{Fault, Faults, Place};
pub use header::{HeaderUse, header_use};
pub use name::{reserved_name, reserved_service, valid_name};
pub use operation::{Captures, MAX_CAPTURES, Operation, RequestPattern, ResourceKey, Segment};
pub use pattern::PatternFault;
pub use resolve::{
    load, load_policy, load_scenario, parse, parse_scenario, parse_service, service_fault, vault_key_fault,
};
pub use scenario::{Asked, Assertion, Decider, NamedGrant, Person, Scenario};
pub use schema::schema;
pub use service::{
    Basic, Cors, Endpoint, Injection, Protocol, Service, Template, TemplatePart, Timeouts, TokenForwarding, Unmatched,
    UpstreamTls, Variable,
};
pub use value::is_loopback;

/// What is true for this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The listeners.
    pub listen: Listen,
    /// What callers may send.
    pub limits: Limits,
    /// Where records are kept.
    pub store: StoreConfig,
    /// The keys under which secrets are sealed.
    pub vault: VaultConfig,
    /// Who may prove an identity.
    pub auth: Auth,
    /// The services of the file, in its order.
    pub services: Vec<Service>,
    /// What may be registered at run time.
    pub register: Register,
    /// Logs.
    pub log: Log,
}

/// The listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// Calls: `/<namespace>/<service>/<endpoints>`.
    pub proxy: SocketAddr,
    /// The Carta REST API.
    pub api: SocketAddr,
    /// How callers reach the proxy listener, without a trailing slash.
    pub public_proxy: Url,
    /// How callers reach the API listener, without a trailing slash.
    pub public_api: Url,
    /// Peers whose word about where a request came from is believed, beside those that may assert an identity.
    pub trusted_proxies: Vec<IpNet>,
    /// TLS on both listeners.
    pub tls: Option<ListenTls>,
    /// Threads that serve the proxy listener.
    pub workers: usize,
    /// How long requests in flight may take to finish after SIGTERM.
    pub drain: Duration,
}

/// What the built-in issuer is called in its tokens (`iss`), by the API listener's public URL.
#[must_use]
pub fn own_issuer(public_api: &Url) -> &str {
    public_api.as_str().trim_end_matches('/')
}

/// Where the listeners' certificate is; read again when the files change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenTls {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
}

/// Bounds on what callers may send, each with its own refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a request's head: request line and headers.
    pub header_bytes: usize,
    /// Header lines of a request.
    pub headers: usize,
    /// Bytes of the request target.
    pub uri_bytes: usize,
    /// Bytes of a request body; none: unbounded, as it is streamed.
    pub body_bytes: Option<u64>,
    /// Bytes of a request body that the API parses.
    pub api_body_bytes: usize,
    /// Changes that a user makes by the API at once.
    pub changes: u32,
    /// How long until one of them comes back; none: unbounded.
    pub change_each: Option<Duration>,
    /// Connections open at once on a listener.
    pub connections: usize,
    /// Streams open at once on an HTTP/2 connection.
    pub h2_streams: u32,
    /// For the TLS handshake.
    pub handshake_timeout: Duration,
    /// For the whole head of a request to arrive.
    pub header_timeout: Duration,
    /// For the whole body of a request that the API reads.
    pub api_body_timeout: Duration,
    /// For the next request on a kept-alive connection, and for a caller that takes nothing of its answer.
    pub keep_alive: Duration,
}

/// Which store, and how long to go on without it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Which.
    pub url: StoreUrl,
    /// With the store away: serve the last snapshot this long, then refuse.
    pub max_staleness: Duration,
}

/// Which store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreUrl {
    /// A SQLite file.
    Sqlite(PathBuf),
}

/// 32 bytes, never shown.
#[derive(Clone, zeroize::Zeroize, zeroize::ZeroizeOnDrop, PartialEq, Eq)]
pub struct VaultKey(pub [u8; 32]);

impl std::fmt::Debug for VaultKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VaultKey(…)")
    }
}

/// The vault's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultConfig {
    /// Seals and opens.
    pub key: VaultKey,
    /// Older keys: open, never seal.
    pub previous: Vec<VaultKey>,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Hidden(zeroize::Zeroizing<String>);

impl Hidden {
    /// Hides the text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(zeroize::Zeroizing::new(text))
    }

    /// The text, for the one place that puts it where it belongs.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden(…)")
    }
}

/// Who may prove an identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Auth {
    /// The built-in issuer.
    pub local: Local,
    /// Issuers whose tokens are accepted.
    pub jwt: Vec<JwtIssuer>,
    /// The authenticating proxy, where there is one.
    pub header: Option<TrustedHeader>,
}

/// The built-in issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Local {
    /// Whether it issues and accepts tokens.
    pub enabled: bool,
    /// `<region>_<name>`: part of every password verifier, cannot change once users exist.
    pub pool_id: String,
    /// The `aud` of its tokens: the client id that pycarta is told.
    pub client_id: String,
    /// How long its tokens live.
    pub token_ttl: Duration,
    /// The keys by which administrators reset passwords with Cognito's calls.
    pub admin_keys: Vec<AdminKey>,
}

/// An access key as AWS has them: who holds it signs calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminKey {
    /// Its id, which is no secret.
    pub id: String,
    /// What signs.
    pub secret: Hidden,
}

/// An issuer of tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtIssuer {
    /// The `iss`, compared as text.
    pub issuer: String,
    /// The `aud`s (or Cognito `client_id`s) accepted; never empty.
    pub audience: Vec<String>,
    /// Where its keys are; none: by discovery.
    pub jwks_url: Option<Url>,
    /// Trust for fetching them, where the system's is not enough.
    pub ca: Option<Vec<u8>>,
    /// The claim that names the user.
    pub user_claim: String,
    /// The claim that has the e-mail.
    pub email_claim: String,
    /// The claim that has the groups, for `{groups.token}`: no decision reads them.
    pub groups_claim: String,
    /// Whether an unknown user gets an account.
    pub create_users: bool,
    /// The role of an account so made.
    pub new_user_role: String,
}

/// The identity that an authenticating proxy asserts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedHeader {
    /// The header that has the e-mail.
    pub name: http::HeaderName,
    /// The peers that may assert it; empty: nobody.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether a request without any credential gets 400, as mara-acl answers.
    pub required: bool,
    /// Whether an unknown e-mail gets an account; else 403.
    pub create_users: bool,
    /// The role of the first account ever made, where one is to have another.
    pub first_user_role: Option<String>,
    /// The role of every other.
    pub new_user_role: String,
}

/// What may be registered at run time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Register {
    /// Host names, or `*.` and a suffix.
    pub allow_hosts: Vec<String>,
    /// Whether loopback addresses may be connected to.
    pub allow_loopback: bool,
    /// Whether addresses of private networks may be connected to.
    pub allow_private: bool,
}

/// Logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// `tracing` filter, such as `info` or `carta_gateway=debug`.
    pub filter: String,
    /// JSON lines instead of text for people.
    pub json: bool,
    /// Whether each request leaves a line.
    pub access: bool,
}
