//! API tokens: made, revoked, deleted as changes; used without one.

use carta_gateway::policy::UserId;
use carta_gateway::store::{
    ApiToken, ApiTokenId, Item, Key, KeyDigest, MOST_API_TOKENS, Mutation, Password, Store, StoreError,
};
use uuid::Uuid;

use crate::fixture::*;

crate::contract![
    a_token_is_in_the_feed_and_in_a_full_load_and_its_name_is_one_users,
    a_revoked_token_stays_unless_it_removes_itself,
    a_use_is_taken_once_and_is_no_change,
    nothing_is_taken_from_a_token_that_is_gone_revoked_expired_or_does_not_count,
    a_last_use_only_goes_forward_and_is_no_change,
    nobody_keeps_more_tokens_than_the_quota,
    a_token_outlives_what_happens_to_its_user,
    no_digest_reaches_the_audit_or_a_debug_print,
];

pub(crate) fn token(user: UserId, name: &str) -> ApiToken {
    let id = Uuid::new_v4();
    let mut digest = [0xd1; 32];
    digest[..16].copy_from_slice(id.as_bytes());
    ApiToken {
        id: ApiTokenId(id),
        user,
        name: name.to_owned(),
        digest: KeyDigest(digest),
        hint: "hint".to_owned(),
        patterns: vec!["GET /user".to_owned(), "POST|PUT /a \"b\"/*".to_owned()],
        expires: None,
        uses: None,
        revoked: false,
        auto_remove: false,
        created: at(1),
        last_used: None,
    }
}

fn create(token: &ApiToken) -> Mutation {
    Mutation::CreateApiToken(Box::new(token.clone()))
}

fn revoke(of: &ApiToken) -> Mutation {
    Mutation::RevokeApiToken(of.user, of.name.clone())
}

fn delete(of: &ApiToken) -> Mutation {
    Mutation::DeleteApiToken(of.user, of.name.clone())
}

async fn kept(store: &dyn Store, id: ApiTokenId) -> Option<ApiToken> {
    match store.item(Key::ApiToken(id)).await.unwrap() {
        Item::ApiToken(token) => Some(*token),
        Item::Gone(_) => None,
        other => panic!("no token: {other:?}"),
    }
}

async fn a_token_is_in_the_feed_and_in_a_full_load_and_its_name_is_one_users(store: &dyn Store) {
    let (ann, bob) = (made(store, "ann").await, made(store, "bob").await);
    let before = *store.revisions().borrow();
    let of_ann = ApiToken { expires: Some(at(50)), uses: Some(3), ..token(ann, "ci") };
    let committed = done(store, create(&of_ann)).await;
    assert_eq!(since(store, before).await, (committed.revision, vec![Item::ApiToken(Box::new(of_ann.clone()))]));
    clashes(store, "API token", create(&token(ann, "ci"))).await;
    misses(store, "user", create(&token(UserId(Uuid::new_v4()), "ci"))).await;
    let (of_bob, first) = (token(bob, "ci"), token(ann, "a"));
    done(store, create(&of_bob)).await;
    done(store, create(&first)).await;
    assert_eq!(store.api_tokens(ann).await.unwrap(), [first, of_ann.clone()]);
    let loaded = items(store).await;
    assert!([of_ann, of_bob].iter().all(|token| loaded.contains(&Item::ApiToken(Box::new(token.clone())))));
}

async fn a_revoked_token_stays_unless_it_removes_itself(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let (stays, goes) = (token(ann, "stays"), ApiToken { auto_remove: true, ..token(ann, "goes") });
    done(store, create(&stays)).await;
    done(store, create(&goes)).await;
    let before = *store.revisions().borrow();
    done(store, revoke(&stays)).await;
    idle(store, revoke(&stays)).await;
    done(store, revoke(&goes)).await;
    assert!(kept(store, stays.id).await.unwrap().revoked);
    assert_eq!(kept(store, goes.id).await, None);
    assert!(since(store, before).await.1.contains(&Item::Gone(Key::ApiToken(goes.id))));
    misses(store, "API token", revoke(&goes)).await;
    misses(store, "API token", delete(&goes)).await;
    done(store, delete(&stays)).await;
    assert_eq!(store.api_tokens(ann).await.unwrap(), []);
    done(store, create(&token(ann, "stays"))).await;
}

async fn a_use_is_taken_once_and_is_no_change(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let counted = ApiToken { uses: Some(2), ..token(ann, "ci") };
    done(store, create(&counted)).await;
    let (revision, records) = (*store.revisions().borrow(), store.audit(0, usize::MAX).await.unwrap().len());
    let spent = futures_util::future::join_all((0..5).map(|_| store.spend(counted.id, at(7)))).await;
    let mut left: Vec<_> = spent.into_iter().map(|left| left.unwrap()).collect();
    left.sort_unstable();
    assert_eq!(left, [None, None, None, Some(0), Some(1)]);
    let after = kept(store, counted.id).await.unwrap();
    assert_eq!((after.uses, after.last_used), (Some(0), Some(at(7))));
    assert_eq!(*store.revisions().borrow(), revision);
    assert_eq!(store.audit(0, usize::MAX).await.unwrap().len(), records);
    assert_eq!(since(store, revision).await.1, []);
}

