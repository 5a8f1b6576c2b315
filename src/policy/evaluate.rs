//! The walk that decides what a user may do with a resource.
//!
//! One walk answers every question, from the proxy's on each request to a person's who asks why: it is generic over a
//! [`Trace`], which is either nothing or a recording, so that an explanation cannot differ from the decision.

use smallvec::SmallVec;

use super::names::Scattered;
use super::rows::{NEVER, Rows};
use super::snapshot::Snapshot;
use super::sorted::Sorted;
use super::subjects::SubjectId;
use super::tree::{self, Clock, Found, Path};
use super::{Levels, ResourceId, Subject, UserId};

/// Which rows of a subject count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Those that cover the name.
    Covering,
    /// grainy's `explicit`: only those with exactly as many keys.
    Explicit,
}

/// What a user may do with a resource.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) user: UserId,
    pub(super) keys: &'a [&'a str],
    pub(super) reading: Reading,
}

/// What one subject's rows say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answer {
    pub(super) subject: SubjectId,
    /// Whether the subject is the user, not something the user belongs to.
    pub(super) own: bool,
    pub(super) found: Found,
}

/// What the walk comes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Verdict {
    pub(super) levels: Levels,
    pub(super) basis: Basis,
    pub(super) owner: Option<UserId>,
    /// The first second at which the verdict may be another one, or [`NEVER`].
    pub(super) ends: i64,
}

/// The rule that made the verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Basis {
    /// The user owns the resource.
    Owner,
    /// The user's own rows deny: nothing else counts.
    OwnDeny,
    /// The answers that count, given the depth of the deepest deny among the subjects that the user belongs to.
    Answers(Option<u32>),
}

/// What the walk tells while it goes.
pub(super) trait Trace {
    /// Whether the walk looks at what cannot change the verdict any more.
    const THOROUGH: bool;

    /// These rows were read, and this is what they say.
    fn answered(&mut self, rows: &Rows, path: &Path, answer: Answer);
}

/// The trace of a decision: none.
pub(super) struct Silent;

impl Trace for Silent {
    const THOROUGH: bool = false;

    fn answered(&mut self, _: &Rows, _: &Path, _: Answer) {}
}

/// What the user holds but for shares with the holders of other resources.
#[derive(Clone, Copy)]
pub(super) enum Direct {
    /// The user owns the resource, or was denied it in person: no share counts.
    Settled(Levels, Basis),
    /// Levels, and the depth of the deepest deny among what the user belongs to: shares may add to it.
    Open { levels: Levels, deny: Option<u32> },
}

/// Whether the user holds all of these levels on that resource; the decision rests on the answer until its end.
pub(super) type Holds<'a> = &'a mut dyn FnMut(Levels, ResourceId, &mut Clock) -> bool;

/// One question on its way through the snapshot.
pub(super) struct Walk<'a, T> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) question: Question<'a>,
    pub(super) path: &'a Path,
    pub(super) clock: Clock,
    pub(super) trace: &'a mut T,
}

impl Answer {
    /// Whether the answer counts beside the deepest deny: only if it is deeper, or, for what the user was given in
    /// person, as deep.
    pub(super) const fn counts(&self, deny: Option<u32>) -> bool {
        match deny {
            None => true,
            Some(depth) => self.found.depth > depth || (self.own && self.found.depth == depth),
        }
    }
}

impl Direct {
    pub(super) const fn levels(self) -> Levels {
        match self {
            Self::Settled(levels, _) | Self::Open { levels, .. } => levels,
        }
    }
}

impl<'a, T: Trace> Walk<'a, T> {
    /// The rules of evaluation, in their order.
    pub(super) fn evaluate(mut self, holds: Holds<'_>) -> Verdict {
        let owner = self.path.owner;
        let direct = self.direct();
        // What a thorough walk sees beyond the verdict does not change it.
        let ends = self.clock.ends;
        let (mut levels, deny) = match direct {
            Direct::Settled(levels, basis) if !T::THOROUGH => return Verdict { levels, basis, owner, ends },
            Direct::Settled(..) => (Levels::NONE, None),
            Direct::Open { levels, deny } => (levels, deny),
        };
        for subject in self.snapshot.holders_on(self.path) {
            levels |= self.shared(subject, levels, deny, holds);
        }
        match direct {
            Direct::Settled(levels, basis) => Verdict { levels, basis, owner, ends },
            Direct::Open { .. } => Verdict { levels, basis: Basis::Answers(deny), owner, ends: self.clock.ends },
        }
    }

    /// Those of them that need no other resource.
    pub(super) fn direct(&mut self) -> Direct {
        let owns = self.path.owner == Some(self.question.user);
        if owns && !T::THOROUGH {
            return Direct::Settled(Levels::ALL, Basis::Owner);
        }
        let user = self.snapshot.subjects.id(&Subject::User(self.question.user));
        let own = user.and_then(|user| self.answer(user, true));
        let own_ends = self.clock.ends;
        let own_deny = own.is_some_and(|own| own.found.levels.is_empty());
        if own_deny && !T::THOROUGH {
            return Direct::Settled(Levels::NONE, Basis::OwnDeny);
        }

        let mut answers: SmallVec<[Answer; 32]> = own.into_iter().collect();
        let rows = self.rows_met();
        // Most of them have no row on the way, and what they are is far apart in memory. Nothing of one search waits for
        // another, so that the processor has many under way at once.
        let has_row = |subject: &SubjectId| {
            let has = |subjects: &&Sorted<Scattered>| subjects.has_spread(Scattered(*subject));
            rows.iter().fold(false, |met, subjects| met | has(subjects))
        };
        let met: SmallVec<[SubjectId; 8]> = self.snapshot.memberships(user).filter(has_row).collect();
        for subject in met {
            answers.extend(self.answer(subject, false));
        }
        if owns {
            self.clock.ends = NEVER;
            return Direct::Settled(Levels::ALL, Basis::Owner);
        }
        if own_deny {
            self.clock.ends = own_ends;
            return Direct::Settled(Levels::NONE, Basis::OwnDeny);
        }
        let denies = answers.iter().filter(|answer| !answer.own && answer.found.levels.is_empty());
        let deny = denies.map(|answer| answer.found.depth).max();
        let counting = answers.iter().filter(|answer| answer.counts(deny));
        let levels = counting.fold(Levels::NONE, |levels, answer| levels | answer.found.levels.given());
        Direct::Open { levels, deny }
    }

