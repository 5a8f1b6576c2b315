//! What meets what is here already: accounts, groups, names, owners.

use super::*;

#[test]
fn an_owner_gets_no_grant_and_what_is_replaced_is_said() {
    let gateway = Gateway::with_service("http://127.0.0.1:9", "").grant("everyone", "a", "execute").start();
    let rows = json!([{"namespace": "a", "permission": "r"}, {"namespace": "materials.mp.*", "permission": "r"}]);
    std::fs::write(gateway.path("c.json"), json!({"ctl": {"permissions": rows}}).to_string()).unwrap();
    let ran = gateway.run(&["import", "ctl", "c.json"]).done();
    assert!(ran.contains("[there] a = r: replaces execute on a that was there"), "{ran}");
    assert!(grants(&gateway).contains(&"everyone a. 1".to_owned()));
    let ran = gateway.run(&["import", "ctl", "c.json", "--for", OWNER]).done();
    assert!(ran.contains("[owner] materials.mp.* = r: the user owns it here"), "{ran}");
    assert!(!grants(&gateway).iter().any(|grant| grant.starts_with("user:olga materials")), "{ran}");
}

#[test]
fn an_account_is_taken_up_by_an_address_only_where_that_was_checked() {
    let gateway = Gateway::builder()
        .user("mallory", &["--email", "boss@example.com"])
        .user("ann", &["--email", "ann@example.com"])
        .user("hal", &[])
        .user("guest", &["--email", "cy@example.com"])
        .user("cy@example.com", &[])
        .prepare();
    let proved = "UPDATE users SET email_verified = 1 WHERE name = 'ann';
        INSERT INTO links (issuer, subject, user) SELECT 'header', 'hal@example.com', id FROM users WHERE name = 'hal';";
    Connection::open(gateway.path("carta.db")).unwrap().execute_batch(proved).unwrap();
    let names = ["boss", "ann", "hal", "cy"];
    let user = |(at, name): (usize, &&str)| json!({"model": "auth.user", "pk": at, "fields": {"username": format!("{name}-there"), "email": format!("{name}@example.com"), "groups": [1]}});
    let grant = |at: usize| json!({"model": "django_grainy.userpermission", "pk": at, "fields": {"namespace": "a", "permission": 1, "user": at}});
    let mut dump = vec![json!({"model": "auth.group", "pk": 1, "fields": {"name": "Chiefs"}})];
    dump.extend(names.iter().enumerate().map(user));
    dump.extend((0..names.len()).map(grant));
    std::fs::write(gateway.path("dump.json"), json!(dump).to_string()).unwrap();
    let ran = gateway.run(&["import", "grainy", "dump.json"]).done();
    assert_eq!(
        grants(&gateway),
        ["user:ann a. 1", "user:boss-there a. 1", "user:cy@example.com a. 1", "user:hal a. 1"],
        "{ran}"
    );
    assert_eq!(members(&gateway, "Chiefs"), ["ann", "boss-there", "cy@example.com", "hal"], "{ran}");
    for line in [
        "  [there] user boss-there: an account of its own, without the address boss@example.com: nothing proves that mallory",
        "  [there] user ann-there: taken to be ann, for whom that address was checked: ann@example.com",
        "  [there] user hal-there: taken to be hal, for whom that address was checked: hal@example.com",
        "  [there] user cy-there: taken to be cy@example.com, whose name is that address",
    ] {
        assert!(ran.lines().any(|said| said.starts_with(line)), "{line}\n---\n{ran}");
    }
    let again = gateway.run(&["import", "grainy", "dump.json"]).done();
    assert!(again.contains("all of it is there already"), "{again}");
}

#[test]
fn users_who_would_become_one_account_are_refused_with_what_is_theirs_and_none_replaces_another() {
    let gateway = Gateway::builder()
        .user("ann", &["--email", "ann@example.com"])
        .user("bob", &["--email", "bob@example.com"])
        .prepare();
    let proved = "UPDATE users SET email_verified = 1;";
    Connection::open(gateway.path("carta.db")).unwrap().execute_batch(proved).unwrap();
    // Two for ann by her address alone; for bob one by name as well; two groups of one name.
    let users = [("ann1", "ann"), ("ann2", "ann"), ("bob", "bob"), ("bob2", "bob"), ("cy", "cy"), ("cy2", "cy")];
    let mut dump = vec![];
    for (at, (name, email)) in users.iter().enumerate() {
        let fields = json!({"username": name, "email": format!("{email}@example.com"), "groups": [1 + at % 2]});
        dump.push(json!({"model": "auth.user", "pk": at, "fields": fields}));
        let fields = json!({"namespace": "a", "permission": 1 << (at % 2), "user": at});
        dump.push(json!({"model": "django_grainy.userpermission", "pk": at, "fields": fields}));
    }
    for id in [1, 2] {
        dump.push(json!({"model": "auth.group", "pk": id, "fields": {"name": "Chiefs"}}));
        let fields = json!({"namespace": "b.*", "permission": id, "group": id});
        dump.push(json!({"model": "django_grainy.grouppermission", "pk": id, "fields": fields}));
    }
    let fields = json!({"namespace": "c", "permission": 0, "group": 2});
    dump.push(json!({"model": "django_grainy.grouppermission", "pk": 3, "fields": fields}));
    std::fs::write(gateway.path("dump.json"), json!(dump).to_string()).unwrap();
    let ran = gateway.run(&["import", "grainy", "dump.json"]).done();
    // What one group was given is not for the members of the other; what it was denied binds at least its own.
    assert_eq!(grants(&gateway), ["group:Chiefs c. 0", "user:bob a. 1", "user:cy a. 1", "user:cy2 a. 2"], "{ran}");
    assert_eq!(members(&gateway, "Chiefs"), ["bob", "cy", "cy2"], "{ran}");
    for line in [
        "  [name] user ann1: it would become ann by its address, and so would ann2: what one has would replace what the \
         other has",
        "  [name] user ann2: it would become ann by its address, and so would ann1:",
        "  [name] user bob2: it would become bob by its address, and so would bob:",
        "  [orphan] user ann1: a = 1: its user is not imported",
        "  [orphan] user bob2: a = 2: its user is not imported",
        "  [name] group Chiefs: there are several of this name: one group here, of all members, with what either was denied",
        "  [name] group Chiefs: b.* = 1: of several groups of this name: their members are one group's here, and the others \
         were not given it",
        "  [name] group Chiefs: b.* = 2: of several groups of this name:",
    ] {
        assert!(ran.lines().any(|said| said.starts_with(line)), "{line}\n---\n{ran}");
    }
    let again = gateway.run(&["import", "grainy", "dump.json"]).done();
    assert!(again.contains("  [name] group Chiefs: there are several of this name, and one here:"), "{again}");
    assert!(again.contains("nothing was changed"), "{again}");
}

