//! Lists beside a look at every node that there is, over worlds of any grants.

use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;

use super::super::view::{Catalog, pattern};
use super::*;
use crate::identity::Directory;
use crate::policy::{Change, Grant, GroupId, Member, Pattern, Resource, Snapshot};
use crate::proxy::State;
use crate::proxy::route::Routes;
use crate::store::{Group, Item, Namespace, Node as Record, NodeKind, Origin, Service, User};
use crate::vault::{ProcessKey, Secrets};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

const USERS: std::ops::Range<u128> = 0..3;
const GROUPS: std::ops::Range<u128> = 10..12;
const NAMESPACES: std::ops::Range<u128> = 20..22;
/// Two in each namespace, of which the file no longer declares the last.
const SERVICES: std::ops::Range<u128> = 30..34;
/// Two projects with a connection each, then others.
const RECORDS: std::ops::Range<u128> = 40..48;
const LABELS: [&str; 6] = ["User", "UserGroup", "Namespace", "Service", "Project", "Thing"];

fn id(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn user(number: u128) -> User {
    User {
        id: UserId(id(number)),
        name: format!("user-{number}"),
        email: None,
        email_verified: false,
        first_name: None,
        last_name: None,
        organization: None,
        role: "Guest".to_owned(),
        administrator: false,
        disabled: false,
        tokens_dead_until: None,
        created: NOW,
    }
}

fn service(number: u128, owner: Option<UserId>) -> Service {
    Service {
        id: ResourceId(id(number)),
        namespace: format!("ns-{}", 20 + (number - SERVICES.start) / 2),
        name: format!("svc-{}", number % 2),
        owner,
        origin: Origin::File,
        present: number + 1 < SERVICES.end,
        table: serde_json::Value::Null,
    }
}

fn record(number: u128, owner: Option<UserId>) -> Record {
    let (kind, label, parent) = match number - RECORDS.start {
        0 | 1 => (NodeKind::Project, "Project", None),
        2 | 3 => (NodeKind::Connection, "Connection", Some(ResourceId(id(number - 2)))),
        _ => (NodeKind::Generic, "Thing", None),
    };
    Record {
        id: ResourceId(id(number)),
        kind,
        name: format!("record-{number}"),
        labels: vec![label.to_owned(), format!("only-{number}")],
        props: "{}".to_owned(),
        owner,
        parent,
    }
}

/// A world that nothing was granted in: every other thing is of the first user's, the rest nobody's or the second's.
fn bare(owners: &[u8]) -> (Vec<Item>, Vec<Change>) {
    let owner = |number: u128| match owners.get(number as usize % owners.len().max(1)) {
        Some(0) => Some(UserId(id(0))),
        Some(1) => Some(UserId(id(1))),
        _ => None,
    };
    let (mut items, mut changes) = (Vec::new(), Vec::new());
    let mut resource = |number: u128, name: Pattern, owner| {
        changes.push(Change::Resource(Resource { id: ResourceId(id(number)), name, owner }));
    };
    for number in GROUPS {
        let group = Group { id: GroupId(id(number)), name: format!("group-{number}"), owner: owner(number) };
        if group.owner.is_some() {
            resource(number, pattern(&[&ResourceId(id(number)).key()]), group.owner);
        }
        items.push(Item::Group(group));
    }
    for number in NAMESPACES {
        let namespace = Namespace { id: ResourceId(id(number)), name: format!("ns-{number}"), owner: owner(number) };
        resource(number, pattern(&[&namespace.name]), namespace.owner);
        items.push(Item::Namespace(namespace));
    }
    for number in SERVICES {
        let service = service(number, owner(number));
        resource(number, pattern(&[&service.namespace, &service.name]), service.owner);
        items.push(Item::Service(Box::new(service)));
    }
    for number in RECORDS {
        let record = record(number, owner(number));
        resource(number, record.pattern(), record.owner);
        items.push(Item::Node(Box::new(record)));
    }
    for number in USERS {
        // The first is in the first group, the second in both.
        let groups: Vec<_> = GROUPS.take(number as usize).map(|group| GroupId(id(group))).collect();
        let (user, role) = (user(number), "Guest".into());
        changes.push(Change::Member(Member { id: user.id, role, groups: groups.clone() }));
        items.push(Item::User(Box::new(user), groups));
    }
    (items, changes)
}

fn view((items, changes): (Vec<Item>, Vec<Change>)) -> View {
    let state = State {
        revision: 1,
        loaded: Instant::now(),
        policy: Snapshot::empty().patched(changes),
        directory: Arc::new(Directory::empty().patched(&items)),
        routes: Arc::new(Routes::empty()),
        secrets: Secrets::empty(Arc::new(ProcessKey::random().unwrap())),
    };
    View { state: Arc::new(state), catalog: Catalog::default().patched(&items) }
}

fn nodes(view: &View) -> Vec<Node> {
    let all = USERS.chain(GROUPS).chain(NAMESPACES).chain(SERVICES).chain(RECORDS);
    all.filter_map(|number| view.node_of(ResourceId(id(number)))).collect()
}

/// A deadline that no test meets.
fn endless() -> Deadline {
    Deadline { end: Instant::now() + LONGEST * 1000, looked: 0 }
}

fn holds(levels: Levels, owner: bool) -> bool {
    owner || !levels.is_empty()
}

/// The same by a look at every node.
fn naive(view: &View, from: &Node) -> Vec<(Node, Levels, bool)> {
    let mut found: Vec<_> = nodes(view).into_iter().filter(|node| node.id() != from.id()).collect();
    found.sort_by(|one, other| (one.name(), one.id()).cmp(&(other.name(), other.id())));
    let held = found.into_iter().map(|node| (held(view, from, &node, NOW), node));
    held.filter(|((levels, owner), _)| holds(*levels, *owner)).map(|((l, o), node)| (node, l, o)).collect()
}

fn any_id() -> impl Strategy<Value = ResourceId> {
    prop_oneof![USERS, GROUPS, NAMESPACES, SERVICES, RECORDS, RECORDS].prop_map(|number| ResourceId(id(number)))
}

fn any_subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        2 => USERS.prop_map(|number| Subject::User(UserId(id(number)))),
        1 => GROUPS.prop_map(|number| Subject::Group(GroupId(id(number)))),
        1 => Just(Subject::Everyone),
        1 => Just(Subject::Role("Guest".into())),
        5 => any_id().prop_map(Subject::Same),
        2 => any_id().prop_map(|id| Subject::Holders(Levels::ADMIN, id)),
        1 => any_id().prop_map(|id| Subject::Holders(Levels::READ | Levels::EXECUTE, id)),
        1 => any_id().prop_map(Subject::Itself),
    ]
}

