//! What a change does: for whom the answer is another one, on which names, and where that is a surprise.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::snapshot::{Grant, Snapshot};
use super::subjects::SubjectId;
use super::tree::{self, Clock, Path};
use super::{Levels, Pattern, PatternKey, ResourceId, Subject, UserId};

/// Stands for a key that no grant names.
const OTHER: &str = "\u{0}";

/// How many rows of a subject are looked at for effects at a distance, and how many pairs of them.
const LOOKED_AT: (usize, usize) = (2000, 20_000);

/// A user whose levels on a resource are other ones after a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Who.
    pub user: UserId,
    /// The resource: the position of its name in the list that was asked about.
    pub name: usize,
    /// The levels before.
    pub before: Levels,
    /// The levels after.
    pub after: Levels,
}

/// What the comparison of two snapshots comes to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compared {
    /// In the order of the names.
    pub differences: Vec<Difference>,
    /// How many answers were computed.
    pub evaluations: usize,
    /// Whether every user was asked about every name.
    pub complete: bool,
}

/// A name for which a row changes the answer although another row gives it, before and after.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distant {
    /// The name; `*` stands for any key that no grant names.
    pub name: Pattern,
    /// The grant that answers without the change.
    pub before: Option<Grant>,
    /// The grant that answers with it.
    pub after: Option<Grant>,
}

impl Snapshot {
    /// Compares what each user may do with each resource here and in `after`, for as long as `goes_on` says so of
    /// the number of evaluations that the next would make. Each name is a pattern, whose `*` stands for a key that no
    /// grant names.
    #[must_use]
    pub fn compared(
        &self,
        after: &Self,
        users: &[UserId],
        names: &[Pattern],
        now: Timestamp,
        mut goes_on: impl FnMut(usize) -> bool,
    ) -> Compared {
        let mut compared = Compared { complete: true, ..Compared::default() };
        for (position, name) in names.iter().enumerate() {
            let keys = asked(name);
            for user in users {
                if !goes_on(compared.evaluations + 2) {
                    compared.complete = false;
                    return compared;
                }
                compared.evaluations += 2;
                let (before, then) = (self.levels(*user, &keys, now), after.levels(*user, &keys, now));
                if before != then {
                    compared.differences.push(Difference { user: *user, name: position, before, after: then });
                }
            }
        }
        compared
    }

    /// The patterns below which an answer may be another one here or in `after`, where they differ by grants on these:
    /// the patterns themselves, and all that is shared, on whatever ways, with who holds levels below them. Only the
    /// beginning of them where `goes_on`, which is asked again and again, says no.
    #[must_use]
    pub fn reached(
        &self,
        after: &Self,
        changed: impl IntoIterator<Item = Pattern>,
        goes_on: &dyn Fn() -> bool,
    ) -> Vec<Pattern> {
        let mut reached: BTreeSet<Pattern> = changed.into_iter().collect();
        let mut shares: BTreeSet<(ResourceId, Option<Levels>)> = self.subjects.holders.keys().copied().collect();
        shares.extend(after.subjects.holders.keys().copied());
        loop {
            let is_reached = |(resource, _): &(ResourceId, Option<Levels>)| {
                [self, after].into_iter().any(|snapshot| {
                    let (name, is_known) = (snapshot.name_of(*resource), snapshot.resource(*resource).is_some());
                    // Of what is known by its id alone something is held only while there is a grant on its name or below.
                    let is_begun = |pattern: &Pattern| !is_known && covers(&name, pattern.keys());
                    reached.iter().any(|pattern| covers(pattern, name.keys()) || is_begun(pattern))
                })
            };
            let now: Vec<_> =
                shares.iter().take_while(|_| goes_on()).filter(|share| is_reached(share)).copied().collect();
            if now.is_empty() {
                return reached.into_iter().collect();
            }
            for share in now {
                shares.remove(&share);
                let subject = match share {
                    (resource, Some(levels)) => Subject::Holders(levels, resource),
                    (resource, None) => Subject::Same(resource),
                };
                let shared = self.grants_of(&subject).chain(after.grants_of(&subject));
                reached.extend(shared.take_while(|_| goes_on()).map(|grant| grant.pattern));
            }
        }
    }

