//! What an API token may be used for, and what a use of it costs.
//!
//! A pattern is compared with the segments that the path is forwarded or routed by. One that would have to read a segment
//! that can be read in two ways does not admit the request.

use http::Method;
use jiff::Timestamp;

use super::error::{Kind, Problem};
use super::gateway::Gateway;
use super::target::{self, Door, Segment, Segments, Target};
use crate::config::{RequestPattern, Segment as PatternSegment};
use crate::identity::{AuthError, Identity, Proof};

/// The most segments of a path that patterns are compared with: their user writes them, and a path may have thousands.
const MOST_SEGMENTS: usize = 256;

/// The longest path that a refusal repeats, in characters.
const SHOWN: usize = 256;

/// Admits a call of a service: on the proxy listener by a pattern of either spelling, `/{ns}/{svc}/…` or
/// `/service/{ns}/{svc}/…`; on the API listener by its own.
///
/// # Errors
/// 403 `token-scope` outside the patterns; 400 `ambiguous-path` where only a pattern that cannot be read would admit it.
pub fn admit_call(who: &Identity, door: Door, target: &Target, method: &Method) -> Result<(), Problem> {
    if who.within.is_none() {
        return Ok(());
    }
    bounded(target.path())?;
    let own = target::segments_of(target.path());
    let mut spellings = vec![own];
    if door == Door::Proxy {
        let prefix = Segment { text: "service".into(), ambiguous: false };
        spellings.push(std::iter::once(prefix).chain(target::segments_of(target.path())).collect());
    }
    admit(who, method, target.path(), &spellings)
}

/// Admits a request of the API.
///
/// # Errors
/// As [`admit_call`]; 400 also for a `.` or `..` segment.
pub fn admit_path(who: &Identity, method: &Method, path: &str) -> Result<(), Problem> {
    if who.within.is_none() {
        return Ok(());
    }
    if target::leaves(path) {
        return Err(Problem::new(&Kind::AMBIGUOUS_PATH, "the path has a `.` or `..` segment"));
    }
    bounded(path)?;
    admit(who, method, path, &[target::segments_of(path)])
}

fn bounded(path: &str) -> Result<(), Problem> {
    if path.bytes().filter(|byte| *byte == b'/').count() <= MOST_SEGMENTS {
        return Ok(());
    }
    let detail = format!("an API token is good for paths of at most {MOST_SEGMENTS} segments\nsign in for this one");
    Err(Problem::new(&Kind::TOKEN_SCOPE, detail))
}

/// Whether the request costs a use that is counted, so that [`charge`] has to be waited for; [`note`] does for all others.
#[must_use]
pub fn must_wait(who: &Identity) -> bool {
    who.within.as_ref().is_some_and(|token| who.proof == Proof::ApiToken && token.counts)
}

/// Notes a use that nobody counts.
pub fn note(gateway: &Gateway, who: &Identity, now: Timestamp) {
    if let Some(token) = who.within.as_ref().filter(|_| who.proof == Proof::ApiToken) {
        gateway.shared().uses.note(token, now);
    }
}

/// Takes the use that the request costs, and notes it; whether that had to be waited for.
///
/// # Errors
/// 401 where there was none left; 503 where nobody can tell.
pub async fn charge(gateway: &Gateway, who: &Identity, now: Timestamp) -> Result<bool, Problem> {
    let Some(token) = who.within.as_ref().filter(|_| must_wait(who)) else {
        note(gateway, who, now);
        return Ok(false);
    };
    match gateway.shared().uses.spend(token, now).await {
        Ok(true) => Ok(true),
        Ok(false) => Err(AuthError::API_TOKEN.into()),
        Err(why) => {
            tracing::warn!(%why, "a use of an API token cannot be counted");
            let detail =
                "the uses of this API token are counted, and the store that counts cannot be reached\ntry again";
            Err(Problem::new(&Kind::STORE_UNAVAILABLE, detail).retry_after(1))
        }
    }
}

fn admit(who: &Identity, method: &Method, path: &str, spellings: &[Segments<'_>]) -> Result<(), Problem> {
    let Some(token) = &who.within else { return Ok(()) };
    let mut unreadable = false;
    for pattern in &token.patterns {
        for segments in spellings.iter().filter(|segments| pattern.matches(method, segments.as_slice()).is_some()) {
            if !reads_ambiguous(pattern, segments) {
                return Ok(());
            }
            unreadable = true;
        }
    }
    if unreadable {
        let detail = "the path can be read in more than one way where a pattern of the API token reads it";
        return Err(Problem::new(&Kind::AMBIGUOUS_PATH, detail));
    }
    let call: String = path.chars().take(SHOWN).collect();
    if who.proof != Proof::ApiToken {
        // Whoever got this token is a service, and not told what its caller's API token is for.
        let detail = format!("the caller's API token is not good for `{method} {call}`");
        return Err(Problem::new(&Kind::TOKEN_SCOPE, detail));
    }
    let detail = format!(
        "the API token `{}` is not good for `{method} {call}`\n`allowedEndpoints` says what it is good for; make another \
         token for this",
        token.name
    );
    let endpoints: Vec<String> = token.patterns.iter().map(ToString::to_string).collect();
    Err(Problem::new(&Kind::TOKEN_SCOPE, detail).with("token", &*token.name).with("allowedEndpoints", endpoints))
}

/// Whether a pattern that matches does so by a segment that can be read in two ways; a last `**` reads nothing.
fn reads_ambiguous(pattern: &RequestPattern, segments: &Segments<'_>) -> bool {
    let is_rest = |segment: &PatternSegment| *segment == PatternSegment::Rest;
    let read = match pattern.segments.iter().position(is_rest) {
        Some(fixed) if fixed + 1 == pattern.segments.len() => fixed,
        _ => segments.len(),
    };
    segments.iter().take(read).any(|segment| segment.ambiguous)
}
