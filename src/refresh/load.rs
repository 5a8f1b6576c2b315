//! The full load: records are compiled while the store still reads.

use std::sync::mpsc::Receiver;

use super::{RefreshError, member, resource};
use crate::identity::Loading;
use crate::policy::{Builder, Name, Snapshot};
use crate::store::{Grants, Item, Portion};

/// How many portions may wait to be compiled: the store reads ahead while something takes long here.
pub(super) const WAITING: usize = 8;

/// Records between two lines of the log about a load.
pub(super) const PACE: usize = 1_000_000;

/// What records make, and those that are left for when all are there.
pub(super) struct Gathered {
    pub(super) policy: Builder,
    pub(super) directory: Loading,
    /// All but users, groups, links, API tokens and grants: few, as none comes with each user.
    pub(super) rest: Vec<Item>,
    /// The patterns of the grants, by the numbers that the store gave them.
    names: Vec<Name>,
}

impl Gathered {
    /// What comes until the store has no more, told after every `pace` records.
    ///
    /// # Errors
    /// [`RefreshError::Compile`] for a grant of which the store does not say whose or on what: without one that denies, more
    /// would be permitted.
    pub(super) fn of(portions: Receiver<Portion>, pace: usize) -> Result<Self, RefreshError> {
        let mut gathered =
            Self { policy: Builder::new(), directory: Loading::default(), rest: Vec::new(), names: Vec::new() };
        let (mut records, mut next) = (0, pace);
        for portion in portions {
            records += match portion {
                Portion::Items(items) => gathered.take(items),
                Portion::Grants(grants) => gathered.take_grants(&grants)?,
            };
            if records >= next {
                let (users, grants) = (gathered.directory.accounts(), gathered.policy.grants());
                tracing::info!(users, grants, "loading");
                next = records + pace;
            }
        }
        Ok(gathered)
    }

    fn take(&mut self, items: Vec<Item>) -> usize {
        let count = items.len();
        self.directory.take(&items);
        for item in items {
            compile(&mut self.policy, &item);
            if !matches!(item, Item::User(..) | Item::Group(_) | Item::Link(_) | Item::ApiToken(_) | Item::Grant(_)) {
                self.rest.push(item);
            }
        }
        count
    }

    fn take_grants(&mut self, grants: &Grants) -> Result<usize, RefreshError> {
        let policy = &mut self.policy;
        self.names.extend(grants.patterns.iter().map(|pattern| policy.name(pattern)));
        let mut taken = 0;
        for (subject, rows) in grants.runs() {
            policy.subject(subject);
            for row in rows {
                let Some(name) = self.names.get(row.pattern as usize) else { break };
                policy.row(*name, row.levels, row.expires);
                taken += 1;
            }
        }
        if taken < grants.rows.len() {
            return Err(RefreshError::Compile("the store gave a grant without subject or pattern".to_owned()));
        }
        Ok(taken)
    }
}

/// The policy that these records make.
pub(crate) fn policy(items: &[Item]) -> Snapshot {
    let mut policy = Builder::new();
    for item in items {
        compile(&mut policy, item);
    }
    policy.finish()
}

fn compile(policy: &mut Builder, item: &Item) {
    match item {
        Item::Grant(grant) => policy.grant(&grant.row),
        Item::User(user, groups) => policy.member(member(user, groups)),
        item => {
            if let Some(resource) = resource(item) {
                policy.resource(resource);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{self, Write};
    use std::sync::{Arc, Mutex, mpsc};

    use uuid::Uuid;

    use super::*;
    use crate::policy::{self, Levels, Pattern, Subject, UserId};
    use crate::store::{GrantRow, Group};

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// So many grants, three to a subject, the patterns in the first portion.
    fn grants(numbers: std::ops::Range<u32>) -> Portion {
        let first = numbers.start == 0;
        let pattern = |number| Pattern::literal([format!("ns-{number}")]).unwrap();
        let mut grants = Grants { patterns: (0..3).filter(|_| first).map(pattern).collect(), ..Grants::default() };
        for number in numbers {
            let subject = Subject::User(UserId(Uuid::from_u128(u128::from(number / 3))));
            grants.subjects.push((subject, 1));
            grants.rows.push(GrantRow { pattern: number % 3, levels: Levels::READ, expires: None });
        }
        Portion::Grants(grants)
    }

    #[test]
    fn a_long_load_says_how_far_it_is() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let (sender, portions) = mpsc::sync_channel(8);
        for batch in 0..5 {
            sender.send(grants(batch * 10..(batch + 1) * 10)).unwrap();
        }
        drop(sender);
        let gathered = tracing::subscriber::with_default(log, || Gathered::of(portions, 20)).unwrap();
        assert_eq!(gathered.policy.finish().size().grants, 50);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let told: Vec<&str> = text.lines().filter_map(|line| line.split("loading ").nth(1)).collect();
        assert_eq!(told, ["users=0 grants=20", "users=0 grants=40"], "{text}");
    }

    #[test]
    fn a_grant_on_a_pattern_that_was_not_given_ends_the_load() {
        let (sender, portions) = mpsc::sync_channel(8);
        sender.send(grants(1..2)).unwrap();
        drop(sender);
        assert!(matches!(Gathered::of(portions, PACE), Err(RefreshError::Compile(_))));
    }

    #[test]
    fn what_does_not_come_with_each_user_is_left_for_the_end() {
        let group = Group { id: policy::GroupId(Uuid::nil()), name: "g".into(), owner: None };
        let namespace = crate::store::Namespace { id: policy::ResourceId(Uuid::nil()), name: "n".into(), owner: None };
        let (sender, portions) = mpsc::sync_channel(8);
        sender.send(Portion::Items(vec![Item::Group(group), Item::Namespace(namespace.clone())])).unwrap();
        sender.send(grants(0..1)).unwrap();
        drop(sender);
        let gathered = Gathered::of(portions, PACE).unwrap();
        assert_eq!(gathered.rest, [Item::Namespace(namespace)]);
        assert_eq!(gathered.policy.finish().size().resources, 1);
    }
}
