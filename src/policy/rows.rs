//! The rows of one subject, by node, and what lies below each node.

use std::sync::Arc;

use smallvec::SmallVec;

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

/// A row as it is kept: half as long without its end, which few have.
#[derive(Clone, Copy)]
struct Kept {
    node: NodeId,
    levels: Levels,
    /// Whether its end is among those of its subject.
    ends: bool,
}

/// When the row at a name ends.
#[derive(Clone, Copy)]
struct End {
    node: NodeId,
    at: i64,
}

/// How many of the rows strictly below a name give something and do not end: what menus ask for.
#[derive(Clone, Copy)]
struct Lasting {
    node: NodeId,
    count: u32,
}

/// How many of them give something for a while. Few do, and so few names have it that the others do not pay for it.
#[derive(Clone, Copy)]
struct Ending {
    node: NodeId,
    count: u32,
    /// When the last of them ends.
    last: i64,
}

/// All rows of one subject.
#[derive(Clone, Default)]
pub(super) struct Rows {
    rows: Sorted<Kept>,
    lasting: Sorted<Lasting>,
    ending: Option<Arc<Ends>>,
}

/// What only a subject has some of whose rows end.
#[derive(Clone, Default)]
struct Ends {
    rows: Sorted<End>,
    below: Sorted<Ending>,
}

impl Keyed for Kept {
    fn key(&self) -> u32 {
        self.node.number()
    }
}

impl Keyed for End {
    fn key(&self) -> u32 {
        self.node.number()
    }
}

impl Keyed for Lasting {
    fn key(&self) -> u32 {
        self.node.number()
    }
}

impl Keyed for Ending {
    fn key(&self) -> u32 {
        self.node.number()
    }
}

impl Rows {
    /// These rows, which are in the order of their names, each name once.
    pub(super) fn of(names: &Names, rows: &[Row], counting: &mut Counting) -> Self {
        let kept: SmallVec<[Kept; 32]> = rows.iter().map(|row| Kept::of(*row)).collect();
        let mut all = Self { rows: Sorted::of(&kept), lasting: Sorted::of(counting.below(names, rows)), ending: None };
        for row in rows.iter().filter(|row| row.ends != NEVER) {
            all.change_ending(|ending| ending.rows.put(End { node: row.node, at: row.ends }));
            all.count(names, *row);
        }
        all
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Row> {
        self.rows.iter().map(|kept| self.whole(*kept))
    }

    /// The row at this name, expired or not.
    pub(super) fn at(&self, node: NodeId) -> Option<Row> {
        self.rows.get(node.number()).map(|kept| self.whole(*kept))
    }

    /// The row at this name, if it is there at `now`.
    pub(super) fn live(&self, node: NodeId, now: i64) -> Option<Row> {
        self.at(node).filter(|row| row.ends > now)
    }

    fn whole(&self, Kept { node, levels, ends }: Kept) -> Row {
        Row { node, levels, ends: if ends { self.end_of(node) } else { NEVER } }
    }

    /// One that is not there would have been before all time: what was given for a while must not last.
    fn end_of(&self, node: NodeId) -> i64 {
        let end = self.ending.as_ref().and_then(|ending| ending.rows.get(node.number()));
        end.map_or(i64::MIN, |end| end.at)
    }

    /// Whether a row that gives something lies strictly below this name.
    pub(super) fn gives_below(&self, node: NodeId, now: i64) -> bool {
        self.lasting.get(node.number()).is_some() || self.ending_at(node).is_some_and(|below| below.last > now)
    }

    fn ending_at(&self, node: NodeId) -> Option<&Ending> {
        self.ending.as_ref()?.below.get(node.number())
    }

    /// Adds the row, or replaces the one at its name, which it then returns.
    pub(super) fn put(&mut self, names: &Names, row: Row) -> Option<Row> {
        let replaced = self.at(row.node);
        self.rows.put(Kept::of(row));
        if row.ends != NEVER {
            self.change_ending(|ending| ending.rows.put(End { node: row.node, at: row.ends }));
        }
        self.count(names, row);
        if let Some(old) = replaced {
            if old.ends != NEVER && row.ends == NEVER {
                self.change_ending(|ending| ending.rows.take(row.node.number()));
            }
            self.discount(names, old);
        }
        replaced
    }

    /// Takes the row at this name away.
    pub(super) fn take(&mut self, names: &Names, node: NodeId) -> Option<Row> {
        let taken = self.at(node)?;
        self.rows.take(node.number());
        if taken.ends != NEVER {
            self.change_ending(|ending| ending.rows.take(node.number()));
        }
        self.discount(names, taken);
        Some(taken)
    }

    fn count(&mut self, names: &Names, row: Row) {
        if !row.levels.gives() {
            return;
        }
        for node in above(names, row.node) {
            if row.ends == NEVER {
                let count = self.lasting.get(node.number()).map_or(1, |below| below.count + 1);
                self.lasting.put(Lasting { node, count });
            } else {
                let (count, last) = self.ending_at(node).map_or((0, row.ends), |below| (below.count, below.last));
                let below = Ending { node, count: count + 1, last: last.max(row.ends) };
                self.change_ending(|ending| ending.below.put(below));
            }
        }
    }

    fn discount(&mut self, names: &Names, row: Row) {
        if row.levels.gives() {
            for node in above(names, row.node) {
                if row.ends == NEVER { self.discount_lasting(node) } else { self.discount_ending(names, node, row) }
            }
        }
        if self.ending.as_ref().is_some_and(|ending| ending.rows.is_empty()) {
            self.ending = None;
        }
    }

    fn discount_lasting(&mut self, node: NodeId) {
        match self.lasting.get(node.number()).map_or(0, |below| below.count) {
            0 | 1 => drop(self.lasting.take(node.number())),
            count => drop(self.lasting.put(Lasting { node, count: count - 1 })),
        }
    }

    /// The last end is looked for again above a row that was it and is gone: the one change that reads all rows of the
    /// subject, and only where several rows of one subject end at all.
    fn discount_ending(&mut self, names: &Names, node: NodeId, row: Row) {
        let Some(Ending { count, last, .. }) = self.ending_at(node).copied() else { return };
        if count <= 1 {
            self.change_ending(|ending| ending.below.take(node.number()));
            return;
        }
        let last = if last == row.ends { self.last_end(names, node) } else { last };
        self.change_ending(|ending| ending.below.put(Ending { node, count: count - 1, last }));
    }

    /// The last end of all rows below the name that give something.
    fn last_end(&self, names: &Names, node: NodeId) -> i64 {
        let ends = self.ending.iter().flat_map(|ending| ending.rows.iter());
        let rows = ends.filter_map(|end| self.at(end.node)).filter(|row| row.levels.gives());
        let below = rows.filter(|row| above(names, row.node).any(|higher| higher == node));
        below.map(|row| row.ends).max().unwrap_or(i64::MIN)
    }

    fn change_ending<R>(&mut self, change: impl FnOnce(&mut Ends) -> R) -> R {
        change(Arc::make_mut(self.ending.get_or_insert_default()))
    }
}

impl Kept {
    fn of(row: Row) -> Self {
        Self { node: row.node, levels: row.levels, ends: row.ends != NEVER }
    }
}

/// Counts the rows of one subject after the other below each name: what it needs for that is kept. Names may be added
/// meanwhile, and none may go.
#[derive(Default)]
pub(super) struct Counting {
    /// By number: the name above, and what is counted below.
    names: Vec<(Option<NodeId>, Lasting)>,
    /// The names that have any.
    met: Vec<NodeId>,
    counted: Vec<Lasting>,
}

impl Counting {
    /// The rows below each name that give something and do not end, in the order of the names.
    fn below(&mut self, names: &Names, rows: &[Row]) -> &[Lasting] {
        for node in (self.names.len()..names.reach()).map(NodeId::of) {
            self.names.push((names.parent(node), Lasting { node, count: 0 }));
        }
        for row in rows.iter().filter(|row| row.ends == NEVER && row.levels.gives()) {
            let mut next = self.parent(row.node);
            while let Some((above, below)) = next.and_then(|node| self.names.get_mut(node.number() as usize)) {
                if below.count == 0 {
                    self.met.push(below.node);
                }
                below.count += 1;
                next = *above;
            }
        }
        self.met.sort_unstable();
        self.counted.clear();
        for node in self.met.drain(..) {
            if let Some((_, below)) = self.names.get_mut(node.number() as usize) {
                self.counted.push(*below);
                below.count = 0;
            }
        }
        &self.counted
    }

