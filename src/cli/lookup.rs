//! What a command finds in the store by name, and what it says when there is nothing.

use super::Failure;
use super::open::Opened;
use crate::policy::{Change, Grant, GroupId, Pattern, PatternKey, ResourceId, Snapshot, Subject, UserId};
use crate::shell::word;
use crate::store::{Item, Key, StoreError, User};

/// How many grants of a subject are looked at for what a new one does to them.
const LOOKED_AT: usize = 2000;

impl Opened {
    /// The user of this name.
    pub(crate) async fn user(&self, name: &str) -> Result<User, Failure> {
        if let Some(user) = self.store.user_named(name).await? {
            return Ok(user);
        }
        let names = self.names(|item| if let Item::User(user, _) = item { Some(user.name) } else { None }).await?;
        let close = closest(name, &names);
        Err(Failure::NotFine(format!("no user `{name}`{close}\nmake one with: carta-gateway user add {}", word(name))))
    }

    /// The group of this name.
    pub(crate) async fn group(&self, name: &str) -> Result<GroupId, Failure> {
        if let Some(group) = self.store.group_named(name).await? {
            return Ok(group.id);
        }
        let names = self.names(|item| if let Item::Group(group) = item { Some(group.name) } else { None }).await?;
        Err(Failure::NotFine(format!("no group `{name}`{}", closest(name, &names))))
    }

    /// The namespace, service or record that the pattern names exactly, with its owner.
    pub(crate) async fn find_resource(
        &self,
        pattern: &Pattern,
    ) -> Result<Option<(ResourceId, Option<UserId>)>, StoreError> {
        let last = pattern.keys().last().and_then(PatternKey::literal);
        if let Some(id) = last.and_then(ResourceId::of_key) {
            return self.find_node(id).await;
        }
        Ok(match pattern.keys() {
            [PatternKey::Key(namespace)] => {
                self.store.namespace_named(namespace).await?.map(|namespace| (namespace.id, namespace.owner))
            }
            [PatternKey::Key(namespace), PatternKey::Key(service)] => {
                self.store.service_named(namespace, service).await?.map(|service| (service.id, service.owner))
            }
            _ => None,
        })
    }

    /// The record, user or group with this id, with who owns what stands for it.
    async fn find_node(&self, id: ResourceId) -> Result<Option<(ResourceId, Option<UserId>)>, StoreError> {
        if let Item::Node(node) = self.store.item(Key::Node(id)).await? {
            return Ok(Some((id, node.owner)));
        }
        if let Item::Group(group) = self.store.item(Key::Group(GroupId(id.0))).await? {
            return Ok(Some((id, group.owner)));
        }
        let user = self.store.item(Key::User(UserId(id.0))).await?;
        Ok(matches!(user, Item::User(..)).then_some((id, Some(UserId(id.0)))))
    }

    /// The namespace or service that the pattern names exactly.
    pub(crate) async fn resource(&self, pattern: &Pattern) -> Result<ResourceId, Failure> {
        match self.find_resource(pattern).await? {
            Some((id, _)) => Ok(id),
            None => Err(Failure::NotFine(format!("no resource `{pattern}`{}", self.close_resource(pattern).await?))),
        }
    }

    /// The owner of what the pattern names: the nearest owner at it or above it.
    pub(crate) async fn owner(&self, pattern: &Pattern) -> Result<Option<UserId>, Failure> {
        for length in (1..=pattern.keys().len().min(2)).rev() {
            if let Some((_, Some(owner))) = self.find_resource(&above(pattern, length)).await? {
                return Ok(Some(owner));
            }
        }
        Ok(None)
    }

    /// Whether the service that the pattern is about is there; else a grant on it waits for what may never come. A
    /// pattern with a wildcard is about whatever there is.
    pub(crate) async fn covers_something(&self, pattern: &Pattern) -> Result<bool, Failure> {
        if pattern.keys().contains(&PatternKey::Any) {
            return Ok(true);
        }
        let declared = self.config.services.iter().any(|service| {
            let named = [&service.namespace, &service.name];
            pattern.keys().iter().zip(named).all(|(key, name)| *key == PatternKey::Key(name.as_str().into()))
        });
        Ok(declared || self.find_resource(&above(pattern, 2)).await?.is_some())
    }

    /// `; did you mean …?` where a resource has a name that is near.
    pub(crate) async fn close_resource(&self, pattern: &Pattern) -> Result<String, Failure> {
        let names = self
            .names(|item| match item {
                Item::Namespace(namespace) => Some(namespace.name),
                Item::Service(service) => Some(format!("{}.{}", service.namespace, service.name)),
                _ => None,
            })
            .await?;
        Ok(closest(&pattern.to_string(), &names))
    }

    /// What the subject has on exactly this pattern.
    pub(crate) async fn grant(&self, subject: &Subject, pattern: &Pattern) -> Result<Option<Grant>, Failure> {
        match self.store.item(Key::Grant(subject.clone(), pattern.clone())).await? {
            Item::Grant(grant) => Ok(Some(grant.row)),
            _ => Ok(None),
        }
    }

    /// The policy of this subject alone, before and after the change.
    pub(crate) async fn grants_around(
        &self,
        subject: &Subject,
        change: &Change,
    ) -> Result<(Snapshot, Snapshot), StoreError> {
        let grants = self.store.grants_of(subject, LOOKED_AT).await?;
        let before = Snapshot::empty().patched(grants.into_iter().map(|grant| Change::Grant(grant.row)));
        let after = before.patched([change.clone()]);
        Ok((before, after))
    }

    /// The names of one kind of record: read only where a look-up failed, to help with the spelling.
    async fn names(&self, name: impl Fn(Item) -> Option<String>) -> Result<Vec<String>, Failure> {
        Ok(self.store.load().await?.items.into_iter().filter_map(name).collect())
    }
}

/// The first keys of the pattern, at most `length`.
fn above(pattern: &Pattern, length: usize) -> Pattern {
    Pattern::new(pattern.keys().iter().take(length).cloned()).unwrap_or_default()
}

/// `; did you mean …?` where one of the names is near.
fn closest(name: &str, known: &[String]) -> String {
    let wanted = name.to_lowercase();
    known
        .iter()
        .map(|known| (strsim::damerau_levenshtein(&wanted, &known.to_lowercase()), known))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, known)| format!("; did you mean `{known}`?"))
        .unwrap_or_default()
}
