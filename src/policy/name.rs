//! Resource names: lists of opaque keys, dotted when people read or write them.

use std::fmt;
use std::sync::Arc;

/// The most keys a name or pattern may have; far above any real name, far below a stack's depth.
pub const MAX_KEYS: usize = 64;

/// One key of a grant's pattern.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PatternKey {
    /// `*`: any one key.
    Any,
    /// Exactly this key.
    Key(Arc<str>),
}

/// What a grant is on: a resource name in which whole keys may be `*`; it covers everything below it.
///
/// The empty pattern is the root: it covers every resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Pattern(Arc<[PatternKey]>);

impl PatternKey {
    /// The key, unless it is `*`.
    #[must_use]
    pub fn literal(&self) -> Option<&str> {
        match self {
            Self::Any => None,
            Self::Key(key) => Some(key),
        }
    }
}

/// Why a text is not a resource name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// More than [`MAX_KEYS`] keys.
    #[error("a resource name has at most {MAX_KEYS} keys")]
    TooLong,
    /// A `%` that no two hexadecimal digits follow, or that encodes no UTF-8.
    #[error("`{0}` is not percent-encoded UTF-8")]
    Encoding(String),
}

impl Pattern {
    /// The pattern with these keys.
    ///
    /// # Errors
    /// [`NameError::TooLong`] for more than [`MAX_KEYS`] keys.
    pub fn new(keys: impl IntoIterator<Item = PatternKey>) -> Result<Self, NameError> {
        let keys: Arc<[PatternKey]> = keys.into_iter().take(MAX_KEYS + 1).collect();
        if keys.len() > MAX_KEYS { Err(NameError::TooLong) } else { Ok(Self(keys)) }
    }

    /// The pattern that names exactly one resource, each key taken literally.
    ///
    /// # Errors
    /// [`NameError::TooLong`] for more than [`MAX_KEYS`] keys.
    pub fn literal<K: Into<Arc<str>>>(keys: impl IntoIterator<Item = K>) -> Result<Self, NameError> {
        Self::new(keys.into_iter().map(|key| PatternKey::Key(key.into())))
    }

    /// Reads the text for people: keys joined by `.`, a key `*` is the wildcard, trailing `.` and `*` characters are
    /// cut as grainy cuts them (`a.*` is `a`; nothing left means the single key `*`), and inside a key `.`, `*`, `?`
    /// and `%` are percent-encoded.
    ///
    /// # Errors
    /// [`NameError`] for a text that is too long or badly encoded.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let cut = text.trim_end_matches(['.', '*']);
        if cut.is_empty() {
            return Self::new([PatternKey::Any]);
        }
        if cut.split('.').count() > MAX_KEYS {
            return Err(NameError::TooLong);
        }
        let keys: Vec<_> = cut.split('.').map(parse_key).collect::<Result<_, _>>()?;
        Self::new(keys)
    }

    /// The pattern with the keys of another one, or of its beginning, which are no more than [`MAX_KEYS`].
    pub(super) fn of(keys: Vec<PatternKey>) -> Self {
        Self(keys.into())
    }

    /// The keys, from the root down.
    #[must_use]
    pub fn keys(&self) -> &[PatternKey] {
        &self.0
    }

    /// The keys before the first `*`: the resource that whoever grants on the pattern must administer.
    pub fn literal_prefix(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map_while(PatternKey::literal)
    }

    /// Whether no key is `*`, so that the pattern names one resource.
    #[must_use]
    pub fn is_literal(&self) -> bool {
        self.0.iter().all(|key| *key != PatternKey::Any)
    }
}

fn parse_key(text: &str) -> Result<PatternKey, NameError> {
    if text == "*" {
        return Ok(PatternKey::Any);
    }
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('%') {
        if !after.get(..2).is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit())) {
            return Err(NameError::Encoding(text.to_owned()));
        }
        rest = after;
    }
    let key =
        percent_encoding::percent_decode_str(text).decode_utf8().map_err(|_| NameError::Encoding(text.to_owned()))?;
    Ok(PatternKey::Key(key.into()))
}

impl fmt::Display for Pattern {
    /// The text that [`Pattern::parse`] reads back, for people. Patterns that only lists of keys can express have a text,
    /// but it is read as another pattern: the root (empty), and one whose last key is `*` or empty.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, key) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str(".")?;
            }
            match key {
                PatternKey::Any => f.write_str("*")?,
                PatternKey::Key(key) => write_key(f, key)?,
            }
        }
        Ok(())
    }
}

/// Writes one key with the characters that have a meaning in dotted text percent-encoded.
fn write_key(f: &mut fmt::Formatter<'_>, key: &str) -> fmt::Result {
    for character in key.chars() {
        match character {
            '.' => f.write_str("%2E")?,
            '*' => f.write_str("%2A")?,
            '?' => f.write_str("%3F")?,
            '%' => f.write_str("%25")?,
            other => write!(f, "{other}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(written: &str) -> String {
        Pattern::parse(written).unwrap().to_string()
    }

    #[test]
    fn trailing_dots_and_stars_are_cut_as_grainy_cuts_them() {
        for (written, read) in
            [("a.*", "a"), ("a.", "a"), ("a.*.*", "a"), ("a.b*", "a.b"), ("", "*"), ("*.*", "*"), ("*.a.*", "*.a")]
        {
            assert_eq!(text(written), read, "{written}");
        }
    }

    #[test]
    fn a_name_is_literal_where_no_key_stands_for_others() {
        for (written, literal, prefix) in [
            ("a.b", true, vec!["a", "b"]),
            ("a.*.b", false, vec!["a"]),
            ("*", false, vec![]),
            ("a.%2A.b", true, vec!["a", "*", "b"]),
        ] {
            let pattern = Pattern::parse(written).unwrap();
            assert_eq!((pattern.is_literal(), pattern.literal_prefix().collect()), (literal, prefix), "{written}");
        }
        assert!(Pattern::default().is_literal());
    }

    #[test]
    fn a_key_survives_its_text_whatever_it_holds() {
        for key in ["a.b", "*", "?", "%2E", "", "ä", "a%"] {
            let pattern = Pattern::literal(["x", key, "y"]).unwrap();
            assert_eq!(Pattern::parse(&pattern.to_string()).unwrap(), pattern, "{key}");
        }
    }

    #[test]
    fn bad_encodings_and_endless_names_are_refused() {
        assert!(matches!(Pattern::parse("a.%zz"), Err(NameError::Encoding(_))));
        assert!(matches!(Pattern::parse("a%f"), Err(NameError::Encoding(_))));
        assert!(matches!(Pattern::parse("%ff.a"), Err(NameError::Encoding(_))));
        assert!(matches!(Pattern::parse(&"a.".repeat(100).replace("a.", "a.b.")), Err(NameError::TooLong)));
        let longest = vec!["a"; MAX_KEYS];
        assert_eq!(Pattern::parse(&longest.join(".")), Pattern::literal(longest.clone()));
        assert_eq!(Pattern::literal(longest.clone()).unwrap().keys().len(), MAX_KEYS);
        let longer = [longest, vec!["a"]].concat();
        assert_eq!(Pattern::parse(&longer.join(".")), Err(NameError::TooLong));
        assert_eq!(Pattern::literal(longer), Err(NameError::TooLong));
    }
}