    /// The names covered by one of the patterns on which something is given to one of the users, to what one of them
    /// belongs to, or to holders of other resources: there answers add up otherwise than above. At most `most`, and only
    /// the beginning of them where `goes_on`, which is asked before each grant that is looked at, says no.
    #[must_use]
    pub fn given_below(
        &self,
        patterns: &[Pattern],
        users: &[UserId],
        most: usize,
        goes_on: &dyn Fn() -> bool,
    ) -> BTreeSet<Pattern> {
        let own = users.iter().flat_map(|user| {
            let user = self.subjects.id(&Subject::User(*user));
            user.into_iter().chain(self.memberships(user))
        });
        let subjects: BTreeSet<SubjectId> = own.take_while(|_| goes_on()).collect();
        let holders = self.subjects.holders.values().copied();
        let entries = subjects.into_iter().chain(holders).filter_map(|id| self.subjects.entry(id));
        let nodes = entries.flat_map(|entry| entry.rows.iter()).take_while(|_| goes_on()).map(|row| row.node);
        let names = nodes.map(|node| self.names.pattern(node));
        let mut found = BTreeSet::new();
        for name in names.filter(|name| patterns.iter().any(|pattern| covers(pattern, name.keys()))) {
            if found.len() >= most {
                break;
            }
            found.insert(name);
        }
        found
    }

    /// Names for which the subject's own answer is another one in `after`, which differs from this by what the subject
    /// has on `pattern`, though neither before nor after that row is what answers: how grants combine on the way to a
    /// name is seldom what people expect of a row on another one. At most `most`, and no more once `goes_on` says no;
    /// looked for where two rows meet.
    #[must_use]
    pub fn distant(
        &self,
        after: &Self,
        subject: &Subject,
        pattern: &Pattern,
        now: Timestamp,
        most: usize,
        goes_on: &dyn Fn() -> bool,
    ) -> Vec<Distant> {
        let (rows, pairs) = LOOKED_AT;
        let below = |grant: &Grant| meet(&grant.pattern, pattern).is_some();
        let all: BTreeSet<Pattern> = self
            .grants_of(subject)
            .take(rows)
            .filter(below)
            .map(|grant| grant.pattern)
            .chain([pattern.clone()])
            .collect();
        // Without a wildcard there is one way to a name, and only what covers it answers.
        let wild = all.iter().filter(|one| one.keys().contains(&PatternKey::Any));
        let names: BTreeSet<Pattern> = wild
            .flat_map(|one| all.iter().map(move |other| (one, other)))
            .take(pairs)
            .take_while(|_| goes_on())
            .filter_map(|(one, other)| meet(one, other))
            .filter_map(|name| meet(&name, pattern).filter(|met| *met == name))
            .collect();
        let mut found = Vec::new();
        for name in names.into_iter().take_while(|_| goes_on()) {
            let keys = asked(&name);
            let (before, then) = (self.answering(subject, &keys, now), after.answering(subject, &keys, now));
            let levels = |grant: &Option<Grant>| {
                grant.as_ref().map(|grant| grant.levels).filter(|levels| *levels != Levels::BLANK)
            };
            let by_it = |grant: &Option<Grant>| grant.as_ref().is_some_and(|grant| grant.pattern == *pattern);
            if levels(&before) != levels(&then) && !by_it(&before) && !by_it(&then) {
                found.push(Distant { name, before, after: then });
                if found.len() == most {
                    break;
                }
            }
        }
        found
    }

    /// The grant of the subject that answers for the resource of these keys.
    fn answering(&self, subject: &Subject, keys: &[&str], now: Timestamp) -> Option<Grant> {
        let id = self.subjects.id(subject)?;
        let rows = &self.subjects.entry(id)?.rows;
        let found = tree::resolve(rows, &Path::new(&self.names, keys), &mut Clock::at(now.as_second()))?;
        self.grant(id, &rows.at(found.node)?)
    }
}

/// Whether the pattern covers the name, or what stands for any of its keys.
#[must_use]
pub fn covers(pattern: &Pattern, name: &[PatternKey]) -> bool {
    pattern.keys().len() <= name.len()
        && pattern.keys().iter().zip(name).all(|(of, key)| *of == PatternKey::Any || of == key)
}

