//! A decision holds for exactly what was asked.

use crate::support::gateway::OWNER;
use crate::support::{Gateway, Upstream};
use crate::{HEADER, INJECT};

/// CVE-2026-33496, CVE-2021-32701 (Oathkeeper): a decision is cached under all that it depends on.
#[test]
fn what_was_permitted_on_one_service_or_method_is_not_permitted_on_another() {
    let upstream = Upstream::fixed("ok");
    let operation = "[[service.operation]]\nname = \"read\"\nmatch = \"GET /items/{id}\"\nresource = \
                     \"{namespace}.{service}.item.{id}\"";
    let gateway = Gateway::with_service(&upstream.url(), "")
        .service("materials", "other", &upstream.url(), "")
        .service("materials", "items", &upstream.url(), operation)
        .grant("alice", "materials.items.item.1", "execute")
        .start();
    let token = gateway.token("alice");
    for _ in 0..3 {
        for (method, target, status) in [
            ("GET", "/materials/mp/x", 200),
            ("GET", "/materials/other/x", 403),
            ("GET", "/materials/items/items/1", 200),
            ("GET", "/materials/items/items/2", 403),
            ("POST", "/materials/items/items/1", 403),
        ] {
            assert_eq!(gateway.call(method, target).token(&token).send().status(), status, "{method} {target}");
        }
    }
}

/// CVE-2026-33729, -48096, -34972, -46668 (OpenFGA, SpiceDB): keys are structural, never joined text.
#[test]
fn names_that_would_read_the_same_when_joined_are_different_names() {
    let upstream = Upstream::fixed("ok");
    let operation = "[[service.operation]]\nname = \"any\"\nmatch = \"GET /{one}/{two}\"\nresource = \
                     \"{namespace}.{service}.{one}.{two}\"";
    let gateway = Gateway::builder()
        .user("alice", &[])
        .service("a", "b-c", &upstream.url(), "")
        .service("a-b", "c", &upstream.url(), "")
        .service("a", "bc", &upstream.url(), "")
        .service("keys", "dotted", &upstream.url(), operation)
        .grant("alice", "a.b-c", "execute")
        .grant("alice", "keys.dotted.x.y", "execute")
        .start();
    let token = gateway.token("alice");
    for (target, status) in [
        ("/a/b-c/x", 200),
        ("/a-b/c/x", 403),
        ("/a/bc/x", 403),
        ("/keys/dotted/x/y", 200),
        ("/keys/dotted/x.y/z", 403),
        ("/keys/dotted/x/y.z", 403),
        ("/keys/dotted/x%2Ey/z", 403),
        ("/keys/dotted/*/y", 403),
        ("/keys/dotted/%2A/%2A", 403),
    ] {
        assert_eq!(gateway.call("GET", target).token(&token).send().status(), status, "{target}");
    }
}

/// CVE-2026-71326 (Traefik): no answer is shared between requests that look the same.
#[test]
fn the_same_call_of_two_users_at_once_goes_out_twice_with_two_secrets() {
    let upstream = Upstream::echo();
    let gateway = Gateway::with_service(&upstream.url(), INJECT).grant("bob", "materials.mp", "execute").start();
    let tokens: Vec<String> = ["alice", "bob"].iter().map(|name| gateway.token(name)).collect();
    for (name, token) in ["alice", "bob"].iter().zip(&tokens) {
        gateway.secret(token, "key", &format!("key-of-{name}"));
    }
    std::thread::scope(|scope| {
        for (name, token) in ["alice", "bob"].iter().zip(&tokens) {
            let gateway = &gateway;
            scope.spawn(move || {
                for _ in 0..50 {
                    let seen = gateway.call("GET", "/materials/mp/same").token(token).expect(200).text();
                    assert!(seen.contains(&format!("key-of-{name}")), "{name}: {seen}");
                }
            });
        }
    });
    assert_eq!(upstream.received().len(), 100);
}

/// CVE-2026-42208 (LiteLLM): a credential is data, never SQL.
#[test]
fn quotes_in_credentials_and_names_are_letters() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").config(HEADER).start();
    let sql = "x' OR '1'='1'; DROP TABLE user; --";
    for ask in [
        gateway.call("GET", "/materials/mp/x").token(sql),
        gateway.call("GET", "/materials/mp/x").header("Authorization", "Basic J2BvcidgPSdg"),
        gateway.call("GET", "/materials/mp/x").header("X-Forwarded-Email", "'or'1'='1@example.org"),
    ] {
        let status = ask.send().status();
        assert!(matches!(status, 400 | 401 | 403), "{status}");
    }
    let owner = gateway.token(OWNER);
    gateway.rest("GET", "/secret?name=x%27%20OR%201%3D1").token(&owner).expect(404);
    assert_eq!(gateway.call("GET", "/materials/mp/x").token(&gateway.token("alice")).send().status(), 200);
}

/// CVE-2026-47101 (LiteLLM), CVE-2024-47616 (Pomerium): a token never exceeds its owner, and tokens of different kinds have
/// different audiences.
#[test]
fn a_token_minted_for_a_service_is_good_for_less_than_its_users_own() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "forward_token = true").start();
    gateway.call("GET", "/materials/mp/x").token(&gateway.token("alice")).expect(200);
    let carried = upstream.only();
    let minted = carried.header("x_carta_token").unwrap().strip_prefix("Bearer ").unwrap();
    gateway.rest("GET", "/user").token(minted).expect(200);
    gateway.rest("GET", "/user/authenticated").token(minted).expect(200);
    for ask in [
        gateway.call("GET", "/materials/mp/x").token(minted),
        gateway.rest("GET", "/service/materials/mp/x").token(minted),
        gateway.rest("GET", "/secret?name=key").token(minted),
        gateway.rest("PUT", "/secret").token(minted).header("secret-x", "1").body(""),
        gateway.rest("POST", "/service/reserve/mine").token(minted).body(""),
    ] {
        let status = ask.send().status();
        assert!(matches!(status, 401 | 403), "{status}");
    }
}

/// CVE-2026-27589 (Caddy): the API checks where a browser's request comes from. GHSA-gx7w-56w6-g48x: permissions never
/// match by the beginning of a text.
#[test]
fn the_api_refuses_foreign_origins_and_grants_cover_whole_names() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "")
        .config(HEADER)
        .service("materials", "mp2", &upstream.url(), "")
        .service("materials", "m", &upstream.url(), "")
        .service("materials2", "mp", &upstream.url(), "")
        .start();
    let token = gateway.token("alice");
    for (target, status) in
        [("/materials/mp/x", 200), ("/materials/mp2/x", 403), ("/materials/m/x", 403), ("/materials2/mp/x", 403)]
    {
        assert_eq!(gateway.call("GET", target).token(&token).send().status(), status, "{target}");
    }
    let foreign = gateway
        .rest("POST", "/service/reserve/mine")
        .header("X-Forwarded-Email", "ann@example.org")
        .header("Origin", "https://evil.example.org")
        .body("")
        .send();
    assert_eq!(foreign.status(), 403);
}
