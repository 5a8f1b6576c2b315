//! Rules that random policies seldom meet, one case each.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use carta_gateway::policy::{
    Because, Builder, Change, Explanation, Grant, GroupId, Levels, Member, Pattern, PatternKey, Recent, Resource,
    ResourceId, Snapshot, Subject, UserId, Winner,
};
use jiff::Timestamp;
use uuid::Uuid;

const ME: UserId = UserId(Uuid::from_u128(1));
const GROUP: GroupId = GroupId(Uuid::from_u128(2));
const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn me() -> Subject {
    Subject::User(ME)
}

fn group() -> Subject {
    Subject::Group(GROUP)
}

fn role() -> Subject {
    Subject::Role("Ops".into())
}

/// `*` is any key; `-` is a deny.
fn give(subject: Subject, name: &str, levels: &str) -> Change {
    let keys = name.split('.').map(|key| if key == "*" { PatternKey::Any } else { PatternKey::Key(key.into()) });
    let levels = if levels == "-" { Levels::NONE } else { levels.parse().unwrap() };
    Change::Grant(Grant { subject, pattern: Pattern::new(keys).unwrap(), levels, expires: None })
}

fn resource(id: u128, name: &str, owner: Option<UserId>) -> Change {
    Change::Resource(Resource { id: ResourceId(Uuid::from_u128(id)), name: Pattern::parse(name).unwrap(), owner })
}

fn policy(changes: impl IntoIterator<Item = Change>) -> Snapshot {
    let member = Change::Member(Member { id: ME, role: "Ops".into(), groups: vec![GROUP] });
    Snapshot::empty().patched(changes).patched([member])
}

fn held(snapshot: &Snapshot, name: &str) -> String {
    let keys: Vec<&str> = name.split('.').collect();
    snapshot.levels(ME, &keys, NOW).to_string()
}

fn explain(snapshot: &Snapshot, name: &str, need: Levels) -> Explanation {
    let keys: Vec<&str> = name.split('.').collect();
    snapshot.explain(ME, &keys, need, NOW)
}

fn told(grants: &[Grant]) -> Vec<String> {
    grants.iter().map(|grant| format!("{} {}", grant.pattern, grant.levels)).collect()
}

fn beaten(explanation: &Explanation) -> Vec<(String, Winner)> {
    explanation.beaten.iter().map(|one| (format!("{} {}", one.grant.pattern, one.grant.levels), one.by)).collect()
}

#[test]
fn a_star_meets_every_first_key_but_the_whole_name_of_a_resource_that_has_only_an_id() {
    let snapshot = policy([give(me(), "*", "r")]);
    for (key, levels) in [
        ("@4be0643f-1d98-573b-97cd-ca98a65347dd", "none"),
        ("@4BE0643F-1D98-573B-97CD-CA98A65347DD", "none"),
        ("@4be0643f1d98573b97cdca98a65347dd", "read"),
        ("@4be0643f-1d98-573b-97cd-ca98a65347dg", "read"),
        ("@123456789012345678901234567890123456", "read"),
        ("4be0643f-1d98-573b-97cd-ca98a65347dd", "read"),
        ("@", "read"),
    ] {
        assert_eq!(held(&snapshot, key), levels, "{key}");
    }
}

#[test]
fn a_value_is_as_deep_as_the_row_that_it_comes_from_whatever_passes_through() {
    // The role's row on `a` reaches a.b.c by way of names that its longer row passes through: it stays one key deep, above
    // the group's deny, whatever names the role or anybody else has rows on.
    let snapshot = policy([give(role(), "a", "r"), give(role(), "a.b.c.d", "u"), give(group(), "a.b", "-")]);
    let stranger = Subject::User(UserId(Uuid::from_u128(9)));
    for (who, name) in
        [(role(), "a.b.x.y"), (stranger.clone(), "a.b.x"), (stranger.clone(), "a.b.*"), (stranger, "a.*.x")]
    {
        let beside = snapshot.patched([give(who, name, "crud")]);
        for asked in ["a.b", "a.b.c", "a.b.x"] {
            assert_eq!(held(&beside, asked), "none", "{asked} beside {name}");
        }
    }
}

