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

/// The levels of a mask, which to grainy is any integer. Bits that are no level here mean nothing to a question, but a row
/// that has one is no deny. For comparing with grainy only: such levels cannot be stored.
#[must_use]
pub fn mask(bits: i128) -> Levels {
    let known = u8::try_from(bits & 127).ok().and_then(Levels::from_bits).unwrap_or_default();
    if bits & !127 == 0 { known } else { known | Levels::BLANK }
}

/// What the user may do with a namespace in which whole keys may be `?`: all that is held on any of the names found in
/// the user's rows that the namespace stands for. It says whether to show a menu entry; never enforce it.
///
/// This is grainy's documented reading. Its `check` also tries every shorter name on the way, skips keys that start with
/// `_`, and fails on empty ones.
#[must_use]
pub fn levels(snapshot: &Snapshot, user: UserId, text: &str, explicit: bool, now: Timestamp) -> Levels {
    let reading = if explicit { Reading::Explicit } else { Reading::Covering };
    names(snapshot, user, text, now).iter().fold(Levels::NONE, |levels, name| {
        let keys: Vec<&str> = name.iter().map(String::as_str).collect();
        levels | snapshot.verdict(user, &keys, reading, now).levels
    })
}

/// The names that a namespace stands for: itself where no key is `?`, else those with exactly as many keys that the rows
/// of the user, of what the user belongs to and of the holders of other resources know. `?` takes every key, another key
/// takes itself and `*`.
#[must_use]
pub fn names(snapshot: &Snapshot, user: UserId, text: &str, now: Timestamp) -> BTreeSet<Vec<String>> {
    let asked: Vec<&str> = keys(text).collect();
    if !asked.contains(&"?") {
        return [asked.into_iter().map(str::to_owned).collect()].into();
    }
    let own = snapshot.subjects.id(&Subject::User(user));
    let holders = snapshot.subjects.holders.iter().map(|(_, subject)| *subject);
    let subjects = own.into_iter().chain(snapshot.memberships(own)).chain(holders);
    let rows = subjects.filter_map(|subject| snapshot.subjects.entry(subject)).flat_map(|entry| entry.rows.iter());
    rows.filter(|row| row.ends > now.as_second())
        .filter_map(|row| {
            let pattern = snapshot.names.pattern(row.node);
            let known = pattern.keys().get(..asked.len())?;
            let keys = asked.iter().zip(known).map(|(asked, known)| step(asked, known).map(str::to_owned));
            keys.collect::<Option<Vec<_>>>()
        })
        .map(|mut name| {
            // As a text would be cut: what is left of `a.*` is `a`.
            while name.len() > 1 && name.last().is_some_and(|key| key.is_empty() || key == "*") {
                name.pop();
            }
            name
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Change, Grant};
    use uuid::Uuid;

    #[test]
    fn a_question_mark_stands_for_the_keys_of_rows_for_as_long_as_those_are_there() {
        let me = UserId(Uuid::from_u128(1));
        let row = |name: &str, ends: Option<i64>| {
            let keys =
                name.split('.').map(|key| if key == "*" { PatternKey::Any } else { PatternKey::Key(key.into()) });
            let expires = ends.map(|second| Timestamp::from_second(second).unwrap());
            let (subject, pattern) = (Subject::User(me), Pattern::new(keys).unwrap());
            Change::Grant(Grant { subject, pattern, levels: Levels::READ, expires })
        };
        let rows = [row("a.b", Some(5)), row("a.*", None), row("a.c.d", None), row("a.", None), row("*", None)];
        let snapshot = Snapshot::empty().patched(rows);
        let asked = |text: &str, second: i64| -> Vec<String> {
            let found = names(&snapshot, me, text, Timestamp::from_second(second).unwrap());
            found.into_iter().map(|name| name.join(".")).collect()
        };
        assert_eq!(asked("a.?", 4), ["a", "a.b", "a.c"]);
        assert_eq!(asked("a.?", 5), ["a", "a.c"], "what ends has ended at its second");
        assert_eq!(asked("?", 5), ["*", "a"]);
        assert_eq!(asked("?.c", 5), ["a.c"], "`a.*` takes the key that was asked");
        assert_eq!(asked("x.y", 5), ["x.y"]);
    }

    #[test]
    fn a_mask_keeps_its_levels_and_is_a_deny_only_where_it_is_0() {
        for (bits, levels, shown) in [
            (0, Levels::NONE, "none"),
            (127, Levels::ALL, "create, read, update, delete, execute, clone, admin"),
            (128, Levels::BLANK, "nothing"),
            (1 << 100, Levels::BLANK, "nothing"),
            (-1, Levels::ALL | Levels::BLANK, "create, read, update, delete, execute, clone, admin"),
            (-128, Levels::BLANK, "nothing"),
            (129, Levels::READ | Levels::BLANK, "read"),
        ] {
            assert_eq!(mask(bits), levels, "{bits}");
            assert_eq!(mask(bits).to_string(), shown, "{bits}");
        }
    }
}
