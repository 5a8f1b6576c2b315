//! After any sequence of changes, everything is what the patches lead to.

use std::collections::{BTreeMap, BTreeSet};

use carta_gateway::policy::{GroupId, Levels, ResourceId, Subject, UserId};
use carta_gateway::store::{
    Changes, Contents, DeclaredService, Feed, Followed, Group, Item, Key, Mutation, Resealed, Revision, Sealed,
    SigningKey, Store, User,
};
use proptest::prelude::*;
use uuid::Uuid;

use crate::api_tokens::token;
use crate::fixture::*;

/// A change among few things, so that changes meet.
#[derive(Debug, Clone)]
struct Step {
    kind: u8,
    one: u8,
    two: u8,
    /// Whether the reader looks after it.
    look: bool,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn loading_equals_patching_after_any_sequence(
        steps in prop::collection::vec(
            (0u8..29, 0u8..3, 0u8..3, prop::bool::weighted(0.2))
                .prop_map(|(kind, one, two, look)| Step { kind, one, two, look }),
            1..60,
        )
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let store = sqlite(&directory);
        runtime.block_on(walk(&store, &steps));
    }
}

async fn walk(store: &dyn Store, steps: &[Step]) {
    let mut seen = (Revision(0), BTreeMap::new());
    for number in 0..3 {
        done(store, new(&User { id: someone(number), ..user(&format!("user-{number}")) })).await;
    }
    for (second, step) in steps.iter().enumerate() {
        let before = *store.revisions().borrow();
        let mutation = mutation(store, step, second as i64).await;
        let Some(mutation) = mutation else { continue };
        match commit(store, mutation).await {
            // A change makes one revision, or none.
            Ok(committed) => assert!(committed.revision.0 - before.0 <= 1),
            Err(_) => assert_eq!(*store.revisions().borrow(), before),
        }
        if step.look {
            seen = patched(store, seen).await;
        }
    }
    seen = patched(store, seen).await;
    let Contents { revision, items } = store.load().await.unwrap();
    let everything: BTreeMap<_, _> = items.into_iter().map(|item| (key(&item), item)).collect();
    assert_eq!(seen, (revision, everything));
    let records = store.audit(0, usize::MAX).await.unwrap();
    let revisions: BTreeSet<_> = records.iter().map(|record| record.revision).collect();
    assert_eq!(revisions.len() as u64, revision.0);
    let followed = store.follow_audit(Followed::default(), usize::MAX).await.unwrap();
    assert!(
        matches!(followed, carta_gateway::store::Step::Whole(end, _) if end.seq == records.len() as u64),
        "{followed:?}"
    );
}

type Seen = (Revision, BTreeMap<Key, Item>);

async fn patched(store: &dyn Feed, (since, mut items): Seen) -> Seen {
    let Changes::Patch { revision, items: changed } = store.changes(since).await.unwrap() else {
        panic!("nothing was pruned");
    };
    for item in changed {
        match item {
            Item::Gone(key) => items.remove(&key),
            item => items.insert(key(&item), item),
        };
    }
    (revision, items)
}

fn key(item: &Item) -> Key {
    match item {
        Item::User(user, _) => Key::User(user.id),
        Item::Link(link) => Key::Link(link.issuer.clone(), link.subject.clone()),
        Item::Group(group) => Key::Group(group.id),
        Item::Namespace(namespace) => Key::Namespace(namespace.id),
        Item::Service(service) => Key::Service(service.id),
        Item::Grant(grant) => Key::Grant(grant.row.subject.clone(), grant.row.pattern.clone()),
        Item::Secret(secret) => Key::Secret(secret.user, secret.name.clone()),
        Item::Consent(consent) => Key::Consent(consent.user, consent.secret.clone(), consent.fingerprint.clone()),
        Item::Node(node) => Key::Node(node.id),
        Item::Withdrawal(withdrawal) => Key::Withdrawal(withdrawal.user, withdrawal.secret.clone(), withdrawal.service),
        Item::ApiToken(token) => Key::ApiToken(token.id),
        Item::SigningKey(key) => Key::SigningKey(key.kid.clone()),
        Item::Gone(key) => key.clone(),
    }
}

fn someone(number: u8) -> UserId {
    UserId(Uuid::from_u128(u128::from(number) + 1))
}

fn some_group(number: u8) -> GroupId {
    GroupId(Uuid::from_u128(u128::from(number) + 100))
}

async fn some_service(store: &dyn Store, namespace: u8, name: u8) -> Option<ResourceId> {
    store.service_named(&format!("ns-{namespace}"), &format!("svc-{name}")).await.unwrap().map(|found| found.id)
}

