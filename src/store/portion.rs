//! What a full load hands over while it reads.

use jiff::Timestamp;

use super::Item;
use crate::policy::{Levels, Pattern, Subject};

/// A part of everything there is.
#[derive(Clone, Debug, PartialEq)]
pub enum Portion {
    /// Records of every other kind than grants.
    Items(Vec<Item>),
    /// Grants.
    Grants(Grants),
}

/// Grants as decisions need them: who gave them is left out, and no pattern is held once for each, as there are ten million
/// of them on a few thousand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Patterns that get the next numbers of the load, beginning with 0. One may get several.
    pub patterns: Vec<Pattern>,
    /// Whose the rows are, in order, and how many are theirs.
    pub subjects: Vec<(Subject, usize)>,
    /// The rows.
    pub rows: Vec<GrantRow>,
}

/// A grant without its subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantRow {
    /// The number of its pattern, in this portion's or an earlier one's.
    pub pattern: u32,
    /// What may be done; the empty set is an explicit deny.
    pub levels: Levels,
    /// When it ends, if it does.
    pub expires: Option<Timestamp>,
}

impl Grants {
    /// The rows of each subject.
    pub fn runs(&self) -> impl Iterator<Item = (&Subject, &[GrantRow])> {
        let mut rest = self.rows.as_slice();
        self.subjects.iter().map(move |(subject, count)| {
            let (rows, after) = rest.split_at(rest.len().min(*count));
            rest = after;
            (subject, rows)
        })
    }
}
