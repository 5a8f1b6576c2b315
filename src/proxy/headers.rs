//! A request's headers: what of the caller's never reaches the upstream, and what the gateway adds.
//!
//! All of the caller's is removed before anything of ours is added, so that nothing the caller sends, `Connection`
//! least of all, can remove or double what the gateway sets.

use std::borrow::Cow;
use std::net::IpAddr;

use http::header::{AsHeaderName, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use smallvec::SmallVec;

use super::error::{Kind, Problem, X_REQUEST_ID};
use super::names::{HOP_BY_HOP, Rules, is_framing, is_removed};
use crate::telemetry::{RequestId, TraceParent};

const X_CARTA_USER: HeaderName = HeaderName::from_static("x-carta-user");
const X_CARTA_EMAIL: HeaderName = HeaderName::from_static("x-carta-email");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What a value of the caller's identity may not hold as it is: see [`identity_value`].
const NOT_IN_IDENTITY: AsciiSet = CONTROLS.add(b' ').add(b'%').add(b',').add(b'"').add(b';');

/// What of the removed headers the walk needs to know.
#[derive(Debug, Default)]
pub struct Removed {
    /// The names that `Connection` listed; they go from the trailers too.
    pub named: Named,
    /// The protocols that the caller wants to change to, without those that would only hide more requests.
    pub upgrade: Option<HeaderValue>,
    /// Whether the caller takes trailers.
    pub trailers: bool,
    /// Whether the caller waits for `100 Continue`.
    pub expects_continue: bool,
    forwarded: Forwarded,
}

/// Header names that `Connection` listed: seldom any.
pub type Named = SmallVec<[HeaderName; 2]>;

/// What the request said about where it came from, as far as it is believed.
#[derive(Debug, Default)]
struct Forwarded {
    chain: Option<HeaderValue>,
    proto: Option<HeaderValue>,
    host: Option<HeaderValue>,
    trace: Option<HeaderValue>,
    trace_state: SmallVec<[HeaderValue; 1]>,
}

/// What the gateway adds to every request.
#[derive(Debug)]
pub struct Added<'a> {
    /// The login name, where the call needs one.
    pub user: Option<&'a str>,
    /// The e-mail address, where one is known.
    pub email: Option<&'a str>,
    /// The request's id.
    pub request_id: &'a RequestId,
    /// The peer.
    pub peer: IpAddr,
    /// Whether the peer came by TLS.
    pub tls: bool,
}

/// Removes from a request whatever must not travel on. `uri` is the request's own, for its authority.
///
/// # Errors
/// 417 for an expectation other than `100-continue`.
pub fn strip_request(headers: &mut HeaderMap, uri: &Uri, rules: &Rules<'_>) -> Result<Removed, Problem> {
    let mut removed = Removed { trailers: lists(headers, TE, "trailers"), ..Removed::default() };
    if let Some(expectation) = headers.get(EXPECT) {
        if !expectation.as_bytes().eq_ignore_ascii_case(b"100-continue") || headers.get_all(EXPECT).iter().count() > 1 {
            return Err(Problem::new(&Kind::EXPECTATION_FAILED, "no expectation but `100-continue` can be met"));
        }
        removed.expects_continue = true;
    }
    let wants_upgrade = read_connection(headers, &mut removed.named);
    if wants_upgrade {
        removed.upgrade = protocols(headers);
    }
    removed.forwarded = Forwarded::read(headers, uri, rules.trusted_peer);
    let mut gone: SmallVec<[HeaderName; 12]> = SmallVec::new();
    gone.extend(headers.keys().filter(|name| is_removed(name.as_str(), rules)).cloned());
    for name in gone.iter().chain(&removed.named) {
        if *name == TRANSFER_ENCODING {
            // The body is read by its chunks, and framed anew (RFC 9112 §6.3).
            headers.remove(CONTENT_LENGTH);
        }
        headers.remove(name);
    }
    Ok(removed)
}

/// Adds what the gateway says to the upstream, but for injections and `Host`, which is the endpoint's. To be called after
/// [`strip_request`]. Returns the trace that the call belongs to.
pub fn add_to_request(headers: &mut HeaderMap, removed: &mut Removed, added: &Added<'_>) -> TraceParent {
    let forwarded = std::mem::take(&mut removed.forwarded);
    if let Some(user) = added.user {
        headers.insert(X_CARTA_USER, identity_value(user));
    }
    if let Some(email) = added.email {
        headers.insert(X_CARTA_EMAIL, identity_value(email));
    }
    headers.insert(X_REQUEST_ID, added.request_id.header());
    let trace = TraceParent::follow(forwarded.trace.as_ref().map(HeaderValue::as_bytes));
    headers.insert(TRACEPARENT, trace.header());
    let follows = forwarded
        .trace
        .is_some_and(|inbound| inbound.as_bytes().windows(32).any(|digits| digits == trace.trace_id().as_bytes()));
    if follows {
        for state in forwarded.trace_state {
            headers.append(TRACESTATE, state);
        }
    }
    if let Ok(chain) = chain(forwarded.chain.as_ref(), added.peer) {
        headers.insert(X_FORWARDED_FOR, chain);
    }
    let proto = forwarded.proto.unwrap_or_else(|| HeaderValue::from_static(if added.tls { "https" } else { "http" }));
    headers.insert(X_FORWARDED_PROTO, proto);
    if let Some(host) = forwarded.host {
        headers.insert(X_FORWARDED_HOST, host);
    }
    if removed.trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocols) = &removed.upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocols.clone());
    }
    trace
}

