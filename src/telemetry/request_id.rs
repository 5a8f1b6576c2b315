//! The id by which a caller, an operator and an upstream speak of the same request.

use std::fmt;

/// 128 random bits, shown as 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 32]);

impl RequestId {
    /// Mints one. Not a secret, but not to be guessed either: whoever knows it may ask what became of the request.
    #[must_use]
    pub fn mint() -> Self {
        Self(hex(rand::random()))
    }

    /// The 32 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The value for `X-Request-Id`.
    #[must_use]
    pub fn header(&self) -> http::HeaderValue {
        http::HeaderValue::from_bytes(&self.0).unwrap_or_else(|_| http::HeaderValue::from_static(""))
    }
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
    for (place, digit) in digits.iter_mut().enumerate() {
        let nibble = (bits >> (124 - 4 * place)) & 0xf;
        *digit = char::from_digit(u32::try_from(nibble).unwrap_or_default(), 16).map_or(b'0', |digit| digit as u8);
    }
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_become_their_digits() {
        assert_eq!(&hex(0x0123_4567_89ab_cdef_0000_0000_0000_000f), b"0123456789abcdef000000000000000f");
    }

    #[test]
    fn two_ids_differ() {
        assert_ne!(RequestId::mint(), RequestId::mint());
        assert_eq!(RequestId::mint().as_str().len(), 32);
    }
}
