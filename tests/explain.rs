//! `GET /explain`: what became of a call and why, and how one would be decided now.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use serde_json::{Value, json};
use support::gateway::OWNER;
use support::{A_SECOND_WITH_SLACK, Gateway, Response, Upstream, eventually};

fn id_of(response: &Response) -> String {
    response.header("x-request-id").unwrap().to_owned()
}

fn explain(gateway: &Gateway, token: &str, question: &str) -> Response {
    gateway.rest("GET", &format!("/explain{question}")).token(token).send()
}

fn told(gateway: &Gateway, token: &str, question: &str) -> Value {
    let response = explain(gateway, token, question);
    assert_eq!(response.status(), 200, "{question}: {}", response.text());
    response.json()
}

#[test]
fn a_refusal_is_explained_to_its_caller_and_to_who_administers_the_service_and_to_nobody_else() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "")
        .user("carol", &[])
        .grant("carol", "materials", "admin")
        .grant("everyone", "materials.mp", "read")
        .start();
    let [bob, alice, carol, olga] = ["bob", "alice", "carol", OWNER].map(|name| gateway.token(name));
    let refused = gateway.call("GET", "/materials/mp/secret/path?key=hidden").token(&bob).expect(403);
    let question = format!("/{}", id_of(&refused));

    let own = told(&gateway, &bob, &question);
    for (member, value) in [
        ("user", json!("bob")),
        ("method", json!("GET")),
        ("path", json!("/materials/mp/secret/path")),
        ("service", json!("materials/mp")),
        ("decision", json!("refused")),
        ("problem", json!("permission-denied")),
        ("status", json!(403)),
        ("detail", refused.json()["detail"].clone()),
        ("why", refused.json()["why"].clone()),
    ] {
        assert_eq!(own[member], value, "{member}");
    }
    assert_eq!(own["now"]["differs"], false);
    assert!(own["now"]["why"].get("deciding").is_none() && own["why"].get("deciding").is_none(), "{own}");

    for token in [&olga, &carol] {
        let full = told(&gateway, token, &question);
        assert_eq!(full["why"]["deciding"][0]["subject"], "everyone", "{full}");
        assert_eq!(full["now"]["why"]["deciding"][0]["subject"], "everyone");
    }
    let strange = explain(&gateway, &alice, &question);
    let unknown = explain(&gateway, &alice, "/00000000000000000000000000000000");
    assert_eq!((strange.status(), unknown.status()), (404, 404));
    assert_eq!(explain(&gateway, &bob, "/job-7").status(), 404);
    gateway.rest("GET", &format!("/explain{question}")).expect(401);
}

#[test]
fn what_was_allowed_is_explained_and_a_change_since_is_told() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let alice = gateway.token("alice");
    let question = format!("/{}", id_of(&gateway.call("GET", "/materials/mp/x").token(&alice).expect(200)));
    let before = told(&gateway, &alice, &question);
    assert_eq!((&before["decision"], &before["status"]), (&json!("allowed"), &json!(200)));
    assert_eq!((&before["now"]["why"]["because"], &before["now"]["differs"]), (&json!("granted"), &json!(false)));
    assert_eq!(before["revision"], before["now"]["revision"]);

    gateway.run(&["revoke", "alice", "materials.mp"]).done();
    let after = eventually("the change is seen", A_SECOND_WITH_SLACK, || {
        let told = told(&gateway, &alice, &question);
        (told["now"]["differs"] == true).then_some(told)
    });
    assert_eq!(after["decision"], "allowed");
    assert_eq!(after["now"]["decision"], "refused");
    assert!(after["now"]["revision"].as_u64() > after["revision"].as_u64());
    assert!(after["now"]["note"].as_str().unwrap().contains("would be refused now"), "{after}");
}

