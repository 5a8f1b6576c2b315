//! Namespaces, services, owners.

use carta_gateway::policy::{Levels, Pattern, ResourceId, Subject, UserId};
use carta_gateway::store::{
    DeclaredService, Item, Key, MOST_NAMESPACES, MOST_SECRETS, MOST_SERVICES, Mutation, Origin, Service, Store,
};
use futures_util::future::join_all;
use uuid::Uuid;

use crate::fixture::*;

crate::contract![
    a_namespace_holds_no_more_services_than_the_quota,
    a_name_is_reserved_once,
    a_service_keeps_its_id_when_its_table_changes,
    a_service_that_is_not_the_one_expected_is_not_replaced,
    nobody_keeps_more_than_their_share,
    what_somebody_is_given_takes_nothing_of_their_share,
    what_the_file_declares_takes_nothing_of_the_share_of_its_owner,
    a_namespace_that_a_stranger_reserved_takes_no_service_of_the_file,
    a_namespace_with_services_stays,
    an_owner_is_given_nothing_of_what_is_owned,
    an_owner_gives_a_service_away_and_keeps_something,
    services_of_the_file_keep_their_ids_by_name,
    a_declaration_is_whole_or_nothing,
    the_api_does_not_touch_services_of_the_file,
];

async fn a_name_is_reserved_once(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let id = reserved(store, "ns", ann).await;
    clashes(store, "namespace", Mutation::ReserveNamespace { name: "ns".to_owned(), owner: ann }).await;
    let nobody = UserId(Uuid::new_v4());
    misses(store, "user", Mutation::ReserveNamespace { name: "other".to_owned(), owner: nobody }).await;
    assert_eq!(store.namespace_named("ns").await.unwrap().map(|found| (found.id, found.owner)), Some((id, Some(ann))));
    assert_eq!(store.namespace_named("other").await.unwrap(), None);
}

async fn a_service_keeps_its_id_when_its_table_changes(store: &dyn Store) {
    let (ann, bob) = (made(store, "ann").await, made(store, "bob").await);
    misses(store, "namespace", service("ns", "svc", ann, "http://a")).await;
    reserved(store, "ns", ann).await;
    let made = done(store, service("ns", "svc", ann, "http://a")).await;
    assert_eq!(idle(store, replacing(made.id, service("ns", "svc", bob, "http://a"))).await.id, made.id);
    let changed = done(store, replacing(made.id, service("ns", "svc", bob, "http://b"))).await;
    assert_eq!(changed.id, made.id);
    assert!(changed.revision > made.revision);
    let found = store.service_named("ns", "svc").await.unwrap().unwrap();
    let table = serde_json::json!({ "base_url": "http://b" });
    let (namespace, name) = ("ns".to_owned(), "svc".to_owned());
    let owner = Some(ann);
    let expected = Service { id: made.id.unwrap(), namespace, name, owner, origin: Origin::Api, present: true, table };
    assert_eq!(found, expected);
    assert!(items(store).await.contains(&Item::Service(Box::new(expected))));
    misses(store, "user", service("ns", "new", UserId(Uuid::new_v4()), "http://b")).await;
}

async fn a_service_that_is_not_the_one_expected_is_not_replaced(store: &dyn Store) {
    let (ann, bob) = (made(store, "ann").await, made(store, "bob").await);
    reserved(store, "ns", ann).await;
    let svc = registered(store, "ns", "svc", ann).await;
    clashes(store, "service", service("ns", "svc", bob, "http://evil")).await;
    let other = Some(ResourceId(Uuid::new_v4()));
    clashes(store, "service", replacing(other, service("ns", "svc", bob, "http://evil"))).await;
    misses(store, "service", replacing(Some(svc), service("ns", "gone", bob, "http://evil"))).await;
}

async fn nobody_keeps_more_than_their_share(store: &dyn Store) {
    let (ann, bob) = (made(store, "ann").await, made(store, "bob").await);
    let reserve = |number: u32, owner| Mutation::ReserveNamespace { name: format!("ns-{number}"), owner };
    join_all((0..MOST_NAMESPACES).map(|number| done(store, reserve(number, ann)))).await;
    refused(store, "more than 100 namespaces", reserve(MOST_NAMESPACES, ann)).await;
    let register =
        |number: u32, owner| service(&format!("ns-{}", number % 2), &format!("svc-{number}"), owner, "http://a");
    join_all((0..MOST_SERVICES).map(|number| done(store, register(number, bob)))).await;
    refused(store, "more than 1000 services", register(MOST_SERVICES, bob)).await;
    done(store, register(MOST_SERVICES, ann)).await;
    let secrets = |count: u32| (0..count).map(|number| secret(ann, &format!("key-{number}"), 1)).collect();
    done(store, Mutation::PutSecrets(secrets(MOST_SECRETS))).await;
    refused(store, "secrets of one user", Mutation::PutSecrets(vec![secret(ann, "another", 1)])).await;
    done(store, Mutation::PutSecrets(vec![secret(ann, "key-0", 2)])).await;
    done(store, Mutation::PutSecrets(vec![secret(bob, "another", 1)])).await;
}

