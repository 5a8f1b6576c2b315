use jiff::Timestamp;
use uuid::Uuid;

use super::super::{Change, Grant, Pattern, Resource, Subject};
use super::*;

fn id(number: usize) -> ResourceId {
    ResourceId(Uuid::from_u128(number as u128))
}

fn share(from: usize, to: usize) -> Change {
    let (subject, pattern) = (Subject::Holders(Levels::READ, id(from)), Pattern::literal([format!("r{to}")]).unwrap());
    Change::Grant(Grant { subject, pattern, levels: Levels::READ, expires: None })
}

fn give(subject: Subject, name: &[&str], levels: Levels) -> Change {
    let pattern = Pattern::literal(name.iter().copied()).unwrap();
    Change::Grant(Grant { subject, pattern, levels, expires: None })
}

fn named(number: usize, name: &[&str]) -> Change {
    let name = Pattern::literal(name.iter().copied()).unwrap();
    Change::Resource(Resource { id: id(number), name, owner: None })
}

#[test]
fn a_level_that_came_by_a_way_leaves_no_doubt_about_what_rests_on_another_level() {
    // The user reads a in person and updates it as who updates b; who reads a reads b.
    let me = UserId(Uuid::from_u128(1));
    let snapshot = Snapshot::empty().patched([
        named(1, &["a"]),
        named(2, &["b"]),
        give(Subject::User(me), &["a"], Levels::READ),
        give(Subject::User(me), &["b"], Levels::UPDATE),
        give(Subject::Holders(Levels::UPDATE, id(2)), &["a"], Levels::UPDATE),
        give(Subject::Holders(Levels::READ, id(1)), &["b"], Levels::READ),
    ]);
    let question = Question { user: me, keys: &["c"], reading: Reading::Covering };
    let web = Web::new(&snapshot, question, vec![id(1), id(2)], 0);
    assert!(web.sites.iter().all(|site| site.held == Levels::READ | Levels::UPDATE));
}

#[test]
fn holders_that_give_nothing_are_looked_at_no_more_than_others() {
    // What is asked about is shared with who updates the first of many resources, which the user does as who reads
    // another one. On the name above them all stand shares of what the user has there in person.
    let (me, roots) = (UserId(Uuid::from_u128(1)), 600);
    let held = |above: usize| {
        let resources = (1..=roots).map(|number| named(number, &["p", &number.to_string()]));
        let shares = (1..=roots).map(|from| give(Subject::Holders(Levels::UPDATE, id(from)), &["a"], Levels::UPDATE));
        let beside = (1..=above)
            .map(|number| give(Subject::Holders(Levels::READ, id(roots + 1 + number)), &["p"], Levels::READ));
        let own = [
            named(roots + 1, &["b"]),
            give(Subject::User(me), &["b"], Levels::READ),
            give(Subject::User(me), &["p"], Levels::READ),
            give(Subject::Holders(Levels::READ, id(roots + 1)), &["p", "1"], Levels::UPDATE),
        ];
        let snapshot = Snapshot::empty().patched(resources.chain(shares).chain(beside).chain(own));
        snapshot.levels(me, &["a"], Timestamp::UNIX_EPOCH)
    };
    let room = MAX_HOLDERS / roots;
    assert_eq!([held(0), held(room - 1), held(room)], [Levels::UPDATE, Levels::UPDATE, Levels::NONE]);
}

#[test]
fn the_work_of_a_decision_has_a_bound_whatever_is_shared_with_whom() {
    // Many roots, and more behind each than there is room for.
    let (roots, behind) = (1..601, |root: usize| (601 + root * 10)..(611 + root * 10));
    let resources = (0..6_620).map(|number| {
        let name = Pattern::literal([format!("r{number}")]).unwrap();
        Change::Resource(Resource { id: id(number), name, owner: None })
    });
    let shares = roots
        .clone()
        .flat_map(|root| [share(root, 0)].into_iter().chain(behind(root).map(move |from| share(from, root))));
    let snapshot = Snapshot::empty().patched(resources.chain(shares));
    let (user, keys) = (UserId(Uuid::from_u128(1)), ["r0"]);
    let question = Question { user, keys: &keys, reading: Reading::Covering };
    let web = Web::new(&snapshot, question, roots.map(id).collect(), 0);
    assert!(web.sites.len() <= MAX_SITES && web.shares.len() <= MAX_SHARES, "{} {}", web.sites.len(), web.shares.len());
    let looked: usize = web.sites.iter().filter_map(|site| site.sources.as_ref()).map(|sources| sources.len()).sum();
    assert!(looked <= MAX_HOLDERS);
    assert_eq!(snapshot.levels(user, &keys, Timestamp::UNIX_EPOCH), Levels::NONE);
}