#[test]
fn what_an_owner_and_one_who_is_denied_in_person_have_beside_that_is_told_as_beaten() {
    let share = || give(Subject::Holders(Levels::READ, ResourceId(Uuid::from_u128(1))), "a", "r");
    let rows = || [resource(1, "p", None), give(me(), "p", "r"), share(), give(group(), "a", "u")];
    let denied = explain(&policy(rows()).patched([give(me(), "a", "-")]), "a", Levels::READ);
    assert_eq!(denied.because, Because::OwnDeny);
    let mut all = beaten(&denied);
    all.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(all, [("a read".to_owned(), Winner::OwnDeny), ("a update".to_owned(), Winner::OwnDeny)]);
    let owned = explain(&policy(rows()).patched([resource(2, "a", Some(ME))]), "a", Levels::READ);
    assert_eq!((owned.because, owned.held, told(&owned.counting).len()), (Because::Owner, Levels::ALL, 0));
    let mut all = beaten(&owned);
    all.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(all, [("a read".to_owned(), Winner::Owner), ("a update".to_owned(), Winner::Owner)]);
}

#[test]
fn a_deny_is_the_reason_where_without_it_there_would_be_enough() {
    let rows = || vec![give(role(), "a", "r"), give(group(), "a.b", "-"), give(me(), "a.b", "u")];
    let refused = explain(&policy(rows()), "a.b", Levels::READ);
    assert_eq!((refused.because, refused.held), (Because::Deny, Levels::UPDATE));
    assert_eq!(told(&refused.deciding), ["a.b none"]);
    assert_eq!(beaten(&refused), [("a read".to_owned(), Winner::Deny)]);
    let little = explain(&policy(rows()), "a.b", Levels::CLONE);
    assert_eq!((little.because, told(&little.deciding)), (Because::TooLittle, vec!["a.b update".to_owned()]));
}

#[test]
fn what_gives_nothing_of_what_is_needed_does_not_decide() {
    let allowed = explain(&policy([give(me(), "a", "r"), give(role(), "a", "u")]), "a", Levels::READ);
    assert_eq!((allowed.because, told(&allowed.deciding)), (Because::Granted, vec!["a read".to_owned()]));
    assert_eq!(allowed.counting.len(), 2);
    // The deny at the same name beats the role, and not what was given in person.
    let rows = [give(me(), "a", "r"), give(role(), "a", "r"), give(group(), "a", "-")];
    let excepted = explain(&policy(rows), "a", Levels::READ);
    assert_eq!((excepted.because, excepted.deciding.len()), (Because::Granted, 1));
    assert_eq!(excepted.deciding.first().map(|grant| grant.subject.clone()), Some(me()));
    assert_eq!(beaten(&excepted), [("a none".to_owned(), Winner::Deeper), ("a read".to_owned(), Winner::Deny)]);
}

fn until(change: Change, second: i64) -> Change {
    let Change::Grant(grant) = change else { return change };
    Change::Grant(Grant { expires: Some(Timestamp::from_second(second).unwrap()), ..grant })
}

fn take(subject: Subject, name: &str) -> Change {
    Change::Ungrant(subject, Pattern::parse(name).unwrap())
}

/// The seconds of 0 to 11 at which it is so.
fn seconds(is: impl Fn(Timestamp) -> bool) -> Vec<i64> {
    (0..12).filter(|second| is(Timestamp::from_second(*second).unwrap())).collect()
}

