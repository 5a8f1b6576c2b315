//! The description of the API and the page that shows it, as they are served: `docs/API.md` §16.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use serde_json::Value;
use support::{Gateway, Response};

fn described(gateway: &Gateway) -> Value {
    let answer = gateway.rest("GET", "/openapi.json").expect(200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

/// Method, path and description of every operation that the router has.
fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .filter(|(path, _)| !path.starts_with("/service/{"))
        .flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(|(method, said)| (method.to_uppercase(), path.clone(), said.clone()))
        })
        .collect()
}

/// The path with something in the place of each part.
fn filled(path: &str) -> String {
    let mut pieces = path.split(['{', '}']);
    let mut whole = pieces.next().unwrap().to_owned();
    while let (Some(_), Some(rest)) = (pieces.next(), pieces.next()) {
        whole.push('x');
        whole.push_str(rest);
    }
    whole
}

#[test]
fn nobody_needs_a_credential_for_the_description_and_it_says_nothing_of_this_gateway() {
    let gateway = Gateway::builder().service("materials", "mp", "http://127.0.0.1:9", "").user("alice", &[]).start();
    let document = described(&gateway);
    assert_eq!(document["openapi"], "3.1.0");
    let text = document.to_string();
    for own in [gateway.api().to_string().as_str(), gateway.proxy().to_string().as_str(), "alice", "olga"] {
        assert!(!text.contains(own), "{own}");
    }
    assert_eq!(document["servers"], serde_json::json!([{"url": "/"}]));
}

#[test]
fn every_operation_that_is_not_described_as_public_refuses_whoever_is_not_identified() {
    let gateway = Gateway::builder().start();
    let mut public = Vec::new();
    for (method, path, said) in operations(&described(&gateway)) {
        let answer = gateway.rest(&method, &filled(&path)).body("{}").send();
        assert_ne!(answer.status(), 405, "{method} {path}");
        if said["security"] == serde_json::json!([]) {
            public.push(path);
        } else if path != "/-/metrics" {
            assert_eq!((answer.status(), answer.problem()), (401, Some("not-authenticated")), "{method} {path}");
        }
    }
    public.dedup();
    let expected = [
        "/",
        "/-/live",
        "/-/ready",
        "/.well-known/jwks.json",
        "/.well-known/openid-configuration",
        "/auth",
        "/cognito",
        "/cognito/",
        "/docs",
        "/docs/{file}",
        "/openapi.json",
        "/v2/auth/cognito/password-policy",
        "/v2/auth/cognito/user-pool",
    ];
    assert_eq!(public, expected, "what is open to all");
}

#[test]
fn the_page_and_its_files_come_from_here_under_a_policy_that_allows_nothing_else() {
    let gateway = Gateway::builder().start();
    let page = gateway.rest("GET", "/docs").expect(200);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
    let text = page.text();
    let named: Vec<&str> = text.split(['"']).filter(|word| word.starts_with('/') || word.contains("//")).collect();
    assert_eq!(named.len(), 4, "{named:?}");
    for path in named {
        assert!(path.starts_with('/') && !path.starts_with("//"), "{path}");
        gateway.rest("GET", path).expect(200);
    }
    for (file, kind) in [("swagger-ui.css", "text/css"), ("swagger-ui-bundle.js", "text/javascript")] {
        let sent: Response = gateway.rest("GET", &format!("/docs/{file}")).expect(200);
        assert!(sent.header("content-type").unwrap().starts_with(kind), "{file}");
        assert_eq!(sent.header("content-encoding"), Some("gzip"));
        assert_eq!(sent.header("x-content-type-options"), Some("nosniff"));
    }
    assert_eq!(gateway.rest("GET", "/docs/else").expect(404).problem(), Some("not-found"));
}
