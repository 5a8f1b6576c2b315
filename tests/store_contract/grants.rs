//! Grants, and what becomes of them with what they are on.

use carta_gateway::policy::{Levels, Pattern, PatternKey, ResourceId, Subject, UserId};
use carta_gateway::store::{Grant, Item, Key, Mutation, Store};
use uuid::Uuid;

use crate::fixture::*;

crate::contract![
    a_grant_replaces_the_one_before_and_is_taken_once,
    levels_are_taken_from_what_is_there_then,
    a_part_of_a_permission_takes_the_place_of_what_is_above_it_and_no_other_part_does,
    every_pattern_comes_back_as_it_was,
    a_grant_to_nobody_is_refused,
    a_rename_moves_the_grants_on_and_below,
    a_rename_makes_no_left_over_grant_true,
    a_removal_takes_the_grants_on_and_below_and_to_holders,
];

async fn a_grant_replaces_the_one_before_and_is_taken_once(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let read = grant(Subject::User(ann), &["ns"], Levels::READ);
    done(store, put(read.clone())).await;
    idle(store, put(read.clone())).await;
    let deny = carta_gateway::policy::Grant { levels: Levels::NONE, expires: Some(at(60)), ..read.clone() };
    let before = *store.revisions().borrow();
    done(store, Mutation::PutGrant { grant: deny.clone(), by: Some(ann), at: at(6) }).await;
    let (_, changed) = since(store, before).await;
    assert_eq!(changed, [Item::Grant(Grant { row: deny, by: Some(ann), at: at(6) })]);
    assert_eq!(grants(store).await.len(), 1);
    done(store, Mutation::RemoveGrant(read.subject.clone(), read.pattern.clone())).await;
    idle(store, Mutation::RemoveGrant(read.subject, read.pattern)).await;
    assert!(grants(store).await.is_empty());
}

async fn levels_are_taken_from_what_is_there_then(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let held = |levels| grant(Subject::User(ann), &["ns"], levels);
    let take = |levels| Mutation::TakeLevels { subject: Subject::User(ann), pattern: held(levels).pattern, levels };
    misses(store, "grant", take(Levels::READ)).await;
    let until = carta_gateway::policy::Grant { expires: Some(at(60)), ..held(Levels::READ | Levels::EXECUTE) };
    done(store, Mutation::PutGrant { grant: until.clone(), by: Some(ann), at: at(6) }).await;
    idle(store, take(Levels::ADMIN)).await;
    let before = *store.revisions().borrow();
    done(store, take(Levels::EXECUTE | Levels::ADMIN)).await;
    let (_, changed) = since(store, before).await;
    let left = carta_gateway::policy::Grant { levels: Levels::READ, ..until };
    assert_eq!(changed, [Item::Grant(Grant { row: left, by: Some(ann), at: at(6) })]);
    // A deny that was given since the taker looked.
    done(store, put(held(Levels::NONE))).await;
    idle(store, take(Levels::READ)).await;
    assert_eq!(grants(store).await, [format!("user:{ann} ns none")]);
    done(store, put(held(Levels::READ))).await;
    done(store, take(Levels::ALL)).await;
    assert!(grants(store).await.is_empty(), "what is left of a grant is no deny");
}

