//! AWS Signature Version 4 of a request with a body, as the AWS documents describe it: what whoever holds a configured
//! key signed, and when.
//!
//! A request is read strictly: one header, each part of it once, `host` and every `x-amz-…` header among those signed.
//! Whoever sees a signed request can send it again while its time holds, so that a signature is also something to act on
//! once.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderName, Method};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// How far the signer's clock may be off, either way: as AWS has it.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// The longest `Authorization` that is read, in bytes.
const LONGEST: usize = 4096;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const X_AMZ_DATE: HeaderName = HeaderName::from_static("x-amz-date");
const X_AMZ_CONTENT_SHA256: HeaderName = HeaderName::from_static("x-amz-content-sha256");

/// All but what RFC 3986 §2.3 leaves as it is.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Why a request is not taken as signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It carries none.
    #[error("the request is not signed")]
    Missing,
    /// It cannot be read, or leaves out what must be signed.
    #[error("the signature is not one that can be judged: {0}")]
    Malformed(&'static str),
    /// No such key, or another secret, or another request than the one that was signed.
    #[error("the key is not known here, or the signature does not match the request")]
    Wrong,
    /// It is right, and the time that it names is not now.
    #[error("the signature is of another time: compare the clocks")]
    Skewed,
}

/// What was signed.
#[derive(Clone, Copy, Debug)]
pub struct Signed<'a> {
    /// The method.
    pub method: &'a Method,
    /// The path as it came, without the query.
    pub path: &'a str,
    /// The query as it came.
    pub query: &'a str,
    /// The headers as they came.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a [u8],
}

/// What `Authorization` says; nothing of it is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim<'h> {
    /// The id of the key.
    pub key: &'h str,
    date: &'h str,
    region: &'h str,
    service: &'h str,
    headers: &'h str,
    signature: [u8; 32],
}

impl<'h> Claim<'h> {
    /// Reads the one `Authorization` header.
    ///
    /// # Errors
    /// [`SignatureError::Missing`], [`SignatureError::Malformed`].
    pub fn read(headers: &'h HeaderMap, service: &str) -> Result<Self, SignatureError> {
        use SignatureError::Malformed;
        let mut lines = headers.get_all(AUTHORIZATION).iter();
        let line = lines.next().ok_or(SignatureError::Missing)?;
        if lines.next().is_some() {
            return Err(Malformed("`Authorization` was sent twice"));
        }
        let text = line.to_str().ok().filter(|text| text.len() <= LONGEST);
        let text = text.ok_or(Malformed("`Authorization` is too long, or no text"))?;
        let rest = text.strip_prefix(ALGORITHM).and_then(|rest| rest.strip_prefix(' '));
        let rest = rest.ok_or(SignatureError::Missing)?;
        let (mut credential, mut signed, mut signature) = (None, None, None);
        for part in rest.split(',') {
            let (name, value) = part.trim_matches(' ').split_once('=').ok_or(Malformed("a part without `=`"))?;
            let place = match name {
                "Credential" => &mut credential,
                "SignedHeaders" => &mut signed,
                "Signature" => &mut signature,
                _ => return Err(Malformed("an unknown part")),
            };
            if place.replace(value).is_some() {
                return Err(Malformed("a part that is there twice"));
            }
        }
        let (credential, headers, signature) = match (credential, signed, signature) {
            (Some(credential), Some(signed), Some(signature)) => (credential, signed, signature),
            _ => return Err(Malformed("a part is missing")),
        };
        let scope: Vec<&str> = credential.split('/').collect();
        let [key, date, region, of, "aws4_request"] = scope[..] else {
            return Err(Malformed("the credential is no id, date, region, service and `aws4_request`"));
        };
        if key.is_empty() || region.is_empty() || of != service {
            return Err(Malformed("the credential is for another service"));
        }
        let signature = unhex(signature).ok_or(Malformed("the signature is no 64 lower-case hex digits"))?;
        Ok(Self { key, date, region, service: of, headers, signature })
    }

    /// The signature, for who remembers what was acted on.
    #[must_use]
    pub fn signature(&self) -> [u8; 32] {
        self.signature
    }

