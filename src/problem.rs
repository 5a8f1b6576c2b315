//! The gateway's own answers: one table of every problem type, and the one place that turns a problem into HTTP.
//!
//! The form is `application/problem+json` (RFC 9457). The header `Carta-Gateway` names the type, so that a caller can
//! tell an answer of ours from one of the upstream's with the same status.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Marks an answer as the gateway's own; its value is the problem's slug.
pub const CARTA_GATEWAY: HeaderName = HeaderName::from_static("carta-gateway");

/// The id of a request, on every answer.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A problem on its way to the caller. The detail is for the caller; what only the operator may know goes to the log.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: &'static Kind,
    detail: Cow<'static, str>,
    error: Option<Cow<'static, str>>,
    retry_after: Option<u32>,
    allow: Option<&'static str>,
    more: Option<Box<Map<String, Value>>>,
    kept: Option<Box<Value>>,
}

/// One type of problem: a row of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// Its name in `type` and in the header `Carta-Gateway`.
    pub slug: &'static str,
    /// The status it is answered with.
    pub status: StatusCode,
    /// What it is, in a few words that never change.
    pub title: &'static str,
}

macro_rules! problems {
    ($($(#[$doc:meta])* $name:ident = $status:ident $slug:literal $title:literal;)*) => {
        impl Kind {
            $($(#[$doc])* pub const $name: Self = Self { slug: $slug, status: StatusCode::$status, title: $title };)*

            /// Every type of problem, for the documentation and its tests.
            pub const ALL: &'static [&'static Self] = &[$(&Self::$name),*];
        }
    };
}

problems! {
    // The request itself.
    /// The request is not one that the gateway can read.
    MALFORMED_REQUEST = BAD_REQUEST "malformed-request" "the request is malformed";
    /// The path can be read in two ways, or leaves the service.
    AMBIGUOUS_PATH = BAD_REQUEST "ambiguous-path" "the path is ambiguous";
    /// A method that is not served there.
    METHOD_NOT_ALLOWED = METHOD_NOT_ALLOWED "method-not-allowed" "the method is not served here";
    /// The request target is longer than the limit.
    URI_TOO_LONG = URI_TOO_LONG "uri-too-long" "the request target is too long";
    /// More, or longer, header lines than the limit.
    HEADERS_TOO_LARGE = REQUEST_HEADER_FIELDS_TOO_LARGE "headers-too-large" "the request's headers are too large";
    /// A body beyond the limit.
    BODY_TOO_LARGE = PAYLOAD_TOO_LARGE "body-too-large" "the request's body is too large";
    /// The caller sent its body too slowly.
    REQUEST_TIMEOUT = REQUEST_TIMEOUT "request-timeout" "the request did not arrive in time";
    /// An `Expect` other than `100-continue`.
    EXPECTATION_FAILED = EXPECTATION_FAILED "expectation-failed" "the expectation cannot be met";
    /// Something that is only there for WebSockets.
    UPGRADE_REQUIRED = UPGRADE_REQUIRED "upgrade-required" "a WebSocket is needed here";
    /// Input that the API cannot take.
    INVALID_INPUT = BAD_REQUEST "invalid-input" "the input is not valid";
    /// What should be new is there already.
    DUPLICATE = BAD_REQUEST "duplicate" "it exists already";
    /// The change contradicts what is there.
    CONFLICT = BAD_REQUEST "conflict" "the change contradicts what is there";

    // Who calls.
    /// Nobody is identified.
    NOT_AUTHENTICATED = UNAUTHORIZED "not-authenticated" "nobody is identified";
    /// A credential was sent and does not hold.
    INVALID_CREDENTIAL = UNAUTHORIZED "invalid-credential" "the credential is not valid";
    /// A credential that cannot be read.
    MALFORMED_CREDENTIAL = BAD_REQUEST "malformed-credential" "the credential is malformed";
    /// Two credentials that name different users.
    CONFLICTING_CREDENTIALS = BAD_REQUEST "conflicting-credentials" "the credentials name different users";
    /// The header of the authenticating proxy is required.
    HEADER_REQUIRED = BAD_REQUEST "header-required" "the identity header is required";
    /// Another issuer owns the account's name.
    IDENTITY_CONFLICT = FORBIDDEN "identity-conflict" "the account belongs to another identity";
    /// Only invited users may come in.
    NOT_INVITED = FORBIDDEN "not-invited" "there is no account for this identity";
    /// A page of a foreign origin asks with the identity of its visitor.
    ORIGIN_REFUSED = FORBIDDEN "origin-refused" "the origin may not use this identity";

    // What the caller may do.
    /// The levels held do not reach.
    PERMISSION_DENIED = FORBIDDEN "permission-denied" "permission denied";
    /// The service declares operations, and the call is none of them.
    NO_OPERATION = FORBIDDEN "no-operation" "the call matches no operation of the service";
    /// The token was made for something narrower.
    TOKEN_SCOPE = FORBIDDEN "token-scope" "the token is not good for this call";
    /// No such namespace or service.
    UNKNOWN_SERVICE = NOT_FOUND "unknown-service" "no such service";
    /// Nothing is there.
    NOT_FOUND = NOT_FOUND "not-found" "not found";

    // Secrets. Status 400, because it is the one whose body pycarta shows its user.
    /// The user has not stored a secret that the service needs.
    MISSING_SECRET = BAD_REQUEST "missing-secret" "a secret is missing";
    /// The user has not consented to the secret's way.
    SECRET_CONSENT = BAD_REQUEST "secret-consent" "a consent is missing";
    /// A value that would break the header, cookie or credential that it is for.
    UNUSABLE_VALUE = BAD_REQUEST "unusable-value" "a value cannot be sent to the service";
    /// A value of the user, such as an e-mail or a claim, that the service needs and that is not known.
    MISSING_VALUE = BAD_REQUEST "missing-value" "a value of the user is missing";
    /// The stored secret does not open.
    UNREADABLE_SECRET = INTERNAL_SERVER_ERROR "unreadable-secret" "a stored secret cannot be opened";

    // The upstream.
    /// The address may not be connected to.
    TARGET_REFUSED = BAD_GATEWAY "target-refused" "the service's address is not allowed";
    /// The name does not resolve.
    UPSTREAM_UNRESOLVED = BAD_GATEWAY "upstream-unresolved" "the service's host name does not resolve";
    /// No connection.
    UPSTREAM_UNREACHABLE = BAD_GATEWAY "upstream-unreachable" "the service cannot be reached";
    /// The TLS handshake failed.
    UPSTREAM_TLS = BAD_GATEWAY "upstream-tls" "the service's TLS handshake failed";
    /// The connection ended before an answer.
    UPSTREAM_CLOSED = BAD_GATEWAY "upstream-closed" "the service closed the connection";
    /// The answer is not HTTP, or not one that may be passed on.
    UPSTREAM_PROTOCOL = BAD_GATEWAY "upstream-protocol" "the service's answer is malformed";
    /// No connection in time.
    UPSTREAM_CONNECT_TIMEOUT = GATEWAY_TIMEOUT "upstream-connect-timeout" "connecting to the service took too long";
    /// No answer in time.
    UPSTREAM_TIMEOUT = GATEWAY_TIMEOUT "upstream-timeout" "the service did not answer in time";
    /// Nothing moved for too long before an answer came.
    UPSTREAM_IDLE = GATEWAY_TIMEOUT "upstream-idle-timeout" "the call stood still for too long";
    /// The whole call took too long.
    UPSTREAM_TOTAL = GATEWAY_TIMEOUT "upstream-total-timeout" "the call took too long";

    // The gateway.
    /// As many connections are open as may be.
    TOO_MANY_CONNECTIONS = SERVICE_UNAVAILABLE "too-many-connections" "the gateway takes no more connections now";
    /// The state that decisions read is older than it may be.
    STALE_SNAPSHOT = SERVICE_UNAVAILABLE "stale-snapshot" "the gateway's state is too old to decide";
    /// The keys of an issuer, or the store, cannot be reached, and nothing cached decides.
    IDENTITY_UNAVAILABLE = SERVICE_UNAVAILABLE "identity-unavailable" "the identity cannot be checked now";
    /// As many calls of the user are under way as may be.
    TOO_MANY_TASKS = TOO_MANY_REQUESTS "too-many-tasks" "too many calls are under way";
    /// The user makes changes faster than they may.
    TOO_MANY_CHANGES = TOO_MANY_REQUESTS "too-many-changes" "too many changes were made";
    /// Too many ask for what takes long.
    BUSY = SERVICE_UNAVAILABLE "busy" "the gateway has too much of this to do";
    /// The store cannot be reached.
    STORE_UNAVAILABLE = SERVICE_UNAVAILABLE "store-unavailable" "the store cannot be reached";
    /// The revision that was asked for has not arrived.
    REVISION_PENDING = SERVICE_UNAVAILABLE "revision-pending" "the revision is not here yet";
    /// The service's table cannot be used as it stands.
    SERVICE_MISCONFIGURED = SERVICE_UNAVAILABLE "service-misconfigured" "the service's configuration cannot be used";
    /// A fault of the gateway; the log has it under the request's id.
    INTERNAL = INTERNAL_SERVER_ERROR "internal" "the gateway failed";
    /// Something that this version does not do.
    NOT_IMPLEMENTED = NOT_IMPLEMENTED "not-implemented" "not implemented";
}

impl Problem {
    /// A problem of this type. `detail` is for the caller: what is wrong with the input in backticks, and on a line of
    /// its own what to do next.
    // Most requests have none: what leads here is laid out apart from the way of those.
    #[must_use]
    #[cold]
    pub fn new(kind: &'static Kind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, detail: detail.into(), error: None, retry_after: None, allow: None, more: None, kept: None }
    }

    /// Sets `error`, the phrase that clients look for; without it, it is the first line of the detail.
    #[must_use]
    pub fn phrase(mut self, error: impl Into<Cow<'static, str>>) -> Self {
        self.error = Some(error.into());
        self
    }

    /// Adds a member beside those that every problem has, none of which it replaces.
    #[must_use]
    pub fn with(mut self, member: &str, value: impl Into<Value>) -> Self {
        if STANDARD.contains(&member) {
            return self;
        }
        self.more.get_or_insert_default().insert(member.to_owned(), value.into());
        self
    }

    /// Keeps what the record may show to others than the caller; it is no part of the answer.
    #[must_use]
    pub fn keeping(mut self, value: Value) -> Self {
        self.kept = Some(Box::new(value));
        self
    }

    /// Takes what is kept for the record.
    pub fn take_kept(&mut self) -> Option<Box<Value>> {
        self.kept.take()
    }

    /// Sends `Retry-After` with these seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Sends `Allow` with these methods: RFC 9110 §15.5.6 wants it with every 405.
    #[must_use]
    pub fn allow(mut self, methods: &'static str) -> Self {
        self.allow = Some(methods);
        self
    }

    /// Its type.
    #[must_use]
    pub fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.kind.status
    }

    /// What it says to the caller.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The answer, whole: status, headers and body.
    #[must_use]
    pub fn into_response<B: From<Bytes>>(self, request_id: &str) -> Response<B> {
        let mut response = Response::new(B::from(self.body(request_id)));
        *response.status_mut() = self.kind.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CARTA_GATEWAY, HeaderValue::from_static(self.kind.slug));
        if let Ok(id) = HeaderValue::from_str(request_id) {
            headers.insert(X_REQUEST_ID, id);
        }
        if self.kind.status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge(self.kind)));
        }
        if self.kind.status == StatusCode::UPGRADE_REQUIRED {
            // RFC 9110 §15.5.22, RFC 6455 §4.4.
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(methods) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        response
    }

    fn body(&self, request_id: &str) -> Bytes {
        let error = self.error.as_deref().or_else(|| self.detail.lines().next()).unwrap_or(self.kind.title);
        let body = ProblemBody {
            kind: format!("urn:carta-gateway:problem:{}", self.kind.slug),
            title: self.kind.title,
            status: self.kind.status.as_u16(),
            detail: &self.detail,
            request_id,
            error,
            more: self.more.as_deref(),
        };
        serde_json::to_vec(&body).unwrap_or_default().into()
    }
}

