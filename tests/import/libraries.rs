//! What each library keeps, and what becomes of it.

use super::*;

const MARA_ROWS: &str = "INSERT INTO acl_user VALUES ('ann@example.com', 'Admin'), ('bob@example.com', 'Analyst'), \
('a.b@example.com', 'Sales'), ('a-b@example.com', 'Sales'), ('cy@example.com', 'SalesOps'), ('Dora@example.com', 'Analyst'), \
('nobody', 'Guest'), ('eve@example.com', 'data_team'), ('fay@example.com', 'data-team');
INSERT INTO acl_permission VALUES ('user__Admin', 'resource__All'), ('user__Guest', 'resource__All'), \
('user__Analyst', 'resource__All__Data__Spend'), ('user__Analyst__bob-example-com', 'resource__All__Reports'), \
('user__Guest__bob-example-com', 'resource__All__Data'), ('user__Analyst__gone-example-com', 'resource__All__Data'), \
('user__Sales', 'resource__All__Report'), ('user__Sales__a-b-example-com', 'resource__All__Data'), \
('user__data_team', 'resource__All__Wiki'), ('%', '%'), ('user__Admin', 'resource__All__Users__Roles'), \
('user__Admin', 'resource__All__');";

#[test]
fn mara_becomes_users_roles_and_grants_and_says_what_is_lost() {
    let gateway = Gateway::builder().user("bob", &["--email", "bob@example.com", "--role", "Guest"]).prepare();
    let checked = "UPDATE users SET email_verified = 1 WHERE name = 'bob'";
    Connection::open(gateway.path("carta.db")).unwrap().execute_batch(checked).unwrap();
    database(&gateway.path("mara.db"), MARA, MARA_ROWS);
    let before = revision(&gateway);
    let dry = gateway.run(&["import", "mara", "mara.db", "--dry-run"]).done();
    assert_eq!((revision(&gateway), grants(&gateway).len()), (before, 0), "{dry}");
    assert!(dry.contains("nothing was changed"), "{dry}");
    let ran = gateway.run(&["import", "mara", "mara.db"]).done();
    assert_eq!(revision(&gateway), before + 1, "one change: {ran}");
    assert_eq!(
        grants(&gateway),
        [
            "role:Admin  31",
            "role:Admin Users.Roles. 31",
            "role:Analyst Data.Spend. 31",
            "role:Guest  31",
            "role:Sales Report. 31",
            "role:data_team Wiki. 31",
            "user:bob Reports. 31",
        ],
        "{ran}"
    );
    for line in [
        "not imported:",
        "  [B3] % on %: ",
        "  [B4] user__Sales__a-b-example-com on resource__All__Data: the key is that of a.b@example.com and a-b@example.com",
        "  [B4] user__Admin on resource__All__: a name is empty",
        "  [B7] user Dora@example.com: ",
        "  [3.1] user nobody: ",
        "  [dormant] user__Guest__bob-example-com on resource__All__Data: dormant: given to bob@example.com in another role than \
         Analyst",
        "  [dormant] user__Analyst__gone-example-com on resource__All__Data: given to a user who is not there",
        "imported, and means something else here:",
        "  [B1] user__Sales: it also matched cy@example.com (role SalesOps)",
        "  [B2] user__data_team: it also matched fay@example.com (role data-team)",
        "  [B1] resource__All__Report: it also opened resource__All__Reports",
        "  [B6] user__Admin on resource__All: it also opened the page `Users`",
        "  [B6] user__Analyst on resource__All__Data__Spend: it also opened what is above it (All, Data)",
        "  [B6] user__Admin on resource__All__Users__Roles: it opened the page",
        "  [B9] user__Guest on resource__All: ",
        "to know:",
        "  [there] user bob@example.com: taken to be bob, for whom that address was checked: bob@example.com",
        "  [there] user bob@example.com: there already as bob, whose role stays Guest, not Analyst",
    ] {
        assert!(ran.lines().any(|said| said.starts_with(line)), "{line}\n---\n{ran}");
    }
    let again = gateway.run(&["import", "mara", "mara.db"]).done();
    assert!(again.contains("all of it is there already"), "{again}");
    assert_eq!(revision(&gateway), before + 1);
}