    /// Whether the secret's holder signed this request, and did so now. Compared in constant time; the time is judged only
    /// once the signature is right.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(&self, secret: &str, request: &Signed<'_>, now: Timestamp) -> Result<(), SignatureError> {
        use SignatureError::Malformed;
        let headers = self.canonical_headers(request.headers)?;
        let date = single(request.headers, &X_AMZ_DATE).ok_or(Malformed("`X-Amz-Date` is missing, or there twice"))?;
        let moment = moment(date).ok_or(Malformed("`X-Amz-Date` is no time such as 20150830T123600Z"))?;
        if !date.starts_with(self.date) || self.date.len() != 8 {
            return Err(Malformed("the credential's date is not that of `X-Amz-Date`"));
        }
        let body = hex(digest(&SHA256, request.body).as_ref());
        if request.headers.contains_key(&X_AMZ_CONTENT_SHA256)
            && single(request.headers, &X_AMZ_CONTENT_SHA256) != Some(&body)
        {
            return Err(SignatureError::Wrong);
        }
        let (query, signed) = (canonical_query(request.query), self.headers);
        let canonical = format!("{}\n{}\n{query}\n{headers}\n{signed}\n{body}", request.method, request.path);
        let scope = format!("{}/{}/{}/aws4_request", self.date, self.region, self.service);
        let digest = hex(digest(&SHA256, canonical.as_bytes()).as_ref());
        let message = format!("{ALGORITHM}\n{date}\n{scope}\n{digest}");
        let key = self.signing_key(secret);
        hmac::verify(&key, message.as_bytes(), &self.signature).map_err(|_| SignatureError::Wrong)?;
        if now.duration_since(moment).abs() > SKEW { Err(SignatureError::Skewed) } else { Ok(()) }
    }

    /// Every signed header with its value, and that nothing is left out that must be among them.
    fn canonical_headers(&self, headers: &HeaderMap) -> Result<String, SignatureError> {
        use SignatureError::Malformed;
        let names: Vec<&str> = self.headers.split(';').collect();
        if !names.is_sorted_by(|one, next| one < next) {
            return Err(Malformed("the signed headers are not in order, or one is there twice"));
        }
        let has = |name: &HeaderName| names.binary_search(&name.as_str()).is_ok();
        let needed = |name: &&HeaderName| name.as_str().starts_with("x-amz-");
        if !has(&HOST) || !has(&X_AMZ_DATE) || headers.keys().filter(needed).any(|name| !has(name)) {
            return Err(Malformed("`host` and every `x-amz-…` header must be signed"));
        }
        let mut canonical = String::new();
        for name in names {
            let lower = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
            if !lower || !headers.contains_key(name) {
                return Err(Malformed("a header that is signed was not sent"));
            }
            let values = headers.get_all(name).iter().map(|value| value.to_str().map(folded));
            let values: Vec<String> = values.collect::<Result<_, _>>().map_err(|_| Malformed("a header is no text"))?;
            canonical.push_str(name);
            canonical.push(':');
            canonical.push_str(&values.join(","));
            canonical.push('\n');
        }
        Ok(canonical)
    }

    fn signing_key(&self, secret: &str) -> hmac::Key {
        let first = zeroize::Zeroizing::new(format!("AWS4{secret}"));
        let mut key = hmac::Key::new(hmac::HMAC_SHA256, first.as_bytes());
        for part in [self.date, self.region, self.service, "aws4_request"] {
            key = hmac::Key::new(hmac::HMAC_SHA256, hmac::sign(&key, part.as_bytes()).as_ref());
        }
        key
    }
}

/// Without blanks at the ends, and one for several in between.
fn folded(value: &str) -> String {
    value.split(' ').filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ")
}

/// The parameters by name and value, encoded in the one way that both sides know.
fn canonical_query(query: &str) -> String {
    let encode = |text: &str| {
        let decoded: Vec<u8> = percent_decode_str(text).collect();
        percent_encode(&decoded, ENCODED).to_string()
    };
    let mut pairs: Vec<(String, String)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (encode(name), encode(value)))
        .collect();
    pairs.sort_unstable();
    pairs.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join("&")
}

fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut lines = headers.get_all(name).iter();
    let line = lines.next().filter(|_| lines.next().is_none())?;
    line.to_str().ok()
}

