//! The walk that decides what a user may do with a resource.
//!
//! One walk answers every question, from the proxy's on each request to a person's who asks why: it is generic over a
//! [`Trace`], which is either nothing or a recording, so that an explanation cannot differ from the decision.

use smallvec::SmallVec;

use super::rows::{NEVER, Rows};
use super::snapshot::Snapshot;
use super::subjects::SubjectId;
use super::tree::{self, Clock, Found, Path};
use super::{Levels, PatternKey, ResourceId, Subject, UserId};

/// How long a chain of resources that share with the holders of one another is followed. Real ones have two or three
/// links; beyond this holders count as none, which gives less, never more.
const MAX_CHAIN: u32 = 64;

/// How many resources one decision asks about, whatever the shares between them: only loops with many ways around come
/// near it. Beyond it holders count as none.
const MAX_ASKED: u32 = 1024;

/// Which rows of a subject count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// Those that cover the name.
    Covering,
    /// grainy's `explicit`: only those with exactly as many keys.
    Explicit,
}

/// A question, and the one that led to it.
#[derive(Clone, Copy)]
pub(super) struct Question<'a> {
    pub(super) user: UserId,
    pub(super) keys: &'a [&'a str],
    pub(super) reading: Reading,
    asked_by: Option<&'a Question<'a>>,
    /// How many questions led to this one.
    chain: u32,
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

/// The resources asked about on the way to one decision.
pub(super) struct Asked {
    count: u32,
    /// Verdicts that are the same whoever asks, so that many ways to one resource cost one evaluation.
    known: SmallVec<[(ResourceId, Verdict); 4]>,
    /// The earliest question of the chain that was asked again, and then counted as no.
    loops_to: u32,
}

/// One question on its way through the snapshot.
pub(super) struct Walk<'a, T> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) question: Question<'a>,
    pub(super) path: &'a Path,
    pub(super) clock: Clock,
    pub(super) asked: &'a mut Asked,
    pub(super) trace: &'a mut T,
}

impl<'a> Question<'a> {
    pub(super) const fn new(user: UserId, keys: &'a [&'a str], reading: Reading) -> Self {
        Self { user, keys, reading, asked_by: None, chain: 0 }
    }

    /// The place in the chain of the question about these keys, if it is being asked already.
    fn being_asked(&self, keys: &[&str]) -> Option<u32> {
        if self.keys == keys { Some(self.chain) } else { self.asked_by?.being_asked(keys) }
    }
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

impl Asked {
    pub(super) fn new() -> Self {
        Self { count: 0, known: SmallVec::new(), loops_to: u32::MAX }
    }
}

impl<T: Trace> Walk<'_, T> {
    /// The rules of evaluation, in their order.
    pub(super) fn evaluate(mut self) -> Verdict {
        let owner = self.path.owner;
        let owns = owner == Some(self.question.user);
        if owns && !T::THOROUGH {
            return Verdict { levels: Levels::ALL, basis: Basis::Owner, owner, ends: NEVER };
        }

        let user = self.snapshot.subjects.id(&Subject::User(self.question.user));
        let own = user.and_then(|user| self.answer(user, true));
        let own_ends = self.clock.ends;
        let own_deny = own.is_some_and(|own| own.found.levels.is_empty());
        if own_deny && !T::THOROUGH {
            return Verdict { levels: Levels::NONE, basis: Basis::OwnDeny, owner, ends: own_ends };
        }

        let mut answers: SmallVec<[Answer; 32]> = own.into_iter().collect();
        for subject in self.snapshot.memberships(user) {
            answers.extend(self.answer(subject, false));
        }
        let denies = answers.iter().filter(|answer| !answer.own && answer.found.levels.is_empty());
        let deny = denies.map(|answer| answer.found.depth).max();
        let counting = answers.iter().filter(|answer| answer.counts(deny));
        let mut levels = counting.fold(Levels::NONE, |levels, answer| levels | answer.found.levels);
        for subject in self.snapshot.holders_on(self.path) {
            levels |= self.shared(subject, levels, deny);
        }

        // What a thorough walk saw beyond the verdict does not change it.
        if owns {
            Verdict { levels: Levels::ALL, basis: Basis::Owner, owner, ends: NEVER }
        } else if own_deny {
            Verdict { levels: Levels::NONE, basis: Basis::OwnDeny, owner, ends: own_ends }
        } else {
            Verdict { levels, basis: Basis::Answers(deny), owner, ends: self.clock.ends }
        }
    }

    fn answer(&mut self, subject: SubjectId, own: bool) -> Option<Answer> {
        let rows = &self.snapshot.subjects.entry(subject)?.rows;
        let answer = Answer { subject, own, found: self.resolve(rows)? };
        self.trace.answered(rows, self.path, answer);
        Some(answer)
    }

    /// What the holders of another resource have on this one, if the user is one of them.
    fn shared(&mut self, subject: SubjectId, levels: Levels, deny: Option<u32>) -> Levels {
        let Some(entry) = self.snapshot.subjects.entry(subject) else { return Levels::NONE };
        let Subject::Holders(need, resource) = entry.subject else { return Levels::NONE };
        let Some(found) = self.resolve(&entry.rows) else { return Levels::NONE };
        let answer = Answer { subject, own: false, found };
        let counts = answer.counts(deny);
        // Whether the user is one of them is a whole decision of its own: not for what is held or denied anyway.
        let matters = counts && !found.levels.without(levels).is_empty();
        if !(matters || T::THOROUGH)
            || !self.snapshot.holds(&self.question, need, resource, &mut self.clock, self.asked)
        {
            return Levels::NONE;
        }
        self.trace.answered(&entry.rows, self.path, answer);
        if counts { found.levels } else { Levels::NONE }
    }

    fn resolve(&mut self, rows: &Rows) -> Option<Found> {
        match self.question.reading {
            Reading::Covering => tree::resolve(rows, self.path, &mut self.clock),
            Reading::Explicit => tree::resolve_explicit(rows, self.path, &mut self.clock),
        }
    }
}

