//! Accounts as operators change them: what proves them, which groups they are in, which key signs their tokens.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use std::collections::BTreeSet;

use support::gateway::OWNER;
use support::{A_SECOND_WITH_SLACK, Gateway, Issuer, Upstream, eventually};

const INJECT: &str = "[service.inject]\nheaders = { X-API-KEY = \"{secret:key}\" }";

/// The answer's status, and its problem where it is one.
fn outcome(gateway: &Gateway, token: &str) -> (u16, Option<String>) {
    let response = gateway.call("GET", "/materials/mp/x").token(token).send();
    (response.status(), response.problem().map(str::to_owned))
}

fn becomes(gateway: &Gateway, token: &str, status: u16, problem: Option<&str>) {
    eventually(&format!("{status} {problem:?}"), A_SECOND_WITH_SLACK, || {
        let (seen, said) = outcome(gateway, token);
        (seen == status && said.as_deref() == problem).then_some(())
    });
}

#[test]
fn an_administrator_links_an_identity_and_gets_no_secret_by_it() {
    let (upstream, issuer) = (Upstream::echo(), Issuer::start());
    let gateway = Gateway::with_service(&upstream.url(), INJECT).config(&issuer.table("")).start();
    let own = gateway.token("alice");
    assert_eq!(gateway.secret(&own, "key", "alices-own").status(), 200);
    assert_eq!(outcome(&gateway, &own).0, 200);
    let other = issuer.token_with("alice", serde_json::json!({ "email": "alice@elsewhere.example" }));
    assert_eq!(outcome(&gateway, &other), (403, Some("identity-conflict".to_owned())));

    let url = issuer.url();
    for wrong in [
        &["user", "link", "alice", "https://nobody.example", "s"][..],
        &["user", "link", "alice", &format!("{url}/"), "s"],
        &["user", "link", "alice", &url, ""],
        &["user", "link", "alice", "header", "no address"],
    ] {
        gateway.run(wrong).code(2);
    }
    gateway.run(&["user", "link", "zoe", &url, "sub-of-zoe"]).code(1);
    assert_eq!(outcome(&gateway, &own).0, 200, "a refused link takes nothing");

    let said = gateway.run(&["user", "link", "alice", &url, "sub-of-alice"]).done();
    assert!(said.contains("secrets are gone"), "{said}");
    becomes(&gateway, &other, 400, Some("missing-secret"));
    assert_eq!(outcome(&gateway, &own), (400, Some("missing-secret".to_owned())));
    assert_eq!(gateway.secret(&other, "key", "stored-again").status(), 200);
    assert_eq!(outcome(&gateway, &own).0, 200);
    let again = gateway.run(&["user", "link", "alice", &url, "sub-of-alice"]).done();
    assert!(again.contains("already"), "{again}");
    assert_eq!(outcome(&gateway, &own).0, 200, "what was linked before changes nothing");
    gateway.run(&["user", "link", "bob", &url, "sub-of-alice"]).code(1);
}

#[test]
fn a_grant_to_a_group_holds_for_its_members_and_ends_with_membership() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let bob = gateway.token("bob");
    gateway.run(&["group", "add", "Lab:Crystals"]).done();
    gateway.run(&["group", "add", "Lab:Crystals"]).code(1);
    gateway.run(&["group", "add", "a,b"]).code(2);
    gateway.run(&["grant", "group:Lab:Crystals", "materials.mp", "execute"]).done();
    assert_eq!(outcome(&gateway, &bob).0, 403);
    gateway.run(&["group", "join", "Lab:Crystals", "bob"]).done();
    becomes(&gateway, &bob, 200, None);
    let explained = gateway.run(&["explain", "--user", "bob", "GET", "/materials/mp/x"]).done();
    assert!(explained.contains("group Lab:Crystals has execute"), "{explained}");
    gateway.run(&["group", "leave", "Lab:Crystals", "bob"]).done();
    becomes(&gateway, &bob, 403, Some("permission-denied"));
    for wrong in [["join", "Lab:Crystal", "bob"], ["join", "Lab:Crystals", "zoe"], ["leave", "none", "bob"]] {
        let [word, group, user] = wrong;
        gateway.run(&["group", word, group, user]).code(1);
    }
}

#[test]
fn a_rotated_key_signs_and_is_published_and_tokens_in_use_stay_good() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let before = gateway.token("alice");
    assert_eq!(outcome(&gateway, &before).0, 200);
    let published = || -> BTreeSet<String> {
        let keys = gateway.rest("GET", "/.well-known/jwks.json").expect(200).json();
        keys["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
    };
    let first = published();
    assert_eq!(first.len(), 1);
    let said = gateway.run(&["issuer", "rotate"]).done();
    let both =
        eventually("the new key is published", A_SECOND_WITH_SLACK, || Some(published()).filter(|now| now.len() == 2));
    let new = both.difference(&first).next().unwrap();
    assert!(both.is_superset(&first) && said.contains(new.as_str()), "{said}");
    let after = gateway.token("alice");
    assert_ne!(after.split('.').next(), before.split('.').next(), "another key signs");
    assert_eq!((outcome(&gateway, &before).0, outcome(&gateway, &after).0), (200, 200));
}

#[test]
fn the_first_administrator_owns_the_platforms_namespace() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let (owner, alice) = (gateway.token(OWNER), gateway.token("alice"));
    let details = gateway.rest("GET", "/service/details/carta").token(&owner).expect(200).json();
    assert_eq!(details["name"], "carta");
    gateway.rest("GET", "/service/details/carta").token(&alice).expect(403);
}

#[test]
fn the_first_account_that_a_proxy_names_gets_the_platforms_namespace_at_once() {
    let upstream = Upstream::fixed("ok");
    let folder = Gateway::builder().prepare();
    let header = "[auth.header]\nname = \"X-Forwarded-Email\"\ntrusted_proxies = [\"127.0.0.1/32\"]\ncreate_users = \
                  true\nfirst_user_role = \"Admin\"\n";
    let config = std::fs::read_to_string(folder.path("gateway.toml")).unwrap();
    std::fs::write(folder.path("gateway.toml"), format!("{config}\n{header}")).unwrap();
    std::fs::remove_file(folder.path("carta.db")).unwrap();
    folder.serve();
    let ask = |who: &str| folder.rest("GET", "/service/details/carta").header("X-Forwarded-Email", who).send();
    assert_eq!(ask("ann@example.org").status(), 200);
    assert_eq!(ask("bob@example.org").status(), 403);
    assert_eq!(upstream.connections(), 0);
}
