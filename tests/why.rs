//! "Why was I refused?": what a refusal tells to whom.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use std::process::Command;

use serde_json::{Value, json};
use support::gateway::OWNER;
use support::{A_SECOND_WITH_SLACK, Gateway, Upstream, eventually};

fn why(gateway: &Gateway, token: &str) -> Value {
    gateway.call("GET", "/materials/mp/x").token(token).expect(403).json()["why"].clone()
}

/// The words that a shell reads in the line, but for the program's.
fn words(line: &str) -> Vec<String> {
    let printed = Command::new("bash").arg("-c").arg(format!("printf '%s\\0' {line}")).output().unwrap();
    assert!(printed.stderr.is_empty(), "{line}: {}", String::from_utf8_lossy(&printed.stderr));
    let printed = String::from_utf8(printed.stdout).unwrap();
    let mut words: Vec<String> = printed.split_terminator('\0').map(str::to_owned).collect();
    assert_eq!(words.remove(0), "carta-gateway", "{line}");
    words
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
        // Who else has admin is told by grants of others.
        ("who_can_give", json!([format!("user:{OWNER}")])),
    ] {
        assert_eq!(told[member], value, "{member}");
    }
    let change = &told["smallest_change"];
    assert_eq!((&change["subject"], &change["levels"]), (&json!("user:bob"), &json!("execute")));
    assert!(told.get("deciding").is_none() && told.get("beaten").is_none(), "grants of others: {told}");
    // The line that it shows does what it says.
    let command = change["command"].as_str().unwrap().to_owned();
    gateway.run(&words(&command).iter().map(String::as_str).collect::<Vec<_>>()).done();
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
    assert_eq!(told["who_can_give"], json!([format!("user:{OWNER}"), "user:bob"]));
    // The command tells it from the same source.
    let said = gateway.run(&["explain", "--user", "bob", "GET", "/materials/mp/x"]).code(1).out;
    let by_the_api = gateway.run(&["explain", "--user", "bob", "GET", "/service/materials/mp/x"]).code(1).out;
    assert_eq!(by_the_api, said.replacen("GET /", "GET /service/", 1), "the same call by the other listener");
    assert!(said.contains(told["reason"].as_str().unwrap()), "{said}");
    assert!(said.contains(told["smallest_change"]["command"].as_str().unwrap()), "{said}");
    assert!(said.contains(told["beaten"][0]["why"].as_str().unwrap()), "{said}");
}

#[test]
fn what_the_refused_caller_wrote_is_one_word_of_the_line_to_paste_and_runs_nothing() {
    let upstream = Upstream::fixed("ok");
    let operation = "[[service.operation]]\nname = \"tag\"\nmatch = \"ANY /tags/{id}\"\nlevel = \"create\"\nresource = \
                     \"{namespace}.{service}.tag.{id}\"";
    let gateway = Gateway::with_service(&upstream.url(), operation).start();
    let bob = gateway.token("bob");
    let path = "/materials/mp/tags/x%3Becho%20evil%7Csh%20%24(id)%60id%60'%22%0A%03";
    let told = gateway.call("GET", path).token(&bob).expect(403).json()["why"].clone();
    let command = told["smallest_change"]["command"].as_str().unwrap();
    let resource = "materials.mp.tag.x;echo evil|sh $(id)`id`'\"\n\u{3}";
    assert_eq!(words(command), ["grant", "user:bob", resource, "create"]);
    assert!(!command.contains(char::is_control), "{command:?}");
    let said = gateway.run(&["explain", "--user", "bob", "GET", path]).code(1).out;
    assert!(said.contains(command), "{said}");
    gateway.run(&words(command).iter().map(String::as_str).collect::<Vec<_>>()).done();
    eventually("bob may", A_SECOND_WITH_SLACK, || {
        (gateway.call("GET", path).token(&bob).send().status() == 200).then_some(())
    });
}