/// The longest name at which both patterns have a say: literal keys come before `*`. None where they part.
#[must_use]
pub fn meet(one: &Pattern, other: &Pattern) -> Option<Pattern> {
    let (short, long) = if one.keys().len() <= other.keys().len() { (one, other) } else { (other, one) };
    let shared = short.keys().iter().zip(long.keys()).map(|pair| match pair {
        (PatternKey::Any, key) | (key, PatternKey::Any) => Some(key.clone()),
        (key, same) => (key == same).then(|| key.clone()),
    });
    let mut keys = shared.collect::<Option<Vec<_>>>()?;
    keys.extend(long.keys().iter().skip(short.keys().len()).cloned());
    Pattern::new(keys).ok()
}

/// The keys to ask about for a name.
fn asked(name: &Pattern) -> Vec<&str> {
    name.keys().iter().map(|key| key.literal().unwrap_or(OTHER)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::{Change, Resource};
    use uuid::Uuid;

    const ME: UserId = UserId(Uuid::from_u128(1));

    fn grant(name: &str, levels: &str) -> Grant {
        let levels = if levels == "-" { Levels::NONE } else { levels.parse().unwrap() };
        Grant { subject: Subject::User(ME), pattern: Pattern::parse(name).unwrap(), levels, expires: None }
    }

    fn policy(grants: &[(&str, &str)]) -> Snapshot {
        Snapshot::empty().patched(grants.iter().map(|(name, levels)| Change::Grant(grant(name, levels))))
    }

    /// What is warned of where this row is stored beside those, and where it is taken away again.
    fn warned(rows: &[(&str, &str)], new: (&str, &str)) -> Vec<[String; 3]> {
        let before = policy(rows);
        let new = grant(new.0, new.1);
        let after = before.patched([Change::Grant(new.clone())]);
        let told = |from: &Snapshot, to: &Snapshot| -> Vec<[String; 3]> {
            let found = from.distant(to, &new.subject, &new.pattern, Timestamp::UNIX_EPOCH, 10, &|| true);
            let shown = |grant: Option<Grant>| grant.map_or("nothing".to_owned(), |grant| grant.pattern.to_string());
            found.into_iter().map(|one| [one.name.to_string(), shown(one.before), shown(one.after)]).collect()
        };
        let mut back = told(&after, &before);
        back.iter_mut().for_each(|[_, before, after]| std::mem::swap(before, after));
        let there = told(&before, &after);
        assert_eq!(there, back, "taking it away does the reverse");
        there
    }

    #[test]
    fn a_row_that_decides_between_two_others_is_warned_of() {
        // E12 becomes E11: with a row on `a` the literal side wins, though the wildcard row is deeper.
        assert_eq!(warned(&[("a.b", "u"), ("a.*.c", "d")], ("a", "r")), [["a.b.c", "a.*.c", "a.b"].map(str::to_owned)]);
        assert_eq!(
            warned(&[("a.b", "u"), ("a.*.c.*.e", "-")], ("a", "r")),
            [["a.b.c.*.e", "a.*.c.*.e", "a.b"].map(str::to_owned)]
        );
    }

    #[test]
    fn a_row_that_answers_itself_or_changes_nothing_is_no_surprise() {
        assert!(warned(&[("a.b", "u")], ("a", "r")).is_empty());
        assert!(warned(&[("a.*.c", "d")], ("a.b", "u")).is_empty());
        assert!(warned(&[("a.b", "u"), ("a.*.c", "u")], ("a", "r")).is_empty(), "the same levels");
        assert!(warned(&[("a.b", "u"), ("a.*.c", "d")], ("x", "r")).is_empty());
        // E16 is not copied: a longer row defeats no deny.
        assert!(warned(&[("a", "r"), ("a.b.*.y", "-")], ("a.b.x.y.z", "u")).is_empty());
    }

    #[test]
    fn what_is_shared_with_those_who_hold_levels_on_what_changed_is_reached() {
        let resource = |id: u128, name: &str| {
            Change::Resource(Resource {
                id: ResourceId(Uuid::from_u128(id)),
                name: Pattern::parse(name).unwrap(),
                owner: None,
            })
        };
        let share = |from: u128, to: &str| {
            let subject = Subject::Holders(Levels::READ, ResourceId(Uuid::from_u128(from)));
            Change::Grant(Grant { subject, ..grant(to, "r") })
        };
        let before = Snapshot::empty().patched([resource(1, "a.b"), resource(2, "c"), share(1, "c"), share(2, "d")]);
        let names = ["a.b", "c", "d", "e"].map(|name| Pattern::parse(name).unwrap());
        assert_eq!(before.reached(&before, [Pattern::parse("a").unwrap()], &|| true).len(), 3);
        assert_eq!(before.reached(&before, [Pattern::parse("e").unwrap()], &|| true), [names[3].clone()]);
        let after = before.patched([Change::Grant(grant("a", "r"))]);
        let compared = before.compared(&after, &[ME], &names, Timestamp::UNIX_EPOCH, |_| true);
        assert_eq!(compared.differences.iter().map(|one| one.name).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(compared.complete && compared.evaluations == 8);
        let cut = before.compared(&after, &[ME], &names, Timestamp::UNIX_EPOCH, |count| count <= 5);
        assert!(!cut.complete && cut.differences.len() == 2);
        let mut told = Vec::new();
        let _ = before.compared(&after, &[ME], &names, Timestamp::UNIX_EPOCH, |count| {
            told.push(count);
            true
        });
        assert_eq!(told, [2, 4, 6, 8], "how many evaluations the next would make");
    }

    #[test]
    fn the_first_grant_below_an_id_reaches_what_is_shared_with_who_holds_the_id() {
        let (id, shared) = (ResourceId(Uuid::from_u128(9)), Pattern::parse("a").unwrap());
        let all = Grant { pattern: Pattern::new([]).unwrap(), ..grant("a", "r") };
        let share = Grant { subject: Subject::Holders(Levels::READ, id), ..grant("a", "u") };
        let before = Snapshot::empty().patched([all, share].map(Change::Grant));
        let below = Pattern::literal([&*id.key(), "b"]).unwrap();
        let other = Grant { subject: Subject::Role("Ops".into()), pattern: below.clone(), ..grant("a", "r") };
        let after = before.patched([Change::Grant(other)]);
        let levels = |snapshot: &Snapshot| snapshot.levels(ME, &["a"], Timestamp::UNIX_EPOCH);
        assert_eq!([levels(&before), levels(&after)], [Levels::READ, Levels::READ | Levels::UPDATE]);
        for (one, other) in [(&before, &after), (&after, &before)] {
            assert!(one.reached(other, [below.clone()], &|| true).contains(&shared));
        }
        let beside = Pattern::parse("*.b").unwrap();
        assert_eq!(before.reached(&before, [beside.clone()], &|| true), [beside]);
    }

    #[test]
    fn what_is_told_to_stop_has_a_beginning_of_the_answer() {
        let asked = std::cell::Cell::new(0);
        let cut = |most: usize| {
            asked.set(0);
            let asked = &asked;
            move || {
                asked.set(asked.get() + 1);
                asked.get() <= most
            }
        };
        let rows: Vec<(String, &str)> =
            (0..5).flat_map(|number| [(format!("a.b{number}"), "u"), (format!("a.*.c{number}"), "d")]).collect();
        let rows: Vec<(&str, &str)> = rows.iter().map(|(name, levels)| (name.as_str(), *levels)).collect();
        let before = policy(&rows);
        let new = grant("a", "r");
        let after = before.patched([Change::Grant(new.clone())]);
        let told = |goes_on: &dyn Fn() -> bool| {
            before.distant(&after, &new.subject, &new.pattern, Timestamp::UNIX_EPOCH, 100, goes_on)
        };
        let whole = told(&|| true);
        assert_eq!(whole.len(), 25);
        assert!(told(&|| false).is_empty());
        for most in [10, 40, 60, 70, 80] {
            let part = told(&cut(most));
            assert!(asked.get() <= most + 2 && whole.starts_with(&part) && part.len() < 25, "{most}");
        }
        let shares = (1..5_u128).flat_map(|id| {
            let of = ResourceId(Uuid::from_u128(id));
            let name = |id: u128| Pattern::literal([format!("r{id}")]).unwrap();
            let give = Grant { subject: Subject::Holders(Levels::READ, of), pattern: name(id + 1), ..grant("x", "r") };
            [Change::Resource(Resource { id: of, name: name(id), owner: None }), Change::Grant(give)]
        });
        let web = Snapshot::empty().patched(shares);
        let reached = |goes_on: &dyn Fn() -> bool| web.reached(&web, [Pattern::parse("r1").unwrap()], goes_on).len();
        assert_eq!(reached(&|| true), 5);
        assert_eq!(reached(&|| false), 1);
        let part = reached(&cut(6));
        assert!((2..5).contains(&part) && asked.get() <= 9, "{part} {}", asked.get());
    }
}
