//! Headers that say who calls, and headers that would take such headers away.

use crate::HEADER;
use crate::support::gateway::OWNER;
use crate::support::{Gateway, Upstream};

/// CVE-2026-40575, CVE-2026-33495, CVE-2026-35051 (oauth2-proxy, Oathkeeper, Traefik): forwarded headers count only from
/// listed peers, and an empty list trusts nobody.
#[test]
fn who_is_not_listed_cannot_say_who_calls_or_from_where() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "")
        .config("[auth.header]\nname = \"X-Forwarded-Email\"\ntrusted_proxies = []")
        .start();
    let ask = gateway
        .call("GET", "/materials/mp/x")
        .header("X-Forwarded-Email", "alice@example.org")
        .header("X-Forwarded-For", "127.0.0.1");
    assert_eq!(ask.send().status(), 401);
    assert_eq!(ask.token(&gateway.token("alice")).send().status(), 200);
    assert!(!upstream.only().text().to_ascii_lowercase().contains("x-forwarded-email"));
}

/// CVE-2026-30851, CVE-2025-64484, CVE-2026-39858, CVE-2026-54763 (Caddy, oauth2-proxy, Traefik): identity headers are
/// deleted in every alias.
#[test]
fn no_alias_of_the_trusted_header_identifies_or_travels_on() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").config(HEADER).start();
    let token = gateway.token("alice");
    for alias in ["X_Forwarded_Email", "x.forwarded.email", "X-Forwarded_Email", "X_FORWARDED.EMAIL"] {
        let alone = gateway.call("GET", "/materials/mp/x").header(alias, "alice@example.org").send();
        assert!(matches!(alone.status(), 400 | 401), "{alias}: {}", alone.status());
        let both = gateway.call("GET", "/materials/mp/x").token(&token).header(alias, "bob@example.org").send();
        if both.status() == 200 {
            assert!(!upstream.last().text().contains("bob@"), "{alias}: {}", upstream.last().text());
            assert_eq!(upstream.last().header("x-carta-user"), Some("alice"));
        } else {
            assert_eq!(both.status(), 400);
        }
    }
}

/// CVE-2024-45410, CVE-2026-29054, GHSA-w9mr-28mw-j8hg (Traefik, Oathkeeper): `Connection` deletes nothing of ours.
#[test]
fn connection_cannot_name_away_the_trusted_header_or_what_we_add() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::builder()
        .config(HEADER)
        .service("materials", "mp", &upstream.url(), "[service.inject]\nheaders = { X-Api-Key = \"fixed\" }")
        .grant("everyone", "materials.mp", "execute")
        .start();
    let response = gateway
        .call("GET", "/materials/mp/x")
        .header("X-Forwarded-Email", "ann@example.org")
        .header("Connection", "close, X-Forwarded-Email, X-Carta-User, X-Api-Key, X-Forwarded-For")
        .send();
    assert_eq!(response.status(), 200);
    let received = upstream.only();
    assert_eq!(received.header("x-carta-email"), Some("ann@example.org"));
    assert_eq!(received.header("x-api-key"), Some("fixed"));
    assert!(received.header("x-forwarded-for").is_some());
}

/// CVE-2026-26308 (Envoy): repeated and comma-joined values are judged as what they are.
#[test]
fn a_repeated_or_joined_identity_is_no_identity() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::builder()
        .config(HEADER)
        .service("materials", "mp", &upstream.url(), "")
        .grant("everyone", "materials.mp", "execute")
        .start();
    let ask = || gateway.call("GET", "/materials/mp/x");
    let good = gateway.token(OWNER);
    for ask in [
        ask().header("X-Forwarded-Email", "a@example.org").header("X-Forwarded-Email", "b@example.org"),
        ask().header("X-Forwarded-Email", "a@example.org,b@example.org"),
        ask().header("X-Forwarded-Email", "a@example.org").header("x-forwarded-email", ""),
        ask().token(&good).token("bad"),
        ask().token("bad").token(&good),
        ask().header("Authorization", &format!("Bearer bad, Bearer {good}")),
    ] {
        let status = ask.send().status();
        assert!(matches!(status, 400 | 401), "{status}");
    }
    assert_eq!(upstream.received().len(), 0);
}
