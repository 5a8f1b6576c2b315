//! What a request offers as proof: at most one `Authorization`, and the trusted header where the peer may send it.

use std::borrow::Cow;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use super::AuthError;
use super::api_token::key_digest;
use crate::config::TrustedHeader;
use crate::store::KeyDigest;

/// The longest e-mail address, in bytes (RFC 5321 §4.5.3.1.3).
const EMAIL_BYTES: usize = 254;

/// The longest user name and password together with their colon, in bytes: a key of ours has fewer.
const BASIC_BYTES: usize = 256;

/// What was offered; nothing of it is proved, and whatever is there must hold.
#[derive(PartialEq, Eq)]
pub(super) struct Offered<'h> {
    /// The bearer token, or the key of an API token.
    pub(super) token: Option<Credential<'h>>,
    /// The lower-cased address that a trusted peer asserts.
    pub(super) email: Option<Cow<'h, str>>,
}

impl std::fmt::Debug for Offered<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Offered {{ token: {}, email: {} }}", self.token.is_some(), self.email.is_some())
    }
}

/// What `Authorization` holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Credential<'h> {
    /// What stands where a bearer token should.
    Bearer(Bearer<'h>),
    /// The key of an API token, as its digest: the key itself is wiped at once.
    Key(KeyDigest),
}

impl Credential<'_> {
    /// What is wrong with it already as it stands.
    fn fault(self) -> Option<AuthError> {
        match self {
            Self::Bearer(bearer) => bearer.token().err(),
            Self::Key(_) => None,
        }
    }
}

/// What `Authorization` holds after `Bearer`, as it came: bytes that nobody has looked at. What was verified before is
/// found again by them; for everything else [`Bearer::token`] comes first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Bearer<'h>(&'h [u8]);

impl<'h> Bearer<'h> {
    /// The bytes.
    pub(super) fn bytes(self) -> &'h [u8] {
        self.0
    }

    /// The token, if the bytes can be one (RFC 6750 §2.1).
    pub(super) fn token(self) -> Result<&'h str, AuthError> {
        let is_shown = |b: &u8| matches!(b, b' '..=b'~' | b'\t');
        let text = std::str::from_utf8(self.0).ok().filter(|text| text.as_bytes().iter().all(is_shown));
        let token = text.ok_or(UNPRINTABLE)?;
        if token.contains(',') {
            return Err(AuthError::Malformed("`Authorization` holds more than one credential"));
        }
        let is_token68 = |b: u8| b.is_ascii_alphanumeric() || b"-._~+/=".contains(&b);
        if token.is_empty() || !token.bytes().all(is_token68) {
            return Err(AuthError::Invalid("`Authorization` holds no bearer token"));
        }
        Ok(token)
    }
}

const UNPRINTABLE: AuthError = AuthError::Invalid("`Authorization` holds characters that no token has");

/// Reads the credentials. One that is there and is bad is an error, and never ignored in favour of another.
pub(super) fn offered<'h>(
    headers: &'h HeaderMap,
    trusted: Option<&TrustedHeader>,
    peer: IpAddr,
) -> Result<Offered<'h>, AuthError> {
    let token = authorization(headers)?;
    let email = match trusted {
        Some(rules) if is_listed(rules, peer) => {
            asserted(headers, rules).map_err(|error| token.and_then(Credential::fault).unwrap_or(error))?
        }
        _ => None,
    };
    match (&token, &email, trusted) {
        (None, None, Some(rules)) if rules.required => Err(AuthError::HeaderRequired(rules.name.to_string())),
        (None, None, _) => Err(AuthError::Missing),
        _ => Ok(Offered { token, email }),
    }
}

/// An address as a proxy or an issuer may assert it, lower-cased; none unless it has one `@` with something on both
/// sides, and no comma, blank, control or invisible character, which the next reader might take for two addresses.
#[must_use]
pub fn email(text: &str) -> Option<Cow<'_, str>> {
    let (local, domain) = text.split_once('@')?;
    if local.is_empty() || domain.is_empty() || domain.contains('@') || text.contains(is_unfit) {
        return None;
    }
    let lower = if text.bytes().all(|b| b.is_ascii() && !b.is_ascii_uppercase()) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.to_lowercase())
    };
    // The Kelvin sign would become the letter k, and one address another.
    if lower.is_ascii() != text.is_ascii() {
        return None;
    }
    (text.len() <= EMAIL_BYTES && lower.len() <= EMAIL_BYTES).then_some(lower)
}