/// The name of a node, or one that covers several, or what lies below.
fn any_pattern() -> impl Strategy<Value = Pattern> {
    let any = || PatternKey::Any;
    let key = |text: String| PatternKey::Key(text.into());
    let name = |number: u128| -> Vec<PatternKey> {
        let (service, record) = (|| service(number, None), || record(number, None));
        let keys = match number {
            20..30 => vec![format!("ns-{number}")],
            30..40 => vec![service().namespace, service().name],
            40.. => return record().pattern().keys().to_vec(),
            _ => vec![ResourceId(id(number)).key()],
        };
        keys.into_iter().map(|text| PatternKey::Key(text.into())).collect()
    };
    let named = prop_oneof![USERS, GROUPS, NAMESPACES, SERVICES, RECORDS, RECORDS].prop_map(name);
    prop_oneof![
        16 => named,
        1 => (0..7usize).prop_map(move |form| match form {
            0 => vec![],
            1 => vec![any()],
            2 => vec![any(), key("svc-0".into())],
            3 => vec![key("ns-20".into()), any()],
            4 => vec![key(ResourceId(id(40)).key()), any()],
            5 => vec![key("ns-20".into()), key("svc-1".into()), key("operation".into())],
            _ => vec![any(), any()],
        }),
    ]
    .prop_map(|keys| Pattern::new(keys).unwrap())
}

fn any_grant() -> impl Strategy<Value = Grant> {
    let levels = prop_oneof![
        6 => Just(Levels::READ),
        2 => Just(Levels::ADMIN),
        2 => Just(Levels::EXECUTE | Levels::READ),
        1 => Just(Levels::ALL),
        1 => Just(Levels::BLANK),
        1 => Just(Levels::NONE),
    ];
    let expires = prop_oneof![8 => Just(None), 1 => Just(Some(Timestamp::from_second(-1).unwrap()))];
    (any_subject(), any_pattern(), levels, expires).prop_map(|(subject, pattern, levels, expires)| Grant {
        subject,
        pattern,
        levels,
        expires,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_list_has_all_that_a_look_at_every_node_finds(
        owners in prop::collection::vec(0..6u8, 7),
        grants in prop::collection::vec(any_grant(), 0..24),
    ) {
        let (items, mut changes) = bare(&owners);
        changes.extend(grants.into_iter().map(Change::Grant));
        let view = view((items, changes));
        for from in nodes(&view) {
            let expected = naive(&view, &from);
            let all = expected.iter().flat_map(|(node, ..)| node.labels().map(str::to_owned)).collect();
            prop_assert_eq!(labels(&view, &from, NOW, holds, &mut endless()).unwrap(), all);
            for label in LABELS.into_iter().chain(["only-42", "only-45", "nothing"]) {
                let found = reached(&view, &from, label, NOW, holds, &mut endless()).unwrap();
                let found: Vec<_> = found.iter().map(|one| (one.node.id(), one.levels, one.owner)).collect();
                let with = expected.iter().filter(|(node, ..)| node.is(label));
                let with: Vec<_> = with.map(|(node, levels, owner)| (node.id(), *levels, *owner)).collect();
                prop_assert_eq!(found, with, "{} of {}", label, from.name());
            }
        }
    }
}

#[test]
fn what_strangers_share_with_each_other_costs_a_list_nothing() {
    let looked = |strangers: u128| {
        let (mut items, mut changes) = bare(&[0]);
        let things = 1000..1000 + strangers;
        let share = |one: u128, other: u128| Grant {
            subject: Subject::Same(ResourceId(id(one))),
            pattern: record(other, None).pattern(),
            levels: Levels::READ,
            expires: None,
        };
        for number in things.clone() {
            let record = record(number, Some(UserId(id(2))));
            let (id, name, owner) = (record.id, record.pattern(), record.owner);
            changes.push(Change::Resource(Resource { id, name, owner }));
            changes.extend(things.clone().map(|other| Change::Grant(share(number, other))));
            items.push(Item::Node(Box::new(record)));
        }
        // One thing of the caller's is shared on, and that on again.
        changes.extend([share(44, 45), share(45, 46)].map(Change::Grant));
        let view = view((items, changes));
        let me = view.node_of(ResourceId(id(0))).unwrap();
        let mut deadline = endless();
        let found = reached(&view, &me, "Thing", NOW, holds, &mut deadline).unwrap();
        assert_eq!(found.len(), 4);
        let _ = labels(&view, &me, NOW, holds, &mut deadline).unwrap();
        deadline.looked
    };
    assert_eq!(looked(40), looked(0));
}
