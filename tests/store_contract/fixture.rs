//! Records to begin with, and short ways to make changes.

use std::path::PathBuf;
use std::sync::Arc;

use carta_gateway::config::{VaultConfig, VaultKey};
use carta_gateway::policy::{GroupId, Levels, Pattern, ResourceId, Subject, UserId};
use carta_gateway::store::sqlite::SqliteStore;
use carta_gateway::store::{
    Actor, Changes, Committed, Consent, Contents, Group, Item, Link, Mutation, NewUser, Password, Revision, Secret,
    Store, StoreError, User,
};
use carta_gateway::vault::Vault;
use jiff::Timestamp;
use uuid::Uuid;

/// Sealed values hold it, so that a test sees where they end up.
pub(crate) const CANARY: &str = "canary-4e21";

pub(crate) fn sqlite(directory: &tempfile::TempDir) -> SqliteStore {
    SqliteStore::open(&path(directory), keys()).unwrap()
}

/// The keys of the audit.
pub(crate) fn keys() -> Arc<Vault> {
    Arc::new(Vault::new(&VaultConfig { key: VaultKey([7; 32]), previous: vec![] }).unwrap())
}

pub(crate) fn path(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("carta.db")
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

pub(crate) fn actor() -> Actor {
    Actor { user: None, via: "cli", from: "root".into(), request_id: Some("r-1".into()) }
}

pub(crate) async fn commit(store: &dyn Store, mutation: Mutation) -> Result<Committed, StoreError> {
    store.commit(actor(), mutation).await
}

/// Makes the change, which must succeed.
pub(crate) async fn done(store: &dyn Store, mutation: Mutation) -> Committed {
    let what = format!("{mutation:?}");
    commit(store, mutation).await.unwrap_or_else(|error| panic!("{what}: {error}"))
}

pub(crate) fn user(name: &str) -> User {
    User {
        id: UserId(Uuid::new_v4()),
        name: name.to_owned(),
        email: Some(format!("{name}@example.org")),
        email_verified: true,
        first_name: None,
        last_name: None,
        organization: None,
        role: "Guest".to_owned(),
        administrator: false,
        disabled: false,
        tokens_dead_until: None,
        created: at(0),
    }
}

pub(crate) fn new(user: &User) -> Mutation {
    Mutation::CreateUser(Box::new(NewUser { user: user.clone(), link: None, password: None, first_role: None }))
}

/// Makes a user of this name.
pub(crate) async fn made(store: &dyn Store, name: &str) -> UserId {
    let user = user(name);
    done(store, new(&user)).await;
    user.id
}

/// Makes a group of this name.
pub(crate) async fn made_group(store: &dyn Store, name: &str) -> GroupId {
    let id = GroupId(Uuid::new_v4());
    done(store, Mutation::CreateGroup(Group { id, name: name.to_owned(), owner: None })).await;
    id
}

/// Makes a namespace of this name.
pub(crate) async fn reserved(store: &dyn Store, name: &str, owner: UserId) -> ResourceId {
    done(store, Mutation::ReserveNamespace { name: name.to_owned(), owner }).await.id.unwrap()
}

/// Makes, or changes, a service.
pub(crate) async fn registered(store: &dyn Store, namespace: &str, name: &str, owner: UserId) -> ResourceId {
    let replaces = store.service_named(namespace, name).await.unwrap().map(|found| found.id);
    done(store, replacing(replaces, service(namespace, name, owner, "http://a"))).await.id.unwrap()
}

/// The change of a service, made to replace this one.
pub(crate) fn replacing(id: Option<ResourceId>, change: Mutation) -> Mutation {
    match change {
        Mutation::PutService { namespace, name, owner, table, .. } => {
            Mutation::PutService { namespace, name, replaces: id, owner, table }
        }
        other => other,
    }
}

pub(crate) fn service(namespace: &str, name: &str, owner: UserId, url: &str) -> Mutation {
    let table = serde_json::json!({ "base_url": url });
    Mutation::PutService { namespace: namespace.to_owned(), name: name.to_owned(), replaces: None, owner, table }
}

pub(crate) fn link(issuer: &str, subject: &str, user: UserId) -> Link {
    Link { issuer: issuer.to_owned(), subject: subject.to_owned(), user }
}

pub(crate) fn password(byte: u8) -> Password {
    Password { sealed: format!("{CANARY}-{byte}").into_bytes(), temporary: false, reset: false }
}

pub(crate) fn secret(user: UserId, name: &str, byte: u8) -> Secret {
    let sealed = format!("{CANARY}-{byte}").into_bytes();
    Secret { user, name: name.to_owned(), sealed, created: at(byte.into()), expires: None }
}

pub(crate) fn consent(user: UserId, secret: &str, service: ResourceId, fingerprint: &str) -> Consent {
    let (fingerprint, origins) = (fingerprint.to_owned(), "https://a".to_owned());
    Consent { user, secret: secret.to_owned(), service, fingerprint, origins, at: at(9) }
}

pub(crate) fn grant(subject: Subject, on: &[&str], levels: Levels) -> carta_gateway::policy::Grant {
    let pattern = Pattern::literal(on.iter().copied()).unwrap();
    carta_gateway::policy::Grant { subject, pattern, levels, expires: None }
}

pub(crate) fn put(grant: carta_gateway::policy::Grant) -> Mutation {
    Mutation::PutGrant { grant, by: None, at: at(5) }
}

/// The grants that are there, as `subject on levels`, sorted.
pub(crate) async fn grants(store: &dyn Store) -> Vec<String> {
    let mut grants: Vec<_> = items(store)
        .await
        .into_iter()
        .filter_map(|item| match item {
            Item::Grant(grant) => Some(format!("{} {} {}", grant.row.subject, grant.row.pattern, grant.row.levels)),
            _ => None,
        })
        .collect();
    grants.sort();
    grants
}

pub(crate) async fn items(store: &dyn Store) -> Vec<Item> {
    store.load().await.unwrap().items
}

pub(crate) async fn loaded(store: &dyn Store) -> Contents {
    store.load().await.unwrap()
}

/// What changed since, where the feed reaches back that far.
pub(crate) async fn since(store: &dyn Store, revision: Revision) -> (Revision, Vec<Item>) {
    match store.changes(revision).await.unwrap() {
        Changes::Patch { revision, items } => (revision, items),
        Changes::Gap => panic!("the feed does not reach back to {revision:?}"),
    }
}

/// The user as the store has it now.
pub(crate) async fn known(store: &dyn Store, id: UserId) -> User {
    match store.item(carta_gateway::store::Key::User(id)).await.unwrap() {
        Item::User(user, _) => *user,
        other => panic!("no user: {other:?}"),
    }
}

/// That the change is refused as one that needs what is not there.
pub(crate) async fn misses(store: &dyn Store, what: &str, mutation: Mutation) {
    match commit(store, mutation).await {
        Err(StoreError::Missing { what: missing, .. }) => assert_eq!(missing, what),
        other => panic!("{what} is not missing: {other:?}"),
    }
}

/// That the change is refused as one that makes what is there already.
pub(crate) async fn clashes(store: &dyn Store, what: &str, mutation: Mutation) {
    match commit(store, mutation).await {
        Err(StoreError::Exists { what: taken, .. }) => assert_eq!(taken, what),
        other => panic!("{what} is not taken: {other:?}"),
    }
}

/// That the change is refused, with this in the reason.
pub(crate) async fn refused(store: &dyn Store, reason: &str, mutation: Mutation) {
    match commit(store, mutation).await {
        Err(StoreError::Refused(why) | StoreError::Full(why)) => assert!(why.contains(reason), "{why}"),
        other => panic!("not refused: {other:?}"),
    }
}

/// That the change changes nothing: no revision, no audit record.
pub(crate) async fn idle(store: &dyn Store, mutation: Mutation) -> Committed {
    let what = format!("{mutation:?}");
    let before = *store.revisions().borrow();
    let records = store.audit(0, usize::MAX).await.unwrap().len();
    let committed = done(store, mutation).await;
    assert_eq!(committed.revision, before, "{what}");
    assert_eq!(store.audit(0, usize::MAX).await.unwrap().len(), records, "{what}");
    committed
}