#[test]
fn a_menu_leads_to_what_is_given_below_for_as_long_as_that_is() {
    let shown = |snapshot: &Snapshot| seconds(|now| snapshot.navigable(ME, &["a"], now));
    let lasting = policy([give(me(), "a.b", "r"), give(me(), "a.c", "-"), give(me(), "a.d.e", "u")]);
    assert_eq!(shown(&lasting).len(), 12);
    assert_eq!(shown(&lasting.patched([take(me(), "a.b")])).len(), 12);
    assert!(shown(&lasting.patched([take(me(), "a.b"), take(me(), "a.d.e")])).is_empty(), "a deny leads nowhere");
    assert!(shown(&lasting.patched([take(me(), "a.b"), give(me(), "a.d.e", "-")])).is_empty());
    let ending = policy([
        until(give(me(), "a.b", "r"), 3),
        until(give(me(), "a.c", "-"), 9),
        until(give(me(), "a.d", "u"), 6),
        until(give(me(), "a.e", "u"), 6),
        until(give(me(), "x.y", "u"), 11),
    ]);
    assert_eq!(shown(&ending), (0..6).collect::<Vec<_>>());
    assert_eq!(shown(&ending.patched([take(me(), "a.d")])), (0..6).collect::<Vec<_>>());
    let shorter = ending.patched([take(me(), "a.d"), take(me(), "a.e")]);
    assert_eq!(shown(&shorter), [0, 1, 2]);
    assert_eq!(shown(&shorter.patched([until(give(me(), "a.b", "r"), 8)])), (0..8).collect::<Vec<_>>());
    assert!(shown(&shorter.patched([take(me(), "a.b")])).is_empty());
}

#[test]
fn a_menu_knows_the_last_end_of_what_is_given_below_whatever_came_first() {
    let shown = |snapshot: &Snapshot| seconds(|now| snapshot.navigable(ME, &["a"], now));
    let snapshot = policy([until(give(me(), "a.b", "r"), 6), until(give(me(), "a.c", "r"), 3)]);
    assert_eq!(shown(&snapshot), (0..6).collect::<Vec<_>>());
    let rows = [until(give(me(), "a.b", "r"), 9), until(give(me(), "a.c", "-"), 11)];
    let later = policy(rows).patched([take(me(), "a.b"), until(give(me(), "a.d", "r"), 3)]);
    assert_eq!(shown(&later), [0, 1, 2]);
    let among = [until(give(me(), "a.b", "r"), 9), until(give(me(), "a.c", "-"), 11), until(give(me(), "a.d", "r"), 3)];
    assert_eq!(shown(&policy(among).patched([take(me(), "a.b")])), [0, 1, 2]);
}

#[test]
fn a_menu_leads_nowhere_once_only_denies_are_left_below() {
    let snapshot = policy([give(me(), "a.b", "r"), give(me(), "a.c", "-"), give(me(), "a.d", "-")]);
    let shown = |snapshot: &Snapshot| snapshot.navigable(ME, &["a"], NOW);
    assert!(shown(&snapshot) && shown(&snapshot.patched([take(me(), "a.c")])));
    assert!(!shown(&snapshot.patched([take(me(), "a.b")])));
}

#[test]
fn a_nearer_grant_of_the_same_subject_beats_those_above_it() {
    let rows = [give(me(), "a", "r"), give(me(), "a.b", "u"), give(me(), "a.*", "c"), give(me(), "x", "r")];
    let refused = explain(&policy(rows), "a.b", Levels::READ);
    assert_eq!((refused.because, refused.held), (Because::TooLittle, Levels::UPDATE));
    let mut all = beaten(&refused);
    all.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(all, [("a read".to_owned(), Winner::Nearer), ("a.* create".to_owned(), Winner::Nearer)]);
}

