//! What went wrong elsewhere, one test for each lesson; the advisory stands above it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use std::collections::HashSet;

use serde_json::json;
use support::gateway::OWNER;
use support::issuer::{encode, now};
use support::tls::Authority;
use support::{Gateway, Issuer, Upstream, Wire};

const HEADER: &str = "[auth.header]\nname = \"X-Forwarded-Email\"\ntrusted_proxies = [\"127.0.0.1/32\"]\n";
const INJECT: &str = "[service.inject]\nheaders = { X-API-KEY = \"{secret:key}\" }";

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
    for token in [issuer.token("alice"), format!("{}.{}.", encode(r#"{"alg":"none"}"#), encode(&claims))] {
        let status = gateway.call("GET", "/materials/mp/x").token(&token).send().status();
        assert!(matches!(status, 401 | 503), "{status}");
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
    assert!(connect.response().status() >= 400);
    assert_eq!(other.connections(), 0);
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

/// CVE-2026-41181 (Traefik): credentials go to no other backend when one fails.
#[test]
fn a_failing_upstream_sends_nothing_elsewhere() {
    let failing = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.answer(
            "502 Bad Gateway",
            &[("Location", "/other/svc/x"), ("Refresh", "0; url=/other/svc/x")],
            "theirs",
        )
    });
    let other = Upstream::fixed("other");
    let gateway = Gateway::with_service(&failing.url(), INJECT).service("other", "svc", &other.url(), "").start();
    let token = gateway.token("alice");
    gateway.secret(&token, "key", "canary-6");
    let response = gateway.call("GET", "/materials/mp/x").token(&token).expect(502);
    assert_eq!((response.text().as_str(), response.problem()), ("theirs", None), "their 502, not ours");
    assert_eq!((failing.received().len(), other.connections()), (1, 0));
}

/// CVE-2026-54762, CVE-2026-27586 (Traefik, Caddy): a secret or an authority that fails to load fails closed.
#[test]
fn what_cannot_be_loaded_stops_the_start_and_an_unknown_authority_stops_the_call() {
    let authority = Authority::new();
    let upstream = Upstream::wrapped(authority.certify(&["127.0.0.1"]).server(), |exchange| {
        exchange.read_body()?;
        exchange.answer("200 OK", &[], "sealed")
    });
    let url = format!("https://{}", upstream.address());
    let trusting =
        Gateway::with_service(&url, "tls = { ca = \"file:ca.pem\" }").file("ca.pem", authority.pem()).start();
    let token = trusting.token("alice");
    assert_eq!(trusting.call("GET", "/materials/mp/x").token(&token).expect(200).text(), "sealed");

    let strange = Gateway::with_service(&url, "").start();
    let refused = strange.call("GET", "/materials/mp/x").token(&strange.token("alice")).expect(502);
    assert_eq!(refused.problem(), Some("upstream-tls"));
    let other =
        Gateway::with_service(&url, "tls = { ca = \"file:ca.pem\" }").file("ca.pem", Authority::new().pem()).start();
    assert_eq!(
        other.call("GET", "/materials/mp/x").token(&other.token("alice")).expect(502).problem(),
        Some("upstream-tls")
    );
    assert_eq!(upstream.received().len(), 1);

    for lines in [
        "tls = { ca = \"file:missing.pem\" }",
        "tls = { ca = \"file:gateway.toml\" }",
        "[service.inject]\nheaders = { X-Key = \"${NOT_SET_ANYWHERE}\" }",
        "[service.inject]\nheaders = { X-Key = \"file:missing.txt\" }",
    ] {
        let gateway = Gateway::builder().prepare();
        let mut config = std::fs::read_to_string(gateway.path("gateway.toml")).unwrap();
        config += &format!(
            "[[service]]\nnamespace = \"a\"\nname = \"b\"\nbase_url = \"{url}\"\nowner = \"{OWNER}\"\n{lines}\n"
        );
        std::fs::write(gateway.path("gateway.toml"), config).unwrap();
        gateway.run(&["serve"]).code(2);
    }
}

/// CVE-2026-71324, CVE-2026-2833, CVE-2026-2835, CVE-2026-33555 (Traefik, Pingora, HAProxy): no undrained connection is
/// used again, no tunnel opens before its 101 (more in `framing.rs`).
#[test]
fn what_is_left_of_an_answer_never_becomes_the_next_callers_answer() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        if exchange.received.head.target() == "/large" {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")?;
            loop {
                exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison".repeat(100))?;
            }
        }
        exchange.answer("200 OK", &[], "clean")
    });
    let gateway = Gateway::with_service(&upstream.url(), "").listen("workers = 1").start();
    let token = gateway.token("alice");
    for _ in 0..5 {
        let mut leaver = gateway.call("GET", "/materials/mp/large").token(&token).open();
        leaver.exactly(200);
        drop(leaver);
        assert_eq!(gateway.call("GET", "/materials/mp/small").token(&token).expect(200).text(), "clean");
    }
}

