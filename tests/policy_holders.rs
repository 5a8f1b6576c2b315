//! Resources that are shared with whoever holds levels on other resources: chains, circles, and how far they are followed.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use carta_gateway::policy::{Change, Grant, Levels, Member, Pattern, Resource, ResourceId, Snapshot, Subject, UserId};
use jiff::Timestamp;
use uuid::Uuid;

const ME: UserId = UserId(Uuid::from_u128(1));

fn id(number: usize) -> ResourceId {
    ResourceId(Uuid::from_u128(number as u128))
}

fn name(number: usize) -> Pattern {
    Pattern::literal([format!("r{number}")]).unwrap()
}

fn resource(number: usize) -> Change {
    Change::Resource(Resource { id: id(number), name: name(number), owner: None })
}

fn give(subject: Subject, number: usize, levels: Levels) -> Change {
    Change::Grant(Grant { subject, pattern: name(number), levels, expires: None })
}

/// Whoever reads `from` reads `to`.
fn share(from: usize, to: usize) -> Change {
    give(Subject::Holders(Levels::READ, id(from)), to, Levels::READ)
}

/// Whoever holds `need` on `from` has what it gives on `to`.
fn give_holders(need: Levels, from: usize, to: usize, gives: Levels) -> Change {
    give(Subject::Holders(need, id(from)), to, gives)
}

fn held(snapshot: &Snapshot, number: usize) -> Levels {
    snapshot.levels(ME, &[&format!("r{number}")], Timestamp::UNIX_EPOCH)
}

#[test]
fn a_chain_of_shares_is_followed_to_its_end() {
    let chain = (0..40).map(resource).chain((0..39).map(|number| share(number, number + 1)));
    let snapshot = Snapshot::empty().patched(chain);
    assert_eq!(held(&snapshot, 39), Levels::NONE);
    let first = give(Subject::User(ME), 0, Levels::READ);
    assert_eq!(held(&snapshot.patched([first]), 39), Levels::READ);
}

#[test]
fn an_endless_chain_gives_nothing_and_overflows_nothing() {
    let length = 5_000;
    let chain = (0..length).map(resource).chain((1..length).map(|number| share(number - 1, number)));
    let snapshot = Snapshot::empty().patched(chain).patched([give(Subject::User(ME), 0, Levels::READ)]);
    assert_eq!(held(&snapshot, 10), Levels::READ);
    assert_eq!(held(&snapshot, length - 1), Levels::NONE);
}

#[test]
fn resources_that_share_in_a_circle_give_nothing_by_themselves() {
    let circle = (0..3).map(resource).chain([share(0, 1), share(1, 2), share(2, 0)]);
    let snapshot = Snapshot::empty().patched(circle);
    (0..3).for_each(|number| assert_eq!(held(&snapshot, number), Levels::NONE));
    let entered = snapshot.patched([give(Subject::User(ME), 1, Levels::READ)]);
    (0..3).for_each(|number| assert_eq!(held(&entered, number), Levels::READ));
}

#[test]
fn many_ways_to_one_resource_cost_one_evaluation() {
    // Each of 30 layers is shared with the holders of both resources of the one before: a thousand million ways.
    let layers = 30;
    let shares = (1..layers).flat_map(|layer| {
        let (below, here) = (2 * (layer - 1), 2 * layer);
        [share(below, here), share(below + 1, here), share(below, here + 1), share(below + 1, here + 1)]
    });
    let snapshot = Snapshot::empty().patched((0..2 * layers).map(resource).chain(shares));
    assert_eq!(held(&snapshot, 2 * layers - 1), Levels::NONE);
    let entered = snapshot.patched([give(Subject::User(ME), 1, Levels::READ)]);
    assert_eq!(held(&entered, 2 * layers - 1), Levels::READ);
}

#[test]
fn a_tangle_of_circles_comes_to_an_end() {
    let tangle = 40;
    let shares = (0..tangle).flat_map(|from| (0..tangle).filter(move |to| *to != from).map(move |to| share(from, to)));
    let snapshot = Snapshot::empty().patched((0..tangle).map(resource).chain(shares));
    assert_eq!(held(&snapshot, 0), Levels::NONE);
    let entered = snapshot.patched([give(Subject::User(ME), 1, Levels::READ)]);
    assert_eq!(held(&entered, 0), Levels::READ);
}