#[test]
fn mara_is_read_from_csv_and_json_too_and_can_be_put_under_a_name() {
    for form in ["csv", "json"] {
        let gateway = Gateway::builder().prepare();
        let files: &[&str] = if form == "csv" {
            std::fs::write(gateway.path("acl_user.csv"), "email,role\nann@example.com,\"Data, all\"\n").unwrap();
            std::fs::write(
                gateway.path("acl_permission.csv"),
                "user_key,resource_key\nuser__Data--all,resource__All\nuser__Data--all__ann-example-com,resource__All__X\n",
            )
            .unwrap();
            &["acl_user.csv", "acl_permission.csv"]
        } else {
            let all = json!({
                "acl_user": [{"email": "ann@example.com", "role": "Data, all"}],
                "acl_permission": [
                    {"user_key": "user__Data--all", "resource_key": "resource__All"},
                    {"user_key": "user__Data--all__ann-example-com", "resource_key": "resource__All__X"},
                ],
            });
            std::fs::write(gateway.path("export.json"), all.to_string()).unwrap();
            &["export.json"]
        };
        gateway.run(&[&["import", "mara"], files, &["--under", "bi.pages"]].concat()).done();
        assert_eq!(grants(&gateway), ["role:Data, all bi.pages. 31", "user:ann@example.com bi.pages.X. 31"], "{form}");
    }
}

const GRAINY_ROWS: &str = "INSERT INTO auth_user (id, password, is_superuser, username, last_name, email, is_staff, is_active, \
date_joined, first_name) VALUES (1, '', 1, 'root', '', '', 1, 1, '2020-01-01', ''), (2, '', 0, 'bob', 'B', 'Bob@Example.com', 0, 1, \
'2020-01-01', 'Bob'), (3, '', 0, 'gone', '', '', 0, 0, '2020-01-01', '');
INSERT INTO auth_group VALUES (1, 'Staff'), (2, 'Lab:Chem');
INSERT INTO auth_user_groups VALUES (1, 2, 1), (2, 2, 2);
INSERT INTO django_grainy_userpermission (namespace, permission, user_id) VALUES ('a', 1, 2), ('x.y', 0, 2), ('x.y', 5, 2), \
('m.*', 2, 2), ('m', 4, 2), ('w.*.z', 16, 2), ('v', 129, 2), ('u..t', 1, 2), ('__', 1, 2), ('lost', 1, 99);
INSERT INTO django_grainy_grouppermission (namespace, permission, group_id) VALUES ('a', 14, 1), ('q.r', 0, 2), ('q.r.s', 1, 1);";

#[test]
fn grainys_masks_become_grants_and_each_answer_that_differs_is_said() {
    let gateway = Gateway::builder().prepare();
    database(&gateway.path("django.sqlite3"), GRAINY, GRAINY_ROWS);
    let before = revision(&gateway);
    let ran = gateway.run(&["import", "grainy", "django.sqlite3"]).done();
    assert_eq!(revision(&gateway), before + 1, "{ran}");
    assert_eq!(
        grants(&gateway),
        [
            "group:Lab:Chem q.r. 0",
            "group:Staff a. 14",
            "group:Staff q.r.s. 1",
            "user:bob __. 1",
            "user:bob a. 1",
            "user:bob m. 2",
            "user:bob u..t. 1",
            "user:bob v. 1",
            "user:bob w.*.z. 0",
            "user:bob x.y. 5",
        ],
        "{ran}"
    );
    for line in [
        "  [1.3] user bob: m = 4: never counted",
        "  [1.3] user bob: x.y = 0: replaced by a later row",
        "  [orphan] user 99: lost: there is no user",
        "  [bits] user bob: w.*.z = 16: ",
        "  [bits] user bob: v = 129: ",
        "  [G4] user bob: u..t = 1: ",
        "  [G5] user bob: __ = 1: ",
        "  [D1] user bob: a: django-grainy gives read; here it is create, read, update, delete",
        "  [superuser] user root: ",
    ] {
        assert!(ran.lines().any(|said| said.starts_with(line)), "{line}\n---\n{ran}");
    }
    // Who was inactive cannot come in, and nobody became an administrator.
    let store = Connection::open(gateway.path("carta.db")).unwrap();
    let users: Vec<(String, bool, bool, Option<String>)> = store
        .prepare("SELECT name, disabled, administrator, email FROM users WHERE name <> 'olga' ORDER BY name")
        .unwrap()
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let expected = [("bob", false, Some("bob@example.com")), ("gone", true, None), ("root", false, None)];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(name, disabled, email)| (name.to_owned(), disabled, false, email.map(str::to_owned)))
        .collect();
    assert_eq!(users, expected);
}

