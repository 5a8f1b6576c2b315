//! Secrets, consents, keys, values beside the data.

use carta_gateway::policy::{ResourceId, UserId};
use carta_gateway::store::{Item, Key, MOST_CONSENTS, Mutation, Resealed, Sealed, Secret, SigningKey, Store};
use uuid::Uuid;

use crate::fixture::*;

crate::contract![
    secrets_are_stored_together_or_not_at_all,
    a_new_value_keeps_the_consents_and_a_deletion_takes_them,
    a_consent_is_for_a_secret_and_a_service_that_are_there,
    withdrawing_takes_every_consent_for_the_service,
    a_withdrawal_outlives_the_secret_and_ends_with_a_consent_that_was_asked_for,
    nobody_keeps_more_consents_than_the_quota_and_a_withdrawal_always_has_room,
    a_first_use_is_a_consent_only_where_nothing_was_said_before,
    an_envelope_is_replaced_only_where_it_is_still_the_same,
    a_key_is_retired_once,
    a_first_value_is_settled_once,
    no_sealed_value_reaches_the_audit_or_a_debug_print,
];

async fn secrets_are_stored_together_or_not_at_all(store: &dyn Store) {
    let ann = made(store, "ann").await;
    let nobody = UserId(Uuid::new_v4());
    misses(store, "user", Mutation::PutSecrets(vec![secret(ann, "one", 1), secret(nobody, "two", 2)])).await;
    assert_eq!(
        store.item(Key::Secret(ann, "one".to_owned())).await.unwrap(),
        Item::Gone(Key::Secret(ann, "one".to_owned()))
    );
    let timed = Secret { expires: Some(at(100)), ..secret(ann, "two", 2) };
    done(store, Mutation::PutSecrets(vec![secret(ann, "one", 1), timed.clone()])).await;
    assert_eq!(store.item(Key::Secret(ann, "two".to_owned())).await.unwrap(), Item::Secret(timed));
    idle(store, Mutation::PutSecrets(vec![])).await;
}

/// A user with the secret `key` and two services.
async fn ready(store: &dyn Store) -> (UserId, ResourceId, ResourceId) {
    let ann = made(store, "ann").await;
    reserved(store, "ns", ann).await;
    let (one, two) = (registered(store, "ns", "one", ann).await, registered(store, "ns", "two", ann).await);
    done(store, Mutation::PutSecrets(vec![secret(ann, "key", 1)])).await;
    (ann, one, two)
}

async fn consents(store: &dyn Store) -> usize {
    items(store).await.iter().filter(|item| matches!(item, Item::Consent(_))).count()
}

async fn a_new_value_keeps_the_consents_and_a_deletion_takes_them(store: &dyn Store) {
    let (ann, one, _) = ready(store).await;
    done(store, Mutation::PutConsent(consent(ann, "key", one, "f"))).await;
    done(store, Mutation::PutSecrets(vec![secret(ann, "key", 2)])).await;
    assert!(items(store).await.contains(&Item::Consent(consent(ann, "key", one, "f"))));
    let before = *store.revisions().borrow();
    done(store, Mutation::DeleteSecret(ann, "key".to_owned())).await;
    let (_, mut changed) = since(store, before).await;
    changed.sort_by_key(|item| format!("{item:?}"));
    let consent = Key::Consent(ann, "key".to_owned(), "f".to_owned());
    assert_eq!(changed, [Item::Gone(consent), Item::Gone(Key::Secret(ann, "key".to_owned()))]);
    misses(store, "secret", Mutation::DeleteSecret(ann, "key".to_owned())).await;
    done(store, Mutation::PutSecrets(vec![secret(ann, "key", 3)])).await;
    assert_eq!(consents(store).await, 0);
}

async fn a_consent_is_for_a_secret_and_a_service_that_are_there(store: &dyn Store) {
    let (ann, one, _) = ready(store).await;
    done(store, Mutation::PutConsent(consent(ann, "key", one, "f"))).await;
    idle(store, Mutation::PutConsent(consent(ann, "key", one, "f"))).await;
    done(store, Mutation::PutConsent(consent(ann, "key", one, "g"))).await;
    misses(store, "secret", Mutation::PutConsent(consent(ann, "other", one, "f"))).await;
    misses(store, "service", Mutation::PutConsent(consent(ann, "key", ResourceId(Uuid::new_v4()), "f"))).await;
    assert_eq!(consents(store).await, 2);
}

