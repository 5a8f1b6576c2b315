//! Tokens (RFC 7519, verified as RFC 8725 asks): parsed strictly, judged against one issuer's rules at a given time.
//!
//! The signature is checked by [`super::key::Key`]. The claims are judged here and not by the JWT library, because it
//! reads a clock of its own, takes a missing `aud` for a fitting one and lets `exp` pass by a minute.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::json::strict_object;
use super::key::Key;
use super::{AuthError, Claims, api_token};
use crate::store::ApiTokenId;

/// The longest token that is looked at, in bytes.
pub(super) const MAX_BYTES: usize = 8 * 1024;

/// How far an issuer's clock may be ahead of ours, in seconds: for `nbf` and `iat`. `exp` has no such grace, so that
/// what a cache may keep and what is accepted anew are the same.
const SKEW: i64 = 60;

/// The longest `sub`, in bytes (OpenID Connect Core §2 allows 255).
const SUBJECT_BYTES: usize = 255;

/// What the `aud` of a token minted for one service begins with, so that it is never the client id of an issuer.
pub(super) const SERVICE_AUDIENCE: &str = "service:";

/// The claim that says by which API token the caller was identified for whom a token for a service was minted.
pub(super) const API_TOKEN: &str = "carta:api_token";

/// What an issuer's tokens must say.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// The `iss`, compared as text.
    pub(super) issuer: Arc<str>,
    /// One of these must be in `aud`, or be the `client_id` of a Cognito access token. Empty accepts nothing.
    pub(super) audience: Vec<String>,
    /// Whether it is the built-in issuer, which writes `token_use` always and mints tokens for one service.
    pub(super) own: bool,
}

/// A token that has the right form. Nothing in it is proved.
pub(super) struct Token<'t> {
    pub(super) algorithm: String,
    pub(super) kid: Option<String>,
    message: &'t str,
    signature: &'t str,
    claims: Map<String, Value>,
}

/// What a token says that fits the rules; proved once [`Token::signed_by`] says so too.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) subject: Arc<str>,
    /// The first second at which it is no longer good.
    pub(super) expires: Timestamp,
    pub(super) issued: Option<Timestamp>,
    /// The one service that it was minted for.
    pub(super) service: Option<Arc<str>>,
    /// The API token that it was minted for, where there was one.
    pub(super) within: Option<ApiTokenId>,
    pub(super) claims: Arc<Claims>,
}

