//! The patterns themselves: which request each admits.

use std::sync::Arc;

use proptest::prelude::*;
use uuid::Uuid;

use carta_gateway::identity::{Directory, Identity, Proof, endpoint};
use carta_gateway::policy::UserId;
use carta_gateway::proxy::scope::{admit_call, admit_path};
use carta_gateway::proxy::{Door, Target};
use carta_gateway::store::{ApiToken, ApiTokenId, Item, KeyDigest, User};
use http::Method;
use jiff::Timestamp;

fn with(patterns: &[&str], proof: Proof) -> Identity {
    let user = UserId(Uuid::from_u128(1));
    let token = ApiToken {
        id: ApiTokenId(Uuid::from_u128(2)),
        user,
        name: "ci".into(),
        digest: KeyDigest([0; 32]),
        hint: "abcd".into(),
        patterns: patterns.iter().map(|&text| text.to_owned()).collect(),
        expires: None,
        uses: None,
        revoked: false,
        auto_remove: false,
        created: Timestamp::UNIX_EPOCH,
        last_used: None,
    };
    let user = User {
        id: user,
        name: "ann".into(),
        email: None,
        email_verified: false,
        first_name: None,
        last_name: None,
        organization: None,
        role: "Guest".into(),
        administrator: false,
        disabled: false,
        tokens_dead_until: None,
        created: Timestamp::UNIX_EPOCH,
    };
    let directory = Directory::empty().patched(&[Item::User(Box::new(user), vec![]), Item::ApiToken(Box::new(token))]);
    let within = directory.api_tokens().by_id(ApiTokenId(Uuid::from_u128(2))).cloned();
    Identity { within, ..Identity::of(directory.by_name("ann").unwrap().clone(), proof) }
}

fn call(patterns: &[&str], door: Door, method: &str, path: &str) -> u16 {
    let target = match Target::parse(&path.parse().unwrap(), door) {
        Ok(target) => target,
        Err(problem) => return problem.status().as_u16(),
    };
    let who = with(patterns, Proof::ApiToken);
    let judged = admit_call(&who, door, &target, &method.parse().unwrap());
    judged.map_or_else(|problem| problem.status().as_u16(), |()| 200)
}

#[test]
fn a_call_is_admitted_by_the_spelling_of_its_listener_and_on_the_proxy_by_both() {
    for (pattern, door, path, status) in [
        ("GET /a/b/**", Door::Proxy, "/a/b", 200),
        ("GET /a/b/**", Door::Proxy, "/a/b/c/d/", 200),
        ("GET /service/a/b/**", Door::Proxy, "/a/b/c", 200),
        ("GET /service/a/b/**", Door::Api, "/service/a/b/c", 200),
        ("GET /a/b/**", Door::Api, "/service/a/b/c", 403),
        ("GET /a/b/c", Door::Proxy, "/a/b/C", 403),
        ("GET /a/b/c", Door::Proxy, "/a/b/c/d", 403),
        ("POST /a/b/**", Door::Proxy, "/a/b/c", 403),
        ("ANY /**", Door::Api, "/service/x/y", 200),
        ("GET /a/*/c", Door::Proxy, "/a/b/c", 200),
        ("GET /a/b/%", Door::Proxy, "/a/b/%25", 200),
    ] {
        assert_eq!(call(&[pattern], door, "GET", path), status, "{pattern} {path}");
    }
}