/// CVE-2026-2836 (Pingora): what is shared is shared under scheme and host too.
#[test]
fn two_services_on_one_port_number_and_path_are_two_upstreams() {
    let (one, two) = (Upstream::fixed("one"), Upstream::fixed("two"));
    let gateway = Gateway::builder()
        .listen("workers = 1")
        .service("ns", "one", &format!("{}/same", one.url()), "")
        .service("ns", "two", &format!("{}/same", two.url()), "")
        .start();
    let token = gateway.token(OWNER);
    for _ in 0..3 {
        for name in ["one", "two"] {
            assert_eq!(gateway.call("GET", &format!("/ns/{name}/x")).token(&token).expect(200).text(), name);
        }
    }
}

/// `[register]`: what is registered reaches neither the gateway itself nor where the operator said no.
#[test]
fn a_registered_address_is_judged_when_it_is_connected_to() {
    let upstream = Upstream::fixed("inside");
    let hosts = "allow_hosts = [\"127.0.0.1\", \"localhost\", \"0.0.0.0\", \"169.254.169.254\", \"10.0.0.1\"]";
    let gateway = Gateway::builder().user("mallory", &[]).config(&format!("[register]\n{hosts}")).start();
    let token = gateway.token("mallory");
    gateway.rest("POST", "/service/reserve/lab").token(&token).body("").expect(200);
    let port = upstream.address().port();
    for (number, url) in [
        upstream.url(),
        format!("http://localhost:{port}"),
        format!("http://[::ffff:127.0.0.1]:{port}"),
        format!("http://2130706433:{port}"),
        format!("http://0x7f.1:{port}"),
        format!("http://0:{port}"),
        "http://169.254.169.254".to_owned(),
        "http://[fe80::1]".to_owned(),
        format!("http://{}", gateway.api()),
        "http://10.0.0.1:1".to_owned(),
    ]
    .into_iter()
    .enumerate()
    {
        let registered = gateway
            .rest("POST", &format!("/service/register/lab/s{number}?baseUrl={url}"))
            .token(&token)
            .body("")
            .send();
        if registered.status() == 200 {
            let call = gateway.call("GET", &format!("/lab/s{number}/x")).token(&token).send();
            assert_eq!(call.problem(), Some("target-refused"), "{url}: {} {}", call.status(), call.text());
        } else {
            assert_eq!(registered.status(), 400, "{url}");
        }
    }
    assert_eq!(upstream.connections(), 0);
    let allowed = Gateway::builder().config("[register]\nallow_hosts = [\"127.0.0.1\"]\nallow_loopback = true").start();
    let owner = allowed.token(OWNER);
    allowed.rest("POST", "/service/reserve/lab").token(&owner).body("").expect(200);
    let own = format!("/service/register/lab/self?baseUrl=http://{}", allowed.api());
    if allowed.rest("POST", &own).token(&owner).body("").send().status() == 200 {
        let call = allowed.call("GET", "/lab/self/user").token(&owner).send();
        assert_eq!(call.problem(), Some("target-refused"), "{}", call.text());
    }
}

/// The listener's own edge: what cannot be read is refused and ends the connection.
#[test]
fn nonsense_on_a_listener_hurts_nobody_else() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let token = gateway.token("alice");
    for nonsense in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\0\0\0\0\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff",
    ] {
        for address in [gateway.proxy(), gateway.api()] {
            let mut wire = Wire::connect(address);
            wire.send(nonsense).finish_sending();
            wire.until_closed();
        }
        gateway.call("GET", "/materials/mp/x").token(&token).expect(200);
    }
}
