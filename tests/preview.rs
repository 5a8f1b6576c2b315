//! Before a change: who would gain and lose what, which calls would have gone the other way, and what would surprise.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use serde_json::{Value, json};
use support::gateway::OWNER;
use support::{Gateway, PATIENCE, Response, Upstream, eventually};

fn preview(gateway: &Gateway, token: &str, changes: &Value) -> Response {
    let body = json!({ "changes": changes }).to_string();
    gateway
        .rest("POST", "/permissions/preview")
        .token(token)
        .header("content-type", "application/json")
        .body(&body)
        .send()
}

fn told(gateway: &Gateway, token: &str, changes: &Value) -> Value {
    let response = preview(gateway, token, changes);
    assert_eq!(response.status(), 200, "{}", response.text());
    response.json()
}

fn rows(list: &Value) -> Vec<String> {
    let text = |row: &Value, member: &str| row[member].as_str().unwrap_or_default().to_owned();
    let row = |row: &Value| format!("{} {} {}", text(row, "user"), text(row, "resource"), text(row, "levels"));
    // Users of one name come in the order of their ids, which is chance.
    let mut rows: Vec<String> = list.as_array().unwrap().iter().map(row).collect();
    rows.sort();
    rows
}

fn start(upstream: &Upstream) -> Gateway {
    let operations = "[[service.operation]]\nname = \"list\"\nmatch = \"GET /tags\"\nresource = \
                      \"{namespace}.{service}\"\n[[service.operation]]\nname = \"tag\"\nmatch = \"POST \
                      /tags/{id}\"\nlevel = \"create\"\nresource = \"{namespace}.{service}.tag.{id}\"";
    Gateway::with_service(&upstream.url(), operations)
        .user("carol", &["--role", "Analyst"])
        .service("other", "svc", &upstream.url(), "")
        .start()
}

#[test]
fn who_gains_and_who_loses_is_told_without_changing_anything() {
    let upstream = Upstream::fixed("ok");
    let gateway = start(&upstream);
    let olga = gateway.token(OWNER);
    let answer = told(
        &gateway,
        &olga,
        &json!([
            {"subject": "role:Analyst", "resource": "materials.mp", "levels": "execute,create"},
            {"subject": "alice", "resource": "materials.mp", "levels": null},
            {"subject": "user:bob", "resource": "materials.mp.tag.7", "levels": ["create"], "expires": "30d"},
        ]),
    );
    assert_eq!(answer["complete"], true, "{answer}");
    assert_eq!(
        rows(&answer["gains"]),
        [
            "bob materials.mp.tag.7 create",
            "carol materials.mp create,execute",
            "carol materials.mp.tag.* create,execute",
            "carol materials.mp.tag.7 create,execute",
        ]
    );
    assert_eq!(
        rows(&answer["losses"]),
        ["alice materials.mp execute", "alice materials.mp.tag.* execute", "alice materials.mp.tag.7 execute"]
    );
    assert_eq!(answer["counts"]["gains"], 4);
    let alice = gateway.token("alice");
    gateway.call("GET", "/materials/mp/tags").token(&alice).expect(200);
}

#[test]
fn what_comes_by_shares_and_beside_other_grants_is_told_wherever_it_stands() {
    let upstream = Upstream::fixed("ok");
    let operation = "[[service.operation]]\nname = \"tag\"\nmatch = \"POST /tags/{id}\"\nresource = \
                     \"{namespace}.{service}.tag.{id}\"";
    let gateway = Gateway::with_service(&upstream.url(), operation)
        .user("carol", &["--role", "Analyst"])
        .service("other", "svc", &upstream.url(), "")
        .grant("everyone", "other", "read")
        .grant("everyone", "other.svc.deep.down", "update")
        .start();
    let olga = gateway.token(OWNER);
    let gains = |changes: Value| {
        let answer = told(&gateway, &olga, &changes);
        assert_eq!(answer["complete"], true, "{answer}");
        rows(&answer["gains"])
    };

    // On a name that is one of those for which an operation's stands.
    gateway.run(&["grant", "holders:delete:other.svc", "materials.mp.tag.fast", "execute"]).done();
    let fast = "bob materials.mp.tag.fast execute".to_owned();
    let to_bob = |levels: &str| gains(json!([{"subject": "bob", "resource": "other.svc", "levels": levels}]));
    eventually("the share is shown", PATIENCE, || to_bob("delete").contains(&fast).then_some(()));
    assert!(!to_bob("update").contains(&fast));

    // Where everyone has another row, the role's adds to it.
    let changes = json!([{"subject": "role:Analyst", "resource": "other", "levels": "read"}]);
    assert_eq!(gains(changes), ["carol other.svc.deep.down read"]);

    // On a record, which is no namespace, service or operation.
    let project = gateway.rest("POST", "/project").token(&olga).header("content-type", "application/json");
    let project = project.body(json!({"name": "P", "bucketName": "b"}).to_string()).send().json();
    let record = format!("@{}", project["id"].as_str().unwrap());
    gateway.run(&["grant", "holders:same:materials.mp", &record, "read,update"]).done();
    let expected = format!("bob {record} read");
    eventually("the share is shown", PATIENCE, || {
        gains(json!([{"subject": "bob", "resource": "materials.mp", "levels": "read"}]))
            .contains(&expected)
            .then_some(())
    });
}