#[test]
fn what_a_builder_was_told_in_any_order_can_be_taken_back() {
    let groups: Vec<GroupId> = (10..20).map(|id| GroupId(Uuid::from_u128(id))).collect();
    let users: Vec<UserId> = (20..30).map(|id| UserId(Uuid::from_u128(id))).collect();
    let mut builder = Builder::new();
    // Users and a member's groups are known in their order, and their grants come in the other.
    builder.member(Member { id: ME, role: "".into(), groups: groups.clone() });
    users.iter().for_each(|id| builder.member(Member { id: *id, role: "".into(), groups: Vec::new() }));
    let subjects: Vec<Subject> =
        users.into_iter().map(Subject::User).chain(groups.into_iter().map(Subject::Group)).collect();
    let pattern = Pattern::parse("a").unwrap();
    for subject in subjects.iter().rev().cloned() {
        builder.grant(&Grant { subject, pattern: pattern.clone(), levels: Levels::READ, expires: None });
    }
    let mut snapshot = builder.finish();
    for (left, subject) in (0..subjects.len()).rev().zip(subjects) {
        assert_eq!(held(&snapshot, "a"), "read");
        snapshot = snapshot.patched([take(subject, "a")]);
        assert_eq!((snapshot.grants_on(&pattern).count(), snapshot.size().grants), (left, left));
    }
    assert_eq!(held(&snapshot, "a"), "none");
}

#[test]
fn what_is_remembered_ends_at_its_second() {
    let snapshot = policy([until(give(me(), "a", "r"), 5)]);
    let mut recent = Recent::new(4);
    let mut may = |now: Timestamp| recent.permit(&snapshot, ME, &["a"], Levels::READ, now).is_ok();
    for second in [3, 4, 5] {
        assert_eq!(may(Timestamp::from_second(second).unwrap()), second < 5, "{second}");
    }
    assert!(may(Timestamp::from_second(2).unwrap()), "and is not asked of a time before it was decided");
    assert_eq!(recent.hits_and_misses(), (1, 3));
}

#[test]
fn only_what_is_held_of_what_is_shared_level_by_level_counts() {
    let same = Subject::Same(ResourceId(Uuid::from_u128(1)));
    let snapshot = policy([resource(1, "p", None), give(me(), "p", "rc"), give(same, "a", "ru")]);
    let allowed = explain(&snapshot, "a", Levels::READ);
    assert_eq!((allowed.because, allowed.held), (Because::Granted, Levels::READ));
    assert_eq!(told(&allowed.counting), ["a read"], "as much of it as counts");
    assert_eq!(told(&allowed.deciding), ["a read, update"], "as it is written");
}

#[test]
fn an_end_is_forgotten_with_the_row_that_had_it() {
    let ending = || until(give(me(), "a.b", "r"), 3);
    let lasting = || give(me(), "a.b", "r");
    for steps in [vec![ending(), lasting()], vec![ending(), take(me(), "a.b"), lasting()]] {
        let others = [until(give(me(), "a.c", "u"), 6), until(give(me(), "a.d", "u"), 9)];
        let snapshot = policy(others).patched(steps).patched([take(me(), "a.d"), take(me(), "a.b")]);
        assert_eq!(seconds(|now| snapshot.navigable(ME, &["a"], now)), (0..6).collect::<Vec<_>>());
    }
}

#[test]
fn a_permit_ends_with_what_it_rests_on_and_not_with_what_ends_elsewhere() {
    let ends = |row: Change| {
        let snapshot = policy([give(Subject::Everyone, "a", "r"), until(row, 5)]);
        snapshot.permit(ME, &["a"], Levels::READ, NOW).unwrap().ends().map(Timestamp::as_second)
    };
    assert_eq!(ends(give(me(), "a", "r")), Some(5));
    assert_eq!(ends(give(group(), "a", "r")), Some(5));
    assert_eq!(ends(give(me(), "a.b", "r")), None, "below");
    assert_eq!(ends(give(me(), "b", "r")), None, "beside");
    // A name on the way that gives nothing, beside two rows that do.
    let rows = [give(me(), "a.b.c", "r"), give(me(), "a.b.*", "r"), give(me(), "a.*.d", "r")];
    let snapshot = policy(rows).patched([until(give(me(), "a.*.c.d", "r"), 5)]);
    assert_eq!(snapshot.permit(ME, &["a", "b", "c"], Levels::READ, NOW).unwrap().ends(), None);
    let share = |levels| give(Subject::Holders(Levels::READ, ResourceId(Uuid::from_u128(1))), "a", levels);
    let shared = |levels| {
        let everyone = give(Subject::Everyone, "a", "r");
        let snapshot = policy([everyone, resource(1, "p", None), share(levels), until(give(me(), "p", "r"), 5)]);
        snapshot.permit(ME, &["a"], Levels::READ, NOW).unwrap().ends().map(Timestamp::as_second)
    };
    assert_eq!(shared("r"), None, "what a share adds nothing to");
    assert_eq!(shared("u"), Some(5));
}

