//! Who a credential proves, and when it proves nobody.

use std::collections::HashSet;

use serde_json::json;

use crate::HEADER;
use crate::support::gateway::OWNER;
use crate::support::issuer::{encode, now};
use crate::support::{Gateway, Issuer, Upstream};

/// CVE-2026-35030 (LiteLLM): an identity is never cached under part of a token.
#[test]
fn a_token_that_differs_in_one_letter_from_a_cached_one_is_another_token() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").listen("workers = 1").start();
    let token = gateway.token("alice");
    let status = |token: &str| gateway.call("GET", "/materials/mp/x").token(token).send().status();
    assert_eq!(status(&token), 200);
    for at in (0..token.len()).step_by(token.len() / 40) {
        let mut letters = token.clone().into_bytes();
        letters[at] = if letters[at] == b'A' { b'Q' } else { b'A' };
        let other = String::from_utf8(letters).unwrap();
        assert_eq!(status(&other), 401, "letter {at} of {}", token.len());
    }
    for other in [format!("{token}="), format!("{token} "), format!("{token}A"), token[..token.len() - 1].to_owned()] {
        let status = status(&other);
        assert!(status == 401 || (other.ends_with(' ') && status == 200), "{status}");
    }
    assert_eq!(status(&token), 200);
}

/// CVE-2026-34457 (oauth2-proxy): no exemption by User-Agent.
#[test]
fn a_health_checkers_name_opens_nothing() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    for agent in ["kube-probe/1.30", "ELB-HealthChecker/2.0", "GoogleHC/1.0", "Go-http-client/1.1"] {
        let ask = gateway.call("GET", "/materials/mp/x").header("User-Agent", agent);
        assert_eq!(ask.send().status(), 401, "{agent}");
    }
}

/// CVE-2026-40574 (oauth2-proxy): an e-mail has one `@`.
#[test]
fn an_email_with_two_at_signs_is_no_email() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").config(HEADER).start();
    for email in ["alice@example.org@evil.example", "alice@evil.example@example.org", "@alice@example.org"] {
        let ask = gateway.call("GET", "/materials/mp/x").header("X-Forwarded-Email", email);
        assert!(matches!(ask.send().status(), 400 | 401), "{email}");
    }
}

/// CVE-2026-25537 (jsonwebtoken before 10.3): `exp` and `nbf` must be numbers.
#[test]
fn times_that_are_texts_are_no_times() {
    let (upstream, issuer) = (Upstream::fixed("ok"), Issuer::start());
    let gateway = Gateway::builder()
        .config(&issuer.table(""))
        .service("materials", "mp", &upstream.url(), "")
        .grant("everyone", "materials.mp", "execute")
        .start();
    let call =
        |claims| gateway.call("GET", "/materials/mp/x").token(&issuer.token_with("alice", claims)).send().status();
    assert_eq!(call(json!({})), 200);
    for claims in [
        json!({ "exp": format!("{}", now() + 600) }),
        json!({ "nbf": "1" }),
        json!({ "nbf": "99999999999" }),
        json!({ "exp": { "at": now() + 600 } }),
        json!({ "nbf": [] }),
    ] {
        assert_eq!(call(claims.clone()), 401, "{claims}");
    }
}

/// CVE-2026-31837 (Istio): missing keys never mean default keys.
#[test]
fn an_issuer_without_keys_lets_nobody_in() {
    let (upstream, issuer) = (Upstream::fixed("ok"), Issuer::start());
    issuer.publish_instead(br#"{"keys":[]}"#.to_vec());
    let gateway = Gateway::builder()
        .config(&issuer.table(""))
        .service("materials", "mp", &upstream.url(), "")
        .grant("everyone", "materials.mp", "execute")
        .start();
    let claims = issuer.claims("alice").to_string();
    let unsigned = format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(&claims));
    for token in [issuer.token("alice"), unsigned] {
        gateway.call("GET", "/materials/mp/x").token(&token).expect(503);
    }
    assert_eq!(upstream.received().len(), 0);
}

/// CVE-2026-55689 (OpenFGA): an unset audience refuses to start.
#[test]
fn an_issuer_without_an_audience_is_a_fault_of_the_configuration() {
    for audience in ["", "audience = []", "audience = [\"\"]"] {
        let gateway = Gateway::builder().prepare();
        let config = std::fs::read_to_string(gateway.path("gateway.toml")).unwrap();
        let table = format!("{config}\n[[auth.jwt]]\nissuer = \"https://issuer.example.org\"\n{audience}\n");
        std::fs::write(gateway.path("gateway.toml"), table).unwrap();
        let checked = gateway.run(&["check"]).code(1);
        assert!(format!("{}{}", checked.out, checked.err).contains("audience"), "{}{}", checked.out, checked.err);
        gateway.run(&["serve"]).code(2);
    }
}

/// CVE-2021-41230 (Pomerium): changed claims reach the policy and the upstream.
#[test]
fn what_a_newer_token_says_counts_from_its_first_request_on() {
    let (upstream, issuer) = (Upstream::fixed("ok"), Issuer::start());
    let gateway = Gateway::builder()
        .config(&issuer.table(""))
        .service("materials", "mp", &upstream.url(), "[service.inject]\nheaders = { X-Lab = \"{claim:lab}\" }")
        .grant("everyone", "materials.mp", "execute")
        .start();
    let tokens = ["north", "south"].map(|lab| issuer.token_with("alice", json!({ "lab": lab })));
    for (lab, token) in ["north", "south", "north"].iter().zip([&tokens[0], &tokens[1], &tokens[0]]) {
        assert_eq!(gateway.call("GET", "/materials/mp/x").token(token).send().status(), 200);
        assert_eq!(upstream.last().header("x-lab"), Some(*lab));
    }
}

/// CVE-2020-13945 (APISIX): no default administrator, key or password.
#[test]
fn two_fresh_gateways_share_nothing_that_opens_the_other() {
    let (one, two) = (Gateway::builder().start(), Gateway::builder().start());
    let token = one.token(OWNER);
    one.rest("GET", "/user").token(&token).expect(200);
    two.rest("GET", "/user").token(&token).expect(401);
    let keys: HashSet<String> =
        [&one, &two].iter().map(|gateway| gateway.rest("GET", "/.well-known/jwks.json").send().text()).collect();
    assert_eq!(keys.len(), 2, "each has keys of its own");
    for pair in ["YWRtaW46YWRtaW4=", "YWRtaW46", "cm9vdDpyb290"] {
        one.rest("GET", "/user").header("Authorization", &format!("Basic {pair}")).expect(401);
    }
}
