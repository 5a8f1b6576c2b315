//! A question on the tree of names, and the row of one subject that answers it: the rules S0 to S3, with D3.
//!
//! The rules are stated for a tree of one subject's rows, in which a name with a row is *granted* and a name that longer
//! rows only pass through is a *filler*, with the value of the row above it. No filler's value answers: below that row
//! only another row counts (S2), and until there a row beats a filler wherever it stands (S3 with D3). So rows are all
//! that is looked at, and what is no row of the subject, or an expired one, is as if it were not there.

use smallvec::SmallVec;
use uuid::Uuid;

use super::names::{Names, NodeId};
use super::rows::{NEVER, Row, Rows};
use super::{Levels, UserId};

/// The part of the tree of names that a question meets: the root, and below each name met the one with the question's
/// next key and the one with `*`.
pub(super) struct Path {
    /// Parents before their children.
    steps: SmallVec<[Step; 16]>,
    /// How many keys the question has.
    length: u32,
    /// Whose the resource is.
    pub(super) owner: Option<UserId>,
}

/// A name that the question meets.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) node: NodeId,
    pub(super) depth: u32,
    /// Where the name's next key is the question's: the position of that step, or [`NOWHERE`].
    literal: u32,
    /// Where the name's next key is `*`.
    any: u32,
    /// The position after the last step below this one.
    past: u32,
}

const NOWHERE: u32 = u32::MAX;

/// The row of a subject that answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) levels: Levels,
    /// How many keys lead to the name of the row.
    pub(super) depth: u32,
    pub(super) node: NodeId,
}

/// The clock of one decision: what time it is, and when the first row on which the decision rests ends.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    pub(super) now: i64,
    pub(super) ends: i64,
}

impl Clock {
    pub(super) const fn at(now: i64) -> Self {
        Self { now, ends: NEVER }
    }

    pub(super) fn rests_until(&mut self, ends: i64) {
        self.ends = self.ends.min(ends);
    }
}

impl Path {
    pub(super) fn new(names: &Names, keys: &[&str]) -> Self {
        let mut path =
            Self { steps: SmallVec::new(), length: u32::try_from(keys.len()).unwrap_or(u32::MAX), owner: None };
        path.grow(names, keys, NodeId::ROOT, 0, true);
        path
    }

    /// All names met.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The names met that have as many keys as the question.
    pub(super) fn ends(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| step.depth == self.length)
    }

    fn step(&self, position: u32) -> Option<&Step> {
        self.steps.get(position as usize)
    }

    /// Recursion is bounded by the depth of the tree, which no name makes deeper than [`super::MAX_KEYS`].
    fn grow(&mut self, names: &Names, keys: &[&str], at: NodeId, depth: u32, literally: bool) -> u32 {
        let position = self.steps.len();
        let Some(node) = names.node(at) else { return NOWHERE };
        self.steps.push(Step { node: at, depth, literal: NOWHERE, any: NOWHERE, past: 0 });
        // Only resources on the question's own keys own, and of those the last that does.
        if literally {
            self.owner = node.ownership().below(self.owner);
        }
        let (mut literal, mut any) = (NOWHERE, NOWHERE);
        if let Some((key, rest)) = keys.split_first() {
            if let Some(child) = names.child(at, key) {
                literal = self.grow(names, rest, child, depth + 1, literally);
            }
            if let Some(child) = node.any().filter(|_| depth > 0 || !is_id(key)) {
                any = self.grow(names, rest, child, depth + 1, false);
            }
        }
        let past = position_of(self.steps.len());
        if let Some(step) = self.steps.get_mut(position) {
            (step.literal, step.any, step.past) = (literal, any, past);
        }
        position_of(position)
    }
}

fn position_of(position: usize) -> u32 {
    u32::try_from(position).unwrap_or(NOWHERE)
}

/// Whether the key is the whole name of a resource without a dotted one, `@<uuid>`, which no `*` matches. It is that
/// only as the first key: deeper down a caller may choose the key, and must not escape a `*` by its spelling.
fn is_id(key: &str) -> bool {
    key.strip_prefix('@').is_some_and(|id| id.len() == 36 && Uuid::try_parse(id).is_ok())
}

/// The owner of the nearest resource at or above these keys that has one.
pub(super) fn owner(names: &Names, keys: &[&str]) -> Option<UserId> {
    let mut owner = None;
    let mut at = NodeId::ROOT;
    let mut keys = keys.iter();
    loop {
        owner = names.node(at)?.ownership().below(owner);
        let Some(below) = keys.next().and_then(|key| names.child(at, key)) else { return owner };
        at = below;
    }
}

/// What these rows answer: the row that is nearest by the rules, or `None` where no row covers the name.
pub(super) fn resolve(rows: &Rows, path: &Path, clock: &mut Clock) -> Option<Found> {
    if rows.is_empty() {
        return None;
    }
    let mut nearest: Option<(u32, &Step, Row)> = None;
    for (position, step) in (0..).zip(&path.steps) {
        let Some(row) = rows.live(step.node, clock.now) else { continue };
        if nearest.is_some_and(|(_, above, _)| position >= above.past) {
            // On two branches: which of them answers is for the rules to say.
            return resolve_at(rows, path, path.steps.first()?, clock);
        }
        nearest = Some((position, step, row));
    }
    // With all its rows on one way down there is nothing that the nearest could lose to.
    let (_, step, row) = nearest?;
    Some(found(step, row, clock))
}

fn found(step: &Step, row: Row, clock: &mut Clock) -> Found {
    clock.rests_until(row.ends);
    Found { levels: row.levels, depth: step.depth, node: step.node }
}

fn resolve_at(rows: &Rows, path: &Path, at: &Step, clock: &mut Clock) -> Option<Found> {
    let here = rows.live(at.node, clock.now).map(|row| found(at, row, clock));
    if at.depth == path.length {
        return here; // S0
    }
    let mut below = |position| resolve_at(rows, path, path.step(position)?, clock);
    let literal = below(at.literal);
    if here.is_some() || at.depth == 0 {
        // S1 and S2: at the root and below a row any row of the literal side wins, however shallow.
        return literal.or_else(|| below(at.any)).or(here);
    }
    // S3: under a filler depth decides, ties going to the literal side.
    match (literal, below(at.any)) {
        (Some(literal), Some(any)) => Some(if any.depth > literal.depth { any } else { literal }),
        (literal, any) => literal.or(any),
    }
}

/// The row that answers when only rows with exactly as many keys as the question count: the literal side first, `*`
/// where that side has no such row.
pub(super) fn resolve_explicit(rows: &Rows, path: &Path, clock: &mut Clock) -> Option<Found> {
    if rows.is_empty() { None } else { explicit_at(rows, path, path.steps.first()?, clock) }
}

fn explicit_at(rows: &Rows, path: &Path, at: &Step, clock: &mut Clock) -> Option<Found> {
    if at.depth == path.length {
        return rows.live(at.node, clock.now).map(|row| found(at, row, clock));
    }
    let mut below = |position| explicit_at(rows, path, path.step(position)?, clock);
    below(at.literal).or_else(|| below(at.any))
}

/// The rows that cover the question, whether or not they answer it, from the root down.
pub(super) fn covering(rows: &Rows, path: &Path, now: i64) -> impl Iterator<Item = Row> {
    path.steps.iter().filter_map(move |step| rows.live(step.node, now))
}
