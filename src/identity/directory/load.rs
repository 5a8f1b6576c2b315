//! The directory of a full load: what a patch keeps sorted at every step is sorted once, when all users are there.

use std::sync::Arc;

use smallvec::SmallVec;

use super::{Directory, Entry, fresh_epoch};
use crate::policy::{GroupId, Index, Pairs};
use crate::store::{Item, User};

/// A directory in the making, from records that come once each. Groups before users, users before links make it fast.
#[derive(Debug, Default)]
pub struct Loading {
    directory: Directory,
    /// None as soon as all that came is in the directory: what comes then is a patch.
    users: Option<Users>,
    patching: bool,
}

/// What the users make that is not in the directory yet.
#[derive(Debug, Default)]
struct Users {
    ids: Pairs,
    names: Pairs,
    emails: Pairs,
    /// By the number of the group.
    members: Vec<Vec<u32>>,
}

impl Loading {
    /// Adds the records; those of other kinds are ignored.
    pub fn take(&mut self, items: &[Item]) {
        for item in items {
            match item {
                Item::User(user, groups) if !self.patching => self.add(user, groups),
                item => {
                    self.settle();
                    self.directory.apply(std::slice::from_ref(item));
                }
            }
        }
    }

    /// How many accounts there are so far.
    #[must_use]
    pub fn accounts(&self) -> usize {
        self.directory.users.len()
    }

    /// The directory.
    #[must_use]
    pub fn finish(mut self) -> Directory {
        self.settle();
        // Who is proved by what may be another than in the directory before.
        self.directory.epoch = fresh_epoch();
        self.directory.version = fresh_epoch();
        self.directory
    }

    fn add(&mut self, user: &User, groups: &[GroupId]) {
        let (directory, users) = (&mut self.directory, self.users.get_or_insert_default());
        let number = u32::try_from(directory.users.len()).unwrap_or(u32::MAX);
        let mut groups: SmallVec<[u32; 8]> = groups.iter().map(|id| directory.groups.make(*id)).collect();
        groups.sort_unstable();
        groups.dedup();
        for group in &groups {
            let place = *group as usize;
            if users.members.len() <= place {
                users.members.resize_with(place + 1, Vec::new);
            }
            if let Some(members) = users.members.get_mut(place) {
                members.push(number);
            }
        }
        let account = directory.account(user, &groups);
        users.ids.push(directory.hash(user.id), number);
        users.names.push(directory.hash(&*account.name), number);
        if let Some(email) = &account.email {
            users.emails.push(directory.hash(email.to_lowercase().as_str()), number);
        }
        let entry = Entry { account: Arc::new(account), groups: groups.as_slice().into(), links: None };
        directory.users.push_back(Some(entry));
    }

    fn settle(&mut self) {
        let Some(users) = self.users.take() else { return };
        let directory = &mut self.directory;
        directory.ids = Index::of(users.ids);
        directory.names = Index::of(users.names);
        directory.emails = Index::of(users.emails);
        for (group, members) in (0..).zip(users.members) {
            directory.groups.fill(group, &members);
        }
        self.patching = true;
    }
}