async fn what_somebody_is_given_takes_nothing_of_their_share(store: &dyn Store) {
    let (mallory, bob) = (made(store, "mallory").await, made(store, "bob").await);
    let reserve = |number: u32| Mutation::ReserveNamespace { name: format!("ns-{number}"), owner: mallory };
    let give = |resource| Mutation::TransferOwner { resource, from: Some(mallory), to: bob, keep: None, at: at(8) };
    let gifts = join_all((0..MOST_NAMESPACES).map(|number| done(store, reserve(number)))).await;
    join_all(gifts.iter().map(|gift| done(store, give(gift.id.unwrap())))).await;
    reserved(store, "bobs", bob).await;
    // Else whoever gives away what they made could make without end.
    refused(store, "more than 100 namespaces", reserve(MOST_NAMESPACES)).await;
    done(store, Mutation::RemoveNamespace(gifts[0].id.unwrap())).await;
    done(store, reserve(MOST_NAMESPACES)).await;
}

async fn what_the_file_declares_takes_nothing_of_the_share_of_its_owner(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let names: Vec<_> = (0..=MOST_NAMESPACES).map(|number| format!("ns-{number}")).collect();
    let services: Vec<_> = names.iter().map(|name| (name.as_str(), "svc", "ann")).collect();
    done(store, declared(&services)).await;
    reserved(store, "anns", ann).await;
}

async fn a_namespace_that_a_stranger_reserved_takes_no_service_of_the_file(store: &dyn Store) {
    let (ann, mallory) = (made(store, "ann").await, made(store, "mallory").await);
    let ours = [("ns", "one", "ann")];
    let namespace = reserved(store, "ns", mallory).await;
    refused(store, "belongs to `mallory`", declared(&ours)).await;
    let give = |from, to| Mutation::TransferOwner { resource: namespace, from: Some(from), to, keep: None, at: at(8) };
    done(store, give(mallory, ann)).await;
    done(store, declared(&ours)).await;
    // Given away by who had it rightfully, the service stays: a restart must not fail by what a user may do.
    done(store, give(ann, mallory)).await;
    idle(store, declared(&ours)).await;
}

async fn a_namespace_with_services_stays(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let namespace = reserved(store, "ns", ann).await;
    let svc = registered(store, "ns", "svc", ann).await;
    refused(store, "not empty", Mutation::RemoveNamespace(namespace)).await;
    done(store, put(grant(Subject::Everyone, &["ns", "later"], Levels::READ))).await;
    done(store, put(grant(Subject::Everyone, &["ns-2"], Levels::READ))).await;
    done(store, Mutation::RemoveService(svc)).await;
    done(store, Mutation::RemoveNamespace(namespace)).await;
    assert_eq!(grants(store).await, ["everyone ns-2 read"]);
    misses(store, "namespace", Mutation::RemoveNamespace(namespace)).await;
}

async fn an_owner_is_given_nothing_of_what_is_owned(store: &dyn Store) {
    let (ann, bob) = (made(store, "ann").await, made(store, "bob").await);
    let namespace = reserved(store, "ns", ann).await;
    let svc = registered(store, "ns", "svc", bob).await;
    let to = |user, name: &[&str]| put(grant(Subject::User(user), name, Levels::READ));
    refused(store, "without a grant", to(ann, &["ns"])).await;
    refused(store, "without a grant", to(ann, &["ns", "other", "deep"])).await;
    refused(store, "without a grant", to(bob, &["ns", "svc", "x"])).await;
    // What somebody else owns below is no more theirs than anybody's.
    done(store, to(ann, &["ns", "svc"])).await;
    done(store, to(bob, &["ns"])).await;
    done(store, to(ann, &["elsewhere"])).await;
    // Nor is what lies below every service of the namespace, one of which is bob's.
    let any = Pattern::parse("ns.*.x").unwrap();
    let row = grant(Subject::User(ann), &[], Levels::READ);
    done(store, put(carta_gateway::policy::Grant { pattern: any.clone(), ..row })).await;
    done(store, Mutation::RemoveGrant(Subject::User(ann), any)).await;
    // With the ownership goes what the new owner was given before: it would come back unseen when they give it away.
    let give = |resource, from, to| Mutation::TransferOwner { resource, from: Some(from), to, keep: None, at: at(8) };
    let before = *store.revisions().borrow();
    done(store, give(svc, bob, ann)).await;
    done(store, give(namespace, ann, bob)).await;
    assert_eq!(grants(store).await, [format!("user:{ann} elsewhere read")]);
    let (_, changed) = since(store, before).await;
    for gone in [(ann, &["ns", "svc"][..]), (bob, &["ns"])] {
        let key = Key::Grant(Subject::User(gone.0), Pattern::literal(gone.1.iter().copied()).unwrap());
        assert!(changed.contains(&Item::Gone(key)), "{changed:?}");
    }
}