#[test]
fn a_permit_says_who_may_do_what_and_a_refusal_what_is_missing() {
    let snapshot = policy([give(me(), "a", "ru"), give(me(), "b", "admin"), resource(1, "c", Some(ME))]);
    let permit = snapshot.permit(ME, &["a"], Levels::READ, NOW).unwrap();
    assert_eq!((permit.user(), permit.need()), (Some(ME), Levels::READ));
    assert_eq!((permit.held(), permit.ends()), (Levels::READ | Levels::UPDATE, None));
    let denied = snapshot.permit(ME, &["a"], Levels::ALL, NOW).unwrap_err();
    assert_eq!((denied.user, denied.need, denied.held.to_string()), (ME, Levels::ALL, "read, update".to_owned()));
    let stranger = UserId(Uuid::from_u128(9));
    assert_eq!(snapshot.permit(stranger, &["c"], Levels::READ, NOW).unwrap_err().owner, Some(ME));
    let administered = |name: &str| snapshot.may_administer(ME, &[name], NOW).map(|permit| permit.need()).ok();
    assert_eq!(["a", "b", "c"].map(administered), [None, Some(Levels::ADMIN), Some(Levels::ADMIN)]);
    assert_eq!(Snapshot::permit_public().user(), None);
    assert_eq!(Snapshot::permit_self(ME).user(), Some(ME));
    for permit in [Snapshot::permit_public(), Snapshot::permit_self(ME)] {
        assert_eq!((permit.need(), permit.held(), permit.ends()), (Levels::NONE, Levels::NONE, None));
    }
}

#[test]
fn what_is_shared_is_found_by_its_name_and_by_the_resource_whose_holders_have_it() {
    let of = |id: u128| ResourceId(Uuid::from_u128(id));
    let [readers, writers] = [Levels::READ, Levels::WRITE].map(|levels| Subject::Holders(levels, of(1)));
    let (same, others) = (Subject::Same(of(1)), Subject::Holders(Levels::READ, of(2)));
    let all = [&readers, &writers, &same, &others];
    let shares = all.map(|subject| give(subject.clone(), "a", "r"));
    let snapshot = policy(shares).patched([give(me(), "a", "u"), give(readers.clone(), "b", "r")]);
    let sorted = |mut found: Vec<Subject>| {
        found.sort();
        found
    };
    let expected = |subjects: &[&Subject]| sorted(subjects.iter().map(|one| (*one).clone()).collect());
    let on = |snapshot: &Snapshot, name: &str| {
        sorted(snapshot.shares_on(&Pattern::parse(name).unwrap()).map(|grant| grant.subject).collect())
    };
    assert_eq!(on(&snapshot, "a"), expected(&all));
    assert_eq!(on(&snapshot, "b"), expected(&[&readers]));
    assert!(on(&snapshot, "c").is_empty() && on(&snapshot, "a.b").is_empty());
    let sharing_of = |id: u128| sorted(snapshot.sharing_of(of(id)).cloned().collect());
    assert_eq!(sharing_of(1), expected(&[&readers, &writers, &same]));
    assert_eq!(sharing_of(2), expected(&[&others]));
    assert!(sharing_of(3).is_empty());
    let sharing: Vec<(ResourceId, Subject)> = snapshot.sharing().map(|(id, subject)| (id, subject.clone())).collect();
    assert_eq!(sharing.len(), 4);
    assert!(sharing.iter().all(|(id, subject)| (*id == of(2)) == (*subject == others)));
    let fewer = snapshot.patched([take(writers, "a"), take(readers.clone(), "b")]);
    assert_eq!(on(&fewer, "a"), expected(&[&readers, &same, &others]));
    assert!(on(&fewer, "b").is_empty());
}

