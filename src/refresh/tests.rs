//! What is published, and that patches lead to the same as a load.

use std::collections::BTreeSet;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::policy::{Grant, Levels, Recent, ResourceId, Subject, UserId};
use crate::store::sqlite::SqliteStore;
use crate::store::{Consent, Group, Link, Namespace, NewUser, Node, NodeKind, Password, Secret};
use crate::vault::Context;

#[test]
fn a_change_that_concerns_no_decision_leaves_what_was_decided() {
    let user = UserId(Uuid::from_u128(1));
    let secret = Secret { user, name: "k".into(), sealed: vec![], created: Timestamp::UNIX_EPOCH, expires: None };
    let namespace = Namespace { id: ResourceId(Uuid::from_u128(2)), name: "ns".into(), owner: Some(user) };
    let record = |props: &str, owner| Node {
        id: ResourceId(Uuid::from_u128(4)),
        kind: NodeKind::Generic,
        name: props.to_owned(),
        labels: vec!["Note".to_owned()],
        props: props.to_owned(),
        owner,
        parent: None,
    };
    let put = |record: Node| Item::Node(Box::new(record));
    let policy = patch_policy(&Snapshot::empty(), &[Item::Namespace(namespace), put(record("{}", Some(user)))]);
    let mut recent = Recent::new(16);
    let mut hits = |policy: &Snapshot| {
        let _ = recent.permit(policy, user, &["ns"], Levels::READ, Timestamp::UNIX_EPOCH).unwrap();
        recent.hits_and_misses().0
    };
    assert_eq!(hits(&policy), 0);
    let policy = patch_policy(&policy, &[Item::Secret(secret)]);
    assert_eq!(hits(&policy), 1);
    let policy = patch_policy(&policy, &[put(record("{\"other\":1}", Some(user)))]);
    assert_eq!(hits(&policy), 2, "what a record says of itself decides nothing");
    assert_eq!(hits(&patch_policy(&policy, &[put(record("{}", None))])), 2, "whose it is does");
    let other = Namespace { id: ResourceId(Uuid::from_u128(3)), name: "other".into(), owner: None };
    assert_eq!(hits(&patch_policy(&policy, &[Item::Namespace(other)])), 2);
}

#[test]
fn a_group_that_nobody_runs_any_more_is_nobodys() {
    let (group, user) = (GroupId(Uuid::from_u128(1)), UserId(Uuid::from_u128(2)));
    let run_by = |owner| Item::Group(Group { id: group, name: "Lab:Chiefs".into(), owner });
    let node = ResourceId(group.0);
    let run = patch_policy(&Snapshot::empty(), &[run_by(Some(user))]);
    assert_eq!(run.resource(node).and_then(|resource| resource.owner), Some(user));
    for left in [patch_policy(&run, &[run_by(None)]), policy(&[run_by(None)])] {
        assert_eq!(left.resource(node), None);
        assert_eq!(left.levels(user, &[&node.key()], Timestamp::UNIX_EPOCH), Levels::NONE);
    }
    // Once more is no change, so that what workers remember of the policy stays true.
    let same = patch_policy(&run, &[run_by(Some(user))]);
    assert_eq!(same.size(), run.size());
}

#[test]
fn an_idle_store_is_asked_well_before_it_looks_stale() {
    for seconds in [1, 60, 300, 86_400] {
        let staleness = Duration::from_secs(seconds);
        assert!(heartbeat(staleness) * 5 <= staleness || heartbeat(staleness) == Duration::from_millis(100));
    }
}

const CONFIG: &str =
    "[vault]\nkey = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n[store]\nurl = \"sqlite://carta.db\"\n";

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

/// A refresher of an empty store in the folder, with what it is made from.
async fn refresher(folder: &std::path::Path) -> (Refresher, Parts) {
    let config = config::parse(CONFIG, folder, &|_| None).unwrap();
    let vault = Arc::new(Vault::new(&config.vault).unwrap());
    let guard = Arc::new(TargetGuard::new(&config.register, &[]));
    let store = Arc::new(SqliteStore::open(&folder.join("carta.db"), vault.clone()).unwrap());
    let parts =
        Parts { store, vault, issuer: None, config: Arc::new(config), guard, roots: Arc::new(Roots::default()) };
    (Refresher::load(parts.clone()).await.unwrap(), parts)
}

