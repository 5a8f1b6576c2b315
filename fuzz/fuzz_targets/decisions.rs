//! Random policies, patched and asked: the compiled snapshot against the rules written once more, and a patched one
//! against a fresh compile.
#![no_main]

#[path = "../../tests/policy/reference.rs"]
mod reference;

use arbitrary::{Arbitrary, Unstructured};
use carta_gateway::policy::{
    Change, Grant, GroupId, Levels, Member, Pattern, PatternKey, Resource, ResourceId, Snapshot, Subject, UserId,
};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use reference::World;
use uuid::Uuid;

const KEYS: [&str; 5] = ["a", "b", "c", "*", "@4be0643f-1d98-573b-97cd-ca98a65347dd"];

#[derive(Arbitrary, Debug)]
enum Step {
    Grant { who: Who, on: Vec<Option<u8>>, levels: u8, ends: Option<u8> },
    Ungrant { who: Who, on: Vec<Option<u8>> },
    Member { user: u8, role: u8, groups: [u8; 2] },
    MemberGone { user: u8 },
    Resource { id: u8, name: Vec<u8>, owner: Option<u8> },
    ResourceGone { id: u8 },
    Ask { user: u8, name: Vec<u8>, now: u8 },
}

#[derive(Arbitrary, Debug)]
enum Who {
    User(u8),
    Group(u8),
    Role(u8),
    Everyone,
    Holders(u8, u8),
}

fuzz_target!(|bytes: &[u8]| {
    let Ok(steps) = Vec::<Step>::arbitrary(&mut Unstructured::new(bytes)) else { return };
    let (mut world, mut snapshot) = (World::of(&[]), Snapshot::empty());
    for step in steps.iter().take(64) {
        if let Step::Ask { user, name, now } = step {
            let (user, keys, now) = (user_id(*user), name.iter().take(6).map(key).collect::<Vec<_>>(), i64::from(*now));
            let at = Timestamp::from_second(now).expect("a second of a byte");
            assert_eq!(snapshot.levels(user, &keys, at), world.levels(user, &keys, false, now));
            assert_eq!(snapshot.levels_explicit(user, &keys, at), world.levels(user, &keys, true, now));
            assert_eq!(snapshot.navigable(user, &keys, at), world.navigable(user, &keys, now));
            let why = snapshot.explain(user, &keys, Levels::READ, at);
            assert_eq!(why.allowed, snapshot.permit(user, &keys, Levels::READ, at).is_ok());
        } else if let Some(change) = change(step) {
            world.apply(&change);
            snapshot = snapshot.patched([change]);
        }
    }
    assert_eq!(snapshot.size(), Snapshot::empty().patched(world.changes()).size());
});

fn change(step: &Step) -> Option<Change> {
    Some(match step {
        Step::Grant { who, on, levels, ends } => Change::Grant(Grant {
            subject: subject(who)?,
            pattern: pattern(on),
            levels: Levels::from_bits(levels & 127)?,
            expires: ends.and_then(|second| Timestamp::from_second(second.into()).ok()),
        }),
        Step::Ungrant { who, on } => Change::Ungrant(subject(who)?, pattern(on)),
        Step::Member { user, role, groups } => Change::Member(Member {
            id: user_id(*user),
            role: role_name(*role).into(),
            groups: groups.map(group_id).to_vec(),
        }),
        Step::MemberGone { user } => Change::MemberGone(user_id(*user)),
        Step::Resource { id, name, owner } => Change::Resource(Resource {
            id: resource_id(*id),
            name: Pattern::literal(name.iter().take(5).map(key)).ok()?,
            owner: owner.map(user_id),
        }),
        Step::ResourceGone { id } => Change::ResourceGone(resource_id(*id)),
        Step::Ask { .. } => return None,
    })
}

fn subject(who: &Who) -> Option<Subject> {
    Some(match who {
        Who::User(id) => Subject::User(user_id(*id)),
        Who::Group(id) => Subject::Group(group_id(*id)),
        Who::Role(id) => Subject::Role(role_name(*id).into()),
        Who::Everyone => Subject::Everyone,
        Who::Holders(levels, id) => Subject::Holders(Levels::from_bits(levels & 127)?, resource_id(*id)),
    })
}

fn pattern(keys: &[Option<u8>]) -> Pattern {
    let keys = keys.iter().take(5).map(|number| match number {
        None => PatternKey::Any,
        Some(number) => PatternKey::Key(key(number).into()),
    });
    Pattern::new(keys).unwrap_or_default()
}

fn key(number: &u8) -> &'static str {
    KEYS[usize::from(*number) % KEYS.len()]
}

fn role_name(number: u8) -> &'static str {
    ["", "Ops", "Lab"][usize::from(number % 3)]
}

fn user_id(number: u8) -> UserId {
    UserId(Uuid::from_u128(u128::from(number % 3)))
}

fn group_id(number: u8) -> GroupId {
    GroupId(Uuid::from_u128(u128::from(number % 3)))
}

fn resource_id(number: u8) -> ResourceId {
    ResourceId(Uuid::from_u128(u128::from(number % 5)))
}
