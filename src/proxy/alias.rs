//! When two spellings are one name to an upstream.
//!
//! CGI, WSGI, PHP and their kin fold the names of headers, cookies and parameters: whoever sends `X_Carta_User` is read
//! as having sent `X-Carta-User`. What the gateway sets is therefore removed from the caller's request in every spelling
//! that any of them folds.

use percent_encoding::percent_decode;

/// Whether the lower-case header name is `canonical` in some spelling: whatever is no letter or digit stands for `-`.
#[must_use]
pub fn same_header(name: &str, canonical: &str) -> bool {
    name.len() == canonical.len() && folds_to(name, canonical)
}

/// Whether the lower-case header name begins with `prefix` in some spelling.
#[must_use]
pub fn header_begins(name: &str, prefix: &str) -> bool {
    name.len() >= prefix.len() && folds_to(name, prefix)
}

/// The spelling of a lower-case header name that the others are compared with.
#[must_use]
pub fn canonical_header(name: &str) -> Box<str> {
    name.bytes().map(|byte| char::from(folded(byte))).collect()
}

fn folds_to(name: &str, canonical: &str) -> bool {
    name.bytes().zip(canonical.bytes()).all(|(byte, wanted)| folded(byte) == wanted)
}

fn folded(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() { byte } else { b'-' }
}

/// The spelling of a parameter's or cookie's name that others are compared with: decoded once, trimmed, without case,
/// up to an index (`key[]` is `key` to PHP) or NUL, and with every separator that some reader folds as `_`.
#[must_use]
pub fn canonical_parameter(name: &[u8]) -> Vec<u8> {
    let decoded: Vec<u8> = percent_decode(name).map(|byte| if byte == b'+' { b' ' } else { byte }).collect();
    let trimmed = decoded.trim_ascii();
    let end = trimmed.iter().position(|byte| matches!(byte, b'[' | 0)).unwrap_or(trimmed.len());
    let fold = |byte: &u8| if matches!(byte, b'.' | b' ' | b'-') { b'_' } else { byte.to_ascii_lowercase() };
    trimmed.iter().take(end).map(fold).collect()
}

/// The parts of a query or of a cookie header that remain when every part whose name, as [`canonical_parameter`] spells
/// it, is taken is removed; none where all stay, so that what is untouched stays byte for byte.
///
/// Any byte of `separators` separates, as readers disagree about which does; the first of them joins what remains.
#[must_use]
pub fn without_parameters(text: &[u8], separators: &[u8], taken: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    let is_taken = |part: &[u8]| {
        let name = part.split(|byte| *byte == b'=').next().unwrap_or_default();
        taken(&canonical_parameter(name))
    };
    if !text.split(|byte| separators.contains(byte)).any(is_taken) {
        return None;
    }
    let mut kept = Vec::with_capacity(text.len());
    let mut rest = text;
    loop {
        let end = rest.iter().position(|byte| separators.contains(byte));
        let (part, after) = end.and_then(|end| rest.split_at_checked(end)).unwrap_or((rest, &[]));
        if !is_taken(part) {
            kept.extend_from_slice(part);
            // The separator stays with the part before it, whichever it was.
            kept.extend(after.first());
        }
        match after.split_first() {
            Some((_, after)) => rest = after,
            None => break,
        }
    }
    while kept.last().is_some_and(|byte| separators.contains(byte) || *byte == b' ') {
        kept.pop();
    }
    Some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_spelling_of_a_header_is_recognized() {
        for name in ["x-carta-user", "x_carta_user", "x.carta.user", "x_carta-user", "x!carta~user"] {
            assert!(same_header(name, "x-carta-user"), "{name}");
            assert!(header_begins(name, "x-carta-"), "{name}");
        }
        for name in ["x-carta-users", "xcartauser", "x-cart-auser"] {
            assert!(!same_header(name, "x-carta-user"), "{name}");
        }
        assert_eq!(&*canonical_header("x.api_key"), "x-api-key");
    }

    #[test]
    fn every_spelling_of_a_parameter_is_recognized() {
        for name in [
            "api_key",
            "API_Key",
            "api%5Fkey",
            "api.key",
            "%61pi-key",
            "api+key",
            " api_key",
            "api_key[]",
            "api_key%5B0%5D",
            "api_key%00x",
        ] {
            assert_eq!(canonical_parameter(name.as_bytes()), b"api_key", "{name}");
        }
        assert_ne!(canonical_parameter(b"%2561pi_key"), b"api_key");
    }

    fn without(text: &str, separators: &str, name: &str) -> Option<String> {
        let kept = without_parameters(text.as_bytes(), separators.as_bytes(), |taken| taken == name.as_bytes());
        kept.map(|kept| String::from_utf8(kept).unwrap())
    }

    #[test]
    fn a_taken_parameter_goes_and_all_others_stay_as_they_are() {
        for (text, kept) in [
            ("a=1&b=2", None),
            ("", None),
            ("&&", None),
            ("key=x", Some("")),
            ("a=%20&KEY=x&b=+&&c", Some("a=%20&b=+&&c")),
            ("a=1;key=x&b", Some("a=1;b")),
            ("a&key", Some("a")),
            ("k%65y[]=1&a;b=2", Some("a;b=2")),
        ] {
            assert_eq!(without(text, "&;", "key").as_deref(), kept, "{text}");
        }
    }

    #[test]
    fn a_taken_cookie_goes_even_where_it_hides_in_a_quoted_one() {
        for (text, kept) in [
            ("a=1; session=x; b=2", Some("a=1; b=2")),
            ("a=\"1; session=x\"; b=2", Some("a=\"1; b=2")),
            ("a=1,session=x", Some("a=1")),
            ("session=x", Some("")),
            ("a=session", None),
        ] {
            assert_eq!(without(text, ";,", "session").as_deref(), kept, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_taken_remains_and_nothing_else_is_lost(text in "([ab=&;.\\[]|%61|key){0,20}") {
            let kept = without(&text, "&;", "key").unwrap_or_else(|| text.clone());
            let parts = |text: &str| text.split(['&', ';']).filter(|part| !part.is_empty()).map(str::to_owned).collect::<Vec<_>>();
            let taken = |part: &String| canonical_parameter(part.split('=').next().unwrap().as_bytes()) == b"key";
            let expected: Vec<_> = parts(&text).into_iter().filter(|part| !taken(part)).collect();
            prop_assert_eq!(parts(&kept), expected);
        }
    }
}
