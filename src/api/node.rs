//! What permissions are from and on: users, groups, namespaces, services, and the records that are kept to be shared.

use std::sync::Arc;

use uuid::Uuid;

use super::view::View;
use crate::identity::Account;
use crate::policy::{GroupId, Pattern, ResourceId, UserId};
use crate::store::{Group, Namespace, Node as Record, Service};

/// The words for what is no record. No record can have them for labels.
pub(super) const LABELS: [&str; 4] = ["User", "UserGroup", "Namespace", "Service"];

/// One of them, with the keys of its name in grants.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) thing: Thing,
    keys: Vec<String>,
}

/// What it is.
#[derive(Clone, Debug)]
pub(super) enum Thing {
    User(Arc<Account>),
    Group(Arc<Group>),
    Namespace(Arc<Namespace>),
    Service(Arc<Service>),
    Record(Arc<Record>),
}

impl View {
    /// What has this id; none for a service of the file that the file no longer declares.
    pub(super) fn node(&self, id: &str) -> Option<Node> {
        self.node_of(ResourceId(Uuid::try_parse(id).ok()?))
    }

    /// The same.
    pub(super) fn node_of(&self, id: ResourceId) -> Option<Node> {
        let (catalog, directory) = (&self.catalog, &self.state.directory);
        if let Some(namespace) = catalog.namespace_of(id) {
            return Some(namespace.clone().into());
        }
        if let Some(service) = catalog.service_of(id) {
            return service.present.then(|| service.clone().into());
        }
        if let Some(record) = catalog.record(id) {
            return Some(record.clone().into());
        }
        if let Some(account) = directory.by_id(UserId(id.0)) {
            return Some(account.clone().into());
        }
        directory.group(GroupId(id.0)).map(|group| group.clone().into())
    }

    /// Who owns it: a user what stands for that user, and else the nearest owner at or above its name.
    pub(super) fn owner(&self, node: &Node) -> Option<UserId> {
        match &node.thing {
            Thing::User(account) => Some(account.id),
            _ => self.state.policy.owner(&node.keys()),
        }
    }
}

impl Node {
    pub(super) fn id(&self) -> ResourceId {
        match &self.thing {
            Thing::User(account) => ResourceId(account.id.0),
            Thing::Group(group) => ResourceId(group.id.0),
            Thing::Namespace(namespace) => namespace.id,
            Thing::Service(service) => service.id,
            Thing::Record(record) => record.id,
        }
    }

    pub(super) fn name(&self) -> &str {
        match &self.thing {
            Thing::User(account) => &account.name,
            Thing::Group(group) => &group.name,
            Thing::Namespace(namespace) => &namespace.name,
            Thing::Service(service) => &service.name,
            Thing::Record(record) => &record.name,
        }
    }

    /// What it is called to those who may hold nothing on it: of a record, whose name is for who may read it, its id.
    pub(super) fn title(&self) -> String {
        match &self.thing {
            Thing::Namespace(_) | Thing::Service(_) => self.keys.join("."),
            Thing::Record(record) => record.id.to_string(),
            Thing::User(_) | Thing::Group(_) => self.name().to_owned(),
        }
    }

    /// The kinds of thing that it is.
    pub(super) fn labels(&self) -> impl Iterator<Item = &str> {
        let (one, several): (&[&str], &[String]) = match &self.thing {
            Thing::User(_) => (&["User"], &[]),
            Thing::Group(_) => (&["UserGroup"], &[]),
            Thing::Namespace(_) => (&["Namespace"], &[]),
            Thing::Service(_) => (&["Service"], &[]),
            Thing::Record(record) => (&[], &record.labels),
        };
        one.iter().copied().chain(several.iter().map(String::as_str))
    }

    pub(super) fn is(&self, label: &str) -> bool {
        self.labels().any(|own| own == label)
    }

    /// The user, where it is one.
    pub(super) fn user(&self) -> Option<UserId> {
        match &self.thing {
            Thing::User(account) => Some(account.id),
            _ => None,
        }
    }

    /// The keys of its name in grants.
    pub(super) fn keys(&self) -> Vec<&str> {
        self.keys.iter().map(String::as_str).collect()
    }

    /// That name, as the pattern of a grant on exactly this.
    pub(super) fn pattern(&self) -> Pattern {
        super::view::pattern(&self.keys())
    }
}

impl From<Arc<Account>> for Node {
    fn from(account: Arc<Account>) -> Self {
        Self { keys: vec![ResourceId(account.id.0).key()], thing: Thing::User(account) }
    }
}

impl From<Arc<Group>> for Node {
    fn from(group: Arc<Group>) -> Self {
        Self { keys: vec![ResourceId(group.id.0).key()], thing: Thing::Group(group) }
    }
}

impl From<Arc<Namespace>> for Node {
    fn from(namespace: Arc<Namespace>) -> Self {
        Self { keys: vec![namespace.name.clone()], thing: Thing::Namespace(namespace) }
    }
}

impl From<Arc<Service>> for Node {
    fn from(service: Arc<Service>) -> Self {
        Self { keys: vec![service.namespace.clone(), service.name.clone()], thing: Thing::Service(service) }
    }
}

impl From<Arc<Record>> for Node {
    fn from(record: Arc<Record>) -> Self {
        Self {
            keys: record.parent.into_iter().chain([record.id]).map(ResourceId::key).collect(),
            thing: Thing::Record(record),
        }
    }
}
