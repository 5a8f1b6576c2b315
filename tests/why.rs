//! "Why was I refused?": what a refusal tells to whom.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use serde_json::{Value, json};
use support::gateway::OWNER;
use support::{A_SECOND_WITH_SLACK, Gateway, Upstream, eventually};

fn why(gateway: &Gateway, token: &str) -> Value {
    gateway.call("GET", "/materials/mp/x").token(token).expect(403).json()["why"].clone()
}

#[test]
fn who_is_refused_learns_what_is_missing_what_would_do_and_who_can_give_it() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "")
        .user("carol", &[])
        .grant("carol", "materials", "admin")
        .grant("everyone", "materials.mp", "read")
        .start();
    let told = why(&gateway, &gateway.token("bob"));
    for (member, value) in [
        ("decision", json!("refused")),
        ("user", json!("bob")),
        ("need", json!("execute")),
        ("held", json!("read")),
        ("resource", json!("materials.mp")),
        ("because", json!("too-little")),
        ("owner", json!(OWNER)),
        ("who_can_give", json!([format!("user:{OWNER}"), "user:carol"])),
    ] {
        assert_eq!(told[member], value, "{member}");
    }
    let change = &told["smallest_change"];
    assert_eq!((&change["subject"], &change["levels"]), (&json!("user:bob"), &json!("execute")));
    assert!(told.get("deciding").is_none() && told.get("beaten").is_none(), "grants of others: {told}");
    // The line that it shows does what it says.
    let command = change["command"].as_str().unwrap().to_owned();
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    gateway.run(&words).done();
    let bob = gateway.token("bob");
    eventually("bob may", A_SECOND_WITH_SLACK, || {
        (gateway.call("GET", "/materials/mp/x").token(&bob).send().status() == 200).then_some(())
    });
}

#[test]
fn who_administers_the_resource_sees_which_grants_decided_and_which_were_beaten() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "")
        .grant("bob", "materials.mp", "admin")
        .grant("bob", "materials", "execute")
        .grant("role:Guest", "materials.mp", "read")
        .start();
    let told = why(&gateway, &gateway.token("bob"));
    assert_eq!(told["because"], "too-little");
    let subjects = |list: &Value| -> Vec<String> {
        list.as_array().unwrap().iter().map(|grant| format!("{} {}", grant["subject"], grant["levels"])).collect()
    };
    assert_eq!(subjects(&told["deciding"]), [r#""user:bob" "admin""#, r#""role:Guest" "read""#]);
    assert_eq!(subjects(&told["beaten"]), [r#""user:bob" "execute""#]);
    assert_eq!(told["beaten"][0]["beaten_by"], "nearer");
    // The command tells it from the same source.
    let said = gateway.run(&["explain", "--user", "bob", "GET", "/materials/mp/x"]).code(1).out;
    assert!(said.contains(told["reason"].as_str().unwrap()), "{said}");
    assert!(said.contains(told["smallest_change"]["command"].as_str().unwrap()), "{said}");
    assert!(said.contains(told["beaten"][0]["why"].as_str().unwrap()), "{said}");
}
