//! Which headers of a request are whose: the lists, and the judgement of one name.

use super::alias::{header_begins, same_header};

/// For one connection only (RFC 9110 §7.6.1), or an invitation to speak another protocol on it.
pub(super) const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "http2-settings",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// What says who somebody is, or speaks to the gateway: never the caller's to say to an upstream.
const IDENTITY: [&str; 6] = [
    "authorization",
    "x-forwarded-access-token",
    "x-forwarded-email",
    "x-forwarded-groups",
    "x-forwarded-preferred-username",
    "x-forwarded-user",
];
const IDENTITY_PREFIXES: [&str; 4] = ["carta-", "secret-", "x-auth-request-", "x-carta-"];

/// What says where a request came from: only a trusted proxy's word counts.
const FORWARDED: [&str; 5] = ["forwarded", "true-client-ip", "x-client-ip", "x-cluster-client-ip", "x-real-ip"];
const FORWARDED_PREFIX: &str = "x-forwarded-";

/// What makes some upstreams serve another path than the one that was judged.
const PATH_OVERRIDES: [&str; 3] = ["x-original-uri", "x-original-url", "x-rewrite-url"];

/// What makes some upstreams serve another method than the one that was judged.
const METHOD_OVERRIDES: [&str; 3] = ["x-http-method", "x-http-method-override", "x-method-override"];

/// How this request's headers are judged.
#[derive(Clone, Copy, Debug)]
pub struct Rules<'a> {
    /// The canonical names of the headers that the service's injection sets.
    pub injected: &'a [Box<str>],
    /// The canonical name of the header by which a trusted proxy names the user.
    pub identity_header: Option<&'a str>,
    /// Whether the peer is a trusted proxy.
    pub trusted_peer: bool,
    /// Whether the method decides: the service has operations, which read it, or is open to all, but for reading only.
    pub judges_method: bool,
}

pub(super) fn is_removed(name: &str, rules: &Rules<'_>) -> bool {
    // The first letter rules out most names at once.
    let ours = match name.as_bytes().first() {
        Some(b'a' | b'c' | b'h' | b'k' | b'p' | b's' | b'u') => {
            name == "host" || is_hop_by_hop(name) || is_identity(name) || is_odd_framing(name)
        }
        Some(b't') => {
            is_hop_by_hop(name)
                || is_odd_framing(name)
                || (is_forwarded(name) && !rules.trusted_peer)
                || matches!(name, "traceparent" | "tracestate")
        }
        Some(b'f') => is_forwarded(name),
        Some(b'x') => {
            is_identity(name)
                || same_header(name, "x-request-id")
                || any_same(name, &PATH_OVERRIDES)
                || (rules.judges_method && any_same(name, &METHOD_OVERRIDES))
                || is_forwarded(name) && !(rules.trusted_peer && is_believed(name))
        }
        _ => false,
    };
    ours || rules.injected.iter().any(|injected| same_header(name, injected))
        || rules.identity_header.is_some_and(|header| same_header(name, header))
}

fn is_hop_by_hop(name: &str) -> bool {
    any_same(name, &HOP_BY_HOP)
}

fn is_identity(name: &str) -> bool {
    IDENTITY_PREFIXES.iter().any(|prefix| header_begins(name, prefix)) || any_same(name, &IDENTITY)
}

fn is_forwarded(name: &str) -> bool {
    header_begins(name, FORWARDED_PREFIX) || any_same(name, &FORWARDED)
}

/// Of a trusted proxy's words those that are passed on as they are: in the one right spelling, and not the three that
/// are extended.
fn is_believed(name: &str) -> bool {
    name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !matches!(name, "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host")
}

pub(super) fn is_framing(name: &str) -> bool {
    any_same(
        name,
        &[
            "content-length",
            "content-encoding",
            "content-type",
            "content-range",
            "host",
            "trailer",
            "transfer-encoding",
        ],
    )
}

/// `Content_Length` and the like: framing in a spelling that only a careless reader takes for it.
fn is_odd_framing(name: &str) -> bool {
    is_framing(name) && name.bytes().any(|byte| !byte.is_ascii_alphanumeric() && byte != b'-')
}

fn any_same(name: &str, canonical: &[&str]) -> bool {
    canonical.iter().any(|canonical| same_header(name, canonical))
}