    fn parent(&self, node: NodeId) -> Option<NodeId> {
        self.names.get(node.number() as usize)?.0
    }
}

/// The names above this one, the root last.
fn above(names: &Names, node: NodeId) -> impl Iterator<Item = NodeId> {
    std::iter::successors(names.parent(node), |node| names.parent(*node))
}

#[cfg(test)]
mod tests {
    use super::super::Pattern;
    use super::*;

    #[test]
    fn what_is_counted_below_a_name_goes_with_the_last_row_there() {
        let mut names = Names::new();
        let mut node = |name: &str| names.retain(&Pattern::parse(name).unwrap());
        let ([above, other], all) = (["a", "x"].map(&mut node), ["a.b", "a.c", "a.d", "x.y"].map(&mut node));
        for (ends, at_once) in [(NEVER, false), (NEVER, true), (5, false), (5, true)] {
            let given = all.map(|node| Row { node, levels: Levels::READ, ends });
            let mut rows = Rows::default();
            if at_once {
                rows = Rows::of(&names, &given, &mut Counting::default());
            } else {
                assert!(given.into_iter().all(|row| rows.put(&names, row).is_none()));
            }
            let counted = |rows: &Rows| {
                [above, other].map(|node| match ends {
                    NEVER => rows.lasting.get(node.number()).map(|below| below.count),
                    _ => rows.ending_at(node).map(|below| below.count),
                })
            };
            assert_eq!(counted(&rows), [Some(3), Some(1)]);
            let left: Vec<_> = all[..3]
                .iter()
                .map(|node| {
                    rows.take(&names, *node);
                    counted(&rows)
                })
                .collect();
            assert_eq!(left, [[Some(2), Some(1)], [Some(1), Some(1)], [None, Some(1)]]);
        }
    }

    #[test]
    fn rows_are_empty_when_the_last_is_taken() {
        let mut names = Names::new();
        let node = names.retain(&Pattern::literal(["a"]).unwrap());
        for ends in [NEVER, 5] {
            let mut rows = Rows::default();
            assert!(rows.is_empty());
            rows.put(&names, Row { node, levels: Levels::READ, ends });
            assert!(!rows.is_empty() && rows.ending.is_some() == (ends != NEVER));
            rows.take(&names, node);
            assert!(rows.is_empty() && rows.ending.is_none());
        }
    }
}
