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

/// The rows strictly below a name that do not end. A name without a row is a filler for as long as any is left.
#[derive(Clone, Copy)]
struct Lasting {
    node: NodeId,
    all: u32,
    /// Those that give something.
    positive: u32,
}

/// The rows strictly below a name that end. Few do, and so few names have it that the others do not pay for it.
#[derive(Clone, Copy)]
struct Ending {
    node: NodeId,
    all: Tally,
    /// Those that give something.
    positive: Tally,
}

/// How many rows, and until when the last of them is there.
#[derive(Clone, Copy, Default)]
struct Tally {
    count: u32,
    ends: i64,
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

    /// Until when a longer row passes through this name, if one does at `now`.
    pub(super) fn passed_until(&self, node: NodeId, now: i64) -> Option<i64> {
        if self.lasting.get(node.number()).is_some() { Some(NEVER) } else { self.ending_at(node)?.all.until(now) }
    }

    /// Whether a row that gives something lies strictly below this name.
    pub(super) fn gives_below(&self, node: NodeId, now: i64) -> bool {
        self.lasting.get(node.number()).is_some_and(|below| below.positive > 0)
            || self.ending_at(node).is_some_and(|below| below.positive.until(now).is_some())
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
        let gives = row.levels.gives();
        for node in above(names, row.node) {
            if row.ends == NEVER {
                let none = Lasting { node, all: 0, positive: 0 };
                let before = self.lasting.get(node.number()).copied().unwrap_or(none);
                let positive = before.positive + u32::from(gives);
                self.lasting.put(Lasting { node, all: before.all + 1, positive });
            } else {
                let none = Ending { node, all: Tally::default(), positive: Tally::default() };
                let mut below = self.ending_at(node).copied().unwrap_or(none);
                below.all.add(row.ends);
                if gives {
                    below.positive.add(row.ends);
                }
                self.change_ending(|ending| ending.below.put(below));
            }
        }
    }

    fn discount(&mut self, names: &Names, row: Row) {
        if row.ends == NEVER { self.discount_lasting(names, row) } else { self.discount_ending(names, row) }
    }

    fn discount_lasting(&mut self, names: &Names, row: Row) {
        for node in above(names, row.node) {
            let Some(Lasting { all, positive, .. }) = self.lasting.get(node.number()).copied() else { continue };
            if all <= 1 {
                self.lasting.take(node.number());
            } else {
                let positive = positive - u32::from(row.levels.gives()).min(positive);
                self.lasting.put(Lasting { node, all: all - 1, positive });
            }
        }
    }

    /// The last end is looked for again above a row that was it and is gone: the one change that reads all rows of the
    /// subject, and only where several rows of one subject end at all.
    fn discount_ending(&mut self, names: &Names, row: Row) {
        for node in above(names, row.node) {
            let Some(mut below) = self.ending_at(node).copied() else { continue };
            let mut last = below.all.remove(row.ends);
            if row.levels.gives() {
                last |= below.positive.remove(row.ends);
            }
            if below.all.count == 0 {
                self.change_ending(|ending| ending.below.take(node.number()));
                continue;
            }
            if last {
                (below.all.ends, below.positive.ends) = self.last_ends(names, node);
            }
            self.change_ending(|ending| ending.below.put(below));
        }
        if self.ending.as_ref().is_some_and(|ending| ending.rows.is_empty()) {
            self.ending = None;
        }
    }

    /// The last ends of all rows below the name, and of those that give something.
    fn last_ends(&self, names: &Names, node: NodeId) -> (i64, i64) {
        let ends = self.ending.iter().flat_map(|ending| ending.rows.iter());
        let rows = ends.filter_map(|end| self.at(end.node));
        rows.filter(|row| above(names, row.node).any(|higher| higher == node)).fold((0, 0), |(all, positive), row| {
            let gives = if row.levels.gives() { positive.max(row.ends) } else { positive };
            (all.max(row.ends), gives)
        })
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
    /// By number: the name above, and the rows below it that do not end.
    names: Vec<(Option<NodeId>, Lasting)>,
    /// The names that have any.
    met: Vec<NodeId>,
    counted: Vec<Lasting>,
}

impl Counting {
    /// The rows below each name, in the order of the names.
    fn below(&mut self, names: &Names, rows: &[Row]) -> &[Lasting] {
        for node in (self.names.len()..names.reach()).map(NodeId::of) {
            self.names.push((names.parent(node), Lasting { node, all: 0, positive: 0 }));
        }
        for row in rows.iter().filter(|row| row.ends == NEVER) {
            let mut next = self.parent(row.node);
            while let Some((above, below)) = next.and_then(|node| self.names.get_mut(node.number() as usize)) {
                if below.all == 0 {
                    self.met.push(below.node);
                }
                below.all += 1;
                below.positive += u32::from(row.levels.gives());
                next = *above;
            }
        }
        self.met.sort_unstable();
        self.counted.clear();
        for node in self.met.drain(..) {
            if let Some((_, below)) = self.names.get_mut(node.number() as usize) {
                self.counted.push(*below);
                (below.all, below.positive) = (0, 0);
            }
        }
        &self.counted
    }

    fn parent(&self, node: NodeId) -> Option<NodeId> {
        self.names.get(node.number() as usize)?.0
    }
}

impl Tally {
    fn until(self, now: i64) -> Option<i64> {
        (self.count > 0 && self.ends > now).then_some(self.ends)
    }

    fn add(&mut self, ends: i64) {
        self.ends = if self.count == 0 { ends } else { self.ends.max(ends) };
        self.count += 1;
    }

    /// Whether the last end must be looked for again.
    const fn remove(&mut self, ends: i64) -> bool {
        self.count = self.count.saturating_sub(1);
        self.count > 0 && ends == self.ends
    }
}

/// The names above this one, the root last.
fn above(names: &Names, node: NodeId) -> impl Iterator<Item = NodeId> {
    std::iter::successors(names.parent(node), |node| names.parent(*node))
}