impl Snapshot {
    /// What the user belongs to: role and groups, and everyone.
    pub(super) fn memberships(&self, user: Option<SubjectId>) -> impl Iterator<Item = SubjectId> {
        let entry = user.and_then(|user| self.subjects.entry(user));
        let subjects = entry.and_then(|entry| entry.in_subjects.as_deref()).unwrap_or_default();
        subjects.iter().copied().chain([SubjectId::EVERYONE])
    }

    /// The holders of other resources that have a row on one of the names met.
    fn holders_on(&self, path: &Path) -> SmallVec<[SubjectId; 8]> {
        let nodes = path.steps().iter().filter_map(|step| self.names.node(step.node));
        let mut all: SmallVec<[SubjectId; 8]> =
            nodes.filter_map(|node| node.holders.as_deref()).flatten().copied().collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether the user holds all of `need` on another resource. If that is being asked already, it counts as no, so
    /// that resources which share with the holders of one another come to an end.
    pub(super) fn holds(
        &self,
        asked_by: &Question<'_>,
        need: Levels,
        resource: ResourceId,
        clock: &mut Clock,
        asked: &mut Asked,
    ) -> bool {
        if let Some((_, verdict)) = asked.known.iter().find(|(known, _)| *known == resource) {
            clock.rests_until(verdict.ends);
            return verdict.levels.has_all(need);
        }
        let Some(name) = self.resource(resource).map(|resource| resource.name.keys()) else { return false };
        let keys: Option<SmallVec<[&str; 8]>> = name.iter().map(PatternKey::literal).collect();
        let Some(keys) = keys else { return false };
        if let Some(place) = asked_by.being_asked(&keys) {
            asked.loops_to = asked.loops_to.min(place);
            return false;
        }
        if asked_by.chain >= MAX_CHAIN || asked.count >= MAX_ASKED {
            asked.loops_to = 0;
            return false;
        }
        asked.count += 1;

        let looped_to = std::mem::replace(&mut asked.loops_to, u32::MAX);
        let place = asked_by.chain + 1;
        let question = Question {
            user: asked_by.user,
            keys: &keys,
            reading: Reading::Covering,
            asked_by: Some(asked_by),
            chain: place,
        };
        let path = Path::new(&self.names, &keys);
        let walk = Walk {
            snapshot: self,
            question,
            path: &path,
            clock: Clock::at(clock.now),
            asked: &mut *asked,
            trace: &mut Silent,
        };
        let verdict = walk.evaluate();
        clock.rests_until(verdict.ends);
        if asked.loops_to >= place {
            asked.known.push((resource, verdict));
            asked.loops_to = looped_to;
        } else {
            asked.loops_to = asked.loops_to.min(looped_to);
        }
        verdict.levels.has_all(need)
    }
}