    /// Which subjects that are no users have a row on each of the names met. No other has an answer.
    fn rows_met(&self) -> SmallVec<[&'a Sorted<Scattered>; 8]> {
        let nodes = self.path.steps().iter().filter_map(|step| self.snapshot.names.node(step.node));
        nodes.map(|node| &node.to_others).filter(|subjects| !subjects.is_empty()).collect()
    }

    fn answer(&mut self, subject: SubjectId, own: bool) -> Option<Answer> {
        let rows = &self.snapshot.subjects.entry(subject)?.rows;
        let answer = Answer { subject, own, found: self.resolve(rows)? };
        self.trace.answered(rows, self.path, answer);
        Some(answer)
    }

    /// What the holders of another resource have on this one: on which resource, and which levels it takes to be one.
    pub(super) fn share(&mut self, subject: SubjectId) -> Option<(Answer, ResourceId, Option<Levels>)> {
        let entry = self.snapshot.subjects.entry(subject)?;
        let (resource, need) = entry.subject.through()?;
        let found = self.resolve(&entry.rows)?;
        Some((Answer { subject, own: false, found }, resource, need))
    }

    /// What the user has as one of those holders.
    fn shared(&mut self, subject: SubjectId, levels: Levels, deny: Option<u32>, holds: Holds<'_>) -> Levels {
        let Some((mut answer, resource, need)) = self.share(subject) else { return Levels::NONE };
        let counts = answer.counts(deny);
        let mut passed = Levels::NONE;
        for (need, gives) in passed_on(answer.found.levels, need) {
            // Whether the user is one of them is a decision of its own: not for what is held or denied anyway.
            let matters = counts && gives.without(levels).gives();
            if (matters || T::THOROUGH) && holds(need, resource, &mut self.clock) {
                passed |= gives;
            }
        }
        if passed.is_empty() {
            return Levels::NONE;
        }
        answer.found.levels = passed;
        if let Some(entry) = self.snapshot.subjects.entry(subject) {
            self.trace.answered(&entry.rows, self.path, answer);
        }
        if counts { passed.given() } else { Levels::NONE }
    }

    fn resolve(&mut self, rows: &Rows) -> Option<Found> {
        match self.question.reading {
            Reading::Covering => tree::resolve(rows, self.path, &mut self.clock),
            Reading::Explicit => tree::resolve_explicit(rows, self.path, &mut self.clock),
        }
    }
}

/// What is given, by what it takes: all of it for all that is needed, or each level for itself.
pub(super) fn passed_on(gives: Levels, need: Option<Levels>) -> impl Iterator<Item = (Levels, Levels)> {
    let each = gives.singles().filter(move |_| need.is_none());
    need.map(|need| (need, gives)).into_iter().chain(each.map(|level| (level, level)))
}

impl Snapshot {
    /// What the user belongs to: role and groups, and everyone.
    pub(super) fn memberships(&self, user: Option<SubjectId>) -> impl Iterator<Item = SubjectId> {
        let entry = user.and_then(|user| self.subjects.entry(user));
        let subjects = entry.and_then(|entry| entry.in_subjects.as_deref()).unwrap_or_default();
        subjects.iter().copied().chain([SubjectId::EVERYONE])
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::super::{Change, Grant, Pattern, Resource};
    use super::*;

    #[test]
    fn what_is_settled_asks_nothing_of_other_resources() {
        let [me, other] = [1, 2].map(|id| UserId(Uuid::from_u128(id)));
        let (here, elsewhere) = (ResourceId(Uuid::from_u128(3)), ResourceId(Uuid::from_u128(4)));
        let give = |subject, levels| {
            Change::Grant(Grant { subject, pattern: Pattern::literal(["a"]).unwrap(), levels, expires: None })
        };
        let shared = give(Subject::Holders(Levels::READ, elsewhere), Levels::READ);
        for (owner, own, levels, expected) in [
            (me, Levels::NONE, Levels::ALL, 0),
            (other, Levels::NONE, Levels::NONE, 0),
            (other, Levels::UPDATE, Levels::UPDATE | Levels::READ, 1),
        ] {
            let resource = Resource { id: here, name: Pattern::literal(["a"]).unwrap(), owner: Some(owner) };
            let changes = [Change::Resource(resource), shared.clone(), give(Subject::User(me), own)];
            let snapshot = Snapshot::empty().patched(changes);
            let (keys, mut asked) = (["a"], 0);
            let question = Question { user: me, keys: &keys, reading: Reading::Covering };
            let path = Path::new(&snapshot.names, &keys);
            let walk = Walk { snapshot: &snapshot, question, path: &path, clock: Clock::at(0), trace: &mut Silent };
            let verdict = walk.evaluate(&mut |_, _, _| {
                asked += 1;
                true
            });
            assert_eq!((verdict.levels, asked), (levels, expected), "{owner:?} {own}");
        }
    }
}
