//! Who has an account: the snapshot's persistent maps of users, of what proves them, and of groups.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use imbl::shared_ptr::DefaultSharedPtr;
use imbl::{GenericHashMap, OrdSet};

use super::Account;
use crate::policy::{GroupId, UserId};
use crate::store::{Group, Item, Key, Link, User};

/// Names and addresses come from callers, so the hash is keyed.
type Map<K, V> = GenericHashMap<K, V, ahash::RandomState, DefaultSharedPtr>;

/// The accounts and groups at one revision; a clone shares everything.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    users: Map<UserId, Entry>,
    names: Map<Arc<str>, UserId>,
    /// By lower-cased address: whoever has it, checked or not.
    emails: Map<Arc<str>, Arc<[UserId]>>,
    /// By issuer, then by subject.
    links: Map<Arc<str>, Map<Arc<str>, UserId>>,
    groups: Map<GroupId, Arc<Group>>,
    group_names: Map<Arc<str>, GroupId>,
    members: Map<GroupId, OrdSet<UserId>>,
    /// Another number whenever a link may have changed, unique in the process.
    epoch: u64,
}

/// One user, as kept.
#[derive(Clone, Debug)]
struct Entry {
    account: Arc<Account>,
    groups: Arc<[GroupId]>,
    /// What proves it, beyond the built-in issuer.
    links: Arc<[Link]>,
}

impl Directory {
    /// Nobody.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// This directory with the items as they stand now, sharing whatever did not change. Items of other kinds are
    /// ignored, so that the whole feed can be given; from [`Directory::empty`] it is the full load.
    #[must_use]
    pub fn patched(&self, items: &[Item]) -> Self {
        let mut next = self.clone();
        next.apply(items);
        next
    }

    /// As [`Directory::patched`], in place: a load in batches, groups before users before links, need not copy.
    pub fn apply(&mut self, items: &[Item]) {
        // Groups first: accounts hold the names of theirs.
        for item in items {
            match item {
                Item::Group(group) => self.put_group(group),
                Item::Gone(Key::Group(id)) => self.drop_group(*id),
                _ => {}
            }
        }
        for item in items {
            match item {
                Item::User(user, groups) => self.put_user(user, groups),
                Item::Gone(Key::User(id)) => self.drop_user(*id),
                _ => {}
            }
        }
        // Links last: each user carries a list of its own.
        for item in items {
            match item {
                Item::Link(link) => self.put_link(link),
                Item::Gone(Key::Link(issuer, subject)) => self.drop_link(issuer, subject),
                _ => {}
            }
        }
    }

    /// The account with this id.
    #[must_use]
    pub fn by_id(&self, id: UserId) -> Option<&Arc<Account>> {
        self.users.get(&id).map(|entry| &entry.account)
    }

