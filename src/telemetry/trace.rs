//! W3C Trace Context: the caller's trace goes on through the gateway (<https://www.w3.org/TR/trace-context/>).

use super::request_id::{hex, hex_of_64};

/// A `traceparent` for the upstream: the caller's trace id and flags, our own span id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent([u8; 55]);

impl TraceParent {
    /// Continues the caller's trace, or starts one that is not sampled where `inbound` is absent or malformed (§3.2.2:
    /// a header that cannot be parsed is as if it were not there).
    #[must_use]
    pub fn follow(inbound: Option<&[u8]>) -> Self {
        let [high, low, span] = rand::random::<[u64; 3]>();
        let new = || (hex(u128::from(high) << 64 | u128::from(low | 1)), *b"00");
        let (trace, flags) = inbound.and_then(parse).unwrap_or_else(new);
        let mut text = [b'-'; 55];
        let mut put = |start: usize, digits: &[u8]| {
            if let Some(place) = text.get_mut(start..start + digits.len()) {
                place.copy_from_slice(digits);
            }
        };
        put(0, b"00");
        put(3, &trace);
        put(36, &hex_of_64(span | 1));
        put(53, &flags);
        Self(text)
    }

    /// The value of `traceparent`.
    #[must_use]
    pub fn text(&self) -> &[u8; 55] {
        &self.0
    }

    /// The 32 digits of the trace id.
    #[must_use]
    pub fn trace_id(&self) -> &str {
        self.0.get(3..35).and_then(|trace| std::str::from_utf8(trace).ok()).unwrap_or_default()
    }
}

/// The trace id and flags of a well-formed header of version 00, or of a later one that begins like it (§3.2.4).
fn parse(text: &[u8]) -> Option<([u8; 32], [u8; 2])> {
    let mut fields = text.splitn(5, |byte| *byte == b'-');
    let version = fields.next()?;
    let trace: [u8; 32] = fields.next()?.try_into().ok()?;
    let span: [u8; 16] = fields.next()?.try_into().ok()?;
    let flags: [u8; 2] = fields.next()?.try_into().ok()?;
    let more = fields.next().is_some();
    let lower_hex = |digits: &[u8]| digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    let zero = |digits: &[u8]| digits.iter().all(|digit| *digit == b'0');
    let well_formed = version.len() == 2
        && lower_hex(version)
        && version != b"ff"
        && !(version == b"00" && more)
        && lower_hex(&trace)
        && !zero(&trace)
        && lower_hex(&span)
        && !zero(&span)
        && lower_hex(&flags);
    well_formed.then_some((trace, flags))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INBOUND: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn the_callers_trace_goes_on_under_a_span_of_ours() {
        let trace = TraceParent::follow(Some(INBOUND));
        let follows = trace.text();
        let text = std::str::from_utf8(follows).unwrap();
        assert!(text.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"), "{text}");
        assert!(text.ends_with("-01"), "{text}");
        assert_ne!(&text[36..52], "00f067aa0ba902b7");
        assert_eq!(text.len(), 55);
    }

    #[test]
    fn a_malformed_header_starts_a_new_trace() {
        let bad: [&[u8]; 6] = [
            b"",
            b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ];
        for header in bad {
            assert_ne!(TraceParent::follow(Some(header)).trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        }
        assert!(parse(b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more").is_some());
    }
}
