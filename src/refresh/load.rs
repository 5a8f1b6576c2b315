//! The full load: records are compiled while the store still reads.

use std::sync::mpsc::Receiver;

use super::{member, resource};
use crate::identity::Directory;
use crate::policy::{Builder, Snapshot};
use crate::store::Item;

/// How many batches may wait to be compiled: the store reads ahead while something takes long here.
pub(super) const WAITING: usize = 8;

/// Records between two lines of the log about a load.
pub(super) const PACE: usize = 1_000_000;

/// What records make, and those that are left for when all are there.
pub(super) struct Gathered {
    pub(super) policy: Builder,
    pub(super) directory: Directory,
    /// All but users, groups, links, API tokens and grants: few, as none comes with each user.
    pub(super) rest: Vec<Item>,
}

impl Gathered {
    /// What comes until the store has no more, told after every `pace` records.
    pub(super) fn of(batches: Receiver<Vec<Item>>, pace: usize) -> Self {
        let mut gathered = Self { policy: Builder::new(), directory: Directory::empty(), rest: Vec::new() };
        let (mut records, mut next) = (0, pace);
        for batch in batches {
            records += batch.len();
            gathered.take(batch);
            if records >= next {
                let (users, grants) = (gathered.directory.len(), gathered.policy.grants());
                tracing::info!(users, grants, "loading");
                next = records + pace;
            }
        }
        gathered
    }

    fn take(&mut self, batch: Vec<Item>) {
        self.directory.apply(&batch);
        for item in batch {
            compile(&mut self.policy, &item);
            if !matches!(item, Item::User(..) | Item::Group(_) | Item::Link(_) | Item::ApiToken(_) | Item::Grant(_)) {
                self.rest.push(item);
            }
        }
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

    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::policy::{self, Levels, Pattern, Subject, UserId};
    use crate::store::{Grant, Group};

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

    fn grant(number: u128) -> Item {
        let subject = Subject::User(UserId(Uuid::from_u128(number / 3)));
        let pattern = Pattern::literal([format!("ns-{}", number % 3)]).unwrap();
        let row = policy::Grant { subject, pattern, levels: Levels::READ, expires: None };
        Item::Grant(Grant { row, by: None, at: Timestamp::UNIX_EPOCH })
    }

    #[test]
    fn a_long_load_says_how_far_it_is() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let (sender, batches) = mpsc::sync_channel(8);
        for batch in 0..5 {
            sender.send((batch * 10..(batch + 1) * 10).map(grant).collect()).unwrap();
        }
        drop(sender);
        let gathered = tracing::subscriber::with_default(log, || Gathered::of(batches, 20));
        assert_eq!(gathered.policy.finish().size().grants, 50);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let told: Vec<&str> = text.lines().filter_map(|line| line.split("loading ").nth(1)).collect();
        assert_eq!(told, ["users=0 grants=20", "users=0 grants=40"], "{text}");
    }

    #[test]
    fn what_does_not_come_with_each_user_is_left_for_the_end() {
        let group = Group { id: policy::GroupId(Uuid::nil()), name: "g".into(), owner: None };
        let namespace = crate::store::Namespace { id: policy::ResourceId(Uuid::nil()), name: "n".into(), owner: None };
        let (sender, batches) = mpsc::sync_channel(8);
        sender.send(vec![Item::Group(group), Item::Namespace(namespace.clone()), grant(1)]).unwrap();
        drop(sender);
        let gathered = Gathered::of(batches, PACE);
        assert_eq!(gathered.rest, [Item::Namespace(namespace)]);
        assert_eq!(gathered.policy.finish().size().resources, 1);
    }
}