async fn a_part_of_a_permission_takes_the_place_of_what_is_above_it_and_no_other_part_does(store: &dyn Store) {
    let ann = made(store, "ann").await;
    for name in ["one", "two"] {
        reserved(store, name, ann).await;
    }
    let bob = made(store, "bob").await;
    let (main, side) = (Subject::User(bob), Subject::Same(ResourceId(bob.0)));
    let given = |keys: &[&str], levels, keeps| Mutation::PutPart {
        grant: grant(side.clone(), keys, levels),
        others: vec![main.clone()],
        keeps,
        by: Some(ann),
        at: at(6),
    };
    let part = |keys: &[&str], levels| given(keys, levels, false);
    let ending = |keys: &[&str], second| {
        let ends = grant(side.clone(), keys, Levels::READ);
        put(carta_gateway::policy::Grant { expires: Some(at(second)), ..ends })
    };
    let sides = async || {
        let all = grants(store).await.into_iter().filter(|grant| grant.starts_with("holders:same:"));
        all.map(|grant| grant.split_once(' ').unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    // Nothing above: a part without levels needs no row.
    idle(store, part(&["one", "a"], Levels::NONE)).await;
    for name in ["a", "b", "ended", "ends"] {
        done(store, put(grant(main.clone(), &["one", name], Levels::READ))).await;
    }
    done(store, put(grant(main.clone(), &["two", "a"], Levels::READ))).await;
    done(store, part(&["one", "b"], Levels::EXECUTE)).await;
    done(store, ending(&["one", "ended"], 6)).await;
    done(store, ending(&["one", "ends"], 7)).await;
    let before = *store.revisions().borrow();
    done(store, part(&["one"], Levels::READ)).await;
    let left = ["one read", "one.a nothing", "one.b execute", "one.ended nothing", "one.ends read"];
    assert_eq!(sides().await, left);
    assert_eq!(since(store, before).await.1.len(), 3, "what changed is told");
    // What somebody gave meanwhile is kept where that is asked for.
    idle(store, given(&["one", "b"], Levels::NONE, true)).await;
    // Something above, which the permission that comes later replaces.
    done(store, given(&["one", "new"], Levels::NONE, true)).await;
    assert!(sides().await.contains(&"one.new nothing".to_owned()));
    done(store, part(&["one", "later"], Levels::NONE)).await;
    assert!(sides().await.contains(&"one.later nothing".to_owned()));
    idle(store, part(&["one", "later"], Levels::NONE)).await;
    done(store, Mutation::RemoveGrant(side.clone(), Pattern::literal(["one"]).unwrap())).await;
    done(store, part(&["one", "later"], Levels::NONE)).await;
    assert!(!sides().await.contains(&"one.later nothing".to_owned()));
}

async fn every_pattern_comes_back_as_it_was(store: &dyn Store) {
    let key = |text: &str| PatternKey::Key(text.into());
    let patterns = [
        vec![],
        vec![PatternKey::Any],
        vec![key("a")],
        vec![key("a"), PatternKey::Any],
        vec![key("a"), key("")],
        vec![key("a"), key("*")],
        vec![key("a.b"), key("%2E"), PatternKey::Any, key("ä")],
    ];
    for keys in &patterns {
        let pattern = Pattern::new(keys.iter().cloned()).unwrap();
        let row =
            carta_gateway::policy::Grant { subject: Subject::Everyone, pattern, levels: Levels::READ, expires: None };
        done(store, put(row)).await;
    }
    let mut kept: Vec<_> = items(store)
        .await
        .into_iter()
        .filter_map(|item| match item {
            Item::Grant(grant) => Some(grant.row.pattern.keys().to_vec()),
            _ => None,
        })
        .collect();
    kept.sort();
    let mut patterns = patterns.to_vec();
    patterns.sort();
    assert_eq!(kept, patterns);
}

async fn a_grant_to_nobody_is_refused(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let id = Uuid::new_v4();
    let to = |subject| put(grant(subject, &["ns"], Levels::READ));
    misses(store, "user", to(Subject::User(UserId(id)))).await;
    misses(store, "group", to(Subject::Group(carta_gateway::policy::GroupId(id)))).await;
    misses(store, "resource", to(Subject::Holders(Levels::READ, ResourceId(id)))).await;
    refused(store, "nobody", to(Subject::Role("".into()))).await;
    let namespace = reserved(store, "ns", ann).await;
    refused(store, "nobody", to(Subject::Holders(Levels::NONE, namespace))).await;
    done(store, to(Subject::Holders(Levels::READ, namespace))).await;
}

/// A namespace `ns` with services `one` and `one-2`, and grants on, below and beside `one`.
async fn granted(store: &dyn Store) -> (UserId, ResourceId) {
    let ann = made(store, "ann").await;
    reserved(store, "ns", ann).await;
    let one = registered(store, "ns", "one", ann).await;
    registered(store, "ns", "one-2", ann).await;
    for on in [&["ns"] as &[&str], &["ns", "one"], &["ns", "one", "tag", "*"], &["ns", "one-2"], &["ns", "one.x"]] {
        done(store, put(grant(Subject::Everyone, on, Levels::READ))).await;
    }
    let beside = [PatternKey::Any, PatternKey::Key("one".into())];
    let pattern = Pattern::new(beside).unwrap();
    let row = carta_gateway::policy::Grant { subject: Subject::Everyone, pattern, levels: Levels::READ, expires: None };
    done(store, put(row)).await;
    (ann, one)
}

async fn a_rename_moves_the_grants_on_and_below(store: &dyn Store) {
    let (_, one) = granted(store).await;
    let before = *store.revisions().borrow();
    clashes(store, "service", Mutation::RenameService { id: one, to: "one-2".to_owned() }).await;
    idle(store, Mutation::RenameService { id: one, to: "one".to_owned() }).await;
    done(store, Mutation::RenameService { id: one, to: "two".to_owned() }).await;
    let expected = ["*.one", "ns", "ns.one%2Ex", "ns.one-2", "ns.two", "ns.two.tag.%2A"];
    assert_eq!(grants(store).await, expected.map(|on| format!("everyone {on} read")));
    let (_, changed) = since(store, before).await;
    // The service, and each of two grants under its former and its new name.
    assert_eq!(changed.len(), 5, "{changed:?}");
    assert_eq!(store.service_named("ns", "two").await.unwrap().map(|found| found.id), Some(one));
    assert_eq!(store.service_named("ns", "one").await.unwrap(), None);
    misses(store, "service", Mutation::RenameService { id: ResourceId(Uuid::new_v4()), to: "x".to_owned() }).await;
}

async fn a_rename_makes_no_left_over_grant_true(store: &dyn Store) {
    let (_, one) = granted(store).await;
    let bob = made(store, "bob").await;
    done(store, put(grant(Subject::User(bob), &["ns", "two"], Levels::ALL))).await;
    done(store, put(grant(Subject::Everyone, &["ns", "two", "x"], Levels::ALL))).await;
    done(store, Mutation::RenameService { id: one, to: "two".to_owned() }).await;
    let on_two: Vec<_> = grants(store).await.into_iter().filter(|grant| grant.contains("ns.two")).collect();
    assert_eq!(on_two, ["everyone ns.two read", "everyone ns.two.tag.%2A read"]);
}

async fn a_removal_takes_the_grants_on_and_below_and_to_holders(store: &dyn Store) {
    let (ann, one) = granted(store).await;
    done(store, put(grant(Subject::Holders(Levels::READ, one), &["elsewhere"], Levels::READ))).await;
    done(store, Mutation::PutSecrets(vec![secret(ann, "key", 1)])).await;
    done(store, Mutation::PutConsent(consent(ann, "key", one, "f"))).await;
    let before = *store.revisions().borrow();
    done(store, Mutation::RemoveService(one)).await;
    let expected = ["*.one", "ns", "ns.one%2Ex", "ns.one-2"];
    assert_eq!(grants(store).await, expected.map(|on| format!("everyone {on} read")));
    let (_, changed) = since(store, before).await;
    assert_eq!(changed.len(), 5, "{changed:?}");
    assert!(changed.iter().all(|item| matches!(item, Item::Gone(_))), "{changed:?}");
    assert!(changed.contains(&Item::Gone(Key::Consent(ann, "key".to_owned(), "f".to_owned()))));
    misses(store, "service", Mutation::RemoveService(one)).await;
    assert_ne!(registered(store, "ns", "one", ann).await, one);
}