#[test]
fn a_group_that_a_user_runs_gets_neither_members_nor_grants() {
    let gateway = Gateway::builder().user("eve", &[]).user("ann", &[]).prepare();
    for name in ["Staff", "AllUsers", "Lab:All", "Board"] {
        gateway.run(&["group", "add", name]).done();
    }
    let runs = "UPDATE groups SET owner = (SELECT id FROM users WHERE name = 'eve') WHERE name <> 'Board'";
    Connection::open(gateway.path("carta.db")).unwrap().execute_batch(runs).unwrap();
    let mut dump = vec![json!({"model": "auth.user", "pk": 1, "fields": {"username": "ann", "groups": [1, 2, 3, 4]}})];
    for (at, name) in [(1, "Staff"), (2, "AllUsers"), (3, "Lab:All"), (4, "Board")] {
        dump.push(json!({"model": "auth.group", "pk": at, "fields": {"name": name}}));
        let fields = json!({"namespace": "a", "permission": 1, "group": at});
        dump.push(json!({"model": "django_grainy.grouppermission", "pk": at, "fields": fields}));
    }
    std::fs::write(gateway.path("dump.json"), json!(dump).to_string()).unwrap();
    let ran = gateway.run(&["import", "grainy", "dump.json"]).done();
    assert_eq!(grants(&gateway), ["group:AllUsers a. 1", "group:Board a. 1", "group:Lab:All a. 1"], "{ran}");
    assert!(members(&gateway, "Staff").is_empty(), "{ran}");
    assert_eq!(members(&gateway, "Board"), ["ann"], "{ran}");
    for line in [
        "  [there] group Staff: eve runs the group of this name here and could join it",
        "  [orphan] group Staff: a = 1: its group is not imported",
    ] {
        assert!(ran.lines().any(|said| said.starts_with(line)), "{line}\n---\n{ran}");
    }
}

#[test]
fn names_that_no_other_way_admits_are_left_out_with_what_is_theirs() {
    let gateway = Gateway::builder().prepare();
    let mut dump = Vec::new();
    for (at, name) in ["everyone", "role:Admin", "a b", "ann"].iter().enumerate() {
        dump.push(json!({"model": "auth.user", "pk": at, "fields": {"username": name, "groups": [0, 1]}}));
        let fields = json!({"namespace": "a", "permission": 1, "user": at});
        dump.push(json!({"model": "django_grainy.userpermission", "pk": at, "fields": fields}));
    }
    for (at, name) in ["A,B", "Lab:Chem"].iter().enumerate() {
        dump.push(json!({"model": "auth.group", "pk": at, "fields": {"name": name}}));
        let fields = json!({"namespace": "a", "permission": 1, "group": at});
        dump.push(json!({"model": "django_grainy.grouppermission", "pk": at, "fields": fields}));
    }
    std::fs::write(gateway.path("dump.json"), json!(dump).to_string()).unwrap();
    let ran = gateway.run(&["import", "grainy", "dump.json"]).done();
    assert_eq!(grants(&gateway), ["group:Lab:Chem a. 1", "user:ann a. 1"], "{ran}");
    assert_eq!(members(&gateway, "Lab:Chem"), ["ann"], "{ran}");
    for line in [
        "  [name] user everyone: this cannot be a login name",
        "  [name] user role:Admin: this cannot be a login name",
        "  [name] user a b: this cannot be a login name",
        "  [orphan] user a b: a = 1: its user is not imported",
        "  [name] group A,B: this cannot be a group's name",
        "  [orphan] group A,B: a = 1: its group is not imported",
    ] {
        assert!(ran.lines().any(|said| said.starts_with(line)), "{line}\n---\n{ran}");
    }
}

#[test]
fn who_owns_the_namespace_may_be_given_what_lies_below_all_of_its_services() {
    let gateway = Gateway::with_service("http://127.0.0.1:9", "").start();
    let rows = json!([{"namespace": "materials.*.x", "permission": "r"}]);
    std::fs::write(gateway.path("c.json"), json!({"ctl": {"permissions": rows}}).to_string()).unwrap();
    let ran = gateway.run(&["import", "ctl", "c.json", "--for", OWNER]).done();
    assert!(grants(&gateway).contains(&"user:olga materials.*.x. 1".to_owned()), "{ran}");
    gateway.run(&["grant", OWNER, "materials.*.y", "read"]).done();
    assert!(grants(&gateway).contains(&"user:olga materials.*.y. 1".to_owned()));
}