#[test]
fn calls_of_the_last_days_that_would_go_the_other_way_are_counted() {
    let upstream = Upstream::fixed("ok");
    let gateway = start(&upstream);
    let [alice, bob, olga] = ["alice", "bob", OWNER].map(|name| gateway.token(name));
    for _ in 0..3 {
        gateway.call("GET", "/materials/mp/tags").token(&alice).expect(200);
    }
    gateway.call("POST", "/materials/mp/tags/7").token(&bob).body("").expect(403);
    let changes = json!([
        {"subject": "alice", "resource": "materials", "levels": "none"},
        {"subject": "alice", "resource": "materials.mp", "levels": null},
        {"subject": "bob", "resource": "materials.mp.tag", "levels": "create"},
    ]);
    let calls = eventually("the calls are recorded", PATIENCE, || {
        let calls = told(&gateway, &olga, &changes)["calls"].clone();
        (calls["would_be_refused"].as_array().is_some_and(|rows| !rows.is_empty())).then_some(calls)
    });
    let row = |user: &str, operation: &str, resource: &str, count: u64| json!([{"user": user, "service": "materials/mp", "operation": operation, "resource": resource, "count": count}]);
    assert_eq!(calls["would_be_refused"], row("alice", "list", "materials.mp", 3));
    assert_eq!(calls["would_be_allowed"], row("bob", "tag", "materials.mp.tag.7", 1));
    assert_eq!(calls["complete"], true);
}

#[test]
fn only_who_may_make_the_changes_may_preview_them_and_bad_ones_are_named() {
    let upstream = Upstream::fixed("ok");
    let gateway = start(&upstream);
    let [alice, olga] = ["alice", OWNER].map(|name| gateway.token(name));
    let fine = json!([{"subject": "bob", "resource": "materials.mp", "levels": "read"}]);
    let refused = preview(&gateway, &alice, &fine);
    assert_eq!((refused.status(), &refused.json()["owner"]), (403, &json!(OWNER)));
    for (changes, status) in [
        (json!([{"subject": "bob", "resource": "materials.mp"}]), 400),
        (json!([{"subject": "bob", "resource": "materials/mp", "levels": "read"}]), 400),
        (json!([{"subject": "bob", "resource": "materials.mp", "levels": "fly"}]), 400),
        (json!([{"subject": "bob", "resource": "materials.mp", "levels": "read", "expires": "never"}]), 400),
        (json!([{"subject": "bob", "resource": "materials.mp", "levels": "read", "by": "me"}]), 400),
        (json!([{"subject": "team:x", "resource": "materials.mp", "levels": "read"}]), 400),
        (json!([{"subject": OWNER, "resource": "materials.mp", "levels": "read"}]), 400),
        (json!([{"subject": "nobody", "resource": "materials.mp", "levels": "read"}]), 404),
        (json!([{"subject": "bob", "resource": "*.mp", "levels": "read"}]), 403),
        (json!("all"), 400),
        (json!([]), 400),
        (json!(vec![fine[0].clone(); 1001]), 400),
    ] {
        let response = preview(&gateway, &olga, &changes);
        assert_eq!(response.status(), status, "{}", response.text());
    }
    gateway.rest("POST", "/permissions/preview").body("{}").expect(401);
}

#[test]
fn a_row_that_changes_what_another_row_answers_is_warned_of_everywhere() {
    let upstream = Upstream::fixed("ok");
    let gateway = start(&upstream);
    let olga = gateway.token(OWNER);
    gateway.run(&["grant", "bob", "materials.mp", "update"]).done();
    let quiet = gateway.run(&["grant", "bob", "materials.*.c", "delete"]);
    assert_eq!((quiet.code, quiet.err.as_str()), (Some(0), ""));
    // PERMISSIONS §1.4: E12, `materials.mp.c` is answered by the wildcard row. With a row on `materials` it is E11.
    let expected = "on `materials.mp.c`: `materials.mp` (update) instead of `materials.*.c` (delete)";
    eventually("the grants are shown", PATIENCE, || {
        let answer = told(&gateway, &olga, &json!([{"subject": "bob", "resource": "materials", "levels": "read"}]));
        let warned = answer["warnings"][0].as_str().is_some_and(|warning| warning.contains(expected));
        let seen = rows(&answer["losses"]).contains(&"bob materials.mp.c delete".to_owned());
        (warned && seen).then_some(())
    });
    let namespace = gateway.rest("GET", "/service/details/materials").token(&olga).expect(200).json();
    let target = format!("/permissions/{}/bob?role=Guest", namespace["id"].as_str().unwrap());
    let put = gateway.rest("PUT", &target).token(&olga).body("").expect(200).json();
    assert!(put["warnings"][0].as_str().unwrap().contains(expected), "{put}");
    let again = gateway.rest("PUT", &target).token(&olga).body("").expect(200).json();
    assert!(again.get("warnings").is_none(), "nothing changes any more: {again}");

    gateway.run(&["revoke", "bob", "materials"]).done();
    let warned = gateway.run(&["grant", "bob", "materials", "read"]);
    assert!(warned.err.starts_with("warning: ") && warned.err.contains(expected), "{}", warned.err);
    assert!(warned.err.contains("for bob"), "{}", warned.err);
}