#[test]
fn a_path_is_judged_decoded_and_what_a_pattern_cannot_read_for_sure_it_does_not_admit() {
    for (pattern, path, status) in [
        ("GET /a/b/see", "/a/b/s%65e", 200),
        ("GET /a/b/*", "/a/b/x%2Fy", 400),
        ("GET /a/b/*", "/a/b/x;y", 400),
        ("GET /a/b/**", "/a/b/x%2Fy", 200),
        ("GET /a/b/**/z", "/a/b/x%2Fy/z", 400),
        ("GET /a/b/*/z", "/a/b//z", 400),
        ("GET /a/b/public/**", "/a/b/public/..%2fsecret", 400),
        ("GET /a/b/public/**", "/a/b/public/%2e%2e/secret", 400),
        ("GET /a/b/public/**", "/a/b/public%2fx", 403),
    ] {
        assert_eq!(call(&[pattern], Door::Proxy, "GET", path), status, "{pattern} {path}");
    }
    assert_eq!(call(&["GET /a/b/*", "GET /a/b/**"], Door::Proxy, "GET", "/a/b/x;y"), 200, "another one admits it");
}

/// Patterns are of their user's making: what one request may cost is bounded by the length of the path.
#[test]
fn a_path_of_more_segments_than_are_compared_is_refused_whatever_the_patterns() {
    let path = |segments: usize| format!("/a/b{}", "/a".repeat(segments - 2));
    assert_eq!(call(&["ANY /**"], Door::Proxy, "GET", &path(256)), 200);
    assert_eq!(call(&["ANY /**"], Door::Proxy, "GET", &path(257)), 403);
    let who = with(&["ANY /**"], Proof::ApiToken);
    assert!(admit_path(&who, &Method::GET, &path(256)).is_ok());
    assert!(admit_path(&who, &Method::GET, &path(257)).is_err());
}

#[test]
fn only_its_owner_is_told_what_a_token_is_good_for() {
    let told = |proof| {
        let problem = admit_path(&with(&["GET /user"], proof), &Method::GET, "/secret").unwrap_err();
        let answer = problem.into_response::<bytes::Bytes>("0");
        String::from_utf8(answer.body().to_vec()).unwrap()
    };
    assert!(told(Proof::ApiToken).contains("\"allowedEndpoints\":[\"GET /user\"]"));
    assert!(!told(Proof::Token { issuer: Arc::from("i") }).contains("GET /user\""));
}

/// The contract's words, without any thought of speed.
fn matches_by_definition(pattern: &[&str], path: &[&str]) -> bool {
    match pattern.split_first() {
        None => path.is_empty(),
        Some((&"**", rest)) => (0..=path.len()).any(|taken| matches_by_definition(rest, &path[taken..])),
        Some((first, rest)) => path
            .split_first()
            .is_some_and(|(segment, others)| glob_by_definition(first, segment) && matches_by_definition(rest, others)),
    }
}

fn glob_by_definition(glob: &str, text: &str) -> bool {
    match glob.split_once('*') {
        None => glob == text,
        Some((before, after)) => text
            .strip_prefix(before)
            .is_some_and(|rest| (0..=rest.len()).any(|at| glob_by_definition(after, &rest[at..]))),
    }
}

proptest! {
    #[test]
    fn admission_agrees_with_the_definition_of_a_pattern(
        pattern in prop::collection::vec("[ab]{1,2}|[ab]?[*][ab]?|[*][*]", 1..6),
        path in prop::collection::vec("[ab]{1,3}", 2..6),
    ) {
        let text = format!("GET /{}", pattern.join("/"));
        prop_assume!(endpoint(&text).is_ok());
        let pattern: Vec<&str> = pattern.iter().map(String::as_str).collect();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let prefixed: Vec<&str> = std::iter::once("service").chain(path.iter().copied()).collect();
        let expected = matches_by_definition(&pattern, &path) || matches_by_definition(&pattern, &prefixed);
        let admitted = call(&[&text], Door::Proxy, "GET", &format!("/{}", path.join("/"))) == 200;
        prop_assert_eq!(admitted, expected, "{} {:?}", text, path);
        let on_api = call(&[&text], Door::Api, "GET", &format!("/{}", prefixed.join("/"))) == 200;
        prop_assert_eq!(on_api, matches_by_definition(&pattern, &prefixed), "{} {:?}", text, path);
    }
}