async fn nothing_is_taken_from_a_token_that_is_gone_revoked_expired_or_does_not_count(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let counted = |name| ApiToken { uses: Some(2), expires: Some(at(10)), ..token(ann, name) };
    let (good, revoked, free) = (counted("good"), counted("revoked"), token(ann, "free"));
    for token in [&good, &revoked, &free] {
        done(store, create(token)).await;
    }
    done(store, revoke(&revoked)).await;
    assert_eq!(store.spend(good.id, at(9)).await, Ok(Some(1)));
    assert_eq!(store.spend(good.id, at(10)).await, Ok(None), "it ends then");
    for other in [revoked.id, free.id, ApiTokenId(Uuid::new_v4())] {
        assert_eq!(store.spend(other, at(9)).await, Ok(None));
    }
}

async fn a_last_use_only_goes_forward_and_is_no_change(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let (one, two) = (token(ann, "one"), token(ann, "two"));
    done(store, create(&one)).await;
    done(store, create(&two)).await;
    let revision = *store.revisions().borrow();
    store.note_uses(vec![(one.id, at(9)), (two.id, at(3)), (ApiTokenId(Uuid::new_v4()), at(5))]).await.unwrap();
    store.note_uses(vec![(one.id, at(8))]).await.unwrap();
    let used: Vec<_> = store.api_tokens(ann).await.unwrap().into_iter().map(|token| token.last_used).collect();
    assert_eq!(used, [Some(at(9)), Some(at(3))]);
    assert_eq!(*store.revisions().borrow(), revision);
}

async fn nobody_keeps_more_tokens_than_the_quota(store: &dyn Store) {
    let (ann, bob) = (made(store, "ann").await, made(store, "bob").await);
    let most = (0..MOST_API_TOKENS).map(|number| create(&token(ann, &format!("token-{number}")))).collect();
    done(store, Mutation::Batch(most)).await;
    done(store, Mutation::RevokeApiToken(ann, "token-1".to_owned())).await;
    refused(store, "API tokens of one user", create(&token(ann, "more"))).await;
    done(store, create(&token(bob, "more"))).await;
    done(store, Mutation::DeleteApiToken(ann, "token-0".to_owned())).await;
    done(store, create(&token(ann, "more"))).await;
}

async fn a_token_outlives_what_happens_to_its_user(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let of_ann = token(ann, "ci");
    done(store, create(&of_ann)).await;
    done(store, Mutation::DisableUser { user: ann, disabled: true, at: at(2) }).await;
    done(store, Mutation::DisableUser { user: ann, disabled: false, at: at(3) }).await;
    let password = Password { sealed: vec![1], temporary: false, reset: false };
    done(store, Mutation::SetPassword { user: ann, password, by_self: false, replaces: None, at: at(4) }).await;
    assert_eq!(kept(store, of_ann.id).await, Some(of_ann));
}

async fn no_digest_reaches_the_audit_or_a_debug_print(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let of_ann = ApiToken { digest: KeyDigest([0xAB; 32]), ..token(ann, "ci") };
    let debug = format!("{:?}", create(&of_ann));
    done(store, create(&of_ann)).await;
    done(store, revoke(&of_ann)).await;
    done(store, delete(&of_ann)).await;
    let audit = format!("{:?}", store.audit(0, usize::MAX).await.unwrap());
    for text in [debug, audit] {
        assert!(text.contains("ci") && text.contains("GET /user"), "{text}");
        let lower = text.to_lowercase();
        assert!(!lower.contains("abab") && !lower.contains("171, 171") && !lower.contains("hint"), "{text}");
    }
}

#[tokio::test]
async fn uses_that_wait_leave_places_for_changes() {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite(&directory);
    let store: &dyn Store = &store;
    // Nothing is written as long as somebody else does.
    let other = rusqlite::Connection::open(path(&directory)).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let token = ApiTokenId(uuid::Uuid::new_v4());
    let mut waiting: Vec<_> = (0..5000).map(|_| Box::pin(store.spend(token, jiff::Timestamp::now()))).collect();
    let mut context = Context::from_waker(Waker::noop());
    let mut refused = 0;
    for spend in &mut waiting {
        let polled = spend.as_mut().poll(&mut context);
        refused += usize::from(matches!(polled, Poll::Ready(Err(StoreError::Unavailable(_)))));
    }
    assert!(refused > 4000, "{refused}");
    let mut change = pin!(store.commit(actor(), Mutation::PutSetting("x".to_owned(), "y".to_owned())));
    assert!(change.as_mut().poll(&mut context).is_pending(), "it has no place");
    other.execute_batch("COMMIT").unwrap();
    change.await.unwrap();
}
