//! Random policies and questions, from few enough words that they meet.

use std::sync::Arc;

use carta_gateway::policy::{
    Change, Grant, GroupId, Levels, Member, Pattern, PatternKey, Resource, ResourceId, Subject, UserId,
};
use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

/// The last second at which anything ends.
pub(crate) const LAST: i64 = 12;

/// The name of a resource that has only an id.
const ID_KEY: &str = "@4be0643f-1d98-573b-97cd-ca98a65347dd";

#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub(crate) user: UserId,
    pub(crate) keys: Vec<String>,
    pub(crate) need: Levels,
    pub(crate) now: i64,
}

pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    (proptest::collection::vec(grant(), 0..24), proptest::collection::vec(patch(), 0..16)).prop_map(
        |(grants, patches)| {
            let mut all: Vec<_> = grants.into_iter().map(Change::Grant).collect();
            all.extend(patches);
            all
        },
    )
}

pub(crate) fn patch() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => grant().prop_map(Change::Grant),
        3 => (subject(), pattern()).prop_map(|(subject, pattern)| Change::Ungrant(subject, pattern)),
        3 => (user(), role(), proptest::collection::vec(group(), 0..3))
            .prop_map(|(id, role, groups)| Change::Member(Member { id, role, groups })),
        1 => user().prop_map(Change::MemberGone),
        3 => (resource(), name(), proptest::option::of(user())).prop_map(|(id, name, owner)| {
            Change::Resource(Resource { id, name: Pattern::literal(name).unwrap(), owner })
        }),
        1 => resource().prop_map(Change::ResourceGone),
    ]
}

/// Resources that share with the holders of one another at different levels: circles that meet a resource again at another
/// level than before.
pub(crate) fn web() -> impl Strategy<Value = Vec<Change>> {
    let names =
        || (1_u128..6).prop_map(|id| (ResourceId(Uuid::from_u128(id)), ["a", "b", "c", "d", "e"][id as usize - 1]));
    let give = |subject, name: &str, levels| {
        Change::Grant(Grant { subject, pattern: Pattern::literal([name]).unwrap(), levels, expires: None })
    };
    let few = || {
        prop_oneof![
            Just(Levels::READ),
            Just(Levels::UPDATE),
            Just(Levels::EXECUTE),
            Just(Levels::READ | Levels::UPDATE)
        ]
    };
    let share = (names(), few(), names(), few(), proptest::bool::weighted(0.3)).prop_map(
        move |((from, _), need, (_, to), gives, same)| {
            give(if same { Subject::Same(from) } else { Subject::Holders(need, from) }, to, gives)
        },
    );
    let start =
        (user(), names(), few()).prop_map(move |(user, (_, name), levels)| give(Subject::User(user), name, levels));
    let resources = (1_u128..6).map(|id| {
        let name = Pattern::literal([["a", "b", "c", "d", "e"][id as usize - 1]]).unwrap();
        Change::Resource(Resource { id: ResourceId(Uuid::from_u128(id)), name, owner: None })
    });
    let resources: Vec<Change> = resources.collect();
    (proptest::collection::vec(share, 0..10), proptest::collection::vec(start, 1..3))
        .prop_map(move |(shares, starts)| resources.iter().cloned().chain(shares).chain(starts).collect())
}

pub(crate) fn questions() -> impl Strategy<Value = Vec<Question>> {
    let question =
        (user(), name(), levels(), 0..=LAST).prop_map(|(user, keys, need, now)| Question { user, keys, need, now });
    proptest::collection::vec(question, 1..12)
}

fn grant() -> impl Strategy<Value = Grant> {
    (subject(), pattern(), granted(), proptest::option::weighted(0.3, 1..=LAST)).prop_map(
        |(subject, pattern, levels, ends)| Grant {
            subject,
            pattern,
            levels,
            expires: ends.map(|second| Timestamp::from_second(second).unwrap()),
        },
    )
}

fn subject() -> impl Strategy<Value = Subject> {
    prop_oneof![
        6 => user().prop_map(Subject::User),
        3 => group().prop_map(Subject::Group),
        3 => role().prop_map(Subject::Role),
        2 => Just(Subject::Everyone),
        3 => (single(), resource()).prop_map(|(levels, resource)| Subject::Holders(levels, resource)),
        2 => resource().prop_map(Subject::Same),
        1 => resource().prop_map(Subject::Itself),
    ]
}

fn user() -> impl Strategy<Value = UserId> {
    (1_u128..3).prop_map(|id| UserId(Uuid::from_u128(id)))
}

fn group() -> impl Strategy<Value = GroupId> {
    (1_u128..4).prop_map(|id| GroupId(Uuid::from_u128(id)))
}

/// Some with a name of their own, and the one that has only its id.
fn resource() -> impl Strategy<Value = ResourceId> {
    let unnamed = ID_KEY[1..].parse().unwrap();
    prop_oneof![5 => (1_u128..6).prop_map(|id| ResourceId(Uuid::from_u128(id))), 1 => Just(ResourceId(unnamed))]
}

/// The empty role is none.
fn role() -> impl Strategy<Value = Arc<str>> {
    prop_oneof![4 => Just("Ops"), 4 => Just("Lab"), 1 => Just("")].prop_map(Arc::from)
}

fn levels() -> impl Strategy<Value = Levels> {
    let any = (0_u8..128).prop_map(|bits| Levels::from_bits(bits).unwrap());
    prop_oneof![2 => Just(Levels::NONE), 3 => single(), 2 => any]
}

fn granted() -> impl Strategy<Value = Levels> {
    prop_oneof![6 => levels(), 1 => Just(Levels::BLANK)]
}

fn single() -> impl Strategy<Value = Levels> {
    prop_oneof![
        3 => Just(Levels::READ),
        3 => Just(Levels::EXECUTE),
        3 => Just(Levels::READ | Levels::EXECUTE),
        1 => Just(Levels::ADMIN),
    ]
}

fn pattern() -> impl Strategy<Value = Pattern> {
    let key = prop_oneof![
        4 => key().prop_map(|key| PatternKey::Key(key.into())),
        2 => Just(PatternKey::Any),
    ];
    proptest::collection::vec(key, 0..5).prop_map(|keys| Pattern::new(keys).unwrap())
}

fn name() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec(key(), 0..6)
}

/// `*` as a plain key, and the key of a resource that has only an id, are as good as any other.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![6 => Just("a"), 6 => Just("b"), 2 => Just("c"), 1 => Just("*"), 1 => Just(ID_KEY)]
        .prop_map(str::to_owned)
}