#[test]
fn a_level_that_comes_back_to_a_resource_by_way_of_itself_counts_as_no() {
    // Whoever updates r0 reads r1, and whoever reads r1 executes r0: asked about r0, r1 asks about r0 again.
    let web = (0..2).map(resource).chain([
        give_holders(Levels::UPDATE, 0, 1, Levels::READ),
        give_holders(Levels::READ, 1, 0, Levels::EXECUTE),
        give(Subject::User(ME), 0, Levels::UPDATE),
    ]);
    let snapshot = Snapshot::empty().patched(web);
    assert_eq!(held(&snapshot, 0), Levels::UPDATE);
    assert_eq!(held(&snapshot, 1), Levels::READ);
}

#[test]
fn a_level_that_comes_back_is_noticed_among_any_number_of_resources() {
    // Whoever updates `here` has a level on `there`, and by that one another on `here`, which alone opens the door.
    let [here, there, door] = [300, 301, 302];
    let levels = [(Levels::READ, Levels::EXECUTE), (Levels::CLONE, Levels::READ), (Levels::EXECUTE, Levels::CLONE)];
    for (beside, (one, other)) in [0, 70].into_iter().flat_map(|beside| levels.map(|levels| (beside, levels))) {
        // These are looked at first.
        let crowd = (0..beside).flat_map(|number| [resource(number), share(number, door)]);
        let web = [
            give_holders(Levels::UPDATE, here, there, one),
            give_holders(one, there, here, other),
            give_holders(other, here, door, Levels::READ),
            give(Subject::User(ME), here, Levels::UPDATE),
        ];
        let snapshot = Snapshot::empty().patched([here, there, door].map(resource)).patched(crowd).patched(web);
        assert_eq!(held(&snapshot, door), Levels::NONE, "{one} {beside}");
        assert_eq!(held(&snapshot, there), one, "{beside}");
        let opened = snapshot.patched([give(Subject::User(ME), there, one)]);
        assert_eq!(held(&opened, door), Levels::READ, "{one} {beside}");
    }
}

#[test]
fn what_comes_back_by_the_shortest_way_may_come_by_a_longer_one_as_well() {
    // As above; but `there` can be read by a longer way, too, which does not meet `here`.
    let [here, there, door, first, second, third] = [300, 301, 302, 303, 304, 305];
    for beside in [0, 70] {
        // Each of these could open the door if it did not rest on `here` itself; they are asked first.
        let crowd = (0..beside).flat_map(|number| {
            let back = give_holders(Levels::EXECUTE, here, number, Levels::READ);
            [resource(number), give_holders(Levels::READ, number, here, Levels::EXECUTE), back]
        });
        let web = [
            give_holders(Levels::UPDATE, here, there, Levels::READ),
            share(first, second),
            share(second, third),
            share(third, there),
            give_holders(Levels::READ, there, here, Levels::EXECUTE),
            give_holders(Levels::EXECUTE, here, door, Levels::READ),
            give(Subject::User(ME), here, Levels::UPDATE),
        ];
        let named = [here, there, door, first, second, third].map(resource);
        let snapshot = Snapshot::empty().patched(named).patched(crowd).patched(web);
        assert_eq!(held(&snapshot, door), Levels::NONE, "{beside}");
        let entered = snapshot.patched([give(Subject::User(ME), first, Levels::READ)]);
        assert_eq!(held(&entered, door), Levels::READ, "{beside}");
    }
}

#[test]
fn a_way_is_found_behind_a_thousand_shares_and_none_behind_more_than_a_decision_looks_at() {
    let [start, hall, door] = [300, 301, 302];
    for (crowd, found) in [(40, Levels::READ), (140, Levels::NONE)] {
        let pairs = (0..crowd).flat_map(|from| (0..crowd).filter(move |to| *to != from).map(move |to| share(from, to)));
        let behind = (0..crowd).map(|from| share(from, hall)).chain([share(start, crowd - 1), share(hall, door)]);
        let named = (0..crowd).chain([start, hall, door]).map(resource);
        let snapshot = Snapshot::empty().patched(named).patched(pairs.chain(behind));
        assert_eq!(held(&snapshot, door), Levels::NONE);
        let entered = snapshot.patched([give(Subject::User(ME), start, Levels::READ)]);
        assert_eq!(held(&entered, door), found, "{crowd}");
        // What is looked at first is found behind any number of them.
        let first = snapshot.patched([give(Subject::User(ME), 0, Levels::READ)]);
        assert_eq!(held(&first, door), Levels::READ, "{crowd}");
    }
}