fn moment(text: &str) -> Option<Timestamp> {
    if text.len() != 16 || !text.ends_with('Z') {
        return None;
    }
    Some(DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)) {
        return None;
    }
    for (byte, two) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(two).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    /// Of the AWS documents' examples and of the test suite that was published with them.
    const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    const AT: &str = "2015-08-30T12:36:00Z";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        lines.iter().map(line).collect()
    }

    fn authorization(service: &str, signed: &str, signature: &str) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/{service}/aws4_request, SignedHeaders={signed}, \
             Signature={signature}"
        )
    }

    fn judge(
        (method, query, body): (&Method, &str, &str),
        service: &str,
        headers: &HeaderMap,
        secret: &str,
        at: &str,
    ) -> Result<(), SignatureError> {
        let claim = Claim::read(headers, service)?;
        let request = Signed { method, path: "/", query, headers, body: body.as_bytes() };
        claim.verify(secret, &request, at.parse().unwrap())
    }

    #[test]
    fn the_published_examples_verify_and_nothing_else_does() {
        let form = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
        let date = ("x-amz-date", "20150830T123600Z");
        let example = ("host", "example.amazonaws.com");
        let plain = "host;x-amz-date";
        for (request, service, lines, signed, signature) in [
            (
                (&Method::GET, "Action=ListUsers&Version=2010-05-08", ""),
                "iam",
                vec![form, ("host", "iam.amazonaws.com"), date],
                "content-type;host;x-amz-date",
                "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
            ),
            (
                (&Method::GET, "", ""),
                "service",
                vec![example, date],
                plain,
                "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
            ),
            (
                (&Method::POST, "", ""),
                "service",
                vec![example, date],
                plain,
                "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b",
            ),
            (
                (&Method::POST, "", "Param1=value1"),
                "service",
                vec![("content-type", "application/x-www-form-urlencoded"), example, date],
                "content-type;host;x-amz-date",
                "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a",
            ),
            (
                (&Method::GET, "Param2=value2&Param1=value1", ""),
                "service",
                vec![example, date],
                plain,
                "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500",
            ),
        ] {
            let line = authorization(service, signed, signature);
            let mut lines = lines;
            lines.push(("authorization", &line));
            let sent = headers(&lines);
            assert_eq!(judge(request, service, &sent, SECRET, AT), Ok(()), "{signature}");
            assert_eq!(judge(request, service, &sent, "other", AT), Err(SignatureError::Wrong));
            let (method, query, _) = request;
            assert_eq!(judge((method, query, "x"), service, &sent, SECRET, AT), Err(SignatureError::Wrong));
            assert_eq!(judge((method, "a=b", ""), service, &sent, SECRET, AT), Err(SignatureError::Wrong));
            assert_eq!(judge((&Method::PUT, query, ""), service, &sent, SECRET, AT), Err(SignatureError::Wrong));
            for (at, held) in [
                ("2015-08-30T12:41:00Z", Ok(())),
                ("2015-08-30T12:41:01Z", Err(SignatureError::Skewed)),
                ("2015-08-30T12:31:00Z", Ok(())),
                ("2015-08-30T12:30:59Z", Err(SignatureError::Skewed)),
            ] {
                assert_eq!(judge(request, service, &sent, SECRET, at), held, "{at}");
            }
        }
    }

    #[test]
    fn what_leaves_out_what_must_be_signed_or_can_be_read_in_two_ways_is_refused() {
        let signature = "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b";
        let good = authorization("service", "host;x-amz-date", signature);
        let base = [("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")];
        let judged = |line: &str, more: &[(&'static str, &str)]| {
            let lines = [&base[..], &[("authorization", line)], more].concat();
            judge((&Method::POST, "", ""), "service", &headers(&lines), SECRET, AT)
        };
        assert_eq!(judged(&good, &[]), Ok(()));
        for (line, more) in [
            (good.replace("host;", ""), &[][..]),
            (good.replace(";x-amz-date", ""), &[]),
            (good.replace("host;x-amz-date", "x-amz-date;host"), &[]),
            (good.replace("host;", "host;host;"), &[]),
            (good.replace("host;", "content-type;host;"), &[]),
            (good.replace("Signature=", "Signature=0"), &[]),
            (good.replace(signature, &signature.to_uppercase()), &[]),
            (good.replace("/20150830/", "/20150831/"), &[]),
            (good.replace("/20150830/", "/2015083/"), &[]),
            (good.replace("/service/", "/other/"), &[]),
            (good.replace("aws4_request", "aws4_requests"), &[]),
            (good.replace(", SignedHeaders", ", Region=x, SignedHeaders"), &[]),
            (format!("{good}, Signature={signature}"), &[]),
            (good.clone(), &[("x-amz-target", "AWSCognitoIdentityProviderService.AdminGetUser")]),
            (good.clone(), &[("x-amz-date", "20150830T123600Z")]),
            (good.clone(), &[("x-amz-content-sha256", "UNSIGNED-PAYLOAD")]),
            (good.clone(), &[("authorization", "Bearer x")]),
            (format!("{good}{}", " ".repeat(LONGEST)), &[]),
        ] {
            let refused = judged(&line, more);
            assert!(matches!(refused, Err(SignatureError::Malformed(_))), "{line} {more:?}: {refused:?}");
        }
        assert_eq!(judged("Bearer x", &[]), Err(SignatureError::Missing));
        assert_eq!(judged(&good.replace("us-east-1", "us-east-2"), &[]), Err(SignatureError::Wrong));
    }
}