    /// The account with this login name, compared with case.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Arc<Account>> {
        self.by_id(*self.names.get(name)?)
    }

    /// The account that the issuer's subject proves.
    #[must_use]
    pub fn by_link(&self, issuer: &str, subject: &str) -> Option<&Arc<Account>> {
        self.by_id(*self.links.get(issuer)?.get(subject)?)
    }

    /// The one account with this lower-cased address: of those for whom it was checked, if there are any, else of all
    /// who have it, so that nobody takes an address from its owner by merely claiming it. None where two have it.
    #[must_use]
    pub fn by_email(&self, email: &str) -> Option<&Arc<Account>> {
        let holders = || self.emails.get(email).into_iter().flat_map(|ids| ids.iter()).filter_map(|id| self.by_id(*id));
        let mut checked = holders().filter(|account| account.email_verified);
        match (checked.next(), checked.next()) {
            (Some(one), None) => Some(one),
            (Some(_), Some(_)) => None,
            (None, _) => {
                let mut all = holders();
                all.next().filter(|_| all.next().is_none())
            }
        }
    }

    /// Whether any account has this lower-cased address.
    #[must_use]
    pub fn knows_email(&self, email: &str) -> bool {
        self.emails.contains_key(email)
    }

    /// What proves the account, beyond the built-in issuer.
    #[must_use]
    pub fn links_of(&self, id: UserId) -> &[Link] {
        self.users.get(&id).map_or(&[], |entry| &entry.links)
    }

    /// Every account, in no order that matters.
    pub fn users(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.users.values().map(|entry| &entry.account)
    }

    /// The number of accounts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there is no account at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// The group with this id.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<&Arc<Group>> {
        self.groups.get(&id)
    }

    /// The group with this name, compared with case.
    #[must_use]
    pub fn group_by_name(&self, name: &str) -> Option<&Arc<Group>> {
        self.groups.get(self.group_names.get(name)?)
    }

    /// Every group, in no order that matters.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.values()
    }

    /// The members of the group, by id.
    pub fn members(&self, id: GroupId) -> impl Iterator<Item = &Arc<Account>> {
        self.members.get(&id).into_iter().flatten().filter_map(|user| self.by_id(*user))
    }

    /// The groups that the user is in.
    #[must_use]
    pub fn groups_of(&self, id: UserId) -> &[GroupId] {
        self.users.get(&id).map_or(&[], |entry| &entry.groups)
    }

    /// Another number whenever a link may have come, gone, or changed its account: a cached answer of
    /// [`Directory::by_link`] holds while this stands still.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    fn put_user(&mut self, user: &User, groups: &[GroupId]) {
        let before = self.users.get(&user.id).cloned();
        if let Some(before) = &before {
            self.forget_name(before);
            self.forget_email(before);
        }
        let old: BTreeSet<GroupId> = before.iter().flat_map(|b| b.groups.iter().copied()).collect();
        let new: BTreeSet<GroupId> = groups.iter().copied().collect();
        for id in old.difference(&new) {
            self.leave(*id, user.id);
        }
        for id in new.difference(&old) {
            self.members.entry(*id).or_default().insert(user.id);
        }
        let links = before.map_or_else(|| Arc::from([]), |b| b.links);
        let account = Arc::new(self.account(user, &new));
        self.names.insert(account.name.clone(), user.id);
        if let Some(email) = &account.email {
            let key: Arc<str> = email.to_lowercase().into();
            let ids = self.emails.get(&key).map_or(&[][..], |ids| ids);
            let ids: Arc<[UserId]> = ids.iter().copied().chain([user.id]).collect();
            self.emails.insert(key, ids);
        }
        self.users.insert(user.id, Entry { account, groups: new.into_iter().collect(), links });
    }

    fn account(&self, user: &User, groups: &BTreeSet<GroupId>) -> Account {
        let text = |value: &Option<String>| value.as_deref().map(Arc::from);
        Account {
            id: user.id,
            name: user.name.as_str().into(),
            email: text(&user.email),
            email_verified: user.email_verified,
            first_name: text(&user.first_name),
            last_name: text(&user.last_name),
            organization: text(&user.organization),
            role: user.role.as_str().into(),
            groups: self.names_of(groups.iter()),
            administrator: user.administrator,
            disabled: user.disabled,
            tokens_dead_until: user.tokens_dead_until,
            created: user.created,
        }
    }

    fn names_of<'a>(&self, groups: impl Iterator<Item = &'a GroupId>) -> Arc<[Arc<str>]> {
        let known = groups.filter_map(|id| self.groups.get(id));
        // Shared: a group's name is on every member's account.
        let shared =
            |group: &Arc<Group>| self.group_names.get_key_value(group.name.as_str()).map(|(name, _)| name.clone());
        let mut names: Vec<Arc<str>> =
            known.map(|group| shared(group).unwrap_or_else(|| group.name.as_str().into())).collect();
        names.sort_unstable();
        names.into()
    }

    fn drop_user(&mut self, id: UserId) {
        let Some(entry) = self.users.remove(&id) else { return };
        self.forget_name(&entry);
        self.forget_email(&entry);
        for group in entry.groups.iter() {
            self.leave(*group, id);
        }
        for link in entry.links.iter() {
            self.unmap(&link.issuer, &link.subject);
        }
        self.epoch = fresh_epoch();
    }

    /// A name may have passed to another user in the same patch: only the user's own mapping goes.
    fn forget_name(&mut self, entry: &Entry) {
        if self.names.get(&entry.account.name) == Some(&entry.account.id) {
            self.names.remove(&entry.account.name);
        }
    }

    fn forget_email(&mut self, entry: &Entry) {
        let Some(email) = &entry.account.email else { return };
        let key = email.to_lowercase();
        let Some(ids) = self.emails.get(key.as_str()) else { return };
        let left: Arc<[UserId]> = ids.iter().copied().filter(|id| *id != entry.account.id).collect();
        if left.is_empty() {
            self.emails.remove(key.as_str());
        } else {
            self.emails.insert(key.into(), left);
        }
    }

    fn leave(&mut self, group: GroupId, user: UserId) {
        let Some(members) = self.members.get_mut(&group) else { return };
        members.remove(&user);
        if members.is_empty() {
            self.members.remove(&group);
        }
    }

    fn put_link(&mut self, link: &Link) {
        let owner = self.links.get(link.issuer.as_str()).and_then(|subjects| subjects.get(link.subject.as_str()));
        if owner == Some(&link.user) && self.links_of(link.user).contains(link) {
            return;
        }
        self.drop_link(&link.issuer, &link.subject);
        self.links.entry(link.issuer.as_str().into()).or_default().insert(link.subject.as_str().into(), link.user);
        if let Some(entry) = self.users.get_mut(&link.user) {
            entry.links = entry.links.iter().cloned().chain([link.clone()]).collect();
        }
        self.epoch = fresh_epoch();
    }

    fn drop_link(&mut self, issuer: &str, subject: &str) {
        let Some(owner) = self.unmap(issuer, subject) else { return };
        if let Some(entry) = self.users.get_mut(&owner) {
            let keep = |link: &&Link| link.issuer != issuer || link.subject != subject;
            entry.links = entry.links.iter().filter(keep).cloned().collect();
        }
        self.epoch = fresh_epoch();
    }

    fn unmap(&mut self, issuer: &str, subject: &str) -> Option<UserId> {
        let subjects = self.links.get_mut(issuer)?;
        let owner = subjects.remove(subject);
        if subjects.is_empty() {
            self.links.remove(issuer);
        }
        owner
    }

    fn put_group(&mut self, group: &Group) {
        let before = self.groups.insert(group.id, Arc::new(group.clone()));
        if before.as_ref().is_some_and(|before| before.name == group.name) {
            return;
        }
        if let Some(before) = before {
            self.forget_group_name(&before);
        }
        self.group_names.insert(group.name.as_str().into(), group.id);
        self.rename_for_members(group.id);
    }

    fn drop_group(&mut self, id: GroupId) {
        let Some(group) = self.groups.remove(&id) else { return };
        self.forget_group_name(&group);
        self.rename_for_members(id);
    }

    fn forget_group_name(&mut self, group: &Group) {
        if self.group_names.get(group.name.as_str()) == Some(&group.id) {
            self.group_names.remove(group.name.as_str());
        }
    }

    /// Gives the members' accounts the group names that are true now.
    fn rename_for_members(&mut self, id: GroupId) {
        let members = self.members.get(&id).cloned().unwrap_or_default();
        for user in members {
            let Some(entry) = self.users.get(&user) else { continue };
            let names = self.names_of(entry.groups.iter());
            if let Some(entry) = self.users.get_mut(&user) {
                Arc::make_mut(&mut entry.account).groups = names;
            }
        }
    }
}

