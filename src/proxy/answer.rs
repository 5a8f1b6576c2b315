//! A response's headers: what of the upstream's never reaches the caller, and what the gateway says.

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, Entry, LOCATION, SET_COOKIE, TRANSFER_ENCODING,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::alias::{canonical_parameter, header_begins, same_header};
use super::error::X_REQUEST_ID;
use super::headers::{Named, read_connection, remove_where};
use super::inject::OWN_COOKIES;
use super::names::{HOP_BY_HOP, is_framing};
use super::target::Door;
use crate::telemetry::RequestId;

/// Removes from a response what must not reach the caller, and says what the gateway says. Returns the names that
/// `Connection` listed; they go from the trailers too.
pub fn pass_headers(headers: &mut HeaderMap, door: Door, request_id: &RequestId) -> Named {
    let is_plain = |name: &HeaderName| !(is_weighed(name.as_str()) || is_removed(name.as_str(), door));
    let named = if headers.keys().all(is_plain) { Named::new() } else { strip(headers, door) };
    headers.insert(X_REQUEST_ID, request_id.header());
    if door == Door::Api {
        // Appended: a policy of the upstream's can only narrow further.
        headers.append(CONTENT_SECURITY_POLICY, HeaderValue::from_static("sandbox"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    }
    named
}

/// Whether more than the name decides what becomes of the line, or it decides about others.
fn is_weighed(name: &str) -> bool {
    matches!(name, "connection" | "set-cookie" | "transfer-encoding")
}

/// Removes what must not reach the caller; the names that `Connection` listed.
fn strip(headers: &mut HeaderMap, door: Door) -> Named {
    let mut named = Named::new();
    read_connection(headers.get_all(CONNECTION).into_iter(), &mut named);
    // RFC 9112 §6.3: where both are sent the chunks tell the length, and whoever passes the message on drops the other.
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    remove_where(headers, |name| is_removed(name, door));
    for name in &named {
        headers.remove(name);
    }
    drop_own_cookies(headers);
    named
}

/// Removes from trailers what would not have been let through as a header.
pub fn strip_trailers(trailers: &mut HeaderMap, door: Door, named: &Named) {
    remove_where(trailers, |name| {
        is_removed(name, door) || is_framing(name) || named.iter().any(|named| named.as_str() == name)
    });
}

/// What a `Location` is rewritten by.
#[derive(Debug)]
pub struct Places<'a> {
    /// What the upstream was asked for.
    pub asked: &'a Url,
    /// The base URLs of the service.
    pub bases: &'a [Url],
    /// The service's address as the caller wrote it: a path without a trailing slash.
    pub prefix: &'a str,
}

/// Rewrites a `Location` under one of the base URLs to the caller's address: to a path, which holds by whatever name the
/// caller came. Any other is left alone.
pub fn rewrite_location(headers: &mut HeaderMap, places: &Places<'_>) {
    let Some(location) = headers.get(LOCATION).and_then(|location| location.to_str().ok()) else { return };
    let Ok(meant) = places.asked.join(location) else { return };
    let Some(below) = places.bases.iter().find_map(|base| below(base, &meant)) else { return };
    let mut rewritten = String::with_capacity(places.prefix.len() + location.len());
    rewritten.push_str(places.prefix);
    rewritten.push_str(below);
    if rewritten.is_empty() {
        rewritten.push('/');
    }
    for (mark, part) in [('?', meant.query()), ('#', meant.fragment())] {
        if let Some(part) = part {
            rewritten.push(mark);
            rewritten.push_str(part);
        }
    }
    if let Ok(value) = HeaderValue::from_str(&rewritten) {
        headers.insert(LOCATION, value);
    }
}

/// What of the path of `url` is below `base`: nothing, or `/` and the rest.
fn below<'a>(base: &Url, url: &'a Url) -> Option<&'a str> {
    if base.origin() != url.origin() || !base.has_host() {
        return None;
    }
    let rest = url.path().strip_prefix(base.path().trim_end_matches('/'))?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// An upstream must not set a cookie of the gateway's: cookies know no ports, so that the UI's origin would get it too.
fn drop_own_cookies(headers: &mut HeaderMap) {
    let is_own = |line: &HeaderValue| {
        let name = line.as_bytes().split(|byte| matches!(byte, b'=' | b';')).next().unwrap_or_default();
        canonical_parameter(name).starts_with(OWN_COOKIES)
    };
    if !headers.get_all(SET_COOKIE).into_iter().any(is_own) {
        return;
    }
    if let Entry::Occupied(lines) = headers.entry(SET_COOKIE) {
        let kept: Vec<_> = lines.remove_entry_mult().1.filter(|line| !is_own(line)).collect();
        for line in kept {
            headers.append(SET_COOKIE, line);
        }
    }
}

