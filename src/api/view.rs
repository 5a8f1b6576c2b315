//! What the API reads: the state that requests are decided on, and the catalog of what is there beside it.

use std::sync::Arc;

use imbl::GenericHashMap;
use imbl::shared_ptr::DefaultSharedPtr;
use uuid::Uuid;

use super::shelf::Shelf;
use crate::identity::Account;
use crate::policy::{GroupId, Pattern, ResourceId, UserId};
use crate::proxy::State;
use crate::store::{Group, Item, Key, Namespace, Node as Record, Service};

/// Names come from callers, so the hash is keyed.
type Map<K, V> = GenericHashMap<K, V, ahash::RandomState, DefaultSharedPtr>;

/// Everything the API answers from, at one revision.
pub struct View {
    /// What the proxy decides on.
    pub state: Arc<State>,
    /// What is there.
    pub catalog: Catalog,
}

/// The namespaces, services and records by id and by name; a clone shares everything.
#[derive(Clone, Default)]
pub struct Catalog {
    namespaces: Map<ResourceId, Arc<Namespace>>,
    services: Map<ResourceId, Arc<Service>>,
    shelf: Shelf,
    namespace_names: Map<Arc<str>, ResourceId>,
    service_names: Map<Arc<str>, Map<Arc<str>, ResourceId>>,
}

impl View {
    /// The user with this id or, where no id is meant, this name.
    #[must_use]
    pub fn user(&self, text: &str) -> Option<Arc<Account>> {
        let by_id = Uuid::try_parse(text).ok().and_then(|id| self.state.directory.by_id(UserId(id)));
        by_id.or_else(|| self.state.directory.by_name(text)).cloned()
    }

    /// The group with this id or, where no id is meant, this name.
    #[must_use]
    pub fn group(&self, text: &str) -> Option<Arc<Group>> {
        let by_id = Uuid::try_parse(text).ok().and_then(|id| self.state.directory.group(GroupId(id)));
        by_id.or_else(|| self.state.directory.group_by_name(text)).cloned()
    }

    /// The group with this name.
    #[must_use]
    pub fn group_named(&self, name: &str) -> Option<&Arc<Group>> {
        self.state.directory.group_by_name(name)
    }

    /// The namespace with this id or, where no id is meant, this name.
    #[must_use]
    pub fn namespace(&self, text: &str) -> Option<Arc<Namespace>> {
        let by_id = Uuid::try_parse(text).ok().and_then(|id| self.catalog.namespace_of(ResourceId(id)));
        by_id.or_else(|| self.catalog.namespace(text)).cloned()
    }

    /// Whether the user administers the platform.
    #[must_use]
    pub fn is_administrator(&self, user: UserId) -> bool {
        self.state.directory.by_id(user).is_some_and(|account| account.administrator)
    }

    /// The login name of the user.
    #[must_use]
    pub fn user_name(&self, id: UserId) -> Option<&str> {
        self.state.directory.by_id(id).map(|account| &*account.name)
    }
}

impl Catalog {
    /// This catalog with the items as they stand now; items of other kinds are ignored.
    #[must_use]
    pub fn patched(&self, items: &[Item]) -> Self {
        let mut next = self.clone();
        next.shelf.apply(items);
        // What goes, goes first: its name may have passed on to something else in the same patch.
        for item in items {
            match item {
                Item::Gone(Key::Namespace(id)) => next.drop_namespace(*id),
                Item::Gone(Key::Service(id)) => next.drop_service(*id),
                Item::Service(service) => next.drop_service(service.id),
                _ => {}
            }
        }
        for item in items {
            match item {
                Item::Namespace(namespace) => {
                    next.namespace_names.insert(namespace.name.as_str().into(), namespace.id);
                    next.namespaces.insert(namespace.id, Arc::new(namespace.clone()));
                }
                Item::Service(service) => {
                    let names = next.service_names.entry(service.namespace.as_str().into()).or_default();
                    names.insert(service.name.as_str().into(), service.id);
                    next.services.insert(service.id, Arc::new((**service).clone()));
                }
                _ => {}
            }
        }
        next
    }

    /// The namespace of this name.
    #[must_use]
    pub fn namespace(&self, name: &str) -> Option<&Arc<Namespace>> {
        self.namespaces.get(self.namespace_names.get(name)?)
    }

