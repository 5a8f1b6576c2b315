//! What the store has, as an import asks for it.

use std::collections::{BTreeSet, HashMap};

use crate::cli::Failure;
use crate::cli::open::Opened;
use crate::identity::is_everybodys_group;
use crate::policy::{GroupId, Snapshot, UserId};
use crate::refresh;
use crate::store::{Group, HEADER_ISSUER, Item, User};

/// What the store has, by name.
pub(super) struct Present {
    pub(super) users: HashMap<String, User>,
    names: HashMap<UserId, String>,
    /// The names of all who have an address.
    by_email: HashMap<String, Vec<String>>,
    /// Whose address the trusted header proved.
    by_header: HashMap<String, UserId>,
    pub(super) groups: HashMap<String, Group>,
    pub(super) members: BTreeSet<(UserId, GroupId)>,
    pub(super) policy: Snapshot,
}

impl Present {
    pub(super) async fn of(opened: &Opened) -> Result<Self, Failure> {
        let items = opened.store.load().await?.items;
        let policy = refresh::policy(&items);
        let mut present = Self {
            users: HashMap::new(),
            names: HashMap::new(),
            by_email: HashMap::new(),
            by_header: HashMap::new(),
            groups: HashMap::new(),
            members: BTreeSet::new(),
            policy,
        };
        for item in items {
            match item {
                Item::User(user, groups) => {
                    present.members.extend(groups.into_iter().map(|group| (user.id, group)));
                    if let Some(email) = &user.email {
                        present.by_email.entry(email.to_lowercase()).or_default().push(user.name.clone());
                    }
                    present.names.insert(user.id, user.name.clone());
                    present.users.insert(user.name.clone(), *user);
                }
                Item::Group(group) => {
                    present.groups.insert(group.name.clone(), group);
                }
                Item::Link(link) if link.issuer == HEADER_ISSUER => {
                    present.by_header.insert(link.subject, link.user);
                }
                _ => {}
            }
        }
        Ok(present)
    }

    /// The accounts for which the address was checked. One that nobody checked is anybody's claim.
    pub(super) fn checked<'p>(&'p self, email: &str) -> impl Iterator<Item = &'p User> {
        let holders = self.by_email.get(email).into_iter().flatten().filter_map(|name| self.users.get(name));
        let linked = self.by_header.get(email).and_then(|id| self.users.get(self.names.get(id)?));
        holders.filter(|user| user.email_verified).chain(linked)
    }

    /// The only account that the address proves, and by what.
    pub(super) fn proved(&self, email: &str) -> Option<(&User, &'static str)> {
        let proved = self.checked(email).map(|user| (user, "for whom that address was checked"));
        let named = self.users.get(email).map(|user| (user, "whose name is that address"));
        let mut all = proved.chain(named);
        let first = all.next()?;
        all.all(|(user, _)| user.id == first.0.id).then_some(first)
    }

    /// The names of those who have the address, for people.
    pub(super) fn holders(&self, email: &str) -> Option<String> {
        self.by_email.get(email).map(|names| names.join(" and "))
    }

    /// Who but the administrators decides who is in the group.
    pub(super) fn runs(&self, group: &Group) -> Option<&str> {
        let owner = group.owner.filter(|_| !is_everybodys_group(&group.name))?;
        Some(self.names.get(&owner).map_or("somebody", String::as_str))
    }
}
