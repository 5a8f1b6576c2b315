//! Who has an account: the snapshot's accounts under dense numbers, and who is found by what.

mod groups;
mod load;

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use imbl::shared_ptr::DefaultSharedPtr;
use imbl::{GenericHashMap, Vector};
use smallvec::SmallVec;

pub use self::load::Loading;

use self::groups::Groups;
use super::{Account, ApiTokens};
use crate::policy::{GroupId, Index, UserId};
use crate::store::{Group, Item, Key, Link, User};

/// Names and addresses come from callers, so the hash is keyed.
type Map<K, V> = GenericHashMap<K, V, ahash::RandomState, DefaultSharedPtr>;

/// How many roles and organizations are remembered, so that accounts share them: far more than a population has.
const REMEMBERED: usize = 4096;

/// The accounts and groups at one revision; a clone shares everything.
#[derive(Clone, Default)]
pub struct Directory {
    users: Vector<Option<Entry>>,
    free: Vector<u32>,
    ids: Index,
    names: Index,
    /// By lower-cased address: whoever has it, checked or not.
    emails: Index,
    /// By issuer and subject.
    links: Index,
    groups: Groups,
    /// Roles and organizations.
    words: Map<Arc<str>, ()>,
    api_tokens: ApiTokens,
    seed: ahash::RandomState,
    /// Another number whenever a link may have changed, unique in the process.
    epoch: u64,
    /// Another number whenever anything may have changed, unique in the process.
    version: u64,
}

/// One user, as kept.
#[derive(Clone)]
struct Entry {
    account: Arc<Account>,
    /// The numbers of the user's groups, in order.
    groups: Arc<[u32]>,
    /// What proves it, beyond the built-in issuer; few accounts of that one's have any.
    links: Option<Arc<[Link]>>,
}

impl Entry {
    fn links(&self) -> &[Link] {
        self.links.as_deref().unwrap_or_default()
    }

    fn is_proved_by(&self, issuer: &str, subject: &str) -> bool {
        self.links().iter().any(|link| link.issuer == issuer && link.subject == subject)
    }

    /// Whether the user has this address, which is lower-cased.
    fn has_email(&self, email: &str) -> bool {
        self.account.email.as_deref().is_some_and(|own| {
            let lower = own.bytes().map(|byte| byte.to_ascii_lowercase());
            if own.is_ascii() { lower.eq(email.bytes()) } else { own.to_lowercase() == email }
        })
    }
}

impl Directory {
    /// Nobody.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// This directory with the items as they stand now, sharing whatever did not change. Items of other kinds are
    /// ignored, so that the whole feed can be given; what makes one from nothing faster is a [`Loading`].
    #[must_use]
    pub fn patched(&self, items: &[Item]) -> Self {
        let mut next = self.clone();
        next.apply(items);
        next.version = fresh_epoch();
        next
    }