    /// The namespace with this id.
    #[must_use]
    pub fn namespace_of(&self, id: ResourceId) -> Option<&Arc<Namespace>> {
        self.namespaces.get(&id)
    }

    /// The service of this name; none for a service of the file that the file no longer declares.
    #[must_use]
    pub fn service(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        self.service_kept(namespace, name).filter(|service| service.present)
    }

    /// The service of this name, absent ones of the file included.
    #[must_use]
    pub fn service_kept(&self, namespace: &str, name: &str) -> Option<&Arc<Service>> {
        self.services.get(self.service_names.get(namespace)?.get(name)?)
    }

    /// The service with this id, absent ones of the file included.
    #[must_use]
    pub fn service_of(&self, id: ResourceId) -> Option<&Arc<Service>> {
        self.services.get(&id)
    }

    /// The record with this id.
    #[must_use]
    pub fn record(&self, id: ResourceId) -> Option<&Arc<Record>> {
        self.shelf.by_id(id)
    }

    /// The records, by what else they are known by.
    #[must_use]
    pub(super) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    /// Every namespace, in no order that matters.
    pub fn namespaces(&self) -> impl Iterator<Item = &Arc<Namespace>> {
        self.namespaces.values()
    }

    /// Every service, absent ones of the file included, in no order that matters.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values()
    }

    /// Those of this namespace.
    pub(super) fn services_in(&self, namespace: &str) -> impl Iterator<Item = &Arc<Service>> {
        let ids = self.service_names.get(namespace).into_iter().flat_map(|names| names.values());
        ids.filter_map(|id| self.services.get(id))
    }

    fn drop_namespace(&mut self, id: ResourceId) {
        let Some(gone) = self.namespaces.remove(&id) else { return };
        if self.namespace_names.get(gone.name.as_str()) == Some(&id) {
            self.namespace_names.remove(gone.name.as_str());
        }
    }

    fn drop_service(&mut self, id: ResourceId) {
        let Some(gone) = self.services.remove(&id) else { return };
        let Some(names) = self.service_names.get_mut(gone.namespace.as_str()) else { return };
        if names.get(gone.name.as_str()) == Some(&id) {
            names.remove(gone.name.as_str());
        }
        if names.is_empty() {
            self.service_names.remove(gone.namespace.as_str());
        }
    }
}

/// The pattern that names exactly the resource with these keys.
#[must_use]
pub(super) fn pattern(keys: &[&str]) -> Pattern {
    // One or two keys are never too many.
    Pattern::literal(keys.iter().copied()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Origin;

    fn namespace(id: u128, name: &str) -> Item {
        Item::Namespace(Namespace { id: ResourceId(Uuid::from_u128(id)), name: name.into(), owner: None })
    }

    fn service(id: u128, namespace: &str, name: &str, present: bool) -> Item {
        Item::Service(Box::new(Service {
            id: ResourceId(Uuid::from_u128(id)),
            namespace: namespace.into(),
            name: name.into(),
            owner: None,
            origin: Origin::File,
            present,
            table: serde_json::Value::Null,
        }))
    }

    #[test]
    fn a_name_that_passes_on_in_one_patch_names_the_new_one() {
        let catalog = Catalog::default().patched(&[namespace(1, "a"), service(2, "a", "x", true)]);
        let gone = Item::Gone(Key::Service(ResourceId(Uuid::from_u128(2))));
        for items in [[gone.clone(), service(3, "a", "x", true)], [service(3, "a", "x", true), gone]] {
            let next = catalog.patched(&items);
            assert_eq!(next.service("a", "x").unwrap().id, ResourceId(Uuid::from_u128(3)));
        }
        assert_eq!(catalog.service("a", "x").unwrap().id, ResourceId(Uuid::from_u128(2)));
    }

    #[test]
    fn a_renamed_service_has_its_new_name_only() {
        let catalog = Catalog::default().patched(&[service(2, "a", "x", true)]).patched(&[service(2, "a", "y", true)]);
        assert!(catalog.service("a", "x").is_none());
        assert!(catalog.service("a", "y").is_some());
    }

    #[test]
    fn a_service_that_the_file_no_longer_declares_is_not_shown() {
        let catalog = Catalog::default().patched(&[service(2, "a", "x", false)]);
        assert!(catalog.service("a", "x").is_none());
    }
}