async fn withdrawing_takes_every_consent_for_the_service(store: &dyn Store) {
    let (ann, one, two) = ready(store).await;
    for (service, fingerprint) in [(one, "f"), (one, "g"), (two, "h")] {
        done(store, Mutation::PutConsent(consent(ann, "key", service, fingerprint))).await;
    }
    done(store, withdraw(ann, one)).await;
    idle(store, withdraw(ann, one)).await;
    assert_eq!(consents(store).await, 1);
    assert!(items(store).await.contains(&Item::Consent(consent(ann, "key", two, "h"))));
}

fn withdraw(user: UserId, service: ResourceId) -> Mutation {
    Mutation::WithdrawConsent { user, secret: "key".to_owned(), service, at: at(9) }
}

async fn withdrawals(store: &dyn Store) -> Vec<ResourceId> {
    let of = |item: &Item| match item {
        Item::Withdrawal(withdrawal) => Some(withdrawal.service),
        _ => None,
    };
    items(store).await.iter().filter_map(of).collect()
}

async fn a_withdrawal_outlives_the_secret_and_ends_with_a_consent_that_was_asked_for(store: &dyn Store) {
    let (ann, one, two) = ready(store).await;
    misses(
        store,
        "secret",
        Mutation::WithdrawConsent { user: ann, secret: "other".to_owned(), service: one, at: at(9) },
    )
    .await;
    misses(store, "service", withdraw(ann, ResourceId(Uuid::new_v4()))).await;
    done(store, withdraw(ann, one)).await;
    done(store, Mutation::DeleteSecret(ann, "key".to_owned())).await;
    done(store, Mutation::PutSecrets(vec![secret(ann, "key", 2)])).await;
    assert_eq!(withdrawals(store).await, [one]);
    done(store, Mutation::PutConsent(consent(ann, "key", two, "g"))).await;
    assert_eq!(withdrawals(store).await, [one], "another service's consent ends nothing");
    let before = *store.revisions().borrow();
    done(store, Mutation::PutConsent(consent(ann, "key", one, "f"))).await;
    let gone = Item::Gone(Key::Withdrawal(ann, "key".to_owned(), one));
    assert!(since(store, before).await.1.contains(&gone));
    assert_eq!(withdrawals(store).await, []);
    done(store, withdraw(ann, one)).await;
    done(store, Mutation::RemoveService(one)).await;
    assert_eq!(withdrawals(store).await, []);
}

async fn nobody_keeps_more_consents_than_the_quota_and_a_withdrawal_always_has_room(store: &dyn Store) {
    let (ann, one, two) = ready(store).await;
    let given = |number: u32| Mutation::PutConsent(consent(ann, "key", one, &format!("f-{number}")));
    done(store, Mutation::Batch((0..MOST_CONSENTS).map(given).collect())).await;
    refused(store, "more than 16384 consents", given(MOST_CONSENTS)).await;
    refused(store, "more than 16384 consents", withdraw(ann, two)).await;
    done(store, withdraw(ann, one)).await;
    assert_eq!((consents(store).await, withdrawals(store).await), (0, vec![one]));
}

async fn a_first_use_is_a_consent_only_where_nothing_was_said_before(store: &dyn Store) {
    let (ann, one, two) = ready(store).await;
    let first_use = |fingerprint: &str| Mutation::FirstUse(consent(ann, "key", one, fingerprint));
    done(store, Mutation::PutConsent(consent(ann, "key", two, "h"))).await;
    done(store, first_use("f")).await;
    idle(store, first_use("f")).await;
    refused(store, "before", first_use("g")).await;
    done(store, withdraw(ann, one)).await;
    refused(store, "before", first_use("f")).await;
    refused(store, "before", first_use("g")).await;
    done(store, Mutation::PutConsent(consent(ann, "key", one, "g"))).await;
    idle(store, first_use("g")).await;
    refused(store, "before", first_use("f")).await;
    assert_eq!(consents(store).await, 2);
}

fn key(kid: &str) -> SigningKey {
    let (sealed, public) = (format!("{CANARY}-{kid}").into_bytes(), serde_json::json!({ "kid": kid }));
    SigningKey { kid: kid.to_owned(), sealed, public, created: at(1), retired: None }
}

