//! The rows of one subject, by node, and what lies below each node.

use super::Levels;
use super::names::{Names, NodeId};
use super::sorted::{Keyed, Sorted};

/// The end of what never ends, in seconds since the epoch.
pub(super) const NEVER: i64 = i64::MAX;

/// What a subject may do at a name and below it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) node: NodeId,
    pub(super) levels: Levels,
    /// The first second at which the row is gone, or [`NEVER`].
    pub(super) ends: i64,
}

/// The rows strictly below a name. A name without a row is a filler for as long as one of them is left.
#[derive(Clone, Copy)]
struct Below {
    node: NodeId,
    all: Tally,
    /// Those that give something.
    positive: Tally,
}

/// How many rows, and until when the last of those that end is there.
#[derive(Clone, Copy, Default)]
struct Tally {
    lasting: u32,
    ending: u32,
    ends: i64,
}

/// All rows of one subject.
#[derive(Clone, Default)]
pub(super) struct Rows {
    rows: Sorted<Row>,
    below: Sorted<Below>,
}

impl Keyed for Row {
    fn key(&self) -> u32 {
        self.node.number()
    }
}

impl Keyed for Below {
    fn key(&self) -> u32 {
        self.node.number()
    }
}

impl Rows {
    /// These rows, which are in the order of their names, each name once.
    pub(super) fn of(names: &Names, rows: &[Row]) -> Self {
        let mut passed: Vec<(NodeId, Row)> = Vec::with_capacity(rows.len() * 3);
        for row in rows {
            passed.extend(above(names, row.node).map(|node| (node, *row)));
        }
        passed.sort_unstable_by_key(|(node, _)| *node);
        let below: Vec<Below> = passed.chunk_by(|(one, _), (other, _)| one == other).filter_map(Below::of).collect();
        Self { rows: Sorted::of(rows), below: Sorted::of(&below) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter()
    }

    /// The row at this name, expired or not.
    pub(super) fn at(&self, node: NodeId) -> Option<&Row> {
        self.rows.get(node.number())
    }

    /// The row at this name, if it is there at `now`.
    pub(super) fn live(&self, node: NodeId, now: i64) -> Option<&Row> {
        self.at(node).filter(|row| row.ends > now)
    }

    /// Until when a longer row passes through this name, if one does at `now`.
    pub(super) fn passed_until(&self, node: NodeId, now: i64) -> Option<i64> {
        self.below.get(node.number())?.all.until(now)
    }

    /// Whether a row that gives something lies strictly below this name.
    pub(super) fn gives_below(&self, node: NodeId, now: i64) -> bool {
        self.below.get(node.number()).is_some_and(|below| below.positive.until(now).is_some())
    }

    /// Adds the row, or replaces the one at its name, which it then returns.
    pub(super) fn put(&mut self, names: &Names, row: Row) -> Option<Row> {
        let replaced = self.rows.put(row);
        self.count(names, row);
        if let Some(old) = replaced {
            self.discount(names, old);
        }
        replaced
    }

    /// Takes the row at this name away.
    pub(super) fn take(&mut self, names: &Names, node: NodeId) -> Option<Row> {
        let taken = self.rows.take(node.number())?;
        self.discount(names, taken);
        Some(taken)
    }

    fn count(&mut self, names: &Names, row: Row) {
        for node in above(names, row.node) {
            let mut below = self.below.get(node.number()).copied().unwrap_or(Below {
                node,
                all: Tally::default(),
                positive: Tally::default(),
            });
            below.count(row);
            self.below.put(below);
        }
    }

    fn discount(&mut self, names: &Names, row: Row) {
        let mut last_to_end = false;
        for node in above(names, row.node) {
            let Some(mut below) = self.below.get(node.number()).copied() else { continue };
            last_to_end |= below.all.remove(row.ends);
            if !row.levels.is_empty() {
                last_to_end |= below.positive.remove(row.ends);
            }
            if below.all.is_empty() {
                self.below.take(node.number());
            } else {
                self.below.put(below);
            }
        }
        if last_to_end {
            self.find_last_to_end(names, row.node);
        }
    }

    /// Looks for the last end again above a row that was it and is gone: the one change that reads all rows of the
    /// subject, and only where several rows of one subject end at all.
    fn find_last_to_end(&mut self, names: &Names, gone: NodeId) {
        for node in above(names, gone) {
            let Some(mut below) = self.below.get(node.number()).copied() else { continue };
            (below.all.ends, below.positive.ends) = (0, 0);
            for row in self.rows.iter().filter(|row| row.ends != NEVER) {
                if above(names, row.node).any(|higher| higher == node) {
                    below.all.ends = below.all.ends.max(row.ends);
                    if !row.levels.is_empty() {
                        below.positive.ends = below.positive.ends.max(row.ends);
                    }
                }
            }
            self.below.put(below);
        }
    }
}

impl Below {
    /// What these rows, all below one name, come to there.
    fn of(rows: &[(NodeId, Row)]) -> Option<Self> {
        let mut below = Self { node: rows.first()?.0, all: Tally::default(), positive: Tally::default() };
        for (_, row) in rows {
            below.count(*row);
        }
        Some(below)
    }

    fn count(&mut self, row: Row) {
        self.all.add(row.ends);
        if !row.levels.is_empty() {
            self.positive.add(row.ends);
        }
    }
}

impl Tally {
    fn is_empty(self) -> bool {
        self.lasting == 0 && self.ending == 0
    }

    fn until(self, now: i64) -> Option<i64> {
        if self.lasting > 0 { Some(NEVER) } else { (self.ending > 0 && self.ends > now).then_some(self.ends) }
    }

    fn add(&mut self, ends: i64) {
        if ends == NEVER {
            self.lasting += 1;
        } else {
            self.ends = if self.ending == 0 { ends } else { self.ends.max(ends) };
            self.ending += 1;
        }
    }

    /// Whether the last end must be looked for again.
    fn remove(&mut self, ends: i64) -> bool {
        if ends == NEVER {
            self.lasting = self.lasting.saturating_sub(1);
            return false;
        }
        self.ending = self.ending.saturating_sub(1);
        self.ending > 0 && ends == self.ends
    }
}

/// The names above this one, the root last.
fn above(names: &Names, node: NodeId) -> impl Iterator<Item = NodeId> {
    std::iter::successors(names.parent(node), |node| names.parent(*node))
}
