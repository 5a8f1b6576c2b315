//! What the rest of the program asks of a snapshot.

use jiff::Timestamp;
use smallvec::SmallVec;

use super::evaluate::{Question, Reading, Silent, Trace, Verdict, Walk};
use super::names::NodeId;
use super::others::Others;
use super::rows::NEVER;
use super::snapshot::Snapshot;
use super::subjects::SubjectId;
use super::tree::{self, Clock, Path};
use super::{Denied, Levels, Permit, ResourceId, Subject, UserId};

impl Snapshot {
    /// What the user may do with the resource of these keys at `now`.
    #[must_use]
    pub fn levels(&self, user: UserId, keys: &[&str], now: Timestamp) -> Levels {
        self.verdict(user, keys, Reading::Covering, now).levels
    }

    /// As [`Snapshot::levels`], by grants on names with exactly as many keys only: grainy's `explicit`.
    #[must_use]
    pub fn levels_explicit(&self, user: UserId, keys: &[&str], now: Timestamp) -> Levels {
        self.verdict(user, keys, Reading::Explicit, now).levels
    }

    /// The proof that the user holds all of `need` on the resource of these keys at `now`.
    ///
    /// # Errors
    /// [`Denied`] where the user does not, and always for a need of nothing.
    pub fn permit(&self, user: UserId, keys: &[&str], need: Levels, now: Timestamp) -> Result<Permit, Denied> {
        let verdict = self.verdict(user, keys, Reading::Covering, now);
        judge(verdict.levels, verdict.ends, user, need, || verdict.owner)
    }

    /// The proof that the user may grant and rescind on the resource of these keys: its owner, or whoever holds admin.
    /// For a pattern with `*` ask about [`super::Pattern::literal_prefix`].
    ///
    /// # Errors
    /// [`Denied`] where the user may not.
    pub fn may_administer(&self, user: UserId, keys: &[&str], now: Timestamp) -> Result<Permit, Denied> {
        self.permit(user, keys, Levels::ADMIN, now)
    }

    /// The permit for what is open to all: nobody needs to be identified for it.
    pub const fn permit_public() -> Permit {
        Permit::public()
    }

    /// The permit to act on what is the user's own: secrets, tokens, sessions.
    pub const fn permit_self(user: UserId) -> Permit {
        Permit::own(user)
    }

    /// The owner of the nearest resource at or above these keys that has one.
    #[must_use]
    pub fn owner(&self, keys: &[&str]) -> Option<UserId> {
        tree::owner(&self.names, keys)
    }

    /// Whether the user may do anything with the resource, or holds something below it: for menus, never to enforce.
    #[must_use]
    pub fn navigable(&self, user: UserId, keys: &[&str], now: Timestamp) -> bool {
        if !self.levels(user, keys, now).is_empty() {
            return true;
        }
        let path = Path::new(&self.names, keys);
        let ends: SmallVec<[NodeId; 8]> = path.ends().map(|step| step.node).collect();
        if ends.is_empty() {
            return false;
        }
        let mut clock = Clock::at(now.as_second());
        let second = clock.now;
        let gives = |subject: SubjectId| {
            #[cfg(test)]
            tests::LOOKS.set(tests::LOOKS.get() + 1);
            let entry = self.subjects.entry(subject);
            entry.is_some_and(|entry| ends.iter().any(|node| entry.rows.gives_below(*node, second)))
        };
        let own = self.subjects.id(&Subject::User(user));
        if own.into_iter().chain(self.memberships(own)).any(gives) {
            return true;
        }
        let question = Question { user, keys, reading: Reading::Covering };
        let holders = self.subjects.holders.iter().filter(|(_, subject)| gives(**subject));
        let giving: Vec<(ResourceId, Option<Levels>)> = holders.map(|(through, _)| *through).collect();
        let mut others = Others::new(self, question, second, || giving.iter().map(|(resource, _)| *resource).collect());
        giving.iter().any(|(resource, levels)| match levels {
            Some(levels) => others.hold(*levels, *resource, &mut clock),
            None => Levels::ALL.singles().any(|level| others.hold(level, *resource, &mut clock)),
        })
    }

    pub(super) fn verdict(&self, user: UserId, keys: &[&str], reading: Reading, now: Timestamp) -> Verdict {
        self.evaluate(Question { user, keys, reading }, now, &mut Silent)
    }

    /// The one walk of every question, told to the trace.
    pub(super) fn evaluate<T: Trace>(&self, question: Question<'_>, now: Timestamp, trace: &mut T) -> Verdict {
        let path = Path::new(&self.names, question.keys);
        let clock = Clock::at(now.as_second());
        let mut others = Others::new(self, question, clock.now, || self.shared_from(&path));
        let walk = Walk { snapshot: self, question, path: &path, clock, trace };
        walk.evaluate(&mut |need, resource, clock| others.hold(need, resource, clock))
    }
}

/// The permit, where these levels, which hold until `ends`, are all that is needed.
pub(super) fn judge(
    held: Levels,
    ends: i64,
    user: UserId,
    need: Levels,
    owner: impl FnOnce() -> Option<UserId>,
) -> Result<Permit, Denied> {
    if held.has_all(need) {
        Ok(Permit::new(user, need, held, moment(ends)))
    } else {
        Err(Denied { user, need, held, owner: owner() })
    }
}

/// The time of an end, `None` for never.
pub(super) fn moment(ends: i64) -> Option<Timestamp> {
    (ends != NEVER).then(|| Timestamp::from_second(ends).unwrap_or(Timestamp::MAX))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use uuid::Uuid;

    use super::super::{Change, Grant, Pattern, Resource};
    use super::*;

    thread_local! {
        /// How many subjects were asked whether they have something below a name.
        pub(super) static LOOKS: Cell<usize> = const { Cell::new(0) };
    }

    #[test]
    fn what_lies_below_a_name_is_looked_for_once_among_holders_and_not_at_all_where_there_is_no_name() {
        let (me, holders) = (UserId(Uuid::from_u128(1)), 50);
        let id = |number: u128| ResourceId(Uuid::from_u128(number));
        let name = |keys: &[&str]| Pattern::literal(keys.iter().copied()).unwrap();
        let give = |subject, pattern| Change::Grant(Grant { subject, pattern, levels: Levels::READ, expires: None });
        let shares = (1..=holders).flat_map(|number| {
            let text = format!("r{number}");
            let resource = Resource { id: id(number), name: name(&[&text]), owner: None };
            [Change::Resource(resource), give(Subject::Holders(Levels::READ, id(number)), name(&["a", &text]))]
        });
        let snapshot = Snapshot::empty().patched(shares.chain([give(Subject::User(me), name(&["r7"]))]));
        let asked = |key: &str| {
            LOOKS.set(0);
            let navigable = snapshot.navigable(me, &[key], Timestamp::UNIX_EPOCH);
            (navigable, LOOKS.get())
        };
        assert_eq!(asked("nowhere"), (false, 0));
        // Beside the holders: the user, and everyone.
        let holders = usize::try_from(holders).unwrap();
        assert_eq!([asked("a"), asked("r9")], [(true, holders + 2), (false, holders + 2)]);
    }
}
