//! `Prefer: wait=N` (RFC 7240 §4.3): how long a caller would rather wait than poll.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

const PREFER: HeaderName = HeaderName::from_static("prefer");

/// Says which preference was applied (RFC 7240 §3).
pub(super) const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The longest wait that is granted.
const MOST: u64 = 300;

/// The wait that the caller prefers, at most [`MOST`] seconds: the first that is given counts. What cannot be read is
/// ignored, as RFC 7240 §2 wants it.
pub(super) fn wait(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(PREFER).into_iter().filter_map(|line| line.to_str().ok());
    let mut preferences = lines.flat_map(|line| line.split(',')).map(|one| one.split(';').next().unwrap_or_default());
    preferences.find_map(|preference| {
        let (name, value) = preference.split_once('=')?;
        let seconds = value.trim().trim_matches('"');
        let digits = !seconds.is_empty() && seconds.bytes().all(|byte| byte.is_ascii_digit());
        if !name.trim().eq_ignore_ascii_case("wait") || !digits {
            return None;
        }
        // More digits than fit are a long time.
        Some(Duration::from_secs(seconds.parse().unwrap_or(MOST).min(MOST)))
    })
}

/// What is said of a wait that was granted.
pub(super) fn applied(wait: Duration) -> HeaderValue {
    HeaderValue::try_from(format!("wait={}", wait.as_secs())).unwrap_or(HeaderValue::from_static("wait"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_wait_that_can_be_read_counts() {
        for (lines, expected) in [
            (&["wait=10"][..], Some(10)),
            (&["respond-async, wait=10"], Some(10)),
            (&["respond-async", "Wait = \"7\"; x=1"], Some(7)),
            (&["wait=5, wait=9"], Some(5)),
            (&["wait=0"], Some(0)),
            (&["wait=100000"], Some(300)),
            (&["wait=99999999999999999999999"], Some(300)),
            (&["wait"], None),
            (&["wait="], None),
            (&["wait=-1"], None),
            (&["wait=x, wait=3"], Some(3)),
            (&["return=minimal"], None),
            (&["handling=lenient; wait=10"], None),
            (&[], None),
        ] {
            let headers = lines.iter().map(|line| (PREFER, HeaderValue::from_static(line))).collect();
            assert_eq!(wait(&headers), expected.map(Duration::from_secs), "{lines:?}");
        }
    }
}
