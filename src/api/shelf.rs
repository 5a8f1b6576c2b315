//! The records that are kept to be shared, by id, name, label, owner and project.

use std::hash::Hash;
use std::sync::Arc;

use imbl::shared_ptr::DefaultSharedPtr;
use imbl::{GenericHashMap, OrdSet};

use crate::policy::{ResourceId, UserId};
use crate::store::{Item, Key, Node as Record, NodeKind};

/// Names come from callers, so the hash is keyed.
type Map<K, V> = GenericHashMap<K, V, ahash::RandomState, DefaultSharedPtr>;

/// All of them; a clone shares everything.
#[derive(Clone, Default)]
pub(super) struct Shelf {
    ids: Map<ResourceId, Arc<Record>>,
    labels: Map<Arc<str>, OrdSet<ResourceId>>,
    names: Map<(Arc<str>, Arc<str>), OrdSet<ResourceId>>,
    owners: Map<UserId, OrdSet<ResourceId>>,
    parents: Map<ResourceId, OrdSet<ResourceId>>,
    workspaces: Map<Arc<str>, ResourceId>,
}

impl Shelf {
    /// Brings them to how the items stand now; items of other kinds are ignored.
    pub(super) fn apply(&mut self, items: &[Item]) {
        // What goes, goes first: its name may have passed on to something else in the same patch.
        for item in items {
            match item {
                Item::Gone(Key::Node(id)) => self.drop(*id),
                Item::Node(record) => self.drop(record.id),
                _ => {}
            }
        }
        for item in items {
            if let Item::Node(record) = item {
                self.put(Arc::new((**record).clone()));
            }
        }
    }

    pub(super) fn by_id(&self, id: ResourceId) -> Option<&Arc<Record>> {
        self.ids.get(&id)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Record>> {
        self.ids.values()
    }

    /// The workspace of this name.
    pub(super) fn workspace(&self, name: &str) -> Option<&Arc<Record>> {
        self.ids.get(self.workspaces.get(name)?)
    }

    /// Those with this label, by id.
    pub(super) fn labelled(&self, label: &str) -> impl Iterator<Item = &Arc<Record>> {
        self.of(self.labels.get(label))
    }

    /// Those with this label and name, by id.
    pub(super) fn named(&self, label: &str, name: &str) -> impl Iterator<Item = &Arc<Record>> {
        self.of(self.names.get(&(label.into(), name.into())))
    }

    /// Those that the user owns, by id.
    pub(super) fn owned(&self, user: UserId) -> impl Iterator<Item = &Arc<Record>> {
        self.of(self.owners.get(&user))
    }

    /// Those that are in the project, by id.
    pub(super) fn within(&self, project: ResourceId) -> impl Iterator<Item = &Arc<Record>> {
        self.of(self.parents.get(&project))
    }

    fn of<'a>(&'a self, ids: Option<&'a OrdSet<ResourceId>>) -> impl Iterator<Item = &'a Arc<Record>> {
        ids.into_iter().flatten().filter_map(|id| self.ids.get(id))
    }

    fn put(&mut self, record: Arc<Record>) {
        let id = record.id;
        for label in &record.labels {
            self.labels.entry(label.as_str().into()).or_default().insert(id);
            self.names.entry((label.as_str().into(), record.name.as_str().into())).or_default().insert(id);
        }
        if let Some(owner) = record.owner {
            self.owners.entry(owner).or_default().insert(id);
        }
        if let Some(parent) = record.parent {
            self.parents.entry(parent).or_default().insert(id);
        }
        if record.kind == NodeKind::Workspace {
            self.workspaces.insert(record.name.as_str().into(), id);
        }
        self.ids.insert(id, record);
    }

    fn drop(&mut self, id: ResourceId) {
        let Some(gone) = self.ids.remove(&id) else { return };
        for label in &gone.labels {
            take(&mut self.labels, &Arc::from(label.as_str()), id);
            take(&mut self.names, &(label.as_str().into(), gone.name.as_str().into()), id);
        }
        if let Some(owner) = gone.owner {
            take(&mut self.owners, &owner, id);
        }
        if let Some(parent) = gone.parent {
            take(&mut self.parents, &parent, id);
        }
        if self.workspaces.get(gone.name.as_str()) == Some(&id) {
            self.workspaces.remove(gone.name.as_str());
        }
    }
}

fn take<K: Hash + Eq + Clone>(map: &mut Map<K, OrdSet<ResourceId>>, key: &K, id: ResourceId) {
    let Some(ids) = map.get_mut(key) else { return };
    ids.remove(&id);
    if ids.is_empty() {
        map.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn record(id: u128, kind: NodeKind, name: &str, parent: Option<u128>) -> Record {
        Record {
            id: ResourceId(Uuid::from_u128(id)),
            kind,
            name: name.to_owned(),
            labels: vec!["A".to_owned(), "B".to_owned()],
            props: "{}".to_owned(),
            owner: Some(UserId(Uuid::from_u128(7))),
            parent: parent.map(|id| ResourceId(Uuid::from_u128(id))),
        }
    }

    fn put(record: Record) -> Item {
        Item::Node(Box::new(record))
    }

    #[test]
    fn a_record_is_known_by_all_that_it_has_and_forgotten_by_all() {
        let mut shelf = Shelf::default();
        shelf.apply(&[
            put(record(1, NodeKind::Project, "p", None)),
            put(record(2, NodeKind::Connection, "c", Some(1))),
            put(record(3, NodeKind::Workspace, "w", None)),
        ]);
        assert_eq!(shelf.labelled("A").count(), 3);
        assert_eq!((shelf.named("A", "p").count(), shelf.named("A", "q").count()), (1, 0));
        assert_eq!(shelf.owned(UserId(Uuid::from_u128(7))).count(), 3);
        assert_eq!(shelf.within(ResourceId(Uuid::from_u128(1))).count(), 1);
        assert_eq!(shelf.workspace("w").unwrap().id, ResourceId(Uuid::from_u128(3)));
        assert!(shelf.workspace("p").is_none());
        shelf.apply(&[1, 2, 3].map(|id| Item::Gone(Key::Node(ResourceId(Uuid::from_u128(id))))));
        let Shelf { ids, labels, names, owners, parents, workspaces } = shelf;
        assert!(ids.is_empty() && labels.is_empty() && names.is_empty());
        assert!(owners.is_empty() && parents.is_empty() && workspaces.is_empty());
    }

    #[test]
    fn a_workspace_name_that_passes_on_in_one_patch_names_the_new_one() {
        let gone = Item::Gone(Key::Node(ResourceId(Uuid::from_u128(1))));
        let new = put(record(2, NodeKind::Workspace, "w", None));
        for items in [[gone.clone(), new.clone()], [new, gone]] {
            let mut shelf = Shelf::default();
            shelf.apply(&[put(record(1, NodeKind::Workspace, "w", None))]);
            shelf.apply(&items);
            assert_eq!(shelf.workspace("w").unwrap().id, ResourceId(Uuid::from_u128(2)));
        }
        let mut shelf = Shelf::default();
        shelf.apply(&[put(record(1, NodeKind::Workspace, "w", None))]);
        shelf.apply(&[put(record(1, NodeKind::Workspace, "v", None))]);
        assert!(shelf.workspace("w").is_none() && shelf.workspace("v").is_some());
    }
}
