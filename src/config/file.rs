//! What may be written in `gateway.toml`. The comments on fields are the descriptions of the JSON Schema.
//!
//! Every field is optional here, so that one wrong entry never hides another; `resolve` says which are required.

use schemars::JsonSchema;
use serde::Deserialize;

use super::service_file::ServiceFile;
use super::{Hidden, defaults};

/// The configuration of carta-gateway. Unknown keys are refused.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "gateway.toml")]
pub(super) struct ConfigFile {
    /// The listeners.
    pub(super) listen: ListenFile,
    /// Bounds on what callers may send.
    pub(super) limits: LimitsFile,
    /// Where records are kept.
    pub(super) store: StoreFile,
    /// The keys under which secrets are sealed.
    pub(super) vault: VaultFile,
    /// Who may prove an identity.
    pub(super) auth: AuthFile,
    /// The services of this file; others are registered at run time.
    pub(super) service: Vec<ServiceFile>,
    /// What may be registered at run time.
    pub(super) register: RegisterFile,
    /// Logs.
    pub(super) log: LogFile,
}

/// The listeners.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListenFile {
    /// IP address and port for calls: `/<namespace>/<service>/<endpoints>`.
    #[schemars(extend("default" = defaults::PROXY))]
    pub(super) proxy: Option<String>,
    /// IP address and port for the Carta REST API, `/service/…` calls and the pages at `/ui/`.
    #[schemars(extend("default" = defaults::API))]
    pub(super) api: Option<String>,
    /// How callers reach the listeners, where that is not the addresses above.
    pub(super) public_url: PublicUrlFile,
    /// Addresses and networks of load balancers: their `X-Forwarded-For`, `-Proto` and `-Host` are extended, anybody
    /// else's replaced. Those of `auth.header.trusted_proxies` need not be listed again; to assert an identity, a peer
    /// must be listed there.
    pub(super) trusted_proxies: Vec<String>,
    /// TLS on both listeners: HTTP/1.1 and HTTP/2 by ALPN.
    pub(super) tls: Option<ListenTlsFile>,
    /// Threads that serve calls; 0: one for each core.
    #[schemars(extend("default" = defaults::WORKERS))]
    pub(super) workers: Option<usize>,
    /// How long requests in flight may take to finish after SIGTERM.
    #[schemars(extend("default" = defaults::DRAIN))]
    pub(super) drain: Option<String>,
}

/// How callers reach the listeners.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PublicUrlFile {
    /// The proxy listener's URL, such as `https://gw.example.org`.
    pub(super) proxy: Option<String>,
    /// The API listener's URL, such as `https://api.gw.example.org`.
    pub(super) api: Option<String>,
}

/// The listeners' certificate; read again when the files change.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["certificate", "key"]))]
pub(super) struct ListenTlsFile {
    /// Path of the PEM chain, leaf first.
    pub(super) certificate: Option<String>,
    /// Path of the PEM private key.
    pub(super) key: Option<String>,
}