fn fresh_epoch() -> u64 {
    static EPOCHS: AtomicU64 = AtomicU64::new(1);
    EPOCHS.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;

    fn user(n: u128, name: &str, email: Option<&str>) -> User {
        User {
            id: UserId(Uuid::from_u128(n)),
            name: name.into(),
            email: email.map(Into::into),
            email_verified: true,
            first_name: None,
            last_name: None,
            organization: None,
            role: "Guest".into(),
            administrator: false,
            disabled: false,
            tokens_dead_until: None,
            created: Timestamp::UNIX_EPOCH,
        }
    }

    fn group(n: u128, name: &str) -> Group {
        Group { id: GroupId(Uuid::from_u128(n)), name: name.into(), owner: None }
    }

    fn link(issuer: &str, subject: &str, n: u128) -> Link {
        Link { issuer: issuer.into(), subject: subject.into(), user: UserId(Uuid::from_u128(n)) }
    }

    #[test]
    fn a_user_is_found_by_id_name_link_and_email() {
        let directory = Directory::empty().patched(&[
            Item::Link(link("https://idp", "s-1", 1)),
            Item::User(Box::new(user(1, "alice", Some("Alice@Example.org"))), vec![]),
        ]);
        let id = UserId(Uuid::from_u128(1));
        assert_eq!(directory.by_id(id).unwrap().name.as_ref(), "alice");
        assert_eq!(directory.by_name("alice").unwrap().id, id);
        assert!(directory.by_name("Alice").is_none());
        assert_eq!(directory.by_link("https://idp", "s-1").unwrap().id, id);
        assert!(directory.by_link("https://idp", "s-2").is_none());
        assert!(directory.by_link("https://other", "s-1").is_none());
        assert_eq!(directory.by_email("alice@example.org").unwrap().id, id);
        assert_eq!(directory.links_of(id).len(), 1);
    }

    #[test]
    fn an_address_that_two_accounts_have_names_neither() {
        let directory = Directory::empty().patched(&[
            Item::User(Box::new(user(1, "alice", Some("a@x.org"))), vec![]),
            Item::User(Box::new(user(2, "bob", Some("A@x.org"))), vec![]),
        ]);
        assert!(directory.by_email("a@x.org").is_none());
        assert!(directory.knows_email("a@x.org"));
        let mut claims_it = user(2, "bob", Some("a@x.org"));
        claims_it.email_verified = false;
        let claimed = directory.patched(&[Item::User(Box::new(claims_it), vec![])]);
        assert_eq!(claimed.by_email("a@x.org").unwrap().name.as_ref(), "alice", "a claim takes nothing away");
        let directory = directory.patched(&[Item::Gone(Key::User(UserId(Uuid::from_u128(2))))]);
        assert_eq!(directory.by_email("a@x.org").unwrap().name.as_ref(), "alice");
    }

    #[test]
    fn a_user_who_goes_takes_name_address_links_and_memberships_along() {
        let staff = group(9, "Staff");
        let directory = Directory::empty().patched(&[
            Item::User(Box::new(user(1, "alice", Some("a@x.org"))), vec![staff.id]),
            Item::Group(staff.clone()),
            Item::Link(link("https://idp", "s-1", 1)),
        ]);
        let epoch = directory.epoch();
        let after = directory.patched(&[Item::Gone(Key::User(UserId(Uuid::from_u128(1))))]);
        assert!(after.by_name("alice").is_none());
        assert!(!after.knows_email("a@x.org"));
        assert!(after.by_link("https://idp", "s-1").is_none());
        assert_eq!(after.members(staff.id).count(), 0);
        assert_ne!(after.epoch(), epoch);
        assert!(directory.by_name("alice").is_some(), "the older directory is untouched");
    }

    #[test]
    fn a_name_may_pass_to_another_user_in_one_patch_in_either_order() {
        let directory = Directory::empty().patched(&[Item::User(Box::new(user(1, "alice", None)), vec![])]);
        let gone = Item::Gone(Key::User(UserId(Uuid::from_u128(1))));
        let new = Item::User(Box::new(user(2, "alice", None)), vec![]);
        for items in [[gone.clone(), new.clone()], [new, gone]] {
            assert_eq!(directory.patched(&items).by_name("alice").unwrap().id, UserId(Uuid::from_u128(2)));
        }
    }

    #[test]
    fn accounts_carry_the_names_of_their_groups_in_order_and_follow_them() {
        let (b, a) = (group(1, "Beta"), group(2, "Alpha"));
        let directory = Directory::empty().patched(&[
            Item::User(Box::new(user(1, "alice", None)), vec![b.id, a.id]),
            Item::Group(b.clone()),
            Item::Group(a.clone()),
        ]);
        let names = |d: &Directory| {
            d.by_name("alice").unwrap().groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
        };
        assert_eq!(names(&directory), "Alpha,Beta");
        let renamed = directory.patched(&[Item::Group(Group { name: "Gamma".into(), ..a.clone() })]);
        assert_eq!(names(&renamed), "Beta,Gamma");
        assert!(renamed.group_by_name("Alpha").is_none());
        let left = renamed.patched(&[Item::User(Box::new(user(1, "alice", None)), vec![b.id])]);
        assert_eq!(names(&left), "Beta");
        assert_eq!(left.members(a.id).count(), 0);
        assert_eq!(names(&directory.patched(&[Item::Gone(Key::Group(b.id))])), "Alpha");
    }

    #[test]
    fn a_link_that_moves_proves_the_new_account_only() {
        let directory = Directory::empty().patched(&[
            Item::User(Box::new(user(1, "alice", None)), vec![]),
            Item::User(Box::new(user(2, "bob", None)), vec![]),
            Item::Link(link("https://idp", "s", 1)),
        ]);
        let moved = directory.patched(&[Item::Link(link("https://idp", "s", 2))]);
        assert_eq!(moved.by_link("https://idp", "s").unwrap().name.as_ref(), "bob");
        assert!(moved.links_of(UserId(Uuid::from_u128(1))).is_empty());
        assert_ne!(moved.epoch(), directory.epoch());
        assert_eq!(moved.patched(&[Item::Link(link("https://idp", "s", 2))]).epoch(), moved.epoch());
    }
}
