//! Revisions, the feed, the audit.

use carta_gateway::policy::{self, Levels, Subject, UserId};
use carta_gateway::store::{Actor, Changes, Contents, Item, Mutation, Portion, Revision, Store, StoreError};

use uuid::Uuid;

use crate::fixture::*;

crate::contract![
    a_batch_is_one_revision_with_a_record_for_each_part,
    a_batch_of_which_one_part_fails_changes_nothing,
    an_empty_store_is_at_revision_zero,
    each_change_raises_the_revision_by_one,
    a_patch_tells_the_newest_state_of_each_key_once,
    a_reader_from_another_history_loads_everything,
    a_failed_change_lets_others_be,
    changes_asked_at_once_are_all_made,
    each_change_has_one_audit_record,
    who_waits_hears_of_a_change,
    what_comes_in_batches_is_everything_in_order,
    a_load_that_nobody_takes_ends,
];

async fn an_empty_store_is_at_revision_zero(store: &dyn Store) {
    let Contents { revision, items } = loaded(store).await;
    assert_eq!((revision, items.len()), (Revision(0), 0));
    assert_eq!(*store.revisions().borrow(), Revision(0));
    assert_eq!(since(store, Revision(0)).await, (Revision(0), vec![]));
}

async fn each_change_raises_the_revision_by_one(store: &dyn Store) {
    for number in 1..=5 {
        let committed = done(store, new(&user(&format!("user-{number}")))).await;
        assert_eq!(committed.revision, Revision(number));
        assert_eq!(*store.revisions().borrow(), Revision(number));
        assert_eq!(loaded(store).await.revision, Revision(number));
    }
}

async fn a_patch_tells_the_newest_state_of_each_key_once(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let before = *store.revisions().borrow();
    for levels in [Levels::READ, Levels::WRITE, Levels::ALL] {
        done(store, put(grant(Subject::User(ann), &["a"], levels))).await;
        done(store, put(grant(Subject::User(ann), &["b"], levels))).await;
    }
    let gone = grant(Subject::User(ann), &["b"], Levels::ALL);
    let last = done(store, Mutation::RemoveGrant(gone.subject.clone(), gone.pattern.clone())).await;
    let (revision, changed) = since(store, before).await;
    assert_eq!((revision, changed.len()), (last.revision, 2));
    let held = |item: &Item| matches!(item, Item::Grant(grant) if grant.row.levels == Levels::ALL);
    assert!(changed.iter().any(held));
    assert!(changed.contains(&Item::Gone(carta_gateway::store::Key::Grant(gone.subject, gone.pattern))));
    assert_eq!(since(store, last.revision).await.1, []);
}

async fn a_reader_from_another_history_loads_everything(store: &dyn Store) {
    made(store, "ann").await;
    assert_eq!(store.changes(Revision(2)).await.unwrap(), Changes::Gap);
}

async fn a_failed_change_lets_others_be(store: &dyn Store) {
    // Asked at once, so that they may share a transaction.
    let users: Vec<_> = (0..20).map(|number| user(&format!("user-{}", number / 2))).collect();
    let results = futures_util::future::join_all(users.iter().map(|user| commit(store, new(user)))).await;
    assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 10);
    let Contents { revision, items } = loaded(store).await;
    assert_eq!((revision, items.len()), (Revision(10), 10));
    assert_eq!(since(store, Revision(0)).await.1.len(), 10);
    assert_eq!(store.audit(0, usize::MAX).await.unwrap().len(), 10);
}

async fn changes_asked_at_once_are_all_made(store: &dyn Store) {
    let users: Vec<_> = (0..300).map(|number| user(&format!("user-{number}"))).collect();
    let committed = futures_util::future::join_all(users.iter().map(|user| done(store, new(user)))).await;
    let mut revisions: Vec<_> = committed.iter().map(|committed| committed.revision.0).collect();
    revisions.sort_unstable();
    assert_eq!(revisions, (1..=300).collect::<Vec<_>>());
    assert_eq!(loaded(store).await.items.len(), 300);
}

async fn each_change_has_one_audit_record(store: &dyn Store) {
    let ann = user("ann");
    let from = Actor { user: Some(ann.id), via: "api", from: "10.0.0.1".into(), request_id: Some("r-2".into()) };
    done(store, new(&ann)).await;
    let row = grant(Subject::Everyone, &["ns", "svc"], Levels::READ);
    store.commit(from.clone(), put(row.clone())).await.unwrap();
    store.commit(from, put(carta_gateway::policy::Grant { levels: Levels::ALL, ..row })).await.unwrap();
    clashes(store, "user", new(&user("ann"))).await;

    let records = store.audit(0, usize::MAX).await.unwrap();
    let whats: Vec<_> = records.iter().map(|record| (record.seq, record.revision.0, record.what.as_str())).collect();
    assert_eq!(whats, [(1, 1, "user.create"), (2, 2, "grant.put"), (3, 3, "grant.put")]);
    let last = &records[2];
    assert_eq!((last.user, last.via.as_str(), last.from.as_str()), (Some(ann.id), "api", "10.0.0.1"));
    assert_eq!((last.request_id.as_deref(), last.target.as_str()), (Some("r-2"), "ns.svc"));
    let levels = |value: &Option<serde_json::Value>| value.as_ref().unwrap()["levels"].as_str().unwrap().to_owned();
    assert_eq!(levels(&last.before), "read");
    assert_eq!(levels(&last.after), Levels::ALL.to_string());
    assert_eq!(records[1].before, None);
    assert_eq!(store.audit(1, 1).await.unwrap(), records[1..2]);
}