fn authorization(headers: &HeaderMap) -> Result<Option<Credential<'_>>, AuthError> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(AuthError::Malformed("`Authorization` was sent twice"));
    }
    let bytes = line.as_bytes();
    let (scheme, rest) = bytes.split_at(bytes.iter().position(|byte| *byte == b' ').unwrap_or(bytes.len()));
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return Ok(Some(Credential::Bearer(Bearer(without_blanks(rest)))));
    }
    let rest = line.to_str().map_err(|_| UNPRINTABLE)?.split_once(' ').map_or("", |(_, rest)| rest);
    if scheme.eq_ignore_ascii_case(b"basic") {
        return basic(rest.trim_matches(' ')).map(|digest| Some(Credential::Key(digest)));
    }
    Err(AuthError::Invalid("the scheme of `Authorization` is not accepted here\nsend `Bearer` and a token"))
}

fn without_blanks(mut bytes: &[u8]) -> &[u8] {
    while let [b' ', rest @ ..] | [rest @ .., b' '] = bytes {
        bytes = rest;
    }
    bytes
}

/// API tokens arrive as the password of `__token__` (RFC 7617): all that follows the first colon.
fn basic(encoded: &str) -> Result<KeyDigest, AuthError> {
    let other = AuthError::Invalid(
        "user names and passwords are not accepted here\nsend `Bearer` and a token, or an API token as the password of \
         `__token__`",
    );
    let mut plain = Zeroizing::new([0; BASIC_BYTES]);
    // What does not fit is no key of ours.
    let length = STANDARD.decode_slice(encoded, plain.as_mut_slice()).map_err(|_| other.clone())?;
    let key = plain.get(..length).and_then(|plain| plain.strip_prefix(b"__token__:"));
    key.map(key_digest).ok_or(other)
}

/// Only the very name counts: an alias such as `X_Forwarded_Email`, which some proxies do not strip, is another header.
fn asserted<'h>(headers: &'h HeaderMap, rules: &TrustedHeader) -> Result<Option<Cow<'h, str>>, AuthError> {
    let mut lines = headers.get_all(&rules.name).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(AuthError::Malformed("the trusted header was sent twice"));
    }
    if line.is_empty() {
        // A proxy that knows nobody, as mara-acl reads it.
        return Ok(None);
    }
    let address = text(line).and_then(email);
    address.map(Some).ok_or(AuthError::Malformed("the trusted header holds no single e-mail address"))
}

fn text(line: &HeaderValue) -> Option<&str> {
    std::str::from_utf8(line.as_bytes()).ok()
}

fn is_unfit(c: char) -> bool {
    c.is_control() || c.is_whitespace() || is_invisible(c) || ",;<>\"\\".contains(c)
}

/// Characters that show nothing, or turn round what is shown after them.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn is_listed(rules: &TrustedHeader, peer: IpAddr) -> bool {
    // A listener on `::` sees IPv4 peers as `::ffff:a.b.c.d`.
    let peer = peer.to_canonical();
    rules.trusted_proxies.iter().any(|net| net.contains(&peer))
}

#[cfg(test)]
mod tests {
    use http::HeaderName;
    use proptest::prelude::*;

    use super::*;

    const PROXY: &str = "10.0.0.1";

    fn rules(required: bool) -> TrustedHeader {
        TrustedHeader {
            name: HeaderName::from_static("x-forwarded-email"),
            trusted_proxies: vec!["10.0.0.0/30".parse().unwrap()],
            required,
            create_users: true,
            first_user_role: None,
            new_user_role: "Guest".into(),
        }
    }