impl std::fmt::Debug for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("algorithm", &self.algorithm).field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl<'t> Token<'t> {
    /// Splits and decodes.
    pub(super) fn parse(token: &'t str) -> Result<Self, AuthError> {
        if token.len() > MAX_BYTES {
            return Err(AuthError::Invalid("the token has more than 8192 bytes"));
        }
        let malformed = AuthError::Invalid(match token.contains(api_token::MARK) {
            true => {
                "an API token is no bearer token\nsend it as the password of the user `__token__`: curl -u __token__:KEY"
            }
            false => "the token is no signed JWT of three parts",
        });
        let (message, signature) = token.rsplit_once('.').ok_or(malformed.clone())?;
        let (header, claims) = message.split_once('.').ok_or(malformed.clone())?;
        let object = |part: &str| strict_object(&URL_SAFE_NO_PAD.decode(part).ok()?);
        let header = object(header).ok_or(malformed.clone())?;
        let claims = object(claims).ok_or(malformed)?;
        // RFC 7515 §4.1.11: what is critical and unknown refuses the token, and no extension is known here.
        if header.contains_key("crit") {
            return Err(AuthError::Invalid("the token's header has critical members that are not known here"));
        }
        match header.get("typ") {
            None => {}
            Some(Value::String(typ)) if is_access_or_id(typ) => {}
            Some(_) => return Err(AuthError::Invalid("the token's `typ` is another kind of token")),
        }
        let Some(Value::String(algorithm)) = header.get("alg") else {
            return Err(AuthError::Invalid("the token's header names no algorithm"));
        };
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid.clone()),
            Some(_) => return Err(AuthError::Invalid("the token's `kid` is no text")),
        };
        Ok(Self { algorithm: algorithm.clone(), kid, message, signature, claims })
    }

    /// Who the token says issued it.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.get("iss")?.as_str()
    }

    /// Whether the key signed it. The key was found by the token's `alg`, and verifies by its own.
    pub(super) fn signed_by(&self, key: &Key) -> bool {
        key.verifies(self.message, self.signature)
    }

    /// Judges the claims.
    pub(super) fn accept(&self, rules: &Rules, now: Timestamp) -> Result<Accepted, AuthError> {
        if self.issuer() != Some(&rules.issuer) {
            return Err(AuthError::Invalid("the token's issuer is not accepted here"));
        }
        let expires = self.seconds("exp")?.ok_or(AuthError::Invalid("the token has no `exp`"))?;
        if expires <= now {
            return Err(AuthError::Invalid("the token has expired\nsign in again for a new one"));
        }
        if self.seconds("nbf")?.is_some_and(|at| is_ahead(at, now)) {
            return Err(AuthError::Invalid("the token is not valid yet"));
        }
        let issued = self.seconds("iat")?;
        if issued.is_some_and(|at| is_ahead(at, now)) {
            return Err(AuthError::Invalid("the token was issued in the future\ncompare the issuer's clock with ours"));
        }
        let service = self.judge_use(rules)?;
        let within = if service.is_some() { self.api_token()? } else { None };
        let subject = match self.claims.get("sub") {
            Some(Value::String(sub)) if !sub.is_empty() && sub.len() <= SUBJECT_BYTES => sub.as_str().into(),
            _ => return Err(AuthError::Invalid("the token's `sub` is missing, or no text of 1 to 255 bytes")),
        };
        Ok(Accepted { subject, expires, issued, service, within, claims: Arc::new(Claims(self.claims.clone())) })
    }

    /// `token_use` and `aud` together: each kind of token has an audience of its own.
    fn judge_use(&self, rules: &Rules) -> Result<Option<Arc<str>>, AuthError> {
        let wrong_audience = AuthError::Invalid("the token was issued for another audience");
        let usage = match self.claims.get("token_use") {
            None if !rules.own => None,
            Some(Value::String(usage)) => Some(usage.as_str()),
            _ => return Err(AuthError::Invalid("the token's `token_use` is missing or no text")),
        };
        match (usage, rules.own) {
            (None | Some("id"), _) | (Some("access"), false) => {}
            (Some("service"), true) => {
                let service = self.claims.get("aud").and_then(Value::as_str).ok_or(wrong_audience.clone())?;
                let service = service.strip_prefix(SERVICE_AUDIENCE).ok_or(wrong_audience)?;
                return Ok(Some(service.into()));
            }
            _ => return Err(AuthError::Invalid("the token's `token_use` is another kind of token")),
        }
        let is_ours = |value: &Value| value.as_str().is_some_and(|text| rules.audience.iter().any(|a| a == text));
        let fits = match self.claims.get("aud") {
            Some(Value::Array(list)) => list.iter().all(Value::is_string) && list.iter().any(is_ours),
            Some(one) => is_ours(one),
            // Access tokens of Cognito have no `aud`.
            None => usage == Some("access") && self.claims.get("client_id").is_some_and(is_ours),
        };
        if fits { Ok(None) } else { Err(wrong_audience) }
    }

    /// The API token that a token for a service is bound by.
    fn api_token(&self) -> Result<Option<ApiTokenId>, AuthError> {
        let Some(claim) = self.claims.get(API_TOKEN) else { return Ok(None) };
        let id = claim.as_str().and_then(|text| Uuid::try_parse(text).ok());
        id.map(|id| Some(ApiTokenId(id))).ok_or(AuthError::Invalid("the token names no API token where it should"))
    }

    /// A NumericDate (RFC 7519 §2): a number, whole or not, never a text; the part of a second is dropped.
    fn seconds(&self, claim: &str) -> Result<Option<Timestamp>, AuthError> {
        let Some(value) = self.claims.get(claim) else { return Ok(None) };
        let number = AuthError::Invalid("the token's `exp`, `nbf` and `iat` must be numbers of seconds");
        #[expect(clippy::cast_possible_truncation, reason = "saturates, and what is no date is refused below")]
        let whole = match (value.as_i64(), value.as_f64()) {
            (Some(whole), _) => whole,
            (None, Some(float)) if float.is_finite() => float.floor() as i64,
            _ => return Err(number),
        };
        if whole < 0 {
            return Err(number);
        }
        Timestamp::from_second(whole).map(Some).map_err(|_| number)
    }
}