/// Bounds on what callers may send.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitsFile {
    /// Bytes of a request's head.
    #[schemars(extend("default" = defaults::HEADER_BYTES))]
    pub(super) header_bytes: Option<usize>,
    /// Header lines of a request.
    #[schemars(extend("default" = defaults::HEADERS))]
    pub(super) headers: Option<usize>,
    /// Bytes of a request's target: path and query.
    #[schemars(extend("default" = defaults::URI_BYTES))]
    pub(super) uri_bytes: Option<usize>,
    /// Bytes of a request body that is passed on; 0: unbounded.
    #[schemars(extend("default" = defaults::BODY_BYTES))]
    pub(super) body_bytes: Option<u64>,
    /// Bytes of a request body that the API itself reads.
    #[schemars(extend("default" = defaults::API_BODY_BYTES))]
    pub(super) api_body_bytes: Option<usize>,
    /// Changes that a user who is no administrator makes by the API at once.
    #[schemars(extend("default" = defaults::CHANGES))]
    pub(super) changes: Option<u32>,
    /// How many of those come back in an hour; 0: unbounded.
    #[schemars(extend("default" = defaults::CHANGES_PER_HOUR))]
    pub(super) changes_per_hour: Option<u32>,
    /// Connections open at once on a listener.
    #[schemars(extend("default" = defaults::CONNECTIONS))]
    pub(super) connections: Option<usize>,
    /// Streams open at once on an HTTP/2 connection.
    #[schemars(extend("default" = defaults::H2_STREAMS))]
    pub(super) h2_streams: Option<u32>,
    /// For the TLS handshake.
    #[schemars(extend("default" = defaults::HANDSHAKE_TIMEOUT))]
    pub(super) handshake_timeout: Option<String>,
    /// For the whole head of a request to arrive.
    #[schemars(extend("default" = defaults::HEADER_TIMEOUT))]
    pub(super) header_timeout: Option<String>,
    /// For the whole body of a request that the API reads.
    #[schemars(extend("default" = defaults::API_BODY_TIMEOUT))]
    pub(super) api_body_timeout: Option<String>,
    /// For the next request on a connection that is kept, and for a caller that takes nothing of its answer.
    #[schemars(extend("default" = defaults::KEEP_ALIVE))]
    pub(super) keep_alive: Option<String>,
}

/// Where records are kept.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StoreFile {
    /// `sqlite://PATH`; the path starts at this file's directory. May hold `${ENV}`.
    #[schemars(extend("default" = defaults::STORE_URL))]
    pub(super) url: Option<Hidden>,
    /// With the store away: serve the last snapshot this long, then refuse.
    #[schemars(extend("default" = defaults::MAX_STALENESS))]
    pub(super) max_staleness: Option<String>,
}

/// The keys under which secrets are sealed: 32 bytes each, in base64, by `file:PATH` or `${ENV}`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct VaultFile {
    /// Seals and opens.
    #[schemars(extend("default" = defaults::VAULT_KEY))]
    pub(super) key: Option<Hidden>,
    /// Older keys: still opened with, never sealed with.
    pub(super) previous: Vec<Hidden>,
}

/// Who may prove an identity.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AuthFile {
    /// The built-in issuer; also answers Cognito's login for pycarta.
    pub(super) local: LocalFile,
    /// Issuers whose tokens are accepted: any OIDC provider, a Cognito user pool among them.
    pub(super) jwt: Vec<JwtFile>,
    /// Identity asserted by an authenticating proxy, such as oauth2-proxy; off where the table is absent.
    pub(super) header: Option<HeaderFile>,
}

/// The built-in issuer.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LocalFile {
    /// Whether it issues and accepts tokens.
    #[schemars(extend("default" = defaults::LOCAL_ENABLED))]
    pub(super) enabled: Option<bool>,
    /// `<region>_<name>` with exactly one underscore. Part of every password verifier: cannot change once users exist.
    #[schemars(extend("default" = defaults::POOL_ID))]
    pub(super) pool_id: Option<String>,
    /// The audience of its tokens.
    #[schemars(extend("default" = defaults::CLIENT_ID))]
    pub(super) client_id: Option<String>,
    /// How long its tokens live.
    #[schemars(extend("default" = defaults::TOKEN_TTL))]
    pub(super) token_ttl: Option<String>,
    /// The keys by which administrators look users up and reset passwords with Cognito's calls.
    pub(super) admin_keys: Vec<AdminKeyFile>,
}

/// An access key, as AWS has them: give it to boto3 as `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["id", "secret"]))]
pub(super) struct AdminKeyFile {
    /// Its id: 16 to 128 letters, digits and `_`.
    pub(super) id: Option<String>,
    /// What signs: at least 32 characters. `file:PATH` or `${ENV}`.
    pub(super) secret: Option<Hidden>,
}

