//! API tokens on a real gateway: what they may, on both listeners; what they cost; how they end.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

#[path = "../support/mod.rs"]
mod support;

mod hostile;
mod lifecycle;
mod scope;
mod uses;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use support::gateway::OWNER;
use support::{Ask, Gateway, Upstream};

/// The value of `Authorization` for this key.
fn basic(key: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("__token__:{key}")))
}

/// The request with this API token.
fn with(ask: Ask, key: &str) -> Ask {
    ask.header("Authorization", &basic(key))
}

/// What the API says to who asks for a token.
fn ask_for(gateway: &Gateway, bearer: &str, body: &Value) -> support::Response {
    gateway.rest("POST", "/v2/auth/apitoken/self").token(bearer).body(body.to_string()).send()
}

/// A token of the bearer's; its key.
#[track_caller]
fn made(gateway: &Gateway, bearer: &str, name: &str, endpoints: &[&str], more: &Value) -> String {
    let mut body = json!({"name": name, "allowedEndpoints": endpoints});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = ask_for(gateway, bearer, &body);
    assert_eq!(answer.status(), 200, "{}", answer.text());
    answer.json()["token"].as_str().unwrap().to_owned()
}

fn listed(gateway: &Gateway, bearer: &str) -> Vec<Value> {
    let answer = gateway.rest("GET", "/v2/auth/apitoken/self").token(bearer).expect(200);
    answer.json().as_array().unwrap().clone()
}

fn call(gateway: &Gateway, key: &str, path: &str) -> u16 {
    with(gateway.call("GET", path), key).send().status()
}

fn rest(gateway: &Gateway, key: &str, method: &str, path: &str) -> u16 {
    with(gateway.rest(method, path), key).send().status()
}

#[test]
fn a_token_acts_as_its_user_within_its_patterns_on_both_listeners() {
    let upstream = Upstream::echo();
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let (alice, bob) = (gateway.token("alice"), gateway.token("bob"));
    let narrow = made(&gateway, &alice, "narrow", &["GET /materials/mp/tags/*", "GET /user"], &json!({}));
    let answer = with(gateway.call("GET", "/materials/mp/tags/7"), &narrow).expect(200);
    assert_eq!(answer.problem(), None);
    let received = upstream.only();
    assert_eq!(received.header("x-carta-user"), Some("alice"));
    assert_eq!(received.header("authorization"), None);
    for (path, status) in [
        ("/materials/mp/tags/7/x", 403),
        ("/materials/mp/tags", 403),
        ("/materials/mp/Tags/7", 403),
        ("/materials/mp/tags/..%2f7", 400),
        ("/materials/none/tags/7", 403),
    ] {
        assert_eq!(call(&gateway, &narrow, path), status, "{path}");
    }
    assert_eq!(rest(&gateway, &narrow, "GET", "/service/materials/mp/tags/7"), 403, "the API listener's own spelling");
    assert_eq!(rest(&gateway, &narrow, "GET", "/user"), 200);
    assert_eq!(rest(&gateway, &narrow, "GET", "/user/users"), 403);
    assert_eq!(rest(&gateway, &narrow, "GET", "/user/authenticated"), 200, "whatever its patterns");

    let service = made(&gateway, &alice, "service", &["ANY /service/materials/**"], &json!({}));
    assert_eq!(call(&gateway, &service, "/materials/mp/a/b"), 200, "the proxy listener takes both spellings");
    assert_eq!(rest(&gateway, &service, "POST", "/service/materials/mp/a"), 200);

    let all = made(&gateway, &bob, "all", &["ANY /**"], &json!({}));
    assert_eq!(call(&gateway, &all, "/materials/mp/x"), 403, "a token is no wider than its user");
    assert_eq!(rest(&gateway, &all, "GET", "/user"), 200);
}