fn is_access_or_id(typ: &str) -> bool {
    let typ = typ.strip_prefix("application/").unwrap_or(typ);
    typ.eq_ignore_ascii_case("jwt") || typ.eq_ignore_ascii_case("at+jwt")
}

fn is_ahead(at: Timestamp, now: Timestamp) -> bool {
    at.as_second().saturating_sub(now.as_second()) > SKEW
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn encode(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.c2ln", part(header), part(claims))
    }

    fn claims() -> Value {
        json!({ "iss": "https://idp", "sub": "s", "aud": "client", "exp": NOW + 600, "iat": NOW })
    }

    fn rules(own: bool) -> Rules {
        Rules { issuer: "https://idp".into(), audience: vec!["client".into(), "other".into()], own }
    }

    fn judge(claims: &Value, own: bool) -> Result<Accepted, AuthError> {
        let token = encode(&json!({ "alg": "RS256" }), claims);
        Token::parse(&token)?.accept(&rules(own), Timestamp::from_second(NOW).unwrap())
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    fn without(name: &str) -> Value {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        claims
    }

    #[test]
    fn dates_are_numbers_and_exp_is_required_to_the_second() {
        assert!(judge(&claims(), false).is_ok());
        assert_eq!(judge(&with("exp", json!(NOW + 1)), false).unwrap().expires.as_second(), NOW + 1);
        assert_eq!(judge(&with("exp", json!(NOW as f64 + 10.7)), false).unwrap().expires.as_second(), NOW + 10);
        assert!(judge(&without("exp"), false).is_err());
        for bad in [
            json!("1900000000"),
            json!((NOW + 600).to_string()),
            json!(null),
            json!(true),
            json!([NOW + 600]),
            json!({}),
            json!(NOW),
            json!(NOW - 1),
            json!(-1),
            json!(1e30),
            json!(u64::MAX),
            json!(i64::MAX),
        ] {
            for claim in ["exp", "nbf", "iat"] {
                let judged = judge(&with(claim, bad.clone()), false);
                let past = bad.as_i64().is_some_and(|n| (0..=NOW).contains(&n));
                assert_eq!(judged.is_ok(), claim != "exp" && past, "{claim} {bad}");
            }
        }
    }

    #[test]
    fn clocks_may_differ_by_a_minute_and_no_more() {
        for claim in ["nbf", "iat"] {
            assert!(judge(&with(claim, json!(NOW + 60)), false).is_ok());
            assert!(judge(&with(claim, json!(NOW + 61)), false).is_err());
        }
    }

    #[test]
    fn the_issuer_is_compared_as_text() {
        for other in ["https://idp/", "HTTPS://idp", "https://idp2", ""] {
            assert!(judge(&with("iss", json!(other)), false).is_err(), "{other}");
        }
        assert!(judge(&with("iss", json!(["https://idp"])), false).is_err());
        assert!(judge(&without("iss"), false).is_err());
    }

    #[test]
    fn an_audience_is_required_and_must_be_ours() {
        assert!(judge(&with("aud", json!(["x", "other"])), false).is_ok());
        for bad in
            [json!("clien"), json!("client "), json!(""), json!([]), json!(["x"]), json!(["client", 7]), json!({})]
        {
            assert!(judge(&with("aud", bad.clone()), false).is_err(), "{bad}");
        }
        assert!(judge(&without("aud"), false).is_err());
        let mut access = without("aud");
        access["client_id"] = json!("client");
        assert!(judge(&access, false).is_err(), "only an access token goes by its client_id");
        access["token_use"] = json!("access");
        assert!(judge(&access, false).is_ok());
        access["aud"] = json!("x");
        assert!(judge(&access, false).is_err(), "an audience that is there counts");
        let token = encode(&json!({ "alg": "RS256" }), &claims());
        let nothing = Rules { audience: vec![], ..rules(false) };
        let now = Timestamp::from_second(NOW).unwrap();
        assert!(Token::parse(&token).unwrap().accept(&nothing, now).is_err(), "an unset audience accepts nothing");
    }

    #[test]
    fn each_kind_of_token_has_its_own_use_and_audience() {
        assert!(judge(&with("token_use", json!("id")), false).is_ok());
        assert!(judge(&with("token_use", json!("refresh")), false).is_err());
        assert!(judge(&with("token_use", json!("service")), false).is_err(), "only our own are minted for services");
        assert!(judge(&with("token_use", json!(null)), false).is_err());
        assert!(judge(&claims(), true).is_err(), "ours always say what they are for");
        assert!(judge(&with("token_use", json!("id")), true).unwrap().service.is_none());
        assert!(judge(&with("token_use", json!("access")), true).is_err());
        let mut minted = with("token_use", json!("service"));
        assert!(judge(&minted, true).is_err(), "a client's audience is not a service's");
        minted["aud"] = json!("service:lab/mp");
        assert_eq!(judge(&minted, true).unwrap().service.as_deref(), Some("lab/mp"));
        minted["token_use"] = json!("id");
        assert!(judge(&minted, true).is_err());
    }

    #[test]
    fn headers_that_are_unclear_are_refused() {
        for bad in [
            json!({ "alg": "RS256", "crit": ["b64"], "b64": false }),
            json!({ "alg": "RS256", "crit": [] }),
            json!({ "alg": 1 }),
            json!({}),
            json!({ "alg": "RS256", "kid": 1 }),
            json!({ "alg": "RS256", "typ": "logout+jwt" }),
            json!({ "alg": "RS256", "typ": 1 }),
        ] {
            assert!(Token::parse(&encode(&bad, &claims())).is_err(), "{bad}");
        }
        for good in ["JWT", "jwt", "at+jwt", "application/at+jwt"] {
            assert!(Token::parse(&encode(&json!({ "alg": "RS256", "typ": good }), &claims())).is_ok());
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_and_what_it_takes_is_judged(head in ".{0,60}", body in ".{0,200}", tail in ".{0,20}") {
            let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
            let now = Timestamp::from_second(NOW).unwrap();
            for text in [format!("{head}.{body}.{tail}"), format!("{}.{}.{tail}", part(&head), part(&body))] {
                if let Ok(token) = Token::parse(&text) {
                    prop_assert!(token.accept(&rules(false), now).is_err());
                }
            }
        }
    }

    #[test]
    fn garbage_is_refused_and_nothing_panics() {
        let good = encode(&json!({ "alg": "RS256" }), &claims());
        let twice = URL_SAFE_NO_PAD.encode(r#"{"iss":"https://idp","iss":"https://evil"}"#);
        let head = URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#);
        for bad in [
            String::new(),
            ".".into(),
            "..".into(),
            "a.b".into(),
            "a.b.c".into(),
            format!("{good}.x"),
            good.replace('.', ".."),
            good.replacen('.', "=.", 1),
            format!("{head}.{twice}.c2ln"),
            format!("{head}.bnVsbA.c2ln"),
            "a".repeat(MAX_BYTES + 1),
            format!("{head}.{}.x", URL_SAFE_NO_PAD.encode("[".repeat(4000))),
        ] {
            assert!(Token::parse(&bad).is_err(), "{bad}");
        }
    }
}
