//! Every default in one place, as it would be written. `gateway.toml.example` shows the same, and a test holds it to it.
//!
//! The rule: what is not written is what is safe on one machine. Nothing listens beyond loopback, nobody is trusted,
//! nothing may be registered that points inward, and every wait ends.

// --- [listen]: loopback, as a gateway without TLS must not be found from outside ---
pub(super) const PROXY: &str = "127.0.0.1:8080";
pub(super) const API: &str = "127.0.0.1:8081";
/// 0: one worker a core.
pub(super) const WORKERS: usize = 0;
/// As long as an orchestrator usually waits between SIGTERM and SIGKILL.
pub(super) const DRAIN: &str = "30s";

// --- [limits]: far above what honest clients send, far below what hurts ---
pub(super) const HEADER_BYTES: usize = 64 * 1024;
pub(super) const HEADERS: usize = 100;
pub(super) const URI_BYTES: usize = 16 * 1024;
/// 0: unbounded, as bodies are streamed and never held.
pub(super) const BODY_BYTES: u64 = 0;
pub(super) const API_BODY_BYTES: usize = 1024 * 1024;
/// As one who sets up a thousand services with their grants makes at once.
pub(super) const CHANGES: u32 = 5000;
/// Ten a second: the audit grows by some 1 GB a day at most.
pub(super) const CHANGES_PER_HOUR: u32 = 36_000;
pub(super) const CONNECTIONS: usize = 10_000;
pub(super) const H2_STREAMS: u32 = 128;
pub(super) const HANDSHAKE_TIMEOUT: &str = "10s";
pub(super) const HEADER_TIMEOUT: &str = "15s";
pub(super) const API_BODY_TIMEOUT: &str = "30s";
pub(super) const KEEP_ALIVE: &str = "75s";

// --- [store], [vault] ---
pub(super) const STORE_URL: &str = "sqlite://carta.db";
pub(super) const MAX_STALENESS: &str = "5m";
pub(super) const VAULT_KEY: &str = "file:vault.key";

// --- [auth.local]: something to sign in with from the first minute; there is no default user and no default password ---
pub(super) const LOCAL_ENABLED: bool = true;
pub(super) const POOL_ID: &str = "local_carta";
pub(super) const CLIENT_ID: &str = "carta";
pub(super) const TOKEN_TTL: &str = "8h";

// --- [[auth.jwt]]: the claims of OpenID Connect ---
pub(super) const USER_CLAIM: &str = "preferred_username";
pub(super) const EMAIL_CLAIM: &str = "email";
pub(super) const GROUPS_CLAIM: &str = "groups";
/// Plain HTTP would let anybody on the way hand out keys; loopback has no way.
pub(super) const ALLOW_HTTP: bool = false;

// --- [auth.header]: what oauth2-proxy sends, believed from nobody until proxies are listed ---
pub(super) const HEADER_NAME: &str = "X-Forwarded-Email";
pub(super) const HEADER_REQUIRED: bool = false;
pub(super) const CREATE_USERS: bool = true;
pub(super) const NEW_USER_ROLE: &str = "Guest";

// --- [[service]] ---
pub(super) const LEVEL: &str = "execute";
pub(super) const WEIGHT: u32 = 1;
pub(super) const RESOURCE: &str = "{namespace}.{service}.{operation}";
pub(super) const CONNECT: &str = "2s";
pub(super) const FIRST_BYTE: &str = "30s";
pub(super) const IDLE: &str = "60s";
/// "0": none, as streams may last for days.
pub(super) const TOTAL: &str = "0";

// --- [service.cors] ---
pub(super) const CORS_METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];
pub(super) const CORS_CREDENTIALS: bool = false;
pub(super) const CORS_MAX_AGE: &str = "10m";

// --- [register] ---
pub(super) const ALLOW_LOOPBACK: bool = false;
pub(super) const ALLOW_PRIVATE: bool = false;

// --- [log] ---
pub(super) const LOG_FILTER: &str = "info";
pub(super) const LOG_ACCESS: bool = true;