#[test]
fn grainy_is_read_from_dumpdata_too() {
    let gateway = Gateway::builder().prepare();
    let dump = json!([
        {"model": "auth.group", "pk": 7, "fields": {"name": "Staff", "permissions": []}},
        {"model": "auth.user", "pk": 3, "fields": {"username": "ann", "email": "", "is_superuser": false, "is_active": true,
                                                     "groups": [7], "user_permissions": []}},
        {"model": "django_grainy.userpermission", "pk": 1, "fields": {"namespace": "a.*.b", "permission": 3, "user": 3}},
        {"model": "django_grainy.userpermission", "pk": 2, "fields": {"namespace": "c", "permission": "read", "user": 3}},
        {"model": "django_grainy.grouppermission", "pk": 1, "fields": {"namespace": "a", "permission": 8, "group": 7}},
    ]);
    std::fs::write(gateway.path("dump.json"), dump.to_string()).unwrap();
    let ran = gateway.run(&["import", "grainy", "dump.json"]).done();
    assert_eq!(grants(&gateway), ["group:Staff a. 8", "user:ann a.*.b. 3", "user:ann c. 9"], "{ran}");
    assert!(ran.contains("[G1] user ann: c = read: to grainy these letters are read, delete"), "{ran}");
    assert!(
        ran.contains("[D1] user ann: a.*.b: django-grainy gives read, update; here it is read, update, delete"),
        "{ran}"
    );
    gateway.run(&["explain", "--user", "ann", "GET", "/a/b"]).code(1);
}

#[test]
fn ctl_gives_its_permissions_to_whom_one_says_and_lists_what_is_to_be_declared() {
    let gateway = Gateway::builder().user("ci", &[]).prepare();
    let yaml = "ctl:\n  permissions:\n    - namespace: ctl\n      permission: r\n    - namespace: ctl.*\n      permission: cu\n    \
                - namespace: ctl.ls\n      permission: deny\n    - namespace: ctl.none\n      permission: xyz\n  plugins:\n    - name: \
                ls\n      type: command\n      config:\n        permissions:\n          execute: cu\n          stop: d\n          never: \
                zzz\n";
    std::fs::write(gateway.path("config.yml"), yaml).unwrap();
    let ran = gateway.run(&["import", "ctl", "config.yml", "--for", "ci"]).done();
    assert_eq!(grants(&gateway), ["user:ci ctl. 6", "user:ci ctl.ls. 8"], "{ran}");
    for line in [
        "  [1.3] ctl = r: never counted: ctl.* = cu",
        "  [2.1] ctl.none = xyz: this gives nothing",
        "  [G1] ctl.ls = deny: to ctl these letters are delete",
        "  [2.2] plugin ls, execute: ctl takes any of create, update",
        "  [2.2] plugin ls, stop: declare it as an operation of the service: level = \"delete\"",
        "  [2.2] plugin ls, never: `zzz` is no level",
        "  [C1, C2] plugin ls: ",
    ] {
        assert!(ran.lines().any(|said| said.starts_with(line)), "{line}\n---\n{ran}");
    }
    let everyone = Gateway::builder().prepare();
    std::fs::write(
        everyone.path("ctl.json"),
        json!({"ctl": {"permissions": [{"namespace": "ctl", "permission": "r"}]}}).to_string(),
    )
    .unwrap();
    everyone.run(&["import", "ctl", "ctl.json"]).done();
    assert_eq!(grants(&everyone), ["everyone ctl. 1"]);
}

#[test]
fn files_that_are_none_of_theirs_are_refused_and_change_nothing() {
    let gateway = Gateway::builder().prepare();
    for (name, content) in [
        ("empty.csv", ""),
        ("acl_user.json", "[1]"),
        ("half.json", "{\"acl_user\": []}"),
        ("list.json", "{\"acl_user\": 7}"),
        ("broken.json", "{\"acl_user\""),
        ("bytes.bin", "\u{1}\u{2}"),
        ("fake.db", "SQLite format 3\0 but not really"),
        ("ctl.yml", "a: b: c"),
    ] {
        std::fs::write(gateway.path(name), content).unwrap();
        for kind in ["mara", "grainy", "ctl"] {
            let ran = gateway.run(&["import", kind, name]).code(2);
            assert!(!ran.err.is_empty() && !ran.err.contains("panicked"), "{kind} {name}: {}", ran.err);
        }
    }
    gateway.run(&["import", "mara", "nowhere.db"]).code(2);
    assert_eq!(grants(&gateway).len(), 0);
}
