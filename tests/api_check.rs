//! `POST /permissions/check`: what applications ask for things of their own.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use serde_json::{Value, json};
use support::gateway::OWNER;
use support::{Gateway, Response};

/// alice owns the namespace `lab`; bob may read the wiki in it; carol has admin on the wiki; olga runs the platform.
fn gateway() -> Gateway {
    let gateway = Gateway::builder().user("alice", &[]).user("bob", &[]).user("carol", &["--role", "Analyst"]).start();
    gateway.rest("POST", "/service/reserve/lab").token(&gateway.token("alice")).body("").expect(200);
    for [subject, resource, levels] in [
        ["bob", "lab.wiki", "read"],
        ["carol", "lab.wiki", "admin"],
        ["role:Analyst", "lab.reports.*.summary", "cr"],
        ["everyone", "lab.door", "execute"],
    ] {
        gateway.run(&["grant", subject, resource, levels]).done();
    }
    // A write through the API is answered once the gateway shows it, and so all that was written before.
    gateway.rest("POST", "/service/reserve/later").token(&gateway.token("alice")).body("").expect(200);
    gateway
}

fn ask(gateway: &Gateway, token: &str, body: &Value) -> Response {
    let body = body.to_string();
    gateway
        .rest("POST", "/permissions/check")
        .token(token)
        .header("content-type", "application/json")
        .body(&body)
        .send()
}

fn allowed(answer: &Response) -> Vec<bool> {
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let answer = answer.json();
    answer["answers"].as_array().unwrap().iter().map(|answer| answer["allowed"].as_bool().unwrap()).collect()
}

#[test]
fn anybody_asks_about_themselves_and_learns_what_the_grants_say() {
    let gateway = gateway();
    let [bob, carol] = ["bob", "carol"].map(|name| gateway.token(name));
    let asked = json!({"checks": [
        {"resource": "lab.wiki.page", "level": "read"},
        {"resource": ["lab", "wiki", "a.b"], "level": ["read", "update"]},
        {"resource": ["lab", "wiki", "a.b"], "level": ["read", "update"], "any": true},
        {"user": "bob", "resource": "lab", "level": "r"},
        {"resource": "lab.door", "level": "execute"},
        {"resource": [], "level": "read"},
    ]});
    let answer = ask(&gateway, &bob, &asked);
    assert_eq!(allowed(&answer), [true, false, true, false, true, false]);
    let answer = answer.json();
    assert_eq!(answer["answers"][0], json!({"allowed": true, "levels": ["read"], "navigable": true}));
    assert_eq!(answer["answers"][3]["navigable"], true, "something is below");
    let menu = json!({"checks": [{"resource": "lab.reports", "level": "read"}, {"resource": ["lab", "reports", "*", "summary"], "level": "cr"}]});
    let answer = ask(&gateway, &carol, &menu);
    assert_eq!(allowed(&answer), [false, true]);
    assert_eq!(answer.json()["answers"][0]["navigable"], true);
}

#[test]
fn about_others_ask_the_administrators_and_who_runs_the_resource() {
    let gateway = gateway();
    let [alice, bob, carol, olga] = ["alice", "bob", "carol", OWNER].map(|name| gateway.token(name));
    let about = |user: &str, resource: &str| json!({"checks": [{"user": user, "resource": resource, "level": "read"}]});
    for (token, user, resource, answer) in [
        (&alice, "bob", "lab.wiki", Some(true)),
        (&alice, "bob", "lab.other", Some(false)),
        (&alice, "zoe", "lab.wiki", Some(false)),
        (&alice, "bob", "elsewhere", None),
        (&carol, "bob", "lab.wiki.page", Some(true)),
        (&carol, "bob", "lab", None),
        (&bob, "carol", "lab.wiki", None),
        (&bob, "zoe", "lab.wiki", None),
        (&olga, "bob", "lab.wiki", Some(true)),
        (&olga, "zoe", "anything", Some(false)),
    ] {
        let got = ask(&gateway, token, &about(user, resource));
        match answer {
            Some(answer) => assert_eq!(allowed(&got), [answer], "{user} {resource}"),
            None => assert_eq!((got.status(), got.problem()), (403, Some("permission-denied")), "{user} {resource}"),
        }
    }
    // Who cannot come in may do nothing.
    gateway.run(&["user", "disable", "bob"]).done();
    support::eventually("bob is disabled", support::PATIENCE, || {
        (allowed(&ask(&gateway, &alice, &about("bob", "lab.wiki"))) == [false]).then_some(())
    });
}