async fn an_envelope_is_replaced_only_where_it_is_still_the_same(store: &dyn Store) {
    let (ann, _, _) = ready(store).await;
    let set = Mutation::SetPassword { user: ann, password: password(1), by_self: true, replaces: None, at: at(2) };
    done(store, set).await;
    done(store, Mutation::PutSigningKey(key("k"))).await;
    let of = [Sealed::Secret(ann, "key".to_owned()), Sealed::Password(ann), Sealed::SigningKey("k".to_owned())];
    let stale = of.clone().map(|of| Resealed { of, from: b"stale".to_vec(), to: b"new".to_vec() });
    idle(store, Mutation::Reseal(stale.to_vec())).await;
    let current = [secret(ann, "key", 1).sealed, password(1).sealed, key("k").sealed];
    let fresh = of.into_iter().zip(current).map(|(of, from)| Resealed { of, from, to: b"new".to_vec() });
    let before = *store.revisions().borrow();
    done(store, Mutation::Reseal(fresh.collect())).await;
    let (_, changed) = since(store, before).await;
    assert_eq!(changed.len(), 2);
    assert!(changed.contains(&Item::Secret(Secret { sealed: b"new".to_vec(), ..secret(ann, "key", 1) })));
    let sealed = b"new".to_vec();
    assert!(changed.contains(&Item::SigningKey(Box::new(SigningKey { sealed: sealed.clone(), ..key("k") }))));
    assert_eq!(store.password(ann).await.unwrap().map(|password| password.sealed), Some(sealed));
}

async fn a_key_is_retired_once(store: &dyn Store) {
    done(store, Mutation::PutSigningKey(key("k"))).await;
    clashes(store, "key", Mutation::PutSigningKey(key("k"))).await;
    done(store, Mutation::RetireSigningKey("k".to_owned(), at(10))).await;
    idle(store, Mutation::RetireSigningKey("k".to_owned(), at(11))).await;
    done(store, Mutation::RetireSigningKey("k".to_owned(), at(9))).await;
    misses(store, "key", Mutation::RetireSigningKey("j".to_owned(), at(9))).await;
    let retired = SigningKey { retired: Some(at(9)), ..key("k") };
    assert!(items(store).await.contains(&Item::SigningKey(Box::new(retired))));
}

async fn a_first_value_is_settled_once(store: &dyn Store) {
    let init = |value: &str| Mutation::InitSetting("name".to_owned(), value.to_owned());
    assert_eq!(store.setting("name").await.unwrap(), None);
    done(store, init("first")).await;
    idle(store, init("second")).await;
    assert_eq!(store.setting("name").await.unwrap().as_deref(), Some("first"));
    done(store, Mutation::PutSetting("name".to_owned(), "third".to_owned())).await;
    idle(store, Mutation::PutSetting("name".to_owned(), "third".to_owned())).await;
    assert_eq!(store.setting("name").await.unwrap().as_deref(), Some("third"));
}

async fn no_sealed_value_reaches_the_audit_or_a_debug_print(store: &dyn Store) {
    let (ann, _, _) = ready(store).await;
    let table = serde_json::json!({ "base_url": "http://a", "inject": { "headers": { "X-Key": CANARY } } });
    let (namespace, name) = ("ns".to_owned(), "svc".to_owned());
    let replaces = store.service_named("ns", "svc").await.unwrap().map(|found| found.id);
    let mutations = [
        Mutation::PutSecrets(vec![secret(ann, "key", 9)]),
        Mutation::SetPassword { user: ann, password: password(1), by_self: true, replaces: None, at: at(2) },
        Mutation::PutSigningKey(key("k")),
        Mutation::PutSetting("setting".to_owned(), CANARY.to_owned()),
        Mutation::Reseal(vec![Resealed {
            of: Sealed::Password(ann),
            from: password(1).sealed,
            to: format!("{CANARY}-new").into_bytes(),
        }]),
        Mutation::RetireSigningKey("k".to_owned(), at(3)),
        Mutation::PutService { namespace, name, replaces, owner: ann, table },
        Mutation::SetPassword { user: ann, password: password(2), by_self: false, replaces: None, at: at(2) },
    ];
    let bytes = format!("{:?}", CANARY.as_bytes());
    let bytes = bytes.trim_matches(['[', ']']);
    for mutation in mutations {
        // A table and a setting are text that the store cannot judge; nobody prints a whole mutation in the product.
        if !matches!(mutation, Mutation::PutService { .. } | Mutation::PutSetting(..)) {
            let shown = format!("{mutation:?}");
            assert!(!shown.contains(CANARY) && !shown.contains(bytes), "{shown}");
        }
        done(store, mutation).await;
    }
    for record in store.audit(0, usize::MAX).await.unwrap() {
        let shown = format!("{record:?}");
        assert!(!shown.contains(CANARY) && !shown.contains(bytes), "{shown}");
    }
    for item in items(store).await.iter().filter(|item| !matches!(item, Item::Service(_))) {
        let shown = format!("{item:?}");
        assert!(!shown.contains(CANARY) && !shown.contains(bytes), "{shown}");
    }
}
