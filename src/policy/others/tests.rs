use std::cell::Cell;

use jiff::Timestamp;
use uuid::Uuid;

use super::super::{Change, Grant, Pattern, Resource, Subject};
use super::*;

thread_local! {
    /// How many holders were looked at, and how many questions the search asked.
    pub(super) static LOOKS: Cell<usize> = const { Cell::new(0) };
    pub(super) static QUESTIONS: Cell<usize> = const { Cell::new(0) };
}

fn id(number: usize) -> ResourceId {
    ResourceId(Uuid::from_u128(number as u128))
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

/// The web about the user and the first so many resources, which are named below `p` as all are.
fn web_of(snapshot: &Snapshot, user: UserId, roots: usize) -> Web {
    LOOKS.set(0);
    let question = Question { user, keys: &["asked"], reading: Reading::Covering };
    Web::new(snapshot, question, (1..=roots).map(id).collect(), 0)
}

/// So many resources, and with whom they are shared.
fn webbed(resources: usize, shares: impl Iterator<Item = (usize, usize)>) -> Snapshot {
    let resources = (1..=resources).map(|number| named(number, &["p", &number.to_string()]));
    let shares =
        shares.map(|(from, to)| give(Subject::Holders(Levels::READ, id(from)), &["p", &to.to_string()], Levels::READ));
    Snapshot::empty().patched(resources.chain(shares))
}

#[test]
fn a_decision_looks_at_so_many_resources_whatever_is_shared_with_whom() {
    let (me, roots, behind) = (UserId(Uuid::from_u128(1)), 600, 10);
    let shares = (1..=roots).flat_map(|root| (1..=behind).map(move |one| (roots + root * behind + one, root)));
    let snapshot = webbed(roots * (behind + 1) + behind, shares);
    let web = web_of(&snapshot, me, roots);
    assert!((roots + 1..=MAX_SITES).contains(&web.sites.len()), "{}", web.sites.len());
}

#[test]
fn a_decision_follows_so_many_shares_whatever_is_shared_with_whom() {
    // Each of many is shared with who holds more of the others than there is room for; they need no room themselves.
    let (me, roots, with) = (UserId(Uuid::from_u128(1)), 600, 40);
    assert!(roots * with > MAX_SHARES);
    let shares = (0..roots).flat_map(|to| (1..=with).map(move |step| ((to + step) % roots + 1, to + 1)));
    let snapshot = webbed(roots, shares);
    let web = web_of(&snapshot, me, roots);
    assert_eq!(web.shares.len(), roots * (MAX_SHARES / roots));
}

#[test]
fn a_decision_looks_at_so_many_holders_whatever_is_shared_with_whom() {
    // On the name above all stand shares that give nothing which the user does not have there; each takes a look.
    let (me, roots, behind, above) = (UserId(Uuid::from_u128(1)), 100, 10, 400);
    assert!(roots * (behind + 1) * above > MAX_HOLDERS);
    let shares = (1..=roots).flat_map(|root| (1..=behind).map(move |one| (roots + root * behind + one, root)));
    let beside =
        (1..=above).map(|number| give(Subject::Holders(Levels::READ, id(9999 + number)), &["p"], Levels::READ));
    // Read is what they give; what the resources themselves are shared for is another level.
    let shares = shares
        .map(|(from, to)| give(Subject::Holders(Levels::UPDATE, id(from)), &["p", &to.to_string()], Levels::UPDATE));
    let own = give(Subject::User(me), &["p"], Levels::READ);
    let snapshot = webbed(roots * (behind + 1) + behind, std::iter::empty());
    let snapshot = snapshot.patched(shares.chain(beside).chain([own]));
    web_of(&snapshot, me, roots);
    assert!((roots * above..=MAX_HOLDERS).contains(&LOOKS.get()), "{}", LOOKS.get());
}

#[test]
fn one_search_tells_of_every_level_that_is_in_doubt_on_a_resource() {
    // Execute comes back to `here` by way of itself. The door is shared with who holds it beside any of the others.
    let (me, [here, there]) = (UserId(Uuid::from_u128(1)), [1, 2]);
    let own = Levels::ALL.without(Levels::EXECUTE | Levels::READ);
    let masks = |most: u8| {
        let with_it = (0..=127).filter_map(Levels::from_bits).filter(|mask| mask.has_all(Levels::EXECUTE));
        with_it.filter(|mask| !mask.has_any(Levels::READ)).take(usize::from(most)).collect::<Vec<_>>()
    };
    let questions = |most: u8| {
        let web = [
            named(here, &["here"]),
            named(there, &["there"]),
            give(Subject::User(me), &["here"], own),
            give(Subject::Holders(Levels::UPDATE, id(here)), &["there"], Levels::READ),
            give(Subject::Holders(Levels::READ, id(there)), &["here"], Levels::EXECUTE),
        ];
        let doors = masks(most).into_iter().map(|mask| give(Subject::Holders(mask, id(here)), &["door"], Levels::READ));
        let snapshot = Snapshot::empty().patched(web.into_iter().chain(doors));
        QUESTIONS.set(0);
        assert_eq!(snapshot.levels(me, &["door"], Timestamp::UNIX_EPOCH), Levels::NONE);
        QUESTIONS.get()
    };
    assert_eq!(masks(64).len(), 32);
    assert_ne!(questions(1), 0);
    assert_eq!(questions(64), questions(1));
}
