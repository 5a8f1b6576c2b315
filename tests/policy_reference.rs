//! The compiled snapshot against a naive evaluator that is written straight from the rules, on random policies.
//!
//! `PROPTEST_CASES=100000 cargo nextest run --test policy_reference` tries more of them.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking, in its helpers too")]

#[path = "policy/random.rs"]
mod random;
#[path = "policy/reference.rs"]
mod reference;

use carta_gateway::policy::{
    Because, Builder, Change, Grant, Levels, Pattern, Permit, Recent, Snapshot, Subject, UserId,
};
use jiff::Timestamp;
use proptest::prelude::*;
use uuid::Uuid;

use random::{Question, changes, questions};
use reference::World;

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(600);
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

fn second(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_snapshot_answers_as_the_rules_say(changes in changes(), questions in questions()) {
        let world = World::of(&changes);
        let snapshot = Snapshot::empty().patched(changes);
        for Question { user, keys, now, .. } in &questions {
            let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
            let at = second(*now);
            prop_assert_eq!(snapshot.levels(*user, &keys, at), world.levels(*user, &keys, false, *now), "{:?}", keys);
            prop_assert_eq!(snapshot.levels_explicit(*user, &keys, at), world.levels(*user, &keys, true, *now));
            prop_assert_eq!(snapshot.navigable(*user, &keys, at), world.navigable(*user, &keys, *now), "{:?}", keys);
            prop_assert_eq!(snapshot.owner(&keys), world.owner(&keys));
        }
    }

    #[test]
    fn webs_of_shares_are_followed_as_the_rules_say(changes in random::web()) {
        let world = World::of(&changes);
        let snapshot = Snapshot::empty().patched(changes);
        for (user, name) in (1..3).flat_map(|user| ["a", "b", "c", "d", "e"].map(|name| (user, name))) {
            let user = UserId(Uuid::from_u128(user));
            prop_assert_eq!(snapshot.levels(user, &[name], second(0)), world.levels(user, &[name], false, 0), "{}", name);
            let why = snapshot.explain(user, &[name], Levels::READ, second(0));
            prop_assert_eq!(why.held, world.levels(user, &[name], false, 0), "{}", name);
        }
    }

    #[test]
    fn patches_lead_to_the_same_policy_as_a_fresh_compile(
        changes in changes(),
        more in proptest::collection::vec(random::patch(), 0..20),
        questions in questions(),
    ) {
        let mut world = World::of(&changes);
        let mut snapshot = Snapshot::empty().patched(changes);
        let mut versions = vec![(world.clone(), snapshot.clone())];
        for change in more {
            world.apply(&change);
            snapshot = snapshot.patched([change]);
            versions.push((world.clone(), snapshot.clone()));
        }
        // Every version, not only the last: a patch must leave the snapshot that it came from alone.
        for (world, snapshot) in versions {
            let fresh = Snapshot::empty().patched(world.changes());
            prop_assert_eq!(snapshot.size(), fresh.size());
            let grants = in_order(fresh.grants());
            prop_assert_eq!(&in_order(snapshot.grants()), &grants);
            for grant in &grants {
                prop_assert_eq!(snapshot.grant_of(&grant.subject, &grant.pattern), Some(grant.clone()));
                prop_assert!(snapshot.grants_on(&grant.pattern).any(|on| on == *grant));
                prop_assert!(snapshot.grants_of(&grant.subject).any(|of| of == *grant));
            }
            for Question { user, keys, now, .. } in &questions {
                let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
                let at = second(*now);
                prop_assert_eq!(snapshot.levels(*user, &keys, at), world.levels(*user, &keys, false, *now));
                prop_assert_eq!(snapshot.navigable(*user, &keys, at), world.navigable(*user, &keys, *now));
            }
        }
    }

    #[test]
    fn a_policy_built_at_once_is_the_one_that_changes_lead_to(
        changes in changes(),
        sorted in any::<bool>(),
        more in proptest::collection::vec(random::patch(), 0..8),
        questions in questions(),
    ) {
        // What only adds, in the order of a store or in any other.
        let adds = |change: &Change| matches!(change, Change::Grant(_) | Change::Member(_) | Change::Resource(_));
        let mut changes: Vec<Change> = changes.into_iter().filter(adds).collect();
        if sorted {
            changes.sort_by_key(|change| match change {
                Change::Grant(grant) => Some(grant.subject.clone()),
                _ => None,
            });
        }
        let mut builder = Builder::new();
        for change in changes.clone() {
            match change {
                Change::Grant(grant) => builder.grant(&grant),
                Change::Member(member) => builder.member(member),
                Change::Resource(resource) => builder.resource(resource),
                other => prop_assert!(false, "{:?} does not add", other),
            }
        }
        let mut world = World::of(&changes);
        let (mut built, mut patched) = (builder.finish(), Snapshot::empty().patched(changes));
        // Later changes, too: every count that they rest on must be right, down to the empty policy.
        let undo: Vec<Change> = built.grants().map(|grant| Change::Ungrant(grant.subject, grant.pattern)).collect();
        for change in std::iter::once(None).chain(more.into_iter().map(Some)) {
            if let Some(change) = change {
                world.apply(&change);
                (built, patched) = (built.patched([change.clone()]), patched.patched([change]));
            }
            prop_assert_eq!(built.size(), patched.size());
            prop_assert_eq!(in_order(built.grants()), in_order(patched.grants()));
            for grant in patched.grants() {
                prop_assert_eq!(in_order(built.grants_on(&grant.pattern)), in_order(patched.grants_on(&grant.pattern)));
            }
            for Question { user, keys, now, .. } in &questions {
                let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
                let at = second(*now);
                prop_assert_eq!(built.levels(*user, &keys, at), world.levels(*user, &keys, false, *now));
                prop_assert_eq!(built.navigable(*user, &keys, at), world.navigable(*user, &keys, *now));
                prop_assert_eq!(built.owner(&keys), world.owner(&keys));
            }
        }
        prop_assert_eq!(built.patched(undo.clone()).size(), patched.patched(undo).size());
    }

    #[test]
    fn what_is_remembered_is_what_would_be_decided(
        changes in changes(),
        more in proptest::collection::vec(random::patch(), 0..6),
        questions in questions(),
    ) {
        let mut snapshot = Snapshot::empty().patched(changes);
        // Few places, so that questions meet in one.
        let mut recent = Recent::new(4);
        for change in more {
            for Question { user, keys, now, need } in questions.iter().chain(&questions) {
                let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
                let outcome = |permit: Result<Permit, _>| permit.map(|it| (it.user(), it.need(), it.held()));
                let remembered = outcome(recent.permit(&snapshot, *user, &keys, *need, second(*now)));
                prop_assert_eq!(remembered, outcome(snapshot.permit(*user, &keys, *need, second(*now))));
            }
            snapshot = snapshot.patched([change]);
        }
    }

    #[test]
    fn a_verdict_holds_until_its_end(changes in changes(), questions in questions()) {
        let world = World::of(&changes);
        let snapshot = Snapshot::empty().patched(changes);
        for Question { user, keys, now, need } in &questions {
            let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
            let Ok(permit) = snapshot.permit(*user, &keys, *need, second(*now)) else { continue };
            let ends = permit.ends().map_or(random::LAST + 1, Timestamp::as_second);
            prop_assert!(ends > *now);
            for later in *now..ends {
                prop_assert_eq!(world.levels(*user, &keys, false, later), permit.held());
            }
        }
    }

    #[test]
    fn an_explanation_agrees_with_the_decision(changes in changes(), questions in questions()) {
        let snapshot = Snapshot::empty().patched(changes);
        for Question { user, keys, now, need } in &questions {
            let keys: Vec<&str> = keys.iter().map(|key| &**key).collect();
            let at = second(*now);
            let permit = snapshot.permit(*user, &keys, *need, at);
            let why = snapshot.explain(*user, &keys, *need, at);
            prop_assert_eq!(permit.is_ok(), why.allowed);
            prop_assert_eq!(snapshot.levels(*user, &keys, at), why.held);
            prop_assert_eq!(snapshot.owner(&keys), why.owner);
            if let Err(denied) = permit {
                prop_assert_eq!((denied.held, denied.owner), (why.held, why.owner));
            }
            let levels = |grants: &[Grant]| {
                grants.iter().fold(Levels::NONE, |all, grant| all | grant.levels).without(Levels::BLANK)
            };
            let counting = levels(&why.counting);
            // Of what is shared with who holds the same elsewhere, only that counts; the grant says all of it.
            let held = |given: Levels, grants: &[Grant]| {
                let exact = !grants.iter().any(|grant| matches!(grant.subject, Subject::Same(_)));
                given == why.held || (!exact && given & why.held == why.held)
            };
            prop_assert!(held(counting, &why.counting) || (why.because == Because::Owner && counting.is_empty()));
            let given = levels(&why.deciding);
            match why.because {
                Because::Owner => prop_assert!(why.allowed || need.is_empty()),
                Because::Granted => prop_assert!(why.allowed && given.has_all(*need)),
                Because::OwnDeny | Because::Deny => {
                    prop_assert!(!why.allowed && !why.deciding.is_empty() && given.is_empty());
                }
                Because::TooLittle => {
                    prop_assert!(!why.allowed && held(given, &why.deciding) && !why.deciding.is_empty());
                }
                Because::Nothing => {
                    prop_assert!(!why.allowed && why.held.is_empty() && why.deciding.is_empty());
                    prop_assert!(why.beaten.is_empty());
                }
            }
            for grant in why.deciding.iter().chain(why.beaten.iter().map(|beaten| &beaten.grant)) {
                prop_assert!(covers(&grant.pattern, &keys), "{} does not cover {:?}", grant.pattern, keys);
                prop_assert!(grant.expires.is_none_or(|end| end > at));
                prop_assert_eq!(snapshot.grant_of(&grant.subject, &grant.pattern), Some(grant.clone()));
            }
            for beaten in &why.beaten {
                prop_assert!(!why.deciding.contains(&beaten.grant));
            }
            // The change that it offers does turn the decision around.
            match why.smallest_change {
                None => prop_assert!(why.because == Because::Owner || need.is_empty()),
                Some(change) => {
                    let levels = change.levels;
                    let changed = snapshot.patched([Change::Grant(change)]);
                    prop_assert_eq!(changed.permit(*user, &keys, *need, at).is_ok(), !why.allowed);
                    prop_assert_eq!(levels.is_empty(), why.allowed);
                }
            }
        }
    }
}

fn in_order(grants: impl Iterator<Item = Grant>) -> Vec<Grant> {
    let mut all: Vec<_> = grants.collect();
    all.sort_by(|a, b| (&a.subject, &a.pattern).cmp(&(&b.subject, &b.pattern)));
    all
}

fn covers(pattern: &Pattern, keys: &[&str]) -> bool {
    pattern.keys().len() <= keys.len()
        && pattern.keys().iter().zip(keys).all(|(of, key)| of.literal().is_none_or(|of| of == *key))
}