#[test]
fn reasons_come_on_request_and_tell_no_more_than_is_to_be_seen() {
    let gateway = gateway();
    let [alice, bob] = ["alice", "bob"].map(|name| gateway.token(name));
    let asked = json!({"reasons": true, "checks": [
        {"user": "bob", "resource": "lab.wiki.page", "level": ["read", "update"]},
        {"user": "bob", "resource": "lab.wiki.page", "level": ["read", "update"], "any": true},
    ]});
    let whys = |token: &str| {
        let answer = ask(&gateway, token, &asked);
        assert_eq!(answer.status(), 200, "{}", answer.text());
        answer.json()["answers"].as_array().unwrap().iter().map(|answer| answer["why"].clone()).collect::<Vec<_>>()
    };
    let [refused, enough] = <[Value; 2]>::try_from(whys(&alice)).unwrap();
    assert_eq!((&refused["because"], &refused["owner"]), (&json!("too-little"), &json!("alice")));
    assert_eq!(refused["deciding"][0]["subject"], "user:bob");
    assert_eq!(enough["decision"], "allowed");
    let own = whys(&bob).remove(0);
    assert_eq!(own["because"], "too-little");
    assert!(own.get("deciding").is_none(), "{own}");
    let plain = ask(&gateway, &bob, &json!({"checks": [{"resource": "lab", "level": "read"}]})).json();
    assert!(plain["answers"][0].get("why").is_none());
}

#[test]
fn what_is_no_question_is_refused_with_its_place() {
    let gateway = gateway();
    let bob = gateway.token("bob");
    let one = |resource: Value, level: Value| json!({"checks": [{"resource": "lab", "level": "r"}, {"resource": resource, "level": level}]});
    for (body, said) in [
        (json!({}), "checks"),
        (json!({"checks": {}}), "checks"),
        (json!({"checks": [{"resource": "lab"}]}), "level"),
        (one(json!("lab.*"), json!("r")), "checks[1]: `lab.*`"),
        (one(json!("lab.?"), json!("r")), "checks[1]: `lab.?`"),
        (one(json!("lab..x"), json!("r")), "checks[1]"),
        (one(json!(""), json!("r")), "checks[1]"),
        (one(json!("lab.%ff"), json!("r")), "checks[1]"),
        (one(json!(7), json!("r")), "list of keys"),
        (one(json!(vec!["x"; 65]), json!("r")), "at most 64"),
        (one(json!("lab"), json!("")), "checks[1]"),
        (one(json!("lab"), json!("none")), "checks[1]"),
        (one(json!("lab"), json!("fly")), "`fly`"),
        (json!({"checks": vec![json!({"resource": "lab", "level": "r"}); 1001]}), "1000"),
    ] {
        let got = ask(&gateway, &bob, &body);
        assert_eq!(got.status(), 400, "{body}: {}", got.text());
        assert!(got.json()["detail"].as_str().unwrap().contains(said), "{said}: {}", got.text());
    }
    let none = gateway.rest("POST", "/permissions/check").body("{\"checks\": []}").send();
    assert_eq!(none.status(), 401);
    assert_eq!(gateway.rest("GET", "/permissions/check").token(&bob).send().status(), 405);
    assert_eq!(allowed(&ask(&gateway, &bob, &json!({"checks": []}))), [false; 0]);
}