#[test]
fn a_tangle_in_which_every_level_leads_to_another_comes_to_an_end() {
    let tangle = 60;
    let levels = [Levels::READ, Levels::UPDATE, Levels::EXECUTE, Levels::CLONE];
    let shares = (0..tangle).flat_map(|from| {
        (0..tangle).filter(move |to| *to != from).flat_map(move |to| {
            let one = |step: usize| levels[(from + to + step) % levels.len()];
            [0, 1, 2].map(|step| give(Subject::Holders(one(step), id(from)), to, one(step + 1)))
        })
    });
    let start = give(Subject::User(ME), tangle - 1, Levels::CLONE);
    let snapshot = Snapshot::empty().patched((0..tangle).map(resource).chain(shares)).patched([start]);
    (0..8).for_each(|number| assert!(!held(&snapshot, number).is_empty()));
}

#[test]
fn a_share_that_a_deny_beats_is_passed_on_to_nobody() {
    // Who reads r0 reads r1, and who reads r1 reads r2; what the role is denied on r1 ends that.
    let member = Change::Member(Member { id: ME, role: "Ops".into(), groups: Vec::new() });
    let web = [share(0, 1), share(1, 2), give(Subject::User(ME), 0, Levels::READ), member];
    let snapshot = Snapshot::empty().patched((0..3).map(resource)).patched(web);
    let on_both = |snapshot: &Snapshot| [1, 2].map(|number| held(snapshot, number));
    assert_eq!(on_both(&snapshot), [Levels::READ; 2]);
    let denied = snapshot.patched([give(Subject::Role("Ops".into()), 1, Levels::NONE)]);
    assert_eq!(on_both(&denied), [Levels::NONE; 2]);
    let excepted = denied.patched([give(Subject::User(ME), 1, Levels::READ)]);
    assert_eq!(on_both(&excepted), [Levels::READ; 2]);
}

#[test]
fn holders_take_no_deny() {
    let snapshot = Snapshot::empty().patched([resource(0), resource(1), share(0, 1)]);
    let deny = give(Subject::Holders(Levels::READ, id(0)), 1, Levels::NONE);
    let denied = snapshot.patched([deny, give(Subject::User(ME), 0, Levels::READ)]);
    assert_eq!(held(&denied, 1), Levels::NONE);
    assert_eq!(denied.size().grants, 1);
    let others = denied.patched([give(Subject::Everyone, 1, Levels::EXECUTE)]);
    assert_eq!(held(&others, 1), Levels::EXECUTE);
}

#[test]
fn what_is_passed_to_those_who_administer_reaches_administrators_and_the_owner_alone() {
    let private = give(Subject::Holders(Levels::ADMIN, id(0)), 1, Levels::READ | Levels::EXECUTE);
    let snapshot = Snapshot::empty().patched([resource(0), resource(1), private]);
    assert_eq!(held(&snapshot, 1), Levels::NONE);
    let reader = snapshot.patched([give(Subject::User(ME), 0, Levels::ALL.without(Levels::ADMIN))]);
    assert_eq!(held(&reader, 1), Levels::NONE);
    let administrator = snapshot.patched([give(Subject::User(ME), 0, Levels::ADMIN)]);
    assert_eq!(held(&administrator, 1), Levels::READ | Levels::EXECUTE);
    let owner = snapshot.patched([Change::Resource(Resource { id: id(0), name: name(0), owner: Some(ME) })]);
    assert_eq!(held(&owner, 1), Levels::READ | Levels::EXECUTE);
    // Who administers by way of another resource does so, too; the ownership itself is never passed on.
    let way = [resource(2), give(Subject::Holders(Levels::READ, id(2)), 0, Levels::ADMIN)];
    let passed = snapshot.patched(way).patched([give(Subject::User(ME), 2, Levels::READ)]);
    assert_eq!(held(&passed, 1), Levels::READ | Levels::EXECUTE);
}

