//! How ids, times and names are written in columns, both ways.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::Row;
use rusqlite::types::ValueRef;
use uuid::Uuid;

use super::failure::damaged;
use crate::policy::{GroupId, Levels, Pattern, PatternKey, ResourceId, Subject, UserId};
use crate::store::{ApiTokenId, KeyDigest, NodeKind, StoreError};

/// A column of a row, as the record wants it; what does not read as that is damage.
pub(super) trait Column: Sized {
    fn read(value: ValueRef<'_>) -> Option<Self>;
}

/// Reads column `index` of the row.
pub(super) fn column<T: Column>(row: &Row<'_>, index: usize) -> Result<T, StoreError> {
    let value = row.get_ref(index).map_err(super::failure::failure)?;
    T::read(value).ok_or_else(|| {
        let name = row.as_ref().column_name(index).unwrap_or("?");
        damaged(format!("a value in the column `{name}` does not read"))
    })
}

impl<T: Column> Column for Option<T> {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        if matches!(value, ValueRef::Null) { Some(None) } else { T::read(value).map(Some) }
    }
}

impl Column for i64 {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        value.as_i64().ok()
    }
}

impl Column for u64 {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        value.as_i64().ok()?.try_into().ok()
    }
}

impl Column for bool {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        value.as_i64().ok().map(|number| number != 0)
    }
}

impl Column for String {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        value.as_str().ok().map(str::to_owned)
    }
}

impl Column for Vec<u8> {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        value.as_blob().ok().map(<[u8]>::to_vec)
    }
}

impl Column for Uuid {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        Uuid::from_slice(value.as_blob().ok()?).ok()
    }
}

impl Column for UserId {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        Uuid::read(value).map(Self)
    }
}

impl Column for GroupId {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        Uuid::read(value).map(Self)
    }
}

impl Column for ResourceId {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        Uuid::read(value).map(Self)
    }
}

impl Column for ApiTokenId {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        Uuid::read(value).map(Self)
    }
}

impl Column for KeyDigest {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        value.as_blob().ok()?.try_into().ok().map(Self)
    }
}

impl Column for Timestamp {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        Timestamp::from_microsecond(value.as_i64().ok()?).ok()
    }
}

impl Column for Levels {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        Levels::from_bits(value.as_i64().ok()?.try_into().ok()?)
    }
}

impl Column for Subject {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        value.as_str().ok()?.parse().ok()
    }
}

impl Column for Pattern {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        pattern(value.as_str().ok()?)
    }
}

/// Several texts in one column, as JSON.
pub(super) struct Texts(pub(super) Vec<String>);

impl Column for Texts {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        serde_json::from_str(value.as_str().ok()?).ok().map(Self)
    }
}

impl Column for NodeKind {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        KINDS.into_iter().find(|(_, word)| value.as_str() == Ok(*word)).map(|(kind, _)| kind)
    }
}

/// The word for a kind.
pub(super) fn kind_text(kind: NodeKind) -> &'static str {
    KINDS.into_iter().find(|(known, _)| *known == kind).map_or("generic", |(_, word)| word)
}

const KINDS: [(NodeKind, &str); 4] = [
    (NodeKind::Generic, "generic"),
    (NodeKind::Project, "project"),
    (NodeKind::Connection, "connection"),
    (NodeKind::Workspace, "workspace"),
];

impl Column for serde_json::Value {
    fn read(value: ValueRef<'_>) -> Option<Self> {
        serde_json::from_str(value.as_str().ok()?).ok()
    }
}

/// A count as it is kept: SQLite's numbers have a sign.
pub(super) fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A time as it is kept. A part of the last second that there is would not read back, and is dropped.
pub(super) fn micros(time: Timestamp) -> i64 {
    let micros = time.as_microsecond();
    if Timestamp::from_microsecond(micros).is_ok() { micros } else { time.as_second().saturating_mul(1_000_000) }
}

/// The text of a pattern: each key followed by `.`, in it `.`, `*` and `%` percent-encoded.
///
/// Unlike the text for people it keeps every list of keys apart (`a.*.` is not `a.`, the root is the empty text), and
/// what is on or below a name is exactly what begins with the name's text.
pub(crate) fn pattern_text(pattern: &Pattern) -> String {
    let mut text = String::new();
    for key in pattern.keys() {
        match key {
            PatternKey::Any => text.push('*'),
            PatternKey::Key(key) => key.chars().for_each(|character| match character {
                '.' => text.push_str("%2E"),
                '*' => text.push_str("%2A"),
                '%' => text.push_str("%25"),
                other => text.push(other),
            }),
        }
        text.push('.');
    }
    text
}

fn pattern(text: &str) -> Option<Pattern> {
    let keys = text.split_terminator('.').map(|key| match key {
        "*" => PatternKey::Any,
        key if key.contains('%') => PatternKey::Key(unescaped(key).into()),
        key => PatternKey::Key(Arc::from(key)),
    });
    let pattern = Pattern::new(keys).ok()?;
    (text.is_empty() || text.ends_with('.')).then_some(pattern)
}

fn unescaped(key: &str) -> String {
    key.replace("%2E", ".").replace("%2A", "*").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(keys: &[&str]) -> Pattern {
        Pattern::literal(keys.iter().copied()).unwrap()
    }

    #[test]
    fn every_time_reads_back() {
        for time in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::from_second(1).unwrap(), Timestamp::MAX] {
            let read = Timestamp::read(ValueRef::Integer(micros(time)));
            assert_eq!(read.map(Timestamp::as_second), Some(time.as_second()));
        }
    }

    #[test]
    fn every_list_of_keys_survives_its_text() {
        let any = |after: &str| Pattern::new([PatternKey::Key(after.into()), PatternKey::Any]).unwrap();
        let all = [
            keys(&[]),
            keys(&[""]),
            keys(&["", ""]),
            keys(&["a"]),
            keys(&["a", ""]),
            keys(&["a", "b"]),
            keys(&["a.b"]),
            keys(&["*"]),
            keys(&["a", "*"]),
            any("a"),
            any("a*"),
            keys(&["%2E"]),
            keys(&["%252E", "%"]),
            keys(&["ä?/"]),
        ];
        for (position, one) in all.iter().enumerate() {
            assert_eq!(pattern(&pattern_text(one)).as_ref(), Some(one));
            for other in &all[position + 1..] {
                assert_ne!(pattern_text(one), pattern_text(other));
            }
        }
    }

    #[test]
    fn what_is_on_or_below_a_name_begins_with_its_text() {
        let name = pattern_text(&keys(&["ns", "svc"]));
        for (below, is) in [
            (keys(&["ns", "svc"]), true),
            (keys(&["ns", "svc", "x"]), true),
            (keys(&["ns", "svc-2"]), false),
            (keys(&["ns", "svc.x"]), false),
            (keys(&["ns"]), false),
        ] {
            assert_eq!(pattern_text(&below).starts_with(&name), is, "{below}");
        }
    }

    #[test]
    fn a_text_that_was_cut_does_not_read() {
        assert_eq!(pattern("ns.sv"), None);
    }
}