async fn who_waits_hears_of_a_change(store: &dyn Store) {
    let mut revisions = store.revisions();
    let before = *revisions.borrow_and_update();
    let committed = made(store, "ann");
    let (_, heard) = tokio::join!(committed, revisions.changed());
    heard.unwrap();
    assert_eq!(*revisions.borrow(), Revision(before.0 + 1));
}

async fn a_batch_is_one_revision_with_a_record_for_each_part(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let place = reserved(store, "ns", ann).await;
    let row = |subject: &Subject| grant(subject.clone(), &["ns"], Levels::READ);
    let bob = made(store, "bob").await;
    let (one, two) = (Subject::Everyone, Subject::User(bob));
    done(store, put(row(&one))).await;
    let before = *store.revisions().borrow();
    let records = store.audit(0, usize::MAX).await.unwrap().len();
    let parts = vec![
        Mutation::RemoveGrant(one.clone(), row(&one).pattern),
        put(row(&two)),
        put(row(&two)),
        Mutation::ReserveNamespace { name: "other".to_owned(), owner: ann },
    ];
    let made = done(store, Mutation::Batch(parts)).await;
    assert_eq!(made.revision.0, before.0 + 1);
    assert!(made.id.is_some_and(|id| id != place));
    let records = store.audit(records as u64, usize::MAX).await.unwrap();
    let said: Vec<_> = records.iter().map(|record| (record.revision, record.what.as_str())).collect();
    // The second of the same changes nothing, and is no record.
    assert_eq!(said, ["grant.remove", "grant.put", "namespace.reserve"].map(|what| (made.revision, what)));
    let (revision, changed) = since(store, before).await;
    assert_eq!((revision, changed.len()), (made.revision, 3));
    idle(store, Mutation::Batch(vec![put(row(&two)), Mutation::Batch(vec![])])).await;
}

async fn a_batch_of_which_one_part_fails_changes_nothing(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let before = (*store.revisions().borrow(), items(store).await, store.audit(0, usize::MAX).await.unwrap());
    let nobody = Subject::User(UserId(Uuid::new_v4()));
    let parts = vec![
        Mutation::ReserveNamespace { name: "ns".to_owned(), owner: ann },
        put(grant(Subject::Everyone, &["ns"], Levels::READ)),
        put(grant(nobody, &["ns"], Levels::READ)),
    ];
    misses(store, "user", Mutation::Batch(parts)).await;
    let after = (*store.revisions().borrow(), items(store).await, store.audit(0, usize::MAX).await.unwrap());
    assert_eq!(before, after);
}

async fn what_comes_in_batches_is_everything_in_order(store: &dyn Store) {
    let staff = made_group(store, "Staff").await;
    for name in ["ann", "bob"] {
        let user = made(store, name).await;
        for key in ["b", "a"] {
            done(store, put(grant(Subject::User(user), &[key], Levels::READ))).await;
        }
    }
    done(store, put(grant(Subject::Group(staff), &["a"], Levels::READ))).await;
    let (sender, portions) = std::sync::mpsc::sync_channel(64);
    let revision = store.load_into(sender).await.unwrap();
    let (mut items, mut grants, mut patterns, mut runs) = (vec![], vec![], vec![], vec![]);
    for portion in portions {
        match portion {
            Portion::Items(some) => items.extend(some),
            Portion::Grants(some) => {
                patterns.extend_from_slice(&some.patterns);
                runs.extend(some.subjects.iter().map(|(subject, _)| subject.clone()));
                for (subject, row) in some.runs().flat_map(|(subject, rows)| rows.iter().map(move |row| (subject, row)))
                {
                    let (subject, pattern) = (subject.clone(), patterns[row.pattern as usize].clone());
                    grants.push(policy::Grant { subject, pattern, levels: row.levels, expires: row.expires });
                }
            }
        }
    }
    let whole = loaded(store).await;
    let is_grant = |item: &&Item| matches!(item, Item::Grant(_));
    let others: Vec<Item> = whole.items.iter().filter(|item| !is_grant(item)).cloned().collect();
    assert_eq!((revision, &items), (whole.revision, &others));
    let by_key = |grant: &policy::Grant| (grant.subject.clone(), grant.pattern.clone());
    let rows = whole.items.iter().filter_map(|item| match item {
        Item::Grant(grant) => Some(grant.row.clone()),
        _ => None,
    });
    let mut rows: Vec<_> = rows.collect();
    rows.sort_by_key(by_key);
    grants.sort_by_key(by_key);
    assert_eq!(grants, rows);
    let kind = |item: &Item| match item {
        Item::Group(_) => 0,
        Item::User(..) => 1,
        Item::Link(_) => 2,
        _ => 3,
    };
    assert!(items.is_sorted_by_key(kind), "{items:?}");
    runs.dedup();
    assert_eq!(runs.len(), 3, "the grants of one subject come together");
    assert_eq!(patterns.len(), 2, "a pattern comes once");
}

async fn a_load_that_nobody_takes_ends(store: &dyn Store) {
    made(store, "ann").await;
    let (sender, batches) = std::sync::mpsc::sync_channel(1);
    drop(batches);
    assert!(matches!(store.load_into(sender).await, Err(StoreError::Unavailable(_))));
    assert_eq!(loaded(store).await.items.len(), 1, "the next load is not held up");
}
