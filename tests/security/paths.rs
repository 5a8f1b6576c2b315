//! The path that is judged is the path that is forwarded.

use crate::support::{Gateway, Upstream};

/// CVE-2026-33494, CVE-2026-48020, CVE-2025-66490, CVE-2021-29492, CVE-2026-26205 (Oathkeeper, Traefik, Envoy, OPA): the
/// path that is judged is the path that is forwarded.
#[test]
fn no_spelling_of_a_path_reaches_another_service_or_operation_than_the_one_authorized() {
    let upstream = Upstream::fixed("ok");
    let operation = "unmatched = \"refuse\"\n[[service.operation]]\nname = \"open\"\nmatch = \"GET /open/**\"\n\
                     [[service.operation]]\nname = \"closed\"\nmatch = \"GET /closed/**\"\nlevel = \"admin\"";
    let gateway = Gateway::with_service(&format!("{}/base", upstream.url()), operation).start();
    let token = gateway.token("alice");
    assert_eq!(gateway.call("GET", "/materials/mp/open/x").token(&token).send().status(), 200);
    upstream.forget();
    for rest in [
        "open/../closed/x",
        "open/%2e%2e/closed/x",
        "open%2F..%2Fclosed/x",
        "open/..%2fclosed/x",
        "open/..%5cclosed/x",
        "open\\..\\closed/x",
        "open/..;/closed/x",
        "open/.%2e;a=b/closed/x",
        "./closed/x",
        "closed%2Fx",
        "%63losed/x",
        "closed;x/x",
        "closed//x",
        "/closed/x",
        "closed%00/x",
        "closed/x",
        "../other/x",
        "..%2fother",
        "open%2Fx",
        "op%65n%5Cx",
        "open%zz/x",
    ] {
        let response = gateway.call("GET", &format!("/materials/mp/{rest}")).token(&token).send();
        assert!(matches!(response.status(), 400 | 403), "{rest}: {}", response.status());
    }
    assert_eq!(upstream.received().len(), 0);
}

/// CVE-2026-41059, CVE-2025-54576 (oauth2-proxy): `#` and the query never reach a path rule.
#[test]
fn fragment_and_query_decide_nothing() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "public = [\"/health\"]").start();
    for target in [
        "/materials/mp/x#/health",
        "/materials/mp/x?/health",
        "/materials/mp/x?a=/materials/mp/health",
        "/materials/mp/x%23/health",
        "/materials/mp/x%3F/health",
        "/materials/mp/x;/health",
    ] {
        assert_eq!(gateway.call("GET", target).send().status(), 401, "{target}");
    }
    assert_eq!(upstream.received().len(), 0);
}

/// CVE-2026-27587, CVE-2026-27588 (Caddy): one rule of case in every matcher.
#[test]
fn names_and_paths_have_case_everywhere() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "public = [\"/health\"]").start();
    let token = gateway.token("alice");
    for target in ["/Materials/mp/x", "/materials/MP/x", "/MATERIALS/MP/HEALTH"] {
        assert!(matches!(gateway.call("GET", target).token(&token).send().status(), 400 | 404), "{target}");
    }
    assert_eq!(gateway.call("GET", "/materials/mp/HEALTH").send().status(), 401);
}

/// CVE-2026-49468 (LiteLLM): Host never changes the route that was authorized.
#[test]
fn neither_host_nor_an_absolute_target_changes_the_route() {
    let upstream = Upstream::fixed("ok");
    let other = Upstream::fixed("other");
    let gateway = Gateway::with_service(&upstream.url(), "").service("other", "svc", &other.url(), "").start();
    let token = gateway.token("alice");
    let own = gateway.proxy();
    for (target, host) in [
        ("/materials/mp/x".to_owned(), "other".to_owned()),
        ("/materials/mp/x".to_owned(), other.address().to_string()),
        ("/materials/mp/x".to_owned(), "other/svc".to_owned()),
        (format!("http://{}/materials/mp/x", other.address()), own.to_string()),
        (format!("http://{own}/materials/mp/x"), other.address().to_string()),
        ("http://user:pw@evil.example/materials/mp/x".to_owned(), own.to_string()),
    ] {
        let response = gateway.call("GET", &target).token(&token).host(Some(&host)).send();
        assert!(matches!(response.status(), 200 | 400), "{target} {host}: {}", response.status());
    }
    for received in upstream.received() {
        assert_eq!(received.head.start, "GET /x HTTP/1.1");
        assert_eq!(received.header("host"), Some(upstream.address().to_string().as_str()));
    }
    assert_eq!(other.received().len(), 0);
    let mut twice = gateway.wire();
    twice.send(format!("GET /materials/mp/x HTTP/1.1\r\nHost: a\r\nHost: b\r\nAuthorization: Bearer {token}\r\n\r\n"));
    assert_eq!(twice.response().status(), 400);
    let mut none = gateway.wire();
    none.send(format!("GET /materials/mp/x HTTP/1.1\r\nAuthorization: Bearer {token}\r\n\r\n"));
    assert_eq!(none.response().status(), 400);
    let mut connect = gateway.wire();
    connect.send(format!("CONNECT {} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n", other.address()));
    assert_eq!(connect.response().status(), 405);
    assert_eq!(other.connections(), 0);
}