#[test]
fn a_snapshot_knows_how_much_it_holds() {
    let count = |snapshot: &Snapshot| {
        let size = snapshot.size();
        [size.grants, size.subjects, size.names, size.resources]
    };
    let empty = Snapshot::empty();
    assert_eq!(count(&empty), [0, 1, 1, 0]);
    let some = empty.patched([give(me(), "a.b", "r"), give(role(), "a.*", "r"), resource(1, "a", None)]);
    assert_eq!(count(&some), [2, 3, 4, 1]);
    assert_eq!((some.grants().count(), some.grants_of(&me()).count()), (2, 1));
    let none = some.patched([take(me(), "a.b"), Change::ResourceGone(ResourceId(Uuid::from_u128(1)))]);
    assert_eq!(count(&none.patched([Change::Ungrant(role(), star_below("a"))])), [0, 1, 1, 0]);
}

fn star_below(name: &str) -> Pattern {
    Pattern::new([PatternKey::Key(name.into()), PatternKey::Any]).unwrap()
}

#[test]
fn what_a_builder_is_told_in_several_runs_counts_as_told_last() {
    let holders = Subject::Holders(Levels::READ, ResourceId(Uuid::from_u128(1)));
    let grants = [
        give(group(), "a", "r"),
        give(holders.clone(), "a", "r"),
        give(me(), "a", "u"),
        give(holders.clone(), "a", "-"),
        give(holders.clone(), "b", "r"),
        give(me(), "b", "u"),
        give(me(), "a", "c"),
        give(holders, "c", "-"),
    ];
    let mut builder = Builder::new();
    for change in &grants {
        let Change::Grant(grant) = change else { continue };
        builder.grant(grant);
    }
    assert_eq!(builder.grants(), 5, "what the last grant takes away is not known yet");
    let built = builder.finish();
    let patched = Snapshot::empty().patched(grants);
    assert_eq!((built.size(), built.size().grants), (patched.size(), 4));
    for name in ["a", "b", "c"] {
        let on = |snapshot: &Snapshot| {
            let mut all: Vec<_> = snapshot.grants_on(&Pattern::parse(name).unwrap()).collect();
            all.sort_by(|one, other| one.subject.cmp(&other.subject));
            all
        };
        assert_eq!(on(&built), on(&patched), "{name}");
    }
}

#[test]
fn who_could_give_is_who_holds_admin_now_the_nearest_first() {
    let [ann, bob, cy] = [11, 12, 13].map(|id| Subject::User(UserId(Uuid::from_u128(id))));
    let snapshot = policy([
        give(ann.clone(), "a", "admin"),
        give(ann.clone(), "a.b.c", "r"),
        give(bob.clone(), "a.b", "admin,read"),
        give(cy.clone(), "a.b", "read"),
        until(give(role(), "a.*", "admin"), 5),
        until(give(group(), "a", "admin"), 4),
        give(Subject::Everyone, "x", "admin"),
    ]);
    let givers = |keys: &[&str], second: i64| -> Vec<Subject> {
        snapshot.administering(keys, 20, Timestamp::from_second(second).unwrap()).subjects
    };
    let sorted = |mut all: Vec<Subject>| {
        all.sort();
        all
    };
    let names = |all: &[&Subject]| sorted(all.iter().map(|one| (*one).clone()).collect());
    assert_eq!(sorted(givers(&["a", "b"], 3)), names(&[&ann, &bob, &role(), &group()]));
    assert_eq!(sorted(givers(&["a", "b"], 4)), names(&[&ann, &bob, &role()]), "what ends has ended at its second");
    assert_eq!(sorted(givers(&["a", "b"], 5)), names(&[&ann, &bob]));
    assert_eq!(givers(&["a", "b"], 9), [bob.clone(), ann], "the nearest first");
    assert_eq!(givers(&["a", "b", "c"], 9), [bob], "a row of ann's own is nearer, and gives no admin");
    assert!(givers(&["y"], 9).is_empty());
}

