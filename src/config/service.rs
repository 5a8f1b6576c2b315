//! A service's table as it is true: shared by the file and the API.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;
use url::Url;

use super::{Hidden, Operation, value};
use crate::policy::Levels;

/// A service, from the file or registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// `[a-z0-9][a-z0-9_-]{0,62}`.
    pub namespace: String,
    /// `[a-z0-9][a-z0-9_-]{0,62}`.
    pub name: String,
    /// The owner's user name; none for a registered service, whose owner the store knows.
    pub owner: Option<String>,
    /// Where it is: at least one.
    pub endpoints: Vec<Endpoint>,
    /// What a call needs where no operation says otherwise.
    pub level: Levels,
    /// What happens to a call that matches none of the operations.
    pub unmatched: Unmatched,
    /// Endpoint paths open to all for GET and HEAD, with nothing injected: decoded, `/` and segments, without a
    /// trailing slash.
    pub public: Vec<String>,
    /// Whether, and which, token travels on in `X_CARTA_TOKEN`.
    pub forward_token: TokenForwarding,
    /// Whether who may write it may put a tunnel in the place of its endpoints.
    pub tunnel: bool,
    /// What is added to upstream requests.
    pub inject: Injection,
    /// The named operations; the first that matches decides.
    pub operations: Vec<Operation>,
    /// How long each phase may take.
    pub timeouts: Timeouts,
    /// How the upstream is spoken to.
    pub tls: UpstreamTls,
    /// Cross-origin rules; none: off.
    pub cors: Option<Cors>,
    /// True for a service of the file: file and environment values, any target.
    pub trusted: bool,
}

/// One address of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `http` or `https`, with a host; no query, no fragment, no user information, no trailing slash in its path.
    pub url: Url,
    /// Its share of the calls.
    pub weight: u32,
}

impl Endpoint {
    /// Whether what is sent there can be read on its way: plain HTTP to another machine.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        self.url.scheme() == "http" && !value::is_loopback(&self.url)
    }
}

/// What happens to a call that matches no operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unmatched {
    /// 403.
    Refuse,
    /// It needs the service's level.
    Level,
}

/// Which token travels on in `X_CARTA_TOKEN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenForwarding {
    /// None.
    No,
    /// One minted for this service.
    Minted,
    /// The caller's own; in the file only.
    Full,
}

/// How long each phase may take; `None`: as long as it likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Name resolution, TCP and TLS together.
    pub connect: Option<Duration>,
    /// From the request's head on its way to the response's head.
    pub first_byte: Option<Duration>,
    /// Without a byte in either direction.
    pub idle: Option<Duration>,
    /// From the first to the last byte.
    pub total: Option<Duration>,
}

/// How the upstream is spoken to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UpstreamTls {
    /// PEM certificates that are trusted instead of the system's.
    pub ca: Option<Vec<u8>>,
    /// PEM chain and key with which the gateway proves itself.
    pub identity: Option<(Vec<u8>, Hidden)>,
    /// The HTTP version.
    pub protocol: Protocol,
}

/// The HTTP version towards an upstream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// By ALPN over TLS, HTTP/1.1 otherwise.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, by prior knowledge where there is no TLS.
    Http2,
}

/// Cross-origin rules of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cors {
    /// Origins (`https://app.example.org`), or the single `*`, which excludes credentials.
    pub origins: Vec<String>,
    /// Methods that a preflight may ask for.
    pub methods: Vec<http::Method>,
    /// Request headers that a preflight may ask for.
    pub headers: Vec<HeaderName>,
    /// Response headers that a page may read.
    pub expose: Vec<HeaderName>,
    /// Whether a page may send credentials of the browser.
    pub credentials: bool,
    /// How long a preflight's answer holds.
    pub max_age: Duration,
}

/// What is added to upstream requests, in the order written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Injection {
    /// Headers.
    pub headers: Vec<(HeaderName, Template)>,
    /// Query parameters, by decoded name.
    pub query: Vec<(String, Template)>,
    /// Cookies.
    pub cookies: Vec<(String, Template)>,
    /// Basic authentication.
    pub basic: Option<Basic>,
}

/// Basic authentication (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Basic {
    /// Before the colon; must not contain one.
    pub username: Template,
    /// After it.
    pub password: Template,
}

/// A text with variables. Its literal parts may be secret (`${ENV}`, `file:`), so `Debug` shows variables only.
#[derive(Clone, PartialEq, Eq)]
pub struct Template {
    /// The parts, in order.
    pub parts: Vec<TemplatePart>,
    /// The text as written, with references unresolved: what a consent is for. Not for showing, as a literal in it
    /// may itself be the secret: for that there is `Display`.
    pub written: Arc<str>,
}

impl std::fmt::Display for Template {
    /// What may be shown of it: its variables, with `…` for every literal part, which may be a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in &self.parts {
            match part {
                TemplatePart::Literal(_) => f.write_str("…")?,
                TemplatePart::Variable(variable) => write!(f, "{variable}")?,
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Template({self})")
    }
}

/// One part of a template.
#[derive(Clone, PartialEq, Eq)]
pub enum TemplatePart {
    /// A fixed text, maybe from the environment or a file.
    Literal(Hidden),
    /// A value of the request's user.
    Variable(Variable),
}

/// What a template may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `{secret:NAME}`: the user's own secret, by lower-case name.
    Secret(Arc<str>),
    /// `{user}` or `{user.name}`: the login name.
    UserName,
    /// `{user.id}`.
    UserId,
    /// `{user.email}`.
    UserEmail,
    /// `{groups}`: the local groups, joined by commas.
    Groups,
    /// `{groups.token}`: the groups that the token names, joined by commas.
    TokenGroups,
    /// `{claim:NAME}`: a claim of the token, where it is a text, number or boolean.
    Claim(Arc<str>),
}

impl std::fmt::Display for Variable {
    /// As it is written in a template.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Secret(name) => write!(f, "{{secret:{name}}}"),
            Self::UserName => f.write_str("{user}"),
            Self::UserId => f.write_str("{user.id}"),
            Self::UserEmail => f.write_str("{user.email}"),
            Self::Groups => f.write_str("{groups}"),
            Self::TokenGroups => f.write_str("{groups.token}"),
            Self::Claim(name) => write!(f, "{{claim:{name}}}"),
        }
    }
}