async fn an_owner_gives_a_service_away_and_keeps_something(store: &dyn Store) {
    let (ann, bob) = (made(store, "ann").await, made(store, "bob").await);
    let namespace = reserved(store, "ns", ann).await;
    let svc = registered(store, "ns", "svc", ann).await;
    let give = |resource, to, keep| Mutation::TransferOwner { resource, from: Some(ann), to, keep, at: at(8) };
    let kept = grant(Subject::User(ann), &["ns", "svc"], Levels::READ | Levels::EXECUTE);
    done(store, give(svc, bob, Some(kept))).await;
    idle(store, give(svc, bob, None)).await;
    let carol = made(store, "carol").await;
    refused(store, "another owner by now", give(svc, carol, None)).await;
    assert_eq!(store.service_named("ns", "svc").await.unwrap().unwrap().owner, Some(bob));
    assert_eq!(grants(store).await, [format!("user:{ann} ns.svc read, execute")]);
    done(store, give(namespace, bob, Some(grant(Subject::User(ann), &["ns"], Levels::NONE)))).await;
    assert_eq!(store.namespace_named("ns").await.unwrap().unwrap().owner, Some(bob));
    assert_eq!(grants(store).await.len(), 1, "keeping nothing is no deny");
    misses(store, "user", give(svc, UserId(Uuid::new_v4()), None)).await;
    misses(store, "service", give(ResourceId(Uuid::new_v4()), ann, None)).await;
}

fn declared(names: &[(&str, &str, &str)]) -> Mutation {
    let service = |&(namespace, name, owner): &(&str, &str, &str)| DeclaredService {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        owner: owner.to_owned(),
    };
    Mutation::DeclareServices(names.iter().map(service).collect())
}

async fn services_of_the_file_keep_their_ids_by_name(store: &dyn Store) {
    let (ann, bob) = (made(store, "ann").await, made(store, "bob").await);
    let both = [("ns", "one", "ann"), ("ns", "two", "ann")];
    done(store, declared(&both)).await;
    idle(store, declared(&both)).await;
    assert_eq!(store.namespace_named("ns").await.unwrap().unwrap().owner, Some(ann));
    let one = store.service_named("ns", "one").await.unwrap().unwrap();
    assert_eq!((one.origin, one.present, one.table), (Origin::File, true, serde_json::json!({})));
    done(store, put(grant(Subject::Everyone, &["ns", "one"], Levels::READ))).await;

    let before = *store.revisions().borrow();
    done(store, declared(&[("ns", "two", "bob")])).await;
    assert_eq!(since(store, before).await.1.len(), 2);
    let absent = store.service_named("ns", "one").await.unwrap().unwrap();
    assert_eq!((absent.id, absent.present), (one.id, false));
    assert_eq!(store.service_named("ns", "two").await.unwrap().unwrap().owner, Some(bob));
    done(store, declared(&both)).await;
    let back = store.service_named("ns", "one").await.unwrap().unwrap();
    assert_eq!((back.id, back.present), (one.id, true));
    assert_eq!(grants(store).await, ["everyone ns.one read"]);
}

async fn a_declaration_is_whole_or_nothing(store: &dyn Store) {
    let ann = made(store, "ann").await;
    done(store, declared(&[("ns", "one", "ann")])).await;
    registered(store, "ns", "api", ann).await;
    let before = loaded(store).await;
    misses(store, "user", declared(&[("new", "one", "ann"), ("new", "two", "nobody")])).await;
    refused(store, "`ns/api`", declared(&[("new", "one", "ann"), ("ns", "api", "ann")])).await;
    let after = loaded(store).await;
    assert_eq!((before.revision, before.items), (after.revision, after.items));
}

async fn the_api_does_not_touch_services_of_the_file(store: &dyn Store) {
    let (ann, bob) = (made(store, "ann").await, made(store, "bob").await);
    done(store, declared(&[("ns", "one", "ann")])).await;
    let id = store.service_named("ns", "one").await.unwrap().unwrap().id;
    let file = "configuration file";
    refused(store, file, service("ns", "one", ann, "http://evil")).await;
    refused(store, file, Mutation::RenameService { id, to: "two".to_owned() }).await;
    refused(store, file, Mutation::RemoveService(id)).await;
    refused(store, file, Mutation::TransferOwner { resource: id, from: Some(ann), to: bob, keep: None, at: at(8) })
        .await;
    // Absent, its name and what was granted on it stay its own until somebody removes it.
    done(store, declared(&[])).await;
    refused(store, file, service("ns", "one", ann, "http://evil")).await;
    let namespace = store.namespace_named("ns").await.unwrap().unwrap().id;
    refused(store, "not empty", Mutation::RemoveNamespace(namespace)).await;
    done(store, Mutation::RemoveService(id)).await;
    assert_ne!(registered(store, "ns", "one", ann).await, id);
}

async fn a_namespace_holds_no_more_services_than_the_quota(store: &dyn Store) {
    let ann = made(store, "ann").await;
    reserved(store, "ns", ann).await;
    let made = |number: u32| service("ns", &format!("svc-{number}"), ann, "http://a");
    done(store, Mutation::Batch((0..MOST_SERVICES).map(made).collect())).await;
    refused(store, "more than 1000 services", made(MOST_SERVICES)).await;
}
