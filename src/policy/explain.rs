//! Why a decision is what it is: the same walk, recorded.

use jiff::Timestamp;

use super::evaluate::{Answer, Basis, Question, Reading, Trace, Verdict};
use super::rows::{Row, Rows};
use super::snapshot::{Grant, Snapshot};
use super::tree::{self, Path};
use super::{Levels, Pattern, Subject, UserId};

/// A decision with its reasons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// Who asked.
    pub user: UserId,
    /// The levels that were all needed.
    pub need: Levels,
    /// The levels that the user holds.
    pub held: Levels,
    /// Whether there is a permit.
    pub allowed: bool,
    /// What the decision rests on.
    pub because: Because,
    /// Who owns the resource, and so can always grant and rescind.
    pub owner: Option<UserId>,
    /// The grants that count, each with the levels that do: `held` is their union, but for an owner, who needs none.
    pub counting: Vec<Grant>,
    /// The grants that decided: those that give the needed levels, or those that stand in the way, or, where they are
    /// only too little, those that the user holds.
    pub deciding: Vec<Grant>,
    /// The grants that cover the resource for this user and did not count.
    pub beaten: Vec<Beaten>,
    /// The smallest grant that would turn the decision around, if one can: to this user, on this resource alone. For what
    /// is allowed it is a deny; nothing turns around what an owner may do.
    pub smallest_change: Option<Grant>,
}

/// What a decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Because {
    /// The user owns the resource, or the nearest one above it that has an owner.
    Owner,
    /// Grants give all that is needed.
    Granted,
    /// The user's own nearest grant is a deny: final.
    OwnDeny,
    /// A deny of a role, a group or everyone binds, and no deeper grant gives what is needed.
    Deny,
    /// Grants give something, but not all that is needed, or nothing where they are blank.
    TooLittle,
    /// No grant covers the resource for this user.
    Nothing,
}

/// A grant that covers the resource and did not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Beaten {
    /// The grant.
    pub grant: Grant,
    /// Why it did not count.
    pub by: Winner,
}

/// What beats a grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Winner {
    /// Another grant of the same subject, which is nearer by the rules.
    Nearer,
    /// A deny of another subject at the same name or a deeper one.
    Deny,
    /// The user's own deny.
    OwnDeny,
    /// For a deny: a grant of another subject that is deeper, or as deep and in person, or a deeper deny.
    Deeper,
    /// Ownership, which needs no grant and fears no deny.
    Owner,
}

impl Snapshot {
    /// Why [`Snapshot::permit`] decides as it does about the same question.
    #[must_use]
    pub fn explain(&self, user: UserId, keys: &[&str], need: Levels, now: Timestamp) -> Explanation {
        self.explain_reading(user, keys, need, Reading::Covering, now)
    }

    /// As [`Snapshot::explain`], for [`Snapshot::levels_explicit`].
    #[must_use]
    pub fn explain_explicit(&self, user: UserId, keys: &[&str], need: Levels, now: Timestamp) -> Explanation {
        self.explain_reading(user, keys, need, Reading::Explicit, now)
    }

    fn explain_reading(
        &self,
        user: UserId,
        keys: &[&str],
        need: Levels,
        reading: Reading,
        now: Timestamp,
    ) -> Explanation {
        let mut recording = Recording { now: now.as_second(), answers: Vec::new() };
        let question = Question { user, keys, reading };
        let verdict = self.evaluate(question, now, &mut recording);
        let allowed = verdict.levels.has_all(need);
        let because = recording.because(&verdict, need, allowed);
        Explanation {
            user,
            need,
            held: verdict.levels,
            allowed,
            because,
            owner: verdict.owner,
            counting: recording.counting(self, &verdict),
            deciding: recording.deciding(self, &verdict, because, need),
            beaten: recording.beaten(self, &verdict, because),
            smallest_change: recording.smallest_change(self, &verdict, &question, need),
        }
    }
}

/// What a walk saw: every answer, and the rows that it beat within its own subject.
struct Recording {
    now: i64,
    answers: Vec<(Answer, Vec<Row>)>,
}

impl Trace for Recording {
    const THOROUGH: bool = true;

    fn answered(&mut self, rows: &Rows, path: &Path, answer: Answer) {
        let beaten = tree::covering(rows, path, self.now).filter(|row| row.node != answer.found.node);
        self.answers.push((answer, beaten.collect()));
    }
}

impl Recording {
    fn because(&self, verdict: &Verdict, need: Levels, allowed: bool) -> Because {
        let Basis::Answers(deny) = verdict.basis else {
            return if verdict.basis == Basis::Owner { Because::Owner } else { Because::OwnDeny };
        };
        let without_denies = self.answers.iter().fold(Levels::NONE, |all, (answer, _)| all | answer.found.levels);
        if allowed {
            Because::Granted
        } else if deny.is_some() && (without_denies.has_all(need) || verdict.levels.is_empty()) {
            Because::Deny
        } else if self.answers.iter().any(|(answer, _)| answer.counts(deny)) {
            Because::TooLittle
        } else {
            Because::Nothing
        }
    }