#[test]
fn calls_of_the_api_listener_and_refusals_other_than_by_grants_are_explained_too() {
    let upstream = Upstream::fixed("ok");
    let gateway =
        Gateway::with_service(&upstream.url(), "[service.inject]\nheaders = { X-Key = \"{secret:key}\" }").start();
    let [alice, bob, olga] = ["alice", "bob", OWNER].map(|name| gateway.token(name));
    let missing = gateway.rest("GET", "/service/materials/mp/x").token(&alice).expect(400);
    let explained = told(&gateway, &alice, &format!("/{}", id_of(&missing)));
    assert_eq!((&explained["problem"], &explained["status"]), (&json!("missing-secret"), &json!(400)));
    assert_eq!(explained["now"]["decision"], "allowed", "grants permit it: {explained}");
    let unknown = gateway.call("GET", "/materials/none/x").token(&bob).expect(404);
    assert_eq!(told(&gateway, &bob, &format!("/{}", id_of(&unknown)))["problem"], "unknown-service");
    // Nobody was identified: only who administers the service may ask.
    let nobody = gateway.call("GET", "/materials/mp/x").expect(401);
    let question = format!("/{}", id_of(&nobody));
    assert_eq!(told(&gateway, &olga, &question)["problem"], "not-authenticated");
    assert_eq!(explain(&gateway, &alice, &question).status(), 404);
}

#[test]
fn whose_service_asks_for_levels_on_what_is_not_theirs_learns_nothing_of_the_grants_there() {
    let upstream = Upstream::fixed("ok");
    let operation = "[[service.operation]]\nname = \"pay\"\nmatch = \"GET /pay/{id}\"\nresource = \"hr.payroll.{id}\"";
    let gateway = Gateway::with_service(&upstream.url(), operation)
        .user("carol", &[])
        .service_of("carol", "hr", "payroll", &upstream.url(), "")
        .grant("everyone", "hr.payroll", "read")
        .start();
    let [bob, olga, carol] = ["bob", OWNER, "carol"].map(|name| gateway.token(name));
    let refused = format!("/{}", id_of(&gateway.call("GET", "/materials/mp/pay/7").token(&bob).expect(403)));
    let owners = told(&gateway, &olga, &refused);
    assert_eq!((&owners["decision"], &owners["problem"]), (&json!("refused"), &json!("permission-denied")));
    assert!(owners.get("why").is_none() && owners.get("now").is_none(), "{owners}");
    let asked = told(&gateway, &olga, "?user=bob&path=/materials/mp/pay/7");
    assert_eq!(asked["decision"], "refused");
    assert!(asked.get("why").is_none() && asked["note"].is_string(), "{asked}");
    // Their own part is the caller's, as before.
    assert_eq!(told(&gateway, &bob, &refused)["why"]["held"], "read");
    assert_eq!(told(&gateway, &bob, "?path=/materials/mp/pay/7")["why"]["held"], "read");
    assert_eq!(explain(&gateway, &carol, &refused).status(), 404);
}

#[test]
fn the_owner_of_a_namespace_is_not_told_about_a_service_of_somebody_else_in_it() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "")
        .user("carol", &[])
        .service_of("carol", "materials", "hers", &upstream.url(), "")
        .start();
    let [bob, olga, carol] = ["bob", OWNER, "carol"].map(|name| gateway.token(name));
    let refused = format!("/{}", id_of(&gateway.call("GET", "/materials/hers/x").token(&bob).expect(403)));
    assert_eq!(told(&gateway, &carol, &refused)["why"]["owner"], "carol");
    assert_eq!(explain(&gateway, &olga, &refused).status(), 404);
    assert_eq!(explain(&gateway, &olga, "?user=bob&path=/materials/hers/x").status(), 403);
}

#[test]
fn the_decision_is_what_grants_said_whatever_became_of_the_call() {
    let gateway = Gateway::with_service("http://127.0.0.1:1", "").start();
    let alice = gateway.token("alice");
    let broken = gateway.call("GET", "/materials/mp/x").token(&alice).expect(502);
    let explained = told(&gateway, &alice, &format!("/{}", id_of(&broken)));
    assert_eq!((&explained["decision"], &explained["status"]), (&json!("allowed"), &json!(502)));
    // A bad method is judged after who may ask about what.
    assert_eq!(explain(&gateway, &alice, "?method=%20&path=/materials/none/x").status(), 404);
    assert_eq!(explain(&gateway, &alice, "?user=bob&method=%20&path=/materials/mp/x").status(), 403);
    assert_eq!(explain(&gateway, &alice, "?method=%20&path=/materials/mp/x").status(), 400);
}