fn is_removed(name: &str, door: Door) -> bool {
    let from_api = |names: &[&str]| door == Door::Api && names.contains(&name);
    match name.as_bytes().first() {
        // Cross-origin rules are the gateway's: off unless configured, and then its own.
        Some(b'a') => header_begins(name, "access-control-") || from_api(&["alt-svc"]),
        Some(b'c') => name == "connection" || header_begins(name, "carta-") || from_api(&["clear-site-data"]),
        // The API's origin is the UI's: nothing that an upstream says may last there.
        Some(b's') => {
            from_api(&[SET_COOKIE.as_str(), "set-cookie2", "service-worker-allowed", "strict-transport-security"])
        }
        Some(b'x') => same_header(name, "x-request-id"),
        Some(b'h' | b'k' | b'p' | b't' | b'u') => HOP_BY_HOP.contains(&name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_speaks_of_the_connection_or_for_the_gateway_does_not_reach_the_caller() {
        let id = RequestId::mint();
        let mut headers = map(&[
            ("connection", "x-hop, close"),
            ("x-hop", "1"),
            ("keep-alive", "5"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("carta-gateway", "permission-denied"),
            ("carta_gateway", "permission-denied"),
            ("x-request-id", "theirs"),
            ("x_request_id", "theirs"),
            ("access-control-allow-origin", "*"),
            ("set-cookie", "a=b"),
            ("content-type", "text/html"),
        ]);
        pass_headers(&mut headers, Door::Proxy, &id);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "set-cookie", "x-request-id"]);
        assert_eq!(headers["x-request-id"], id.as_str());
    }

    #[test]
    fn an_upstream_sets_no_cookie_of_the_gateways() {
        let mut headers = HeaderMap::new();
        for line in ["a=1", "__Host-carta-session=evil; Path=/", " __host-CARTA_x=evil", "b=2", "__Host-other=3"] {
            headers.append(SET_COOKIE, HeaderValue::from_static(line));
        }
        pass_headers(&mut headers, Door::Proxy, &RequestId::mint());
        assert_eq!(headers.get_all(SET_COOKIE).iter().collect::<Vec<_>>(), ["a=1", "b=2", "__Host-other=3"]);
    }

    #[test]
    fn on_the_origin_of_the_ui_an_upstream_sets_no_cookie_and_runs_in_a_sandbox() {
        let mut headers = map(&[
            ("set-cookie", "__Host-session=x"),
            ("content-security-policy", "default-src 'self'"),
            ("x-content-type-options", "off"),
            ("clear-site-data", "*"),
            ("service-worker-allowed", "/"),
        ]);
        pass_headers(&mut headers, Door::Api, &RequestId::mint());
        assert!(!headers.contains_key("set-cookie"));
        assert!(!headers.contains_key("clear-site-data") && !headers.contains_key("service-worker-allowed"));
        let policies: Vec<_> = headers.get_all("content-security-policy").iter().collect();
        assert_eq!(policies, ["default-src 'self'", "sandbox"]);
        assert_eq!(headers["x-content-type-options"], "nosniff");
    }

    #[test]
    fn trailers_cannot_carry_what_headers_cannot() {
        let mut trailers = map(&[
            ("grpc-status", "0"),
            ("carta-gateway", "x"),
            ("x-hop", "1"),
            ("content-length", "1"),
            ("set-cookie", "a"),
        ]);
        strip_trailers(&mut trailers, Door::Api, &Named::from_iter([HeaderName::from_static("x-hop")]));
        assert_eq!(trailers.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["grpc-status"]);
    }

    #[test]
    fn a_location_under_the_base_url_leads_back_through_the_gateway() {
        let bases = [Url::parse("http://up.example:81/v2").unwrap(), Url::parse("https://other.example").unwrap()];
        let asked = Url::parse("http://up.example:81/v2/a/b").unwrap();
        for (location, expected) in [
            ("http://up.example:81/v2/x?y=1#z", "/ns/svc/x?y=1#z"),
            ("HTTP://UP.example:81/v2", "/ns/svc"),
            ("http://up.example:81/v2/", "/ns/svc/"),
            ("/v2/x%2Fy", "/ns/svc/x%2Fy"),
            ("c", "/ns/svc/a/c"),
            ("//up.example:81/v2/q", "/ns/svc/q"),
            ("https://other.example", "/ns/svc/"),
            ("http://up.example:81/v2x", "http://up.example:81/v2x"),
            ("http://up.example:81/v2/../admin", "http://up.example:81/v2/../admin"),
            ("http://up.example:82/v2/x", "http://up.example:82/v2/x"),
            ("https://up.example:81/v2/x", "https://up.example:81/v2/x"),
            ("https://elsewhere.example/v2", "https://elsewhere.example/v2"),
            ("/admin", "/admin"),
        ] {
            let mut headers = map(&[]);
            headers.insert(LOCATION, HeaderValue::from_str(location).unwrap());
            rewrite_location(&mut headers, &Places { asked: &asked, bases: &bases, prefix: "/ns/svc" });
            assert_eq!(headers[LOCATION], expected, "{location}");
        }
    }
}