    fn headers(lines: &[(&str, &[u8])]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in lines {
            map.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap());
        }
        map
    }

    fn read(lines: &[(&str, &[u8])], peer: &str) -> Result<(Option<String>, Option<String>), AuthError> {
        let map = headers(lines);
        let offered = offered(&map, Some(&rules(false)), peer.parse().unwrap())?;
        let token = match offered.token {
            Some(Credential::Bearer(bearer)) => Some(bearer.token()?.to_owned()),
            Some(Credential::Key(_)) => Some("a key".to_owned()),
            None => None,
        };
        Ok((token, offered.email.map(Cow::into_owned)))
    }

    #[test]
    fn one_bearer_token_is_read_whatever_the_case_of_its_scheme() {
        for line in ["Bearer a.b-c_d", "bearer a.b-c_d", "BEARER  a.b-c_d "] {
            assert_eq!(read(&[("authorization", line.as_bytes())], PROXY).unwrap().0.as_deref(), Some("a.b-c_d"));
        }
    }

    #[test]
    fn two_authorizations_are_malformed_however_they_are_joined() {
        let twice: [&[(&str, &[u8])]; 3] = [
            &[("authorization", b"Bearer a"), ("authorization", b"Bearer a")],
            &[("authorization", b"Bearer a, Bearer b")],
            &[("authorization", b"Bearer a,b")],
        ];
        for lines in twice {
            assert!(matches!(read(lines, PROXY), Err(AuthError::Malformed(_))));
        }
    }

    #[test]
    fn a_bad_credential_never_falls_through_to_the_trusted_header() {
        for bad in
            ["", "Bearer", "Bearer ", "Bearer a b", "Bearer \"a\"", "Digest x", "Basic !!", "Basic YTpi", "token"]
        {
            let lines: [(&str, &[u8]); 2] = [("authorization", bad.as_bytes()), ("x-forwarded-email", b"a@x.org")];
            assert!(matches!(read(&lines, PROXY), Err(AuthError::Invalid(_))), "{bad}");
        }
        for text in ["alice:canary", "__token__canary", &format!("__token__:{}", "canary".repeat(100))] {
            let basic = format!("Basic {}", STANDARD.encode(text));
            let refused = read(&[("authorization", basic.as_bytes())], PROXY).unwrap_err();
            assert!(matches!(refused, AuthError::Invalid(_)) && !refused.to_string().contains("canary"), "{refused}");
        }
        // Nor does it hide behind a header that is bad too.
        let both: [(&str, &[u8]); 2] = [("authorization", b"Bearer a,b"), ("x-forwarded-email", b"nobody")];
        let twice = Err(AuthError::Malformed("`Authorization` holds more than one credential"));
        assert_eq!(read(&both, PROXY), twice);
        // Who has it is looked up where tokens are: here it only never stands beside another answer.
        let key = format!("Basic {}", STANDARD.encode("__token__:canary"));
        assert_eq!(read(&[("authorization", key.as_bytes())], PROXY).unwrap(), (Some("a key".to_owned()), None));
        let bytes: [(&str, &[u8]); 1] = [("authorization", b"Bearer \xff\xfe")];
        assert!(matches!(read(&bytes, PROXY), Err(AuthError::Invalid(_))));
    }

    #[test]
    fn the_header_counts_from_listed_peers_only() {
        let lines: [(&str, &[u8]); 1] = [("x-forwarded-email", b"Ann@Example.org")];
        assert_eq!(read(&lines, PROXY).unwrap().1.as_deref(), Some("ann@example.org"));
        assert_eq!(read(&lines, "::ffff:10.0.0.1").unwrap().1.as_deref(), Some("ann@example.org"));
        for peer in ["10.0.0.4", "127.0.0.1", "::1", "::ffff:10.0.0.4"] {
            assert_eq!(read(&lines, peer), Err(AuthError::Missing), "{peer}");
        }
        let nobody = TrustedHeader { trusted_proxies: vec![], ..rules(false) };
        let map = headers(&lines);
        assert_eq!(offered(&map, Some(&nobody), PROXY.parse().unwrap()), Err(AuthError::Missing));
        assert_eq!(offered(&map, None, PROXY.parse().unwrap()), Err(AuthError::Missing));
    }

    #[test]
    fn an_alias_of_the_header_is_not_the_header() {
        for alias in
            ["x_forwarded_email", "x.forwarded.email", "x-forwarded_email", "x-forwarded-emai", "forwarded-email"]
        {
            assert_eq!(read(&[(alias, b"root@x.org")], PROXY), Err(AuthError::Missing), "{alias}");
        }
        let beside: [(&str, &[u8]); 2] = [("x_forwarded_email", b"root@x.org"), ("x-forwarded-email", b"a@x.org")];
        assert_eq!(read(&beside, PROXY).unwrap().1.as_deref(), Some("a@x.org"));
    }

    #[test]
    fn an_address_is_one_line_with_one_at() {
        let long = format!("{}@x.org", "a".repeat(250));
        for bad in [
            "\u{212a}ate@x.org",
            "a",
            "@",
            "a@",
            "@x.org",
            "a@b@x.org",
            "a@x.org,b@x.org",
            "a@x.org, b@x.org",
            " a@x.org",
            "a@x.org ",
            "a @x.org",
            "a@x.org\tb",
            "<a@x.org>",
            "a@x.org;b",
            "a\u{200b}@x.org",
            "a@\u{202e}x.org",
            "a\u{a0}@x.org",
            long.as_str(),
        ] {
            let refused = read(&[("x-forwarded-email", bad.as_bytes())], PROXY);
            assert!(matches!(refused, Err(AuthError::Malformed(_))), "{bad}");
        }
        let latin1: [(&str, &[u8]); 1] = [("x-forwarded-email", b"\xe9@x.org")];
        assert!(matches!(read(&latin1, PROXY), Err(AuthError::Malformed(_))));
        let twice: [(&str, &[u8]); 2] = [("x-forwarded-email", b"a@x.org"), ("X-Forwarded-Email", b"a@x.org")];
        assert!(matches!(read(&twice, PROXY), Err(AuthError::Malformed(_))));
        assert_eq!(email("ÄRGER@X.org").as_deref(), Some("ärger@x.org"));
        assert!(matches!(email("a@x.org"), Some(Cow::Borrowed(_))));
    }

    proptest! {
        #[test]
        fn whatever_is_sent_gives_one_clean_token_or_address_or_an_error(
            lines in prop::collection::vec((0..3_usize, prop::collection::vec(any::<u8>(), 0..80)), 0..4),
        ) {
            let names = ["authorization", "x-forwarded-email", "x_forwarded_email"];
            let mut map = HeaderMap::new();
            for (name, value) in lines {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    map.append(names[name], value);
                }
            }
            if let Ok(read) = offered(&map, Some(&rules(false)), PROXY.parse().unwrap()) {
                if let Some(Credential::Bearer(bearer)) = &read.token && let Ok(token) = bearer.token() {
                    let line = map.get("authorization").map(|line| line.as_bytes().to_vec()).unwrap_or_default();
                    let sent = line.get(6..).unwrap_or_default().trim_ascii_start().trim_ascii_end();
                    prop_assert!(!token.is_empty() && !token.contains([' ', ',']) && token.as_bytes() == sent);
                }
                prop_assert!(read.token.is_none() || map.get_all("authorization").iter().count() == 1);
                let address = read.email.as_deref();
                prop_assert!(address.is_none_or(|a| a.matches('@').count() == 1 && email(a).as_deref() == Some(a)));
                prop_assert!(read.token.is_some() || address.is_some());
            }
        }
    }

    #[test]
    fn a_required_header_that_is_missing_or_empty_is_said_so() {
        let check = |lines: &[(&str, &[u8])], peer: &str| {
            let map = headers(lines);
            offered(&map, Some(&rules(true)), peer.parse().unwrap()).map(|_| ())
        };
        let required = Err(AuthError::HeaderRequired("x-forwarded-email".into()));
        assert_eq!(check(&[], PROXY), required);
        assert_eq!(check(&[("x-forwarded-email", b"")], PROXY), required);
        assert_eq!(check(&[("x-forwarded-email", b"a@x.org")], "127.0.0.1"), required, "it is none from this peer");
        assert_eq!(check(&[("authorization", b"Bearer a")], PROXY), Ok(()));
        assert_eq!(check(&[("x-forwarded-email", b"a@x.org")], PROXY), Ok(()));
    }
}