#[test]
fn outside_its_patterns_the_caller_is_told_which_they_are() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let alice = gateway.token("alice");
    let narrow = made(&gateway, &alice, "narrow", &["GET /materials/mp/tags/*"], &json!({}));
    let refused = with(gateway.call("POST", "/materials/mp/x"), &narrow).expect(403);
    assert_eq!(refused.problem(), Some("token-scope"));
    let body = refused.json();
    assert_eq!(body["allowedEndpoints"], json!(["GET /materials/mp/tags/*"]));
    assert!(body["detail"].as_str().unwrap().contains("`POST /materials/mp/x`"), "{body}");
    assert!(upstream.received().is_empty(), "nothing reaches the service");

    // The service's owner may look at the refusal, and learns nothing of the caller's token.
    let id = refused.header("x-request-id").unwrap().to_owned();
    let owner = gateway.token(OWNER);
    let told = gateway.rest("GET", &format!("/explain/{id}")).token(&owner).send();
    assert!(!told.text().contains("tags/*"), "{}", told.text());
}

#[test]
fn a_token_cannot_make_tokens_nor_be_used_as_a_bearer_token() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    let alice = gateway.token("alice");
    let key = made(&gateway, &alice, "all", &["ANY /**"], &json!({}));
    let body = json!({"name": "more", "allowedEndpoints": ["ANY /**"]}).to_string();
    let refused = with(gateway.rest("POST", "/v2/auth/apitoken/self"), &key).body(body).expect(403);
    assert_eq!(refused.problem(), Some("permission-denied"));
    let refused = gateway.rest("GET", "/user").token(&key).expect(401);
    let told = refused.json()["detail"].as_str().unwrap().to_owned();
    assert!(told.contains("password of the user `__token__`"), "{told}");
    assert_eq!(rest(&gateway, &key, "GET", "/v2/auth/apitoken/self"), 200);
    assert_eq!(listed(&gateway, &alice).len(), 1);
}

#[test]
fn what_a_service_gets_for_its_caller_is_no_wider_than_the_callers_token() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "forward_token = true").start();
    let alice = gateway.token("alice");
    let names = ["wide", "narrow"];
    let keys = [
        made(&gateway, &alice, "wide", &["ANY /materials/mp/**", "GET /user"], &json!({})),
        made(&gateway, &alice, "narrow", &["ANY /materials/mp/**"], &json!({})),
    ];
    let forwarded = keys.each_ref().map(|key| {
        assert_eq!(call(&gateway, key, "/materials/mp/x"), 200);
        upstream.last().header("x_carta_token").unwrap().strip_prefix("Bearer ").unwrap().to_owned()
    });
    let asks = |token: &str, path: &str| gateway.rest("GET", path).token(token).send();
    for (token, user) in forwarded.iter().zip([200, 403]) {
        assert_eq!(asks(token, "/user/authenticated").status(), 200);
        assert_eq!(asks(token, "/user").status(), user);
        assert_eq!(asks(token, "/service/details/materials/mp").status(), 403);
    }
    let refused = asks(&forwarded[1], "/user");
    assert!(!refused.text().contains("materials/mp/**"), "the service is not told: {}", refused.text());
    for (name, token) in names.iter().zip(&forwarded) {
        let path = format!("/v2/auth/apitoken/self/{name}/revoke");
        gateway.rest("POST", &path).token(&alice).body("").expect(200);
        assert_eq!(asks(token, "/user/authenticated").status(), 401, "it ends with the token that it was made for");
    }
}

#[test]
fn a_page_of_another_origin_cannot_use_the_token_that_a_browser_remembers() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    let alice = gateway.token("alice");
    let key = made(&gateway, &alice, "all", &["ANY /**"], &json!({"uses": 1}));
    let foreign = with(gateway.rest("PUT", "/secret"), &key).header("Origin", "https://evil.example");
    assert_eq!(foreign.header("secret-a", "b").body("").send().problem(), Some("origin-refused"));
    assert_eq!(rest(&gateway, &key, "GET", "/user"), 200, "the refused one cost nothing");
}