#[test]
fn who_could_give_is_looked_for_among_so_many_users() {
    let everybody_denied = give(Subject::Everyone, "a.b", "-");
    let one = |number: u128| Subject::User(UserId(Uuid::from_u128(number)));
    let (most, now) = (5, Timestamp::UNIX_EPOCH);
    let givers = |denied: u128| {
        let admins = (1..=denied).map(|number| give(one(number), "a", "admin"));
        // Users come in the order in which they were made.
        let exempt = [give(one(0), "a", "admin"), give(one(0), "a.b", "admin")];
        policy(admins.chain(exempt).chain([everybody_denied.clone()])).administering(&["a", "b"], most, now)
    };
    for denied in [0, 19] {
        let found = givers(denied);
        assert_eq!((found.subjects, found.more), (vec![one(0)], false), "{denied}");
    }
    for denied in [20, 1000] {
        let found = givers(denied);
        assert_eq!((found.subjects, found.more), (vec![one(0)], true), "{denied}: the nearest is found all the same");
    }
    let admins = |count: u128| policy((1..=count).map(|number| give(one(number), "a", "admin")));
    for (count, named, more) in [(5, 5, false), (6, 5, true)] {
        let found = admins(count).administering(&["a"], most, now);
        assert_eq!((found.subjects.len(), found.more), (named, more));
    }
    let readers = |count: u128| policy((1..=count).map(|number| give(one(number), "a", "read")));
    for (count, more) in [(1000, false), (1001, true)] {
        let found = readers(count).administering(&["a"], most, now);
        assert_eq!((found.subjects.len(), found.more), (0, more), "{count} rows");
    }
}

#[test]
fn the_smallest_change_repeats_what_it_replaces_and_leaves_out_what_others_give() {
    let change = |rows: Vec<Change>, need: &str| {
        let explained = explain(&policy(rows), "a.b", need.parse().unwrap());
        explained.smallest_change.map(|grant| (grant.subject, grant.levels.to_string()))
    };
    let mine = |levels: &str| Some((me(), levels.to_owned()));
    assert_eq!(change(vec![], "r"), mine("read"));
    assert_eq!(change(vec![give(me(), "a", "r")], "u"), mine("read, update"));
    assert_eq!(change(vec![give(role(), "a", "r")], "ru"), mine("update"));
    assert_eq!(change(vec![give(role(), "a", "r"), give(group(), "a", "u")], "crud"), mine("create, delete"));
    assert_eq!(change(vec![give(role(), "a", "r"), give(group(), "a", "-")], "ru"), mine("read, update"));
    assert_eq!(change(vec![give(role(), "a.b", "r"), give(group(), "a", "-")], "ru"), mine("update"));
    assert_eq!(change(vec![give(role(), "a", "r"), give(me(), "a.b", "-")], "r"), mine("read"));
    assert_eq!(change(vec![give(me(), "a", "r")], "r"), mine("none"), "what is allowed is turned around by a deny");
    let share = give(Subject::Holders(Levels::READ, ResourceId(Uuid::from_u128(1))), "a", "r");
    let shared = vec![resource(1, "p", None), give(me(), "p", "r"), share];
    assert_eq!(change(shared, "ru"), mine("read, update"), "what comes by another resource is not counted on");
}
