//! What may be written about a service, in `gateway.toml` or as JSON through the API.

use schemars::JsonSchema;
use serde::Deserialize;

use super::written::Pairs;
use super::{Hidden, defaults};

/// A service. The same table, as JSON, is what the API registers; `${ENV}`, `file:` and `forward_token = "full"` are
/// for the file only.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["namespace", "name", "base_url", "owner"]))]
pub(super) struct ServiceFile {
    /// First part of its path: `[a-z0-9][a-z0-9_-]{0,62}`.
    pub(super) namespace: Option<String>,
    /// Second part of its path: `[a-z0-9][a-z0-9_-]{0,62}`.
    pub(super) name: Option<String>,
    /// Where it is: a URL, or a list of URLs or of `{ url, weight }`.
    pub(super) base_url: Option<BaseUrlFile>,
    /// The user who owns it.
    pub(super) owner: Option<String>,
    /// What a call needs where no operation says otherwise: words (`read, execute`) or letters of `crud`.
    #[schemars(extend("default" = defaults::LEVEL))]
    pub(super) level: Option<String>,
    /// With operations declared, what happens to a request that matches none.
    pub(super) unmatched: Option<UnmatchedFile>,
    /// Exact endpoint paths open to all, for GET and HEAD, with nothing injected.
    pub(super) public: Vec<String>,
    /// `true`: a token minted for this service travels on; `"full"`: the caller's own.
    pub(super) forward_token: Option<ForwardTokenFile>,
    /// Whether who may write the service may put a tunnel in the place of `base_url`. In the file: no, where it is not
    /// written; a registered service takes one.
    pub(super) tunnel: Option<bool>,
    /// How long each phase may take.
    pub(super) timeouts: TimeoutsFile,
    /// How the upstream is spoken to.
    pub(super) tls: UpstreamTlsFile,
    /// What is added to upstream requests.
    pub(super) inject: InjectFile,
    /// Named sets of requests with a level and a resource name of their own; the first that matches decides.
    pub(super) operation: Vec<OperationFile>,
    /// Cross-origin rules; off where the table is absent.
    pub(super) cors: Option<CorsFile>,
}

/// One URL, or a list.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum BaseUrlFile {
    /// One.
    One(Hidden),
    /// Several, each with its share of the calls.
    Many(Vec<EndpointFile>),
}

/// One address of a service.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum EndpointFile {
    /// Its URL.
    Url(Hidden),
    /// URL and weight.
    Table(EndpointTable),
}

/// One address of a service, with its weight.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["url"]))]
pub(super) struct EndpointTable {
    /// Its URL.
    pub(super) url: Option<Hidden>,
    /// Its share of the calls.
    #[schemars(extend("default" = defaults::WEIGHT))]
    pub(super) weight: Option<u32>,
}

/// What happens to a request that matches no operation.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum UnmatchedFile {
    /// 403.
    #[default]
    Refuse,
    /// It needs the service's level.
    Level,
}

/// `false`, `true` or `"full"`.
#[derive(Clone, Copy, Default)]
pub(super) enum ForwardTokenFile {
    #[default]
    No,
    Minted,
    Full,
}

/// How long each phase may take, such as `30s`; `0`: as long as it likes.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct TimeoutsFile {
    /// Name resolution, TCP and TLS together.
    #[schemars(extend("default" = defaults::CONNECT))]
    pub(super) connect: Option<String>,
    /// From the request's head on its way to the response's head.
    #[schemars(extend("default" = defaults::FIRST_BYTE))]
    pub(super) first_byte: Option<String>,
    /// Without a byte in either direction.
    #[schemars(extend("default" = defaults::IDLE))]
    pub(super) idle: Option<String>,
    /// From the first to the last byte.
    #[schemars(extend("default" = defaults::TOTAL))]
    pub(super) total: Option<String>,
}

/// How the upstream is spoken to.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct UpstreamTlsFile {
    /// PEM certificates that are trusted instead of the system's: `file:PATH`.
    pub(super) ca: Option<Hidden>,
    /// PEM chain with which the gateway proves itself: `file:PATH`.
    pub(super) certificate: Option<Hidden>,
    /// PEM private key of that chain: `file:PATH`.
    pub(super) key: Option<Hidden>,
    /// The HTTP version; `auto`: by ALPN over TLS, HTTP/1.1 otherwise.
    pub(super) protocol: Option<ProtocolFile>,
}

/// The HTTP version towards an upstream.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum ProtocolFile {
    /// By ALPN over TLS, HTTP/1.1 otherwise.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, by prior knowledge where there is no TLS.
    Http2,
}

/// What is added to upstream requests. Templates know `{secret:NAME}`, `{user}`, `{user.name}`, `{user.id}`,
/// `{user.email}`, `{groups}` (local groups), `{groups.token}` (those of the token's `groups_claim`) and `{claim:NAME}`; `{{` and
/// `}}` are literal braces; in the file also `${ENV}` and `file:PATH`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct InjectFile {
    /// Headers: name and template.
    pub(super) headers: Pairs,
    /// Query parameters: name and template.
    pub(super) query: Pairs,
    /// Cookies: name and template.
    pub(super) cookies: Pairs,
    /// Basic authentication.
    pub(super) basic_auth: Option<BasicFile>,
}

/// Basic authentication.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["username", "password"]))]
pub(super) struct BasicFile {
    /// Template before the colon.
    pub(super) username: Option<Hidden>,
    /// Template after it.
    pub(super) password: Option<Hidden>,
}

/// An operation.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "match"]))]
pub(super) struct OperationFile {
    /// Its name: one key of the resource name.
    pub(super) name: Option<String>,
    /// `METHOD|METHOD /path`, or a list of such patterns: `*` any characters within a segment, `**` any number of
    /// segments, `{name}` one segment.
    #[serde(rename = "match")]
    pub(super) requests: Option<MatchFile>,
    /// What it needs, where that is not the service's level.
    pub(super) level: Option<String>,
    /// Its resource name.
    #[schemars(extend("default" = defaults::RESOURCE))]
    pub(super) resource: Option<String>,
}

/// One pattern, or a list.
#[derive(JsonSchema)]
#[schemars(untagged)]
pub(super) enum MatchFile {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

/// Cross-origin rules.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["origins"]))]
pub(super) struct CorsFile {
    /// Origins such as `https://app.example.org`, or only `*`.
    #[schemars(length(min = 1))]
    pub(super) origins: Option<Vec<String>>,
    /// Methods that a preflight may ask for.
    #[schemars(extend("default" = defaults::CORS_METHODS))]
    pub(super) methods: Option<Vec<String>>,
    /// Request headers that a preflight may ask for.
    pub(super) headers: Vec<String>,
    /// Response headers that a page may read.
    pub(super) expose: Vec<String>,
    /// Whether a page may send the browser's credentials.
    #[schemars(extend("default" = defaults::CORS_CREDENTIALS))]
    pub(super) credentials: Option<bool>,
    /// How long a preflight's answer holds.
    #[schemars(extend("default" = defaults::CORS_MAX_AGE))]
    pub(super) max_age: Option<String>,
}