/// The change that the step means; none where it needs a service or namespace that is not there.
async fn mutation(store: &dyn Store, step: &Step, second: i64) -> Option<Mutation> {
    let &Step { kind, one, two, .. } = step;
    let (at, name) = (at(second), format!("key-{two}"));
    let (ns, svc) = (format!("ns-{one}"), format!("svc-{two}"));
    let subject = match two {
        0 => Subject::User(someone(one)),
        1 => Subject::Group(some_group(one)),
        _ => Subject::Everyone,
    };
    let pattern: &[&str] = if two == 0 { &[&ns] } else { &[&ns, &svc, "x"] };
    let levels = if kind == 0 { Levels::READ } else { Levels::ALL };
    Some(match kind {
        0 | 1 => put(grant(subject, pattern, levels)),
        2 => {
            let row = grant(subject, pattern, levels);
            if second % 2 == 0 {
                Mutation::RemoveGrant(row.subject, row.pattern)
            } else {
                Mutation::TakeLevels { subject: row.subject, pattern: row.pattern, levels: Levels::READ }
            }
        }
        3 => Mutation::CreateGroup(Group { id: some_group(one), name: format!("group-{one}"), owner: None }),
        4 => Mutation::AddMember(some_group(one), someone(two)),
        5 => Mutation::RemoveMember(some_group(one), someone(two)),
        6 | 7 => Mutation::ReserveNamespace { name: ns, owner: someone(two) },
        8 | 9 => {
            let there = some_service(store, one, two).await;
            replacing(there, service(&ns, &svc, someone(one), &format!("http://{}", second % 3)))
        }
        10 => Mutation::RenameService { id: some_service(store, one, two).await?, to: format!("svc-{}", second % 4) },
        11 => Mutation::RemoveService(some_service(store, one, two).await?),
        12 => Mutation::RemoveNamespace(store.namespace_named(&ns).await.unwrap()?.id),
        13 => {
            let (resource, to) = (some_service(store, one, two).await?, someone((second % 3) as u8));
            let keep = Some(grant(Subject::User(someone(one)), &[&ns, &svc], Levels::READ));
            let from = store.service_named(&ns, &svc).await.unwrap()?.owner;
            Mutation::TransferOwner { resource, from, to, keep, at }
        }
        14 => {
            let owner = format!("user-{one}");
            let declared = |name: u8| DeclaredService {
                namespace: format!("ns-{}", second % 3),
                name: format!("svc-{name}"),
                owner: owner.clone(),
            };
            Mutation::DeclareServices((0..two).map(declared).collect())
        }
        15 | 16 => Mutation::PutSecrets(vec![secret(someone(one), &name, second as u8)]),
        17 => Mutation::DeleteSecret(someone(one), name),
        18 | 19 => {
            let service = some_service(store, two, one).await?;
            let consent = consent(someone(one), &name, service, &format!("f-{}", second % 2));
            if kind == 18 { Mutation::PutConsent(consent) } else { Mutation::FirstUse(consent) }
        }
        20 => {
            let service = some_service(store, two, one).await?;
            Mutation::WithdrawConsent { user: someone(one), secret: name, service, at }
        }
        21 => {
            Mutation::SetPassword { user: someone(one), password: password(two), by_self: two == 0, replaces: None, at }
        }
        22 => Mutation::DisableUser { user: someone(one), disabled: two == 0, at },
        23 => Mutation::Link { link: link("https://i", &format!("subject-{one}"), someone(two)), by_self: two == 0 },
        24 if two == 0 => Mutation::RetireSigningKey(format!("kid-{one}"), at),
        24 => {
            let (kid, sealed) = (format!("kid-{one}"), vec![two]);
            Mutation::PutSigningKey(SigningKey {
                kid,
                sealed,
                public: serde_json::json!({}),
                created: at,
                retired: None,
            })
        }
        25 | 26 => {
            let subject = Subject::Holders(Levels::READ, some_service(store, one, two).await?);
            let row = |levels| grant(subject.clone(), &[&ns], levels);
            let taken = Mutation::RemoveGrant(Subject::Everyone, row(levels).pattern);
            let last = Mutation::AddMember(some_group(one), someone(two));
            Mutation::Batch(vec![put(row(Levels::READ)), taken, put(row(levels)), last])
        }
        27 => match two {
            0 => Mutation::CreateApiToken(Box::new(token(someone(one), &name))),
            1 => Mutation::RevokeApiToken(someone(one), "key-0".to_owned()),
            _ => Mutation::DeleteApiToken(someone(one), "key-0".to_owned()),
        },
        _ => {
            let from = match store.item(Key::Secret(someone(one), name.clone())).await.unwrap() {
                Item::Secret(secret) => secret.sealed,
                _ => return None,
            };
            Mutation::Reseal(vec![Resealed { of: Sealed::Secret(someone(one), name), from, to: vec![two] }])
        }
    })
}