fn person(number: u128) -> UserId {
    UserId(Uuid::from_u128(number))
}

fn group(number: u128) -> GroupId {
    GroupId(Uuid::from_u128(100 + number))
}

fn user(number: u128, text: u8) -> User {
    User {
        id: person(number),
        name: format!("user-{number}"),
        email: (text > 0).then(|| format!("A{text}@x.org")),
        email_verified: text > 1,
        first_name: (text > 2).then(|| "Ann".to_owned()),
        last_name: None,
        organization: Some(format!("Org {}", text % 2)),
        role: "Guest".to_owned(),
        administrator: false,
        disabled: false,
        tokens_dead_until: None,
        created: NOW,
    }
}

/// One change; the store refuses what does not fit what is there.
fn mutation(view: &View, vault: &Vault, (what, one, other, text): (u8, u128, u128, u8)) -> Option<Mutation> {
    let (owner, namespace, name) = (person(one), format!("ns-{}", other % 2), format!("svc-{text}"));
    let service = view.catalog.service(&namespace, &name).map(|service| service.id);
    let place = view.catalog.namespace(&namespace).map(|namespace| namespace.id);
    let pattern = Pattern::literal([namespace.as_str(), name.as_str()]).unwrap();
    let subject = if text == 0 { Subject::Group(group(other)) } else { Subject::User(owner) };
    let secret = format!("key-{text}");
    let link = Link { issuer: "https://idp".to_owned(), subject: format!("s-{text}"), user: owner };
    Some(match what {
        0 => Mutation::CreateUser(Box::new(NewUser {
            user: user(one, text),
            link: None,
            password: None,
            first_role: None,
        })),
        1 => Mutation::UpdateUser(Box::new(user(one, text))),
        2 => Mutation::SetRole { user: owner, role: format!("role-{text}") },
        3 => Mutation::DisableUser { user: owner, disabled: text > 1, at: NOW },
        4 => Mutation::Link { link, by_self: text % 2 == 0 },
        5 => Mutation::CreateGroup(Group { id: group(other), name: format!("Org:{text}"), owner: Some(owner) }),
        6 => Mutation::AddMember(group(other), owner),
        7 => Mutation::RemoveMember(group(other), owner),
        8 => Mutation::ReserveNamespace { name: namespace, owner },
        9 => {
            let table = json!({ "base_url": format!("https://api{one}.example.org/v{text}") });
            Mutation::PutService { namespace, name, replaces: service, owner, table }
        }
        10 => Mutation::RenameService { id: service?, to: format!("svc-{}", (text + 1) % 4) },
        11 => Mutation::RemoveService(service?),
        12 => Mutation::RemoveNamespace(place?),
        13 => {
            let resource = service.or(place)?;
            Mutation::TransferOwner { resource, from: Some(person(other)), to: owner, keep: None, at: NOW }
        }
        14 => {
            let levels = if other == 0 { Levels::NONE } else { Levels::READ };
            let grant = Grant { subject, pattern, levels, expires: None };
            Mutation::PutGrant { grant, by: None, at: NOW }
        }
        15 => Mutation::RemoveGrant(subject, pattern),
        16 => {
            let sealed = vault.seal(Context::Secret(owner, &secret), &[text; 8]).unwrap();
            Mutation::PutSecrets(vec![Secret { user: owner, name: secret, sealed, created: NOW, expires: None }])
        }
        17 => Mutation::DeleteSecret(owner, secret),
        18 => {
            let (fingerprint, origins) = (format!("f-{other}"), "https://api.example.org".to_owned());
            Mutation::PutConsent(Consent { user: owner, secret, service: service?, fingerprint, origins, at: NOW })
        }
        19 => Mutation::WithdrawConsent { user: owner, secret, service: service?, at: NOW },
        _ => {
            let sealed = vault.seal(Context::Password(owner), b"verifier").unwrap();
            let password = Password { sealed, temporary: false, reset: false };
            Mutation::SetPassword { user: owner, password, by_self: text > 0, replaces: None, at: NOW }
        }
    })
}