    fn counting(&self, snapshot: &Snapshot, verdict: &Verdict) -> Vec<Grant> {
        let Basis::Answers(deny) = verdict.basis else { return Vec::new() };
        let counting = self.answers.iter().filter(|(answer, _)| answer.counts(deny) && !answer.found.levels.is_empty());
        // Of what is shared with who holds the same elsewhere, only what is held there counts.
        let cut = |answer: &Answer| Some(Grant { levels: answer.found.levels, ..grant(snapshot, answer)? });
        counting.filter_map(|(answer, _)| cut(answer)).collect()
    }

    fn deciding(&self, snapshot: &Snapshot, verdict: &Verdict, because: Because, need: Levels) -> Vec<Grant> {
        let deny = deny_of(verdict);
        let decides = |answer: &Answer| match because {
            Because::Owner | Because::Nothing => false,
            Because::OwnDeny => answer.own,
            Because::Granted => answer.counts(deny) && answer.found.levels.has_any(need),
            Because::TooLittle => answer.counts(deny) && !answer.found.levels.is_empty(),
            Because::Deny => binds(answer, deny),
        };
        self.answers
            .iter()
            .filter(|(answer, _)| decides(answer))
            .filter_map(|(answer, _)| grant(snapshot, answer))
            .collect()
    }

    fn beaten(&self, snapshot: &Snapshot, verdict: &Verdict, because: Because) -> Vec<Beaten> {
        let deny = deny_of(verdict);
        let mut all = Vec::new();
        for (answer, nearer_than) in &self.answers {
            let winner = match because {
                Because::Owner => Some(Winner::Owner),
                Because::OwnDeny => (!answer.own).then_some(Winner::OwnDeny),
                Because::Deny if binds(answer, deny) => None,
                _ if answer.counts(deny) => None,
                _ if answer.found.levels.is_empty() => Some(Winner::Deeper),
                _ => Some(Winner::Deny),
            };
            let itself = winner.and_then(|by| Some(Beaten { grant: grant(snapshot, answer)?, by }));
            all.extend(itself);
            let others = nearer_than.iter().filter_map(|row| snapshot.grant(answer.subject, row));
            all.extend(others.map(|grant| Beaten { grant, by: Winner::Nearer }));
        }
        all
    }

    /// A grant in person on exactly this name is the nearest there can be, so it decides over everything but ownership.
    fn smallest_change(
        &self,
        snapshot: &Snapshot,
        verdict: &Verdict,
        question: &Question<'_>,
        need: Levels,
    ) -> Option<Grant> {
        if verdict.basis == Basis::Owner || need.is_empty() {
            return None;
        }
        let levels = if verdict.levels.has_all(need) {
            Levels::NONE
        } else {
            let levels = self.own() | need.without(self.given_to_many(snapshot));
            // Only the user's own deny is in the way; the grant in its place must not be one again.
            if levels.is_empty() { need } else { levels }
        };
        let pattern = Pattern::literal(question.keys.iter().copied()).ok()?;
        Some(Grant { subject: Subject::User(question.user), pattern, levels, expires: None })
    }

    /// What the user's own grants give from above, which a nearer one replaces and so has to repeat.
    fn own(&self) -> Levels {
        let own = self.answers.iter().find(|(answer, _)| answer.own);
        own.map_or(Levels::NONE, |(answer, _)| answer.found.levels.given())
    }

    /// What the user has by role, groups and everyone. Not by what is held on other resources: a nearer grant of the
    /// user's own may answer there too, instead of a wildcard, and end that.
    fn given_to_many(&self, snapshot: &Snapshot) -> Levels {
        let many = || {
            let is_holders = |answer: &Answer| snapshot.subjects.is_holders(answer.subject);
            self.answers.iter().map(|(answer, _)| answer).filter(move |answer| !answer.own && !is_holders(answer))
        };
        let deny = many().filter(|answer| answer.found.levels.is_empty()).map(|answer| answer.found.depth).max();
        let counting = many().filter(|answer| answer.counts(deny));
        counting.fold(Levels::NONE, |levels, answer| levels | answer.found.levels.given())
    }
}

fn deny_of(verdict: &Verdict) -> Option<u32> {
    match verdict.basis {
        Basis::Answers(deny) => deny,
        Basis::Owner | Basis::OwnDeny => None,
    }
}

/// Whether the answer is the deny that binds the others.
fn binds(answer: &Answer, deny: Option<u32>) -> bool {
    !answer.own && answer.found.levels.is_empty() && deny == Some(answer.found.depth)
}

fn grant(snapshot: &Snapshot, answer: &Answer) -> Option<Grant> {
    let row = snapshot.subjects.entry(answer.subject)?.rows.at(answer.found.node)?;
    snapshot.grant(answer.subject, &row)
}
