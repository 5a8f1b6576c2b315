//! Requests that a browser may have been made to send: those identified by what the browser adds on its own.
//!
//! A bearer token is put into `Authorization` by a program that has it. The trusted header, like a cookie, comes with
//! every request of a visitor's browser, whichever page caused it, and so does the password of an address that was once
//! opened as `http://__token__:key@…`: there the page's origin is asked for.

use http::header::{ORIGIN, UPGRADE};
use http::{HeaderMap, Method};

use super::{AuthError, Identity, Proof};

/// Refuses a request of a foreign page: one whose `Origin` is not one of `own` (compared as `scheme://host[:port]`) and
/// is not admitted by `allowed`, or a state-changing method or an upgrade that `Sec-Fetch-Site` calls foreign. Programs
/// send neither, and pass. What was identified by a bearer token always passes.
///
/// # Errors
/// [`AuthError::ForeignOrigin`].
pub fn check_origin(
    identity: &Identity,
    method: &Method,
    headers: &HeaderMap,
    own: &[&str],
    allowed: impl Fn(&str) -> bool,
) -> Result<(), AuthError> {
    if matches!(identity.proof, Proof::Token { .. }) {
        return Ok(());
    }
    let safe = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
    let upgrades = headers.contains_key(UPGRADE) || *method == Method::CONNECT;
    // A browser names the origin of a safe request only where a script of another one asks.
    if safe && !upgrades && !headers.contains_key(ORIGIN) {
        return Ok(());
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    let admitted = match (origins.next(), origins.next()) {
        (Some(origin), None) => origin.to_str().is_ok_and(|origin| own.contains(&origin) || allowed(origin)),
        (Some(_), Some(_)) => false,
        // Browsers send `Origin` with such requests; where one does not, it may still say that the page is foreign.
        (None, _) => {
            headers.get_all("sec-fetch-site").iter().all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"))
        }
    };
    if admitted { Ok(()) } else { Err(AuthError::ForeignOrigin) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::{HeaderName, HeaderValue};
    use jiff::Timestamp;

    use super::*;
    use crate::identity::Account;
    use crate::policy::UserId;

    fn identity(proof: Proof) -> Identity {
        let account = Account {
            id: UserId(uuid::Uuid::nil()),
            name: "ann".into(),
            email: None,
            email_verified: false,
            first_name: None,
            last_name: None,
            organization: None,
            role: "Guest".into(),
            groups: Arc::new([]),
            administrator: false,
            disabled: false,
            tokens_dead_until: None,
            created: Timestamp::UNIX_EPOCH,
        };
        Identity::of(Arc::new(account), proof)
    }

    fn passes(proof: Proof, method: &str, lines: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        let method = method.parse().unwrap();
        let allowed = |origin: &str| origin == "https://app.example.org";
        check_origin(&identity(proof), &method, &headers, &["https://gw.example.org"], allowed).is_ok()
    }

    #[test]
    fn a_foreign_page_cannot_write_or_open_a_websocket_by_the_header() {
        for (method, lines, expected) in [
            ("POST", &[][..], true),
            ("POST", &[("origin", "https://gw.example.org")], true),
            ("POST", &[("origin", "https://app.example.org")], true),
            ("POST", &[("origin", "https://evil.example")], false),
            ("POST", &[("origin", "https://gw.example.org.evil.example")], false),
            ("POST", &[("origin", "http://gw.example.org")], false),
            ("POST", &[("origin", "null")], false),
            ("POST", &[("origin", "https://gw.example.org"), ("origin", "https://gw.example.org")], false),
            ("DELETE", &[("sec-fetch-site", "cross-site")], false),
            ("DELETE", &[("sec-fetch-site", "same-site")], false),
            ("DELETE", &[("sec-fetch-site", "same-origin")], true),
            ("DELETE", &[("sec-fetch-site", "none")], true),
            ("GET", &[("origin", "https://evil.example")], false),
            ("GET", &[("origin", "https://gw.example.org")], true),
            ("GET", &[("sec-fetch-site", "cross-site")], true),
            ("GET", &[("upgrade", "websocket"), ("origin", "https://evil.example")], false),
            ("GET", &[("upgrade", "websocket"), ("origin", "https://gw.example.org")], true),
            ("CONNECT", &[("origin", "https://evil.example")], false),
        ] {
            assert_eq!(
                passes(Proof::Header { email: "a@x.org".into() }, method, lines),
                expected,
                "{method} {lines:?}"
            );
            assert!(passes(Proof::Token { issuer: "i".into() }, method, lines));
        }
    }
}