#[test]
fn a_blank_grant_takes_the_place_of_what_is_above_and_denies_nothing() {
    let below = Pattern::literal(["r1", "x"]).unwrap();
    let on = |subject: &Subject, pattern: &Pattern, levels| {
        Change::Grant(Grant { subject: subject.clone(), pattern: pattern.clone(), levels, expires: None })
    };
    let asked = |snapshot: &Snapshot| snapshot.levels(ME, &["r1", "x"], Timestamp::UNIX_EPOCH);
    let holds = give(Subject::User(ME), 0, Levels::READ);
    for subject in [Subject::Holders(Levels::READ, id(0)), Subject::Everyone, Subject::User(ME)] {
        let above = on(&subject, &name(1), Levels::READ | Levels::CLONE);
        let start = Snapshot::empty().patched([resource(0), resource(1), holds.clone(), above]);
        assert_eq!(asked(&start), Levels::READ | Levels::CLONE, "{subject}");
        let blank = start.patched([on(&subject, &below, Levels::BLANK)]);
        assert_eq!(asked(&blank), Levels::NONE, "{subject}");
        assert_eq!(held(&blank, 1), Levels::READ | Levels::CLONE, "{subject}: only below");
        assert!(!blank.navigable(ME, &["r1", "x"], Timestamp::UNIX_EPOCH), "{subject}");
        let role = blank.patched([
            Change::Member(Member { id: ME, role: "Ops".into(), groups: Vec::new() }),
            on(&Subject::Role("Ops".into()), &name(1), Levels::EXECUTE),
        ]);
        assert_eq!(asked(&role), Levels::EXECUTE, "{subject}: no deny");
        let back = blank.patched([Change::Ungrant(subject.clone(), below.clone())]);
        assert_eq!(asked(&back), Levels::READ | Levels::CLONE, "{subject}");
    }
}

/// The same grants, given in one order and in the other.
fn two_histories(resources: usize, shares: &[(usize, usize)]) -> [Snapshot; 2] {
    let known = Snapshot::empty().patched((0..resources).map(resource));
    let one = known.patched(shares.iter().map(|(from, to)| share(*from, *to)));
    [one, known.patched(shares.iter().rev().map(|(from, to)| share(*from, *to)))]
}

#[test]
fn what_is_beyond_the_limit_is_the_same_whatever_came_first() {
    let (first, count) = (10, 3_000);
    let shares: Vec<(usize, usize)> = (first..first + count).map(|record| (record, 1)).chain([(1, 0)]).collect();
    let histories = two_histories(first + count, &shares);
    let mut reached = 0;
    for record in (first..first + count).step_by(250).chain([first + count - 1]) {
        let give = give(Subject::User(ME), record, Levels::READ);
        let [one, other] = histories.each_ref().map(|snapshot| held(&snapshot.patched([give.clone()]), 0));
        assert_eq!(one, other, "{record}");
        reached += usize::from(one == Levels::READ);
    }
    assert_eq!(reached, 5, "of 1024 those of the lowest ids but for the one that they are shared onto");
}

#[test]
fn who_fills_one_resource_with_shares_takes_nothing_from_what_is_held_through_another() {
    let (first, count) = (10, 3_000);
    // 0 is shared with the holders of 1 and of 2, and 2 with those of 3, which is also among what is shared onto 1.
    let onto = (first..first + count).map(|record| (record, 1));
    let shares: Vec<(usize, usize)> = onto.chain([(1, 0), (2, 0), (3, 1), (3, 2), (4, 3)]).collect();
    for snapshot in two_histories(first + count, &shares) {
        let holds = |number| held(&snapshot.patched([give(Subject::User(ME), number, Levels::READ)]), 0);
        assert_eq!([1, 2, 3, 4, first].map(holds), [Levels::READ; 5]);
        assert_eq!(holds(first + count - 1), Levels::NONE);
    }
}

#[test]
fn each_of_many_that_something_is_shared_with_is_looked_at() {
    let count = 2_000;
    let shares: Vec<(usize, usize)> = (1..count).flat_map(|number| [(number, 0), (count + number, number)]).collect();
    for snapshot in two_histories(2 * count, &shares) {
        for number in [1, 2, count / 2, count - 1] {
            for held_on in [number, count + number] {
                let given = snapshot.patched([give(Subject::User(ME), held_on, Levels::READ)]);
                assert_eq!(held(&given, 0), Levels::READ, "{held_on}");
            }
        }
    }
}