/// The gateway's own answer to what it refuses, or cannot do (RFC 9457). A type may have members of its own beside
/// these, as a refusal has `level`, `resource`, `owner` and `why`.
#[derive(Serialize, ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody<'a> {
    /// The type of problem, as `docs/PROBLEMS.md` lists them.
    #[serde(rename = "type")]
    #[schema(pattern = "^urn:carta-gateway:problem:[a-z-]+$")]
    kind: String,
    /// What it is, in a few words that never change.
    title: &'static str,
    /// The status of the answer.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What is wrong, and on a line of its own what to do.
    detail: &'a str,
    /// The request's id, as in `X-Request-Id`.
    request_id: &'a str,
    /// The phrase that clients look for.
    error: &'a str,
    #[serde(flatten)]
    #[schema(ignore)]
    more: Option<&'a Map<String, Value>>,
}

/// The members that every problem has.
const STANDARD: [&str; 6] = ["type", "title", "status", "detail", "request_id", "error"];

/// RFC 6750 §3: no error code where no credential was sent.
fn challenge(kind: &Kind) -> &'static str {
    if *kind == Kind::INVALID_CREDENTIAL { "Bearer error=\"invalid_token\"" } else { "Bearer" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(problem: Problem) -> (http::response::Parts, Value) {
        let (parts, body) = problem.into_response::<Bytes>("0123").into_parts();
        (parts, serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn a_problem_has_the_members_of_rfc_9457_and_the_phrase_that_clients_look_for() {
        let (parts, body) = answer(
            Problem::new(&Kind::DUPLICATE, "the namespace `a` is taken\nchoose another name")
                .phrase("duplicate record"),
        );
        assert_eq!(parts.status, 400);
        assert_eq!(parts.headers["content-type"], "application/problem+json");
        assert_eq!(parts.headers["carta-gateway"], "duplicate");
        assert_eq!(parts.headers["x-request-id"], "0123");
        assert_eq!(body["type"], "urn:carta-gateway:problem:duplicate");
        assert_eq!(body["status"], 400);
        assert_eq!(body["title"], "it exists already");
        assert_eq!(body["detail"], "the namespace `a` is taken\nchoose another name");
        assert_eq!(body["request_id"], "0123");
        assert_eq!(body["error"], "duplicate record");
    }

    #[test]
    fn a_401_says_how_to_authenticate() {
        let (parts, body) = answer(Problem::new(&Kind::NOT_AUTHENTICATED, "not authenticated"));
        assert_eq!(parts.headers["www-authenticate"], "Bearer");
        assert_eq!(body["error"], "not authenticated");
        let (parts, _) = answer(Problem::new(&Kind::INVALID_CREDENTIAL, "the token has expired"));
        assert_eq!(parts.headers["www-authenticate"], "Bearer error=\"invalid_token\"");
    }

    #[test]
    fn a_further_member_never_replaces_one_of_the_standard() {
        let (_, body) = answer(Problem::new(&Kind::INTERNAL, "x").with("status", 200).with("owner", "alice"));
        assert_eq!(body["status"], 500);
        assert_eq!(body["owner"], "alice");
    }

    #[test]
    fn every_slug_is_one_header_token_and_used_once() {
        let mut slugs: Vec<_> = Kind::ALL.iter().map(|kind| kind.slug).collect();
        assert!(slugs.iter().all(|slug| slug.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
        slugs.sort_unstable();
        let count = slugs.len();
        slugs.dedup();
        assert_eq!(slugs.len(), count);
    }
}
