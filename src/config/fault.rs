//! What is wrong with a configuration, and what to write instead: all of it at once.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong. Never holds a value that may be secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Where in the file; none for a table that came as JSON.
    pub place: Option<Place>,
    /// The key, from the root: `service[0].inject.headers.X-API-KEY`. Empty where no key is at fault.
    pub key: String,
    /// What is wrong: lower case, without a full stop.
    pub what: String,
    /// What to write instead, or to do.
    pub instead: String,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The file, as it was named.
    pub path: PathBuf,
    /// The line, from 1; 0 where the file as a whole is meant.
    pub line: usize,
    /// The column, in characters from 1; 0 where the file as a whole is meant.
    pub column: usize,
}

impl Place {
    /// The file as a whole.
    #[must_use]
    pub(super) fn whole(path: &Path) -> Self {
        Self { path: path.to_owned(), line: 0, column: 0 }
    }

    /// The byte `offset` of the file's `text`.
    #[must_use]
    pub(super) fn at(path: &Path, text: &str, offset: usize) -> Self {
        let before = text.get(..offset).unwrap_or(text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Self { path: path.to_owned(), line, column }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    /// `file:line:column: key: what is wrong`, and on a second line what to do.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        write!(f, "{}\n  {}", self.what, self.instead)
    }
}

/// Everything that is wrong, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Faults(Vec<Fault>);

impl Faults {
    /// The faults, put in the order of the file.
    #[must_use]
    pub fn new(mut faults: Vec<Fault>) -> Self {
        faults.sort_by(|one, other| one.place.cmp(&other.place));
        faults.dedup();
        Self(faults)
    }

    /// One by one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Fault> {
        self.0.iter()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, fault) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// A fault without its place: what a reader of one value knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    /// What is wrong.
    pub(super) what: String,
    /// What to write instead.
    pub(super) instead: String,
}

impl Complaint {
    pub(super) fn new(what: impl Into<String>, instead: impl Into<String>) -> Self {
        Self { what: what.into(), instead: instead.into() }
    }
}

impl From<super::PatternFault> for Complaint {
    fn from(fault: super::PatternFault) -> Self {
        Self { what: fault.what, instead: fault.instead }
    }
}

/// The text in backticks, shortened, with control characters escaped. For values that are never secret.
pub(super) fn shown(text: &str) -> String {
    const LONGEST: usize = 60;
    if text.is_empty() {
        return "an empty text".to_owned();
    }
    let mut cut = String::new();
    for character in text.chars().take(LONGEST) {
        // Also what turns the direction of a line, or is not seen: a terminal must show what is there.
        if character.is_control()
            || matches!(character, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            cut.extend(character.escape_unicode());
        } else {
            cut.push(character);
        }
    }
    if text.chars().nth(LONGEST).is_some() {
        cut.push('…');
    }
    format!("`{cut}`")
}

/// The nearest of the known words, where one is near.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    // Longer words are cut: nothing known is nearly as long, and the measure is quadratic.
    let word: String = word.chars().take(64).collect::<String>().to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&word, &candidate.to_lowercase()), candidate))
        .filter(|(score, _)| *score > 0.82)
        .max_by(|(one, _), (other, _)| one.total_cmp(other))
        .map(|(_, candidate)| candidate)
}
