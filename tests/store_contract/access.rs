//! The access record: counts add up, refusals come back by their ids, nothing of it is a change.

use std::sync::LazyLock;

use carta_gateway::policy::{Levels, Pattern, ResourceId, UserId};
use carta_gateway::store::{Batch, Count, Refusal, Store, day};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::contract;
use crate::fixture::*;

contract!(
    counts_of_the_same_add_up_and_others_stay_apart,
    a_refusal_comes_back_as_it_was,
    what_is_recorded_is_no_change,
    what_is_older_than_it_is_kept_goes,
);

/// One for all, so that no test goes over midnight.
static NOW: LazyLock<Timestamp> = LazyLock::new(Timestamp::now);

fn user(number: u128) -> UserId {
    UserId(Uuid::from_u128(number))
}

fn counted(name: Option<&str>, allowed: u64, refused: u64) -> Count {
    Count {
        day: day(*NOW),
        user: user(1),
        service: ResourceId(Uuid::from_u128(2)),
        operation: Some("tag".to_owned()),
        need: Levels::EXECUTE,
        resource: name.map(|name| Pattern::parse(name).unwrap()),
        allowed,
        refused,
    }
}

fn refusal(id: &str, at: Timestamp) -> Refusal {
    // Times are kept to the microsecond.
    let at = Timestamp::from_microsecond(at.as_microsecond()).unwrap();
    Refusal {
        id: id.to_owned(),
        at,
        user: user(1),
        service: Some(ResourceId(Uuid::from_u128(2))),
        operation: None,
        method: "GET".to_owned(),
        path: "/a/b/c".to_owned(),
        need: Some(Levels::EXECUTE | Levels::READ),
        resource: Some(Pattern::literal(["a", "b", "*"]).unwrap()),
        permitted: Some(false),
        problem: "permission-denied".to_owned(),
        status: 403,
        revision: 7,
        took: 42,
        detail: "no\nask alice".to_owned(),
        why: Some(serde_json::json!({"because": "nothing"})),
    }
}

async fn recorded(store: &dyn Store, counts: Vec<Count>, refusals: Vec<Refusal>) {
    store.record(Batch { counts, refusals }.into()).await.unwrap();
}

async fn counts_of_the_same_add_up_and_others_stay_apart(store: &dyn Store) {
    let (named, other) = (counted(Some("a.b"), 2, 1), Count { need: Levels::READ, ..counted(Some("a.b"), 5, 0) });
    recorded(store, vec![named.clone(), named.clone(), other.clone()], vec![]).await;
    recorded(store, vec![named, counted(None, 1, 0), Count { operation: None, ..counted(None, 1, 0) }], vec![]).await;
    let today = day(*NOW);
    let mut all = store.counts(today, 100).await.unwrap();
    all.sort_by_key(|count| (count.allowed, count.operation.clone()));
    let expected =
        [Count { operation: None, ..counted(None, 1, 0) }, counted(None, 1, 0), other, counted(Some("a.b"), 6, 3)];
    assert_eq!(all, expected);
    assert_eq!(store.counts(today, 2).await.unwrap().len(), 2);
    assert_eq!(store.counts(today + 1, 100).await.unwrap(), []);
}

async fn a_refusal_comes_back_as_it_was(store: &dyn Store) {
    let full = refusal("1", *NOW);
    let bare = Refusal {
        service: None,
        operation: Some("tag".to_owned()),
        need: None,
        resource: None,
        permitted: None,
        why: None,
        ..refusal("2", *NOW)
    };
    recorded(store, vec![], vec![full.clone(), bare.clone(), full.clone()]).await;
    assert_eq!(store.refusal("1").await.unwrap(), Some(full));
    assert_eq!(store.refusal("2").await.unwrap(), Some(bare));
    assert_eq!(store.refusal("3").await.unwrap(), None);
}

async fn what_is_recorded_is_no_change(store: &dyn Store) {
    made(store, "ann").await;
    let before = loaded(store).await.revision;
    recorded(store, vec![counted(None, 1, 0)], vec![refusal("1", *NOW)]).await;
    assert_eq!((loaded(store).await.revision, *store.revisions().borrow()), (before, before));
    assert_eq!(store.audit(0, usize::MAX).await.unwrap().len(), 1);
}

async fn what_is_older_than_it_is_kept_goes(store: &dyn Store) {
    let days = |days: i64| *NOW - SignedDuration::from_hours(24 * days);
    let count = |at| Count { day: day(at), ..counted(None, 1, 0) };
    recorded(store, vec![count(days(8)), count(days(6))], vec![refusal("old", days(8)), refusal("new", days(6))]).await;
    assert_eq!(store.counts(0, 100).await.unwrap(), [count(days(6))]);
    assert_eq!(store.refusal("old").await.unwrap(), None);
    assert!(store.refusal("new").await.unwrap().is_some());
}
