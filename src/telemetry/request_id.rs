//! The id by which a caller, an operator and an upstream speak of the same request.

use std::fmt;

use http::{HeaderMap, HeaderName};

/// The longest id of a caller's own that is noted, in bytes.
const MAX_NOTED: usize = 64;

// Made once: a name that is a text is read anew for each look-up.
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// 128 random bits, shown as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 32]);

impl RequestId {
    /// Mints one. Not a secret, but not to be guessed either: whoever knows it may ask what became of the request.
    #[must_use]
    pub fn mint() -> Self {
        Self(hex(rand::random()))
    }

    /// The id that these 32 digits are.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits: [u8; 32] = text.as_bytes().try_into().ok()?;
        digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')).then_some(Self(digits))
    }

    /// The id of these bits.
    #[must_use]
    pub fn of_bits(bits: u128) -> Self {
        Self(hex(bits))
    }

    /// Its bits: half the room of its digits.
    #[must_use]
    pub fn bits(&self) -> u128 {
        let each = self.0.as_chunks::<8>().0.iter();
        each.fold(0, |bits, eight| bits << 32 | u128::from(bits_of_eight(*eight)))
    }

    /// The 32 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The 32 digits, as bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The value for `X-Request-Id`.
    #[must_use]
    pub fn header(&self) -> http::HeaderValue {
        http::HeaderValue::from_bytes(&self.0).unwrap_or_else(|_| http::HeaderValue::from_static(""))
    }
}

/// What the caller calls the request, in its `X-Request-Id`: only ever noted, and only where it is short and printable.
#[must_use]
pub fn caller_request_id(headers: &HeaderMap) -> Option<&str> {
    let id = headers.get(X_REQUEST_ID)?.as_bytes();
    let fits = (1..=MAX_NOTED).contains(&id.len()) && id.iter().all(u8::is_ascii_graphic);
    fits.then(|| std::str::from_utf8(id).ok()).flatten()
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The digits of `bits`, most significant first.
pub(super) fn hex(bits: u128) -> [u8; 32] {
    let mut digits = [b'0'; 32];
    for (eight, bytes) in digits.as_chunks_mut::<8>().0.iter_mut().zip(bits.to_be_bytes().as_chunks::<4>().0) {
        *eight = eight_digits(u32::from_be_bytes(*bytes));
    }
    digits
}

/// The digits of 64 bits, most significant first.
pub(super) fn hex_of_64(bits: u64) -> [u8; 16] {
    let mut digits = [b'0'; 16];
    for (eight, bytes) in digits.as_chunks_mut::<8>().0.iter_mut().zip(bits.to_be_bytes().as_chunks::<4>().0) {
        *eight = eight_digits(u32::from_be_bytes(*bytes));
    }
    digits
}

/// All eight at once, each four bits in a byte of its own.
fn eight_digits(bits: u32) -> [u8; 8] {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let mut apart = u64::from(bits);
    apart = (apart | apart << 16) & 0x0000_ffff_0000_ffff;
    apart = (apart | apart << 8) & 0x00ff_00ff_00ff_00ff;
    apart = (apart | apart << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    let letters = (apart + EACH * 6) >> 4 & EACH;
    (apart + EACH * u64::from(b'0') + letters * u64::from(b'a' - b'0' - 10)).to_be_bytes()
}

/// What [`eight_digits`] made these of.
fn bits_of_eight(digits: [u8; 8]) -> u32 {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    let digits = u64::from_be_bytes(digits);
    // Of the letters alone this bit is set, and their last four bits begin at one.
    let letters = digits >> 6 & EACH;
    let mut apart = (digits & (EACH * 0x0f)) + letters * 9;
    apart = (apart | apart >> 4) & 0x00ff_00ff_00ff_00ff;
    apart = (apart | apart >> 8) & 0x0000_ffff_0000_ffff;
    // Truncated on purpose: all is in the lower half now.
    (apart | apart >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_become_their_digits() {
        assert_eq!(&hex(0x0123_4567_89ab_cdef_0000_0000_0000_000f), b"0123456789abcdef000000000000000f");
        for bits in [0, u128::MAX, rand::random()] {
            assert_eq!(hex(bits), *format!("{bits:032x}").as_bytes());
            let half = (bits >> 64) as u64;
            assert_eq!(hex_of_64(half), *format!("{half:016x}").as_bytes());
        }
    }

    #[test]
    fn an_id_of_the_callers_is_noted_where_it_is_short_and_printable() {
        let noted = |value: &[u8]| {
            let headers = HeaderMap::from_iter([(
                http::HeaderName::from_static("x-request-id"),
                http::HeaderValue::from_bytes(value).unwrap(),
            )]);
            caller_request_id(&headers).map(str::to_owned)
        };
        assert_eq!(noted(b"job-7/a").as_deref(), Some("job-7/a"));
        assert!(noted(&[b'x'; 64]).is_some());
        for unfit in [&b""[..], &[b'x'; 65], b"two words", b"tab\there", b"\xfc"] {
            assert_eq!(noted(unfit), None, "{unfit:?}");
        }
        assert_eq!(caller_request_id(&HeaderMap::new()), None);
    }

    #[test]
    fn an_id_is_its_bits_and_back() {
        for bits in [0, 9, 10, 15, u128::MAX, 0x0123_4567_89ab_cdef_fedc_ba98_7654_3210, rand::random()] {
            let id = RequestId::of_bits(bits);
            assert_eq!((id.as_str(), id.bits()), (&*format!("{bits:032x}"), bits));
        }
    }

    #[test]
    fn two_ids_differ() {
        assert_ne!(RequestId::mint(), RequestId::mint());
        assert_eq!(RequestId::mint().as_str().len(), 32);
    }

    #[test]
    fn an_id_is_read_as_it_is_written_and_nothing_else_is_one() {
        let id = RequestId::mint();
        assert_eq!(RequestId::parse(id.as_str()), Some(id));
        for text in ["", "job-7", &"A".repeat(32), &"0".repeat(31), &"0".repeat(33), &"é".repeat(16)] {
            assert_eq!(RequestId::parse(text), None, "{text}");
        }
    }
}