#[test]
fn refusals_outlive_a_restart() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let [bob, alice, olga] = ["bob", "alice", OWNER].map(|name| gateway.token(name));
    let refused = format!("/{}", id_of(&gateway.call("GET", "/materials/mp/x").token(&bob).expect(403)));
    let allowed = format!("/{}", id_of(&gateway.call("GET", "/materials/mp/x").token(&alice).expect(200)));
    let before = told(&gateway, &bob, &refused);
    gateway.signal("TERM");
    assert_eq!(gateway.wait_for_end(), Some(0));
    gateway.serve();
    let after = told(&gateway, &bob, &refused);
    for member in ["at", "path", "detail", "why", "revision", "took_us", "status"] {
        assert_eq!(after[member], before[member], "{member}");
    }
    assert!(told(&gateway, &olga, &refused)["why"]["deciding"].is_array());
    assert_eq!(explain(&gateway, &alice, &refused).status(), 404);
    assert_eq!(explain(&gateway, &alice, &allowed).status(), 404, "what was allowed is remembered in memory only");
}

#[test]
fn a_call_that_was_never_made_is_explained_as_the_gateway_would_decide_it() {
    let upstream = Upstream::fixed("ok");
    let operations = "public = [\"/health\"]\n[[service.operation]]\nname = \"tag\"\nmatch = \"POST /tags/{id}\"\nlevel = \
                      \"create\"\nresource = \"{namespace}.{service}.tag.{id}\"\n[[service.operation]]\nname = \
                      \"list\"\nmatch = \"GET /tags\"\nresource = \"{namespace}.{service}\"";
    let gateway = Gateway::with_service(&upstream.url(), operations).user("dora", &[]).start();
    let [alice, bob, olga] = ["alice", "bob", OWNER].map(|name| gateway.token(name));
    for (token, method, path, decision, status) in [
        (&alice, "GET", "/materials/mp/tags", "allowed", 200),
        (&alice, "POST", "/materials/mp/tags/7", "refused", 403),
        (&alice, "GET", "/materials/mp/other", "refused", 403),
        (&bob, "GET", "/materials/mp/tags", "refused", 403),
        (&bob, "GET", "/materials/mp/health", "allowed", 200),
    ] {
        let told = told(&gateway, token, &format!("?method={method}&path={path}"));
        assert_eq!(told["decision"], decision, "{method} {path}: {told}");
        assert_eq!(gateway.call(method, path).token(token).send().status(), status, "{method} {path}");
    }
    let own = told(&gateway, &alice, "?user=alice&method=POST&path=/materials/mp/tags/7");
    assert_eq!((&own["operation"], &own["why"]["resource"]), (&json!("tag"), &json!("materials.mp.tag.7")));
    assert!(own["why"].get("beaten").is_none());

    let full = told(&gateway, &olga, "?user=alice&path=/materials/mp/tags");
    assert_eq!(full["why"]["deciding"][0]["subject"], "user:alice");
    gateway.run(&["user", "disable", "dora"]).done();
    eventually("dora is refused", A_SECOND_WITH_SLACK, || {
        let told = told(&gateway, &olga, "?user=dora&path=/materials/mp/tags");
        (told["problem"] == "invalid-credential").then_some(())
    });
    let others = explain(&gateway, &alice, "?user=bob&path=/materials/mp/tags");
    assert_eq!((others.status(), &others.json()["owner"]), (403, &json!(OWNER)), "it says who could");
    for (question, status) in [
        ("?user=nobody&path=/materials/mp/tags", 403),
        ("?path=/materials/none/tags", 404),
        ("?user=bob&path=/materials/none/tags", 404),
        ("", 400),
        ("?path=materials", 400),
        ("?path=/materials/mp/../x", 400),
        ("?path=/materials/mp/x&method=a%20b", 400),
    ] {
        assert_eq!(explain(&gateway, &alice, question).status(), status, "{question}");
    }
    assert_eq!(explain(&gateway, &olga, "?user=nobody&path=/materials/mp/tags").status(), 404);
    gateway.rest("GET", "/explain?path=/materials/mp/tags").expect(401);
}
