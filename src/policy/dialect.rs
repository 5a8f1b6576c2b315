//! grainy's way of writing things, for what imports it, compares with it or asks in it. Nothing here enforces.
//!
//! grainy's parsers take anything; ours are strict, because `"deny"` is d to grainy and `"read"` r and d.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::evaluate::Reading;
use super::snapshot::Snapshot;
use super::{Levels, NameError, Pattern, PatternKey, Subject, UserId};

/// Flags as grainy reads them: every letter other than c, r, u and d is ignored.
#[must_use]
pub fn flags(text: &str) -> Levels {
    text.chars().fold(Levels::NONE, |levels, letter| {
        levels
            | match letter {
                'c' => Levels::CREATE,
                'r' => Levels::READ,
                'u' => Levels::UPDATE,
                'd' => Levels::DELETE,
                _ => Levels::NONE,
            }
    })
}

/// The keys of a namespace as grainy reads it in a question: trailing `.` and `*` characters are cut, nothing left means
/// the single key `*`, and no key means anything but itself.
pub fn keys(text: &str) -> impl Iterator<Item = &str> {
    let cut = text.trim_end_matches(['.', '*']);
    if cut.is_empty() { "*" } else { cut }.split('.')
}

/// The pattern of a namespace as grainy reads it in a row: as [`keys`], with `*` for any one key. Nothing is
/// percent-decoded, unlike [`Pattern::parse`].
///
/// # Errors
/// [`NameError::TooLong`] for more than [`super::MAX_KEYS`] keys.
pub fn pattern(text: &str) -> Result<Pattern, NameError> {
    Pattern::new(keys(text).map(|key| if key == "*" { PatternKey::Any } else { PatternKey::Key(key.into()) }))
}

/// What the user may do with a namespace in which whole keys may be `?`: all that is held on any of the names found in
/// the user's rows that the namespace stands for. It says whether to show a menu entry; never enforce it.
///
/// This is grainy's documented reading. Its `check` also tries every shorter name on the way, skips keys that start with
/// `_`, and fails on empty ones.
#[must_use]
pub fn levels(snapshot: &Snapshot, user: UserId, text: &str, explicit: bool, now: Timestamp) -> Levels {
    let asked: Vec<&str> = keys(text).collect();
    let reading = if explicit { Reading::Explicit } else { Reading::Covering };
    let held = |keys: &[&str]| snapshot.verdict(user, keys, reading, now).levels;
    if !asked.contains(&"?") {
        return held(&asked);
    }
    let names = expand(snapshot, user, &asked, now);
    names.iter().fold(Levels::NONE, |levels, name| levels | held(&keys(name).collect::<Vec<_>>()))
}

/// The names with exactly as many keys that the user's rows know: `?` takes every key, another key takes itself and `*`.
fn expand(snapshot: &Snapshot, user: UserId, asked: &[&str], now: Timestamp) -> BTreeSet<String> {
    let own = snapshot.subjects.id(&Subject::User(user));
    let subjects = own.into_iter().chain(snapshot.memberships(own));
    let rows = subjects.filter_map(|subject| snapshot.subjects.entry(subject)).flat_map(|entry| entry.rows.iter());
    rows.filter(|row| row.ends > now.as_second())
        .filter_map(|row| {
            let pattern = snapshot.names.pattern(row.node);
            let known = pattern.keys().get(..asked.len())?;
            let name: Option<Vec<&str>> = asked.iter().zip(known).map(|(asked, known)| step(asked, known)).collect();
            Some(name?.join("."))
        })
        .collect()
}

fn step<'a>(asked: &'a str, known: &'a PatternKey) -> Option<&'a str> {
    match known.literal() {
        known if asked == "?" => Some(known.unwrap_or("*")),
        Some(known) if known != asked => None,
        _ => Some(asked),
    }
}