/// An issuer of tokens.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["issuer", "audience"]))]
pub(super) struct JwtFile {
    /// The `iss` of its tokens, exactly as they have it.
    pub(super) issuer: Option<String>,
    /// The `aud` values (or Cognito client ids) that are accepted. An unset audience is a fault.
    #[schemars(length(min = 1))]
    pub(super) audience: Option<Vec<String>>,
    /// Where its keys are; where absent, by discovery.
    pub(super) jwks_url: Option<String>,
    /// PEM certificates to trust when fetching them, instead of the system's: `file:PATH`.
    pub(super) ca: Option<Hidden>,
    /// Whether keys may be fetched over plain HTTP from a host that is not loopback.
    #[schemars(extend("default" = defaults::ALLOW_HTTP))]
    pub(super) allow_http: Option<bool>,
    /// The claim that names the user; `cognito:username` for Cognito.
    #[schemars(extend("default" = defaults::USER_CLAIM))]
    pub(super) user_claim: Option<String>,
    /// The claim that has the e-mail.
    #[schemars(extend("default" = defaults::EMAIL_CLAIM))]
    pub(super) email_claim: Option<String>,
    /// The claim that has the groups; `cognito:groups` for Cognito. Templates know them as `{groups.token}`; no decision
    /// reads them, and they join no local group.
    #[schemars(extend("default" = defaults::GROUPS_CLAIM))]
    pub(super) groups_claim: Option<String>,
    /// Whether an unknown user gets an account.
    #[schemars(extend("default" = defaults::CREATE_USERS))]
    pub(super) create_users: Option<bool>,
    /// The role of an account so made.
    #[schemars(extend("default" = defaults::NEW_USER_ROLE))]
    pub(super) new_user_role: Option<String>,
}

/// Identity asserted by an authenticating proxy.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HeaderFile {
    /// The header that has the e-mail.
    #[schemars(extend("default" = defaults::HEADER_NAME))]
    pub(super) name: Option<String>,
    /// Networks of the peers that may assert it. An empty list trusts nobody.
    pub(super) trusted_proxies: Vec<String>,
    /// Whether a request without any credential gets 400.
    #[schemars(extend("default" = defaults::HEADER_REQUIRED))]
    pub(super) required: Option<bool>,
    /// Whether an unknown e-mail gets an account; else 403.
    #[schemars(extend("default" = defaults::CREATE_USERS))]
    pub(super) create_users: Option<bool>,
    /// The role of the first account ever made, where it is to have another; it is made also where others are not.
    pub(super) first_user_role: Option<String>,
    /// The role of every other account so made.
    #[schemars(extend("default" = defaults::NEW_USER_ROLE))]
    pub(super) new_user_role: Option<String>,
}

/// What may be registered at run time. Judged again on the resolved address at every connect; the gateway's own
/// listeners and link-local addresses are always refused.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RegisterFile {
    /// Host names, or `*.` and a suffix.
    pub(super) allow_hosts: Vec<String>,
    /// Whether loopback addresses may be connected to.
    #[schemars(extend("default" = defaults::ALLOW_LOOPBACK))]
    pub(super) allow_loopback: Option<bool>,
    /// Whether addresses of private networks may be connected to.
    #[schemars(extend("default" = defaults::ALLOW_PRIVATE))]
    pub(super) allow_private: Option<bool>,
}

/// Logs.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LogFile {
    /// Which lines: `info`, `warn,carta_gateway=debug`.
    #[schemars(extend("default" = defaults::LOG_FILTER))]
    pub(super) filter: Option<String>,
    /// Lines for people, or for machines.
    pub(super) format: Option<LogFormatFile>,
    /// Whether each request leaves a line.
    #[schemars(extend("default" = defaults::LOG_ACCESS))]
    pub(super) access: Option<bool>,
}

/// The shape of log lines.
#[derive(Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormatFile {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}
