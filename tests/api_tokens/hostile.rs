//! Credentials that are no API token, however they look.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use serde_json::json;

use super::{basic, made};
use crate::support::{Gateway, Response};

#[test]
fn whatever_is_no_good_key_is_refused_in_the_same_words() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    let alice = gateway.token("alice");
    let make = |name: &str, more: serde_json::Value| made(&gateway, &alice, name, &["GET /user"], &more);
    let (good, revoked, spent) =
        (make("good", json!({})), make("revoked", json!({})), make("spent", json!({"uses": 1})));
    let ask = |value: &str| gateway.rest("GET", "/user").header("Authorization", value).send();
    gateway.rest("POST", "/v2/auth/apitoken/self/revoked/revoke").token(&alice).body("").expect(200);
    assert_eq!(ask(&basic(&spent)).status(), 200);
    let told = |answer: &Response| {
        let mut body = answer.json();
        body.as_object_mut().unwrap().remove("request_id");
        (answer.status(), answer.header("www-authenticate").map(str::to_owned), body)
    };
    let unknown = told(&ask(&basic("abcd_carta_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")));
    assert_eq!(unknown.0, 401);
    assert_eq!(unknown.2["error"], "not authenticated");
    for key in [&revoked, &spent, "", ":", &format!("{good}:"), &format!(":{good}"), &format!("{good} "), &good[1..]] {
        assert_eq!(told(&ask(&basic(key))), unknown, "{key}");
    }
    assert_eq!(ask(&basic(&good)).status(), 200);
    assert_eq!(ask(&basic(&good).replacen("Basic ", "bAsIc  ", 1)).status(), 200);
}

#[test]
fn hostile_credentials_are_401_on_both_listeners_and_leave_no_trace_of_themselves() {
    let gateway = Gateway::builder().user("alice", &[]).start();
    let alice = gateway.token("alice");
    let key = made(&gateway, &alice, "good", &["ANY /**"], &json!({}));
    let encoded = |bytes: &[u8]| format!("Basic {}", STANDARD.encode(bytes));
    let plain = |text: String| encoded(text.as_bytes());
    for value in [
        plain(format!("alice:{key}")),
        plain(format!("__TOKEN__:{key}")),
        plain(format!("__token__{key}")),
        plain(format!(" __token__:{key}")),
        plain(key.clone()),
        plain(String::new()),
        encoded(b"__token__:\xff\xfe\x00"),
        encoded(&[0xff; 64]),
        plain(format!("__token__:{}", "a".repeat(4000))),
        "Basic".to_owned(),
        "Basic ".to_owned(),
        "Basic =".to_owned(),
        format!("Basic {key}"),
        format!("Basic __token__:{key}"),
        format!("Basic {}", URL_SAFE.encode(format!("__token__:{key}\u{3ff}"))),
        format!("{}=", basic(&key)),
        format!("{}, Bearer x", basic(&key)),
        format!("Token {key}"),
        key.clone(),
        format!("Bearer {key}"),
    ] {
        for ask in [gateway.rest("GET", "/user"), gateway.call("GET", "/materials/mp/x")] {
            let answer = ask.header("Authorization", &value).send();
            assert_eq!(answer.status(), 401, "{value}\n{}", answer.text());
            assert!(!answer.text().contains(&key), "{}", answer.text());
        }
    }
    let twice = gateway.rest("GET", "/user").header("Authorization", &basic(&key)).token(&alice).send();
    assert_eq!(twice.problem(), Some("malformed-credential"));
    assert!(!gateway.log().contains(&key[11..]), "the log has the key");
}

#[test]
fn the_trusted_header_beside_a_token_must_name_its_user() {
    let header = "[auth.header]\nname = \"X-Forwarded-Email\"\ntrusted_proxies = [\"127.0.0.1/32\"]\n";
    let gateway = Gateway::builder().config(header).start();
    let named = |method: &str, path: &str, email: &str| gateway.rest(method, path).header("X-Forwarded-Email", email);
    for email in ["alice@example.org", "bob@example.org"] {
        named("GET", "/user", email).expect(200);
    }
    let body = json!({"name": "ci", "allowedEndpoints": ["GET /user"]}).to_string();
    let made = named("POST", "/v2/auth/apitoken/self", "alice@example.org").body(body).expect(200).json();
    let key = made["token"].as_str().unwrap();
    let ask = |path: &str, email: &str| named("GET", path, email).header("Authorization", &basic(key)).send();
    assert_eq!(ask("/user", "bob@example.org").problem(), Some("conflicting-credentials"));
    assert_eq!(ask("/user", "new@example.org").problem(), Some("conflicting-credentials"));
    assert_eq!(ask("/user", "alice@example.org").status(), 200);
    assert_eq!(ask("/secret", "alice@example.org").problem(), Some("token-scope"), "the narrower governs");
}