/// Everything that requests and the API can read, in an order that does not depend on how it came about.
fn told(view: &View) -> BTreeSet<String> {
    let (state, mut all) = (&view.state, BTreeSet::new());
    let directory = &state.directory;
    all.insert(format!("revision {} accounts {} {:?}", state.revision, directory.len(), state.policy.size()));
    for account in directory.users() {
        let mut links: Vec<_> = directory.links_of(account.id).to_vec();
        links.sort_by(|one, other| one.subject.cmp(&other.subject));
        all.insert(format!("{account:?} {links:?} {:?}", directory.by_name(&account.name).map(|found| found.id)));
        for link in links {
            let proved = directory.by_link(&link.issuer, &link.subject).map(|found| found.id);
            all.insert(format!("{link:?} proves {proved:?}"));
        }
        for secret in state.secrets.of(account.id) {
            let mut plain = zeroize::Zeroizing::new(Vec::new());
            let opened = state.secrets.open(account.id, &secret.name, NOW, &mut plain);
            all.insert(format!("{:?} {secret:?} {opened:?} {plain:?}", account.id));
        }
        for consent in state.secrets.consents_of(account.id) {
            all.insert(format!("{consent:?}"));
        }
        for withdrawn in state.secrets.withdrawn_of(account.id) {
            all.insert(format!("{:?} withdrew {withdrawn:?}", account.id));
        }
    }
    for email in (0..4).map(|text| format!("a{text}@x.org")) {
        all.insert(format!("{email} is {:?}", directory.by_email(&email).map(|found| found.id)));
    }
    for known in directory.groups() {
        let members: BTreeSet<UserId> = directory.members(known.id).map(|account| account.id).collect();
        all.insert(format!("{known:?} {members:?}"));
    }
    all.extend(view.catalog.namespaces().map(|namespace| format!("{namespace:?}")));
    all.extend(view.catalog.services().map(|service| format!("{service:?}")));
    for route in state.routes.iter() {
        let bases: Vec<_> = route.bases().iter().map(ToString::to_string).collect();
        let found = state.routes.find(route.namespace(), route.name()).map(|found| found.id());
        all.insert(format!("{} {:?} {bases:?} {:?} {found:?}", route.label(), route.id(), route.fault()));
    }
    all.extend(state.policy.grants().map(|grant| format!("{grant:?}")));
    for (user, route) in directory.users().flat_map(|account| state.routes.iter().map(|route| (account.id, route))) {
        let levels = state.policy.levels(user, &[route.namespace(), route.name()], NOW);
        all.insert(format!("{user:?} on {}: {levels:?}", route.label()));
    }
    all
}

proptest! {
    // Few, as each change waits for the disk; what is random in them is the order.
    #![proptest_config(ProptestConfig { cases: 16, max_shrink_iters: 100, ..Default::default() })]

    #[test]
    fn the_state_that_patches_lead_to_is_the_one_that_is_loaded(
        steps in proptest::collection::vec((0_u8..21, 0_u128..3, 0_u128..3, 0_u8..4), 20..80),
        rarely in 1_usize..8,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (refresher, parts) = refresher(folder.path()).await;
            let begin = [(0, 0, 0, 1), (0, 1, 0, 0), (5, 0, 0, 0), (8, 0, 0, 0), (9, 0, 0, 1), (16, 0, 0, 1)];
            for (turn, step) in begin.into_iter().chain(steps).enumerate() {
                let view = refresher.published.view.load_full();
                if let Some(mutation) = mutation(&view, &parts.vault, step) {
                    let actor = Actor { user: None, via: "cli", from: "test".into(), request_id: None };
                    // What does not fit is refused, and changes nothing.
                    let _ = parts.store.commit(actor, mutation).await;
                }
                if turn.is_multiple_of(rarely) {
                    refresher.refresh().await.unwrap();
                }
            }
            refresher.refresh().await.unwrap();
            assert!(refresher.published.view.load().state.revision >= begin.len() as u64, "nothing was made");
            let (patched, loaded) = (told(&refresher.published.view.load()), told(&load(&parts).await.unwrap()));
            let only = |one: &BTreeSet<String>, other: &BTreeSet<String>| one.difference(other).cloned().collect::<Vec<_>>();
            assert_eq!(only(&patched, &loaded), only(&loaded, &patched));
        });
    }
}