/// Removes from trailers what would not have been let through as a header: on the way to the upstream.
pub fn strip_request_trailers(trailers: &mut HeaderMap, rules: &Rules<'_>, named: &Named) {
    remove_where(trailers, |name| {
        is_removed(name, rules)
            || is_framing(name)
            || name == "cookie"
            || named.iter().any(|named| named.as_str() == name)
    });
}

/// A name or an address as a header value. Visible ASCII stays; everything else, and `%` `,` `;` `"`, is percent-encoded
/// UTF-8, so that a reader gets one unambiguous token whatever the name holds, and never a list, a parameter or a value
/// whose blanks were trimmed away.
#[must_use]
pub fn identity_value(text: &str) -> HeaderValue {
    let encoded: Cow<'_, str> = utf8_percent_encode(text, &NOT_IN_IDENTITY).into();
    HeaderValue::from_str(&encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

pub(super) fn remove_where(headers: &mut HeaderMap, is_gone: impl Fn(&str) -> bool) {
    let gone: SmallVec<[HeaderName; 8]> = headers.keys().filter(|name| is_gone(name.as_str())).cloned().collect();
    for name in &gone {
        headers.remove(name);
    }
}

/// Reads what `Connection` lists into `named`; whether `upgrade` is among it.
pub(super) fn read_connection(headers: &HeaderMap, named: &mut Named) -> bool {
    let mut upgrade = false;
    for option in members(headers, CONNECTION) {
        if option.eq_ignore_ascii_case(b"upgrade") {
            upgrade = true;
        } else if let Ok(name) = HeaderName::from_bytes(option)
            && !HOP_BY_HOP.contains(&name.as_str())
            && name != "close"
        {
            named.push(name);
        }
    }
    upgrade
}

/// The members of a header that is a list of tokens, over all its lines.
fn members(headers: &HeaderMap, name: impl AsHeaderName) -> impl Iterator<Item = &[u8]> {
    let lines = headers.get_all(name).into_iter();
    lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b',')).map(<[u8]>::trim_ascii).filter(|m| !m.is_empty())
}

fn lists(headers: &HeaderMap, name: impl AsHeaderName, wanted: &str) -> bool {
    members(headers, name).any(|member| {
        let token = member.split(|byte| *byte == b';').next().unwrap_or_default();
        token.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes())
    })
}

/// The protocols of `Upgrade` that may be asked for. HTTP itself may not: requests inside such a connection would be
/// seen by nobody. TLS may not either.
fn protocols(headers: &HeaderMap) -> Option<HeaderValue> {
    let mut kept: Vec<u8> = Vec::new();
    for protocol in members(headers, UPGRADE) {
        let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
        if [&b"h2c"[..], b"h2", b"http", b"tls"].iter().any(|hidden| name.eq_ignore_ascii_case(hidden)) {
            continue;
        }
        if !kept.is_empty() {
            kept.extend_from_slice(b", ");
        }
        kept.extend_from_slice(protocol);
    }
    if kept.is_empty() { None } else { HeaderValue::from_bytes(&kept).ok() }
}

impl Forwarded {
    fn read(headers: &HeaderMap, uri: &Uri, trusted: bool) -> Self {
        let one = |name: HeaderName| {
            let mut lines = headers.get_all(name).into_iter();
            lines.next().filter(|_| lines.next().is_none()).cloned()
        };
        let own_host = || {
            let authority = uri.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
            authority.or_else(|| headers.get(HOST).cloned())
        };
        let trace = one(TRACEPARENT);
        let trace_state = headers.get_all(TRACESTATE).into_iter().cloned().collect();
        if !trusted {
            return Self { chain: None, proto: None, host: own_host(), trace, trace_state };
        }
        let mut lines = headers.get_all(X_FORWARDED_FOR).into_iter();
        let chain = match (lines.next(), lines.next()) {
            (Some(only), None) => Some(only.clone()),
            (Some(_), Some(_)) => joined(headers.get_all(X_FORWARDED_FOR).into_iter()),
            (None, _) => None,
        };
        let proto = one(X_FORWARDED_PROTO).filter(|proto| matches!(proto.as_bytes(), b"http" | b"https"));
        let host = one(X_FORWARDED_HOST).filter(|host| !host.is_empty() && !host.as_bytes().contains(&b','));
        Self { chain, proto, host: host.or_else(own_host), trace, trace_state }
    }
}

fn joined<'a>(lines: impl Iterator<Item = &'a HeaderValue>) -> Option<HeaderValue> {
    let lines: Vec<_> = lines.map(HeaderValue::as_bytes).collect();
    HeaderValue::from_bytes(&lines.join(&b", "[..])).ok()
}

fn chain(before: Option<&HeaderValue>, peer: IpAddr) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    match before.filter(|before| !before.is_empty()) {
        None => HeaderValue::from_str(&peer.to_string()),
        Some(before) => {
            let mut chain = before.as_bytes().to_vec();
            chain.extend_from_slice(b", ");
            chain.extend_from_slice(peer.to_string().as_bytes());
            HeaderValue::from_bytes(&chain)
        }
    }
}

#[cfg(test)]
mod tests;
