//! A policy in which everything has a name: made for an answer, never stored.

use std::collections::HashMap;
use std::hash::Hash;

use jiff::Timestamp;
use uuid::Uuid;

use crate::config::Scenario;
use crate::identity::Directory;
use crate::policy::written::Written;
use crate::policy::{Change, Grant, GroupId, Member, Pattern, Resource, ResourceId, Snapshot, Subject, UserId};
use crate::store::{Group, Item, User};

/// Who and what there is, by name, and who may do what.
#[derive(Default)]
pub(super) struct World {
    users: Numbers<String>,
    groups: Numbers<String>,
    resources: Numbers<Pattern>,
    owners: HashMap<ResourceId, UserId>,
    rules: Vec<Change>,
}

impl World {
    /// Adds what the scenario says.
    pub(super) fn fill(&mut self, scenario: &Scenario) {
        for user in &scenario.users {
            let id = self.user(&user.name);
            self.enlist(id, &user.role, user.groups.iter().map(String::as_str));
        }
        for (resource, owner) in &scenario.owners {
            let owner = self.user(owner);
            // Each resource is there once: that is read with the file.
            self.own(resource.clone(), owner);
        }
        for grant in &scenario.grants {
            let subject = self.subject(&grant.subject);
            let (pattern, levels, expires) = (grant.pattern.clone(), grant.levels, grant.expires);
            self.grant(Grant { subject, pattern, levels, expires });
        }
    }

    /// The same names with the same ids, and nothing said about them.
    pub(super) fn emptied(&self) -> Self {
        let (users, groups, resources) = (self.users.clone(), self.groups.clone(), self.resources.clone());
        Self { users, groups, resources, ..Self::default() }
    }

    /// Every user that has a name.
    pub(super) fn all_users(&self) -> impl Iterator<Item = UserId> {
        self.users.numbered().map(|(id, _)| UserId(id))
    }

    /// The user of this name, listed or not.
    pub(super) fn user(&mut self, name: &str) -> UserId {
        UserId(self.users.of(name.to_owned()))
    }

    /// The group of this name.
    pub(super) fn group(&mut self, name: &str) -> GroupId {
        GroupId(self.groups.of(name.to_owned()))
    }

    /// The resource of this name, each key literal.
    pub(super) fn resource(&mut self, name: Pattern) -> ResourceId {
        ResourceId(self.resources.of(name))
    }

    /// The subject, by the names that it has.
    pub(super) fn subject(&mut self, subject: &Written) -> Subject {
        match subject {
            Written::User(name) => Subject::User(self.user(name)),
            Written::Group(name) => Subject::Group(self.group(name)),
            Written::Role(name) => Subject::Role(name.as_str().into()),
            Written::Everyone => Subject::Everyone,
            Written::Holders(levels, name) => Subject::Holders(*levels, self.resource(name.clone())),
            Written::Same(name) => Subject::Same(self.resource(name.clone())),
            Written::Itself(name) => Subject::Itself(self.resource(name.clone())),
        }
    }

    /// Makes the user the owner. False where somebody else is.
    pub(super) fn own(&mut self, resource: Pattern, user: UserId) -> bool {
        let resource = self.resource(resource);
        *self.owners.entry(resource).or_insert(user) == user
    }

    /// Lists the user with a role, which may be empty, and groups.
    pub(super) fn enlist<'a>(&mut self, user: UserId, role: &str, groups: impl IntoIterator<Item = &'a str>) {
        let groups = groups.into_iter().map(|name| self.group(name)).collect();
        self.rules.push(Change::Member(Member { id: user, role: role.into(), groups }));
    }

    /// Gives, or replaces what the same subject has on the same name.
    pub(super) fn grant(&mut self, grant: Grant) {
        self.rules.push(Change::Grant(grant));
    }

    /// The policy, and what its ids are called.
    pub(super) fn compile(&self) -> (Snapshot, Directory) {
        let resources = self.resources.numbered().map(|(id, name)| {
            let id = ResourceId(id);
            Change::Resource(Resource { id, name: name.clone(), owner: self.owners.get(&id).copied() })
        });
        let users = self.users.numbered().map(|(id, name)| Item::User(Box::new(user(UserId(id), name)), Vec::new()));
        let groups = self
            .groups
            .numbered()
            .map(|(id, name)| Item::Group(Group { id: GroupId(id), name: name.clone(), owner: None }));
        let named: Vec<Item> = users.chain(groups).collect();
        let policy = Snapshot::empty().patched(resources.chain(self.rules.iter().cloned()));
        (policy, Directory::empty().patched(&named))
    }
}

/// An account that is a name and nothing else.
fn user(id: UserId, name: &str) -> User {
    User {
        id,
        name: name.to_owned(),
        email: None,
        email_verified: false,
        first_name: None,
        last_name: None,
        organization: None,
        role: String::new(),
        administrator: false,
        disabled: false,
        tokens_dead_until: None,
        created: Timestamp::UNIX_EPOCH,
    }
}

/// Names by number and numbers by name.
#[derive(Clone)]
struct Numbers<N> {
    names: Vec<N>,
    numbers: HashMap<N, usize>,
}

impl<N> Default for Numbers<N> {
    fn default() -> Self {
        Self { names: Vec::new(), numbers: HashMap::new() }
    }
}

impl<N: Clone + Eq + Hash> Numbers<N> {
    fn of(&mut self, name: N) -> Uuid {
        let next = self.names.len();
        let number = *self.numbers.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            next
        });
        id(number)
    }

    fn numbered(&self) -> impl Iterator<Item = (Uuid, &N)> {
        self.names.iter().enumerate().map(|(number, name)| (id(number), name))
    }
}

/// None is nil.
fn id(number: usize) -> Uuid {
    Uuid::from_u128(number as u128 + 1)
}