    fn apply(&mut self, items: &[Item]) {
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
                item => self.api_tokens.apply(item),
            }
        }
    }

    /// The account with this id.
    #[must_use]
    pub fn by_id(&self, id: UserId) -> Option<&Arc<Account>> {
        self.entry(self.number(id)?).map(|entry| &entry.account)
    }

    /// The account with this login name, compared with case.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Arc<Account>> {
        self.found(&self.names, &name).map(|(_, entry)| &entry.account).find(|account| *account.name == *name)
    }

    /// The account that the issuer's subject proves.
    #[must_use]
    pub fn by_link(&self, issuer: &str, subject: &str) -> Option<&Arc<Account>> {
        self.proved_by(issuer, subject).map(|(_, entry)| &entry.account)
    }

    /// The one account with this lower-cased address: of those for whom it was checked, if there are any, else of all
    /// who have it, so that nobody takes an address from its owner by merely claiming it. None where two have it.
    #[must_use]
    pub fn by_email(&self, email: &str) -> Option<&Arc<Account>> {
        let mut checked = self.with_email(email).filter(|account| account.email_verified);
        match (checked.next(), checked.next()) {
            (Some(one), None) => Some(one),
            (Some(_), Some(_)) => None,
            (None, _) => {
                let mut all = self.with_email(email);
                all.next().filter(|_| all.next().is_none())
            }
        }
    }

    /// Whether any account has this lower-cased address.
    #[must_use]
    pub fn knows_email(&self, email: &str) -> bool {
        self.with_email(email).next().is_some()
    }

    /// What proves the account, beyond the built-in issuer.
    #[must_use]
    pub fn links_of(&self, id: UserId) -> &[Link] {
        self.number(id).and_then(|number| self.entry(number)).map_or(&[], Entry::links)
    }

    /// The API tokens of all accounts.
    #[must_use]
    pub fn api_tokens(&self) -> &ApiTokens {
        &self.api_tokens
    }

    /// Every account, in no order that matters.
    pub fn users(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.users.iter().flatten().map(|entry| &entry.account)
    }

    /// The number of accounts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether there is no account at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The group with this id.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<&Arc<Group>> {
        self.groups.by_id(id)
    }

    /// The group with this name, compared with case.
    #[must_use]
    pub fn group_by_name(&self, name: &str) -> Option<&Arc<Group>> {
        self.groups.by_name(name)
    }

    /// Every group, in no order that matters.
    pub fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.iter()
    }

    /// The members of the group, in no order that matters.
    pub fn members(&self, id: GroupId) -> impl Iterator<Item = &Arc<Account>> {
        let numbers = self.groups.number(id).into_iter().flat_map(|group| self.groups.members(group));
        numbers.filter_map(|number| self.entry(number)).map(|entry| &entry.account)
    }

    /// Another number whenever a link may have come, gone, or changed its account: a cached answer of
    /// [`Directory::by_link`] holds while this stands still.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Another number whenever anything may have changed: what was found out by a directory holds while this stands still.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    fn hash(&self, key: impl Hash) -> u64 {
        self.seed.hash_one(key)
    }

    fn entry(&self, number: u32) -> Option<&Entry> {
        self.users.get(number as usize)?.as_ref()
    }

    /// Those whom the index has under the hash of this key: theirs may be another one.
    fn found<'a>(&'a self, index: &'a Index, key: impl Hash) -> impl Iterator<Item = (u32, &'a Entry)> {
        index.at(self.hash(key)).filter_map(|number| Some((number, self.entry(number)?)))
    }

    fn number(&self, id: UserId) -> Option<u32> {
        self.found(&self.ids, id).find(|(_, entry)| entry.account.id == id).map(|(number, _)| number)
    }

    fn with_email(&self, email: &str) -> impl Iterator<Item = &Arc<Account>> {
        self.found(&self.emails, email)
            .map(|(_, entry)| entry)
            .filter(move |entry| entry.has_email(email))
            .map(|entry| &entry.account)
    }

    fn proved_by(&self, issuer: &str, subject: &str) -> Option<(u32, &Entry)> {
        self.found(&self.links, (issuer, subject)).find(|(_, entry)| entry.is_proved_by(issuer, subject))
    }

    fn put_user(&mut self, user: &User, groups: &[GroupId]) {
        let known = self.number(user.id);
        let before = known.and_then(|number| self.entry(number)).cloned();
        let number = known.unwrap_or_else(|| self.vacancy());
        if let Some(before) = &before {
            self.forget_names(number, before);
        }
        let mut new: SmallVec<[u32; 8]> = groups.iter().map(|id| self.groups.make(*id)).collect();
        new.sort_unstable();
        new.dedup();
        let old = before.as_ref().map_or(&[][..], |before| &before.groups);
        for group in new.iter().filter(|group| old.binary_search(group).is_err()) {
            self.groups.join(*group, number);
        }
        for group in old.iter().filter(|group| new.binary_search(group).is_err()) {
            self.groups.leave(*group, number);
        }
        let account = self.account(user, &new);
        self.names.put(self.seed.hash_one(&*account.name), number);
        if let Some(email) = &account.email {
            self.emails.put(self.seed.hash_one(email.to_lowercase().as_str()), number);
        }
        if known.is_none() {
            self.ids.put(self.seed.hash_one(user.id), number);
        }
        let entry = Entry {
            account: Arc::new(account),
            groups: new.as_slice().into(),
            links: before.and_then(|before| before.links),
        };
        self.users.set(number as usize, Some(entry));
    }

    /// A place for one more user.
    fn vacancy(&mut self) -> u32 {
        self.free.pop_back().unwrap_or_else(|| {
            self.users.push_back(None);
            u32::try_from(self.users.len() - 1).unwrap_or(u32::MAX)
        })
    }

    fn account(&mut self, user: &User, groups: &[u32]) -> Account {
        let text = |value: &Option<String>| value.as_deref().map(Arc::from);
        Account {
            id: user.id,
            name: user.name.as_str().into(),
            email: user.email.as_deref().map(Into::into),
            email_verified: user.email_verified,
            first_name: text(&user.first_name),
            last_name: text(&user.last_name),
            organization: user.organization.as_deref().map(|name| self.shared(name)),
            role: self.shared(&user.role),
            groups: self.groups.names_of(groups),
            administrator: user.administrator,
            disabled: user.disabled,
            tokens_dead_until: user.tokens_dead_until,
            created: user.created,
        }
    }

    /// The word as the accounts have it already, where one has.
    fn shared(&mut self, word: &str) -> Arc<str> {
        if let Some((known, ())) = self.words.get_key_value(word) {
            return known.clone();
        }
        if self.words.len() >= REMEMBERED {
            self.words.clear();
        }
        let word: Arc<str> = word.into();
        self.words.insert(word.clone(), ());
        word
    }

    fn drop_user(&mut self, id: UserId) {
        let Some(number) = self.number(id) else { return };
        let Some(entry) = self.users.get_mut(number as usize).and_then(Option::take) else { return };
        self.forget_names(number, &entry);
        self.ids.take(self.seed.hash_one(id), number);
        for group in entry.groups.iter() {
            self.groups.leave(*group, number);
        }
        for link in entry.links() {
            self.unmap(number, link);
        }
        self.free.push_back(number);
        self.epoch = fresh_epoch();
    }

    fn forget_names(&mut self, number: u32, entry: &Entry) {
        self.names.take(self.seed.hash_one(&*entry.account.name), number);
        if let Some(email) = &entry.account.email {
            self.emails.take(self.seed.hash_one(email.to_lowercase().as_str()), number);
        }
    }

    fn put_link(&mut self, link: &Link) {
        let owner = self.proved_by(&link.issuer, &link.subject).map(|(number, _)| number);
        let number = self.number(link.user);
        if owner.is_some() && owner == number {
            return;
        }
        self.drop_link(&link.issuer, &link.subject);
        let Some(number) = number else { return };
        if let Some(entry) = self.users.get_mut(number as usize).and_then(Option::as_mut) {
            entry.links = Some(entry.links().iter().cloned().chain([link.clone()]).collect());
            self.links.put(self.seed.hash_one((link.issuer.as_str(), link.subject.as_str())), number);
        }
        self.epoch = fresh_epoch();
    }

    fn drop_link(&mut self, issuer: &str, subject: &str) {
        let Some(owner) = self.proved_by(issuer, subject).map(|(number, _)| number) else { return };
        let Some(entry) = self.users.get_mut(owner as usize).and_then(Option::as_mut) else { return };
        let is_it = |link: &&Link| link.issuer == issuer && link.subject == subject;
        let (gone, left): (Vec<Link>, Vec<Link>) = entry.links().iter().cloned().partition(|link| is_it(&link));
        entry.links = (!left.is_empty()).then(|| left.into());
        let left = entry.links.clone();
        for link in &gone {
            self.unmap(owner, link);
        }
        // Should two of one user have the same hash, the one that is left goes back.
        for link in left.as_deref().unwrap_or_default() {
            self.links.put(self.seed.hash_one((link.issuer.as_str(), link.subject.as_str())), owner);
        }
        self.epoch = fresh_epoch();
    }

    fn unmap(&mut self, owner: u32, link: &Link) {
        self.links.take(self.seed.hash_one((link.issuer.as_str(), link.subject.as_str())), owner);
    }

    fn put_group(&mut self, group: &Group) {
        if let Some(number) = self.groups.put(group) {
            let members = self.groups.members(number).collect();
            self.rename_for_members(members);
        }
    }

    fn drop_group(&mut self, id: GroupId) {
        let members = self.groups.drop(id);
        self.rename_for_members(members);
    }

    /// Gives the members' accounts the group names that are true now.
    fn rename_for_members(&mut self, members: Vec<u32>) {
        for number in members {
            let Some(entry) = self.users.get_mut(number as usize).and_then(Option::as_mut) else { continue };
            Arc::make_mut(&mut entry.account).groups = self.groups.names_of(&entry.groups);
        }
    }
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").field("users", &self.len()).finish_non_exhaustive()
    }
}

fn fresh_epoch() -> u64 {
    static EPOCHS: AtomicU64 = AtomicU64::new(1);
    EPOCHS.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests;
