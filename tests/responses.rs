//! What the caller gets: the upstream's answers less what may not travel, and the gateway's own problems.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use support::{Gateway, Upstream};

const RESPONSE: &str = "HTTP/1.1 203 Fine By Me\r\nContent-Type: text/plain\r\nConnection: X-Named\r\nX-Named: \
                        1\r\nKeep-Alive: timeout=1\r\nProxy-Authenticate: Basic\r\nUpgrade: h2c\r\nCarta-Gateway: \
                        spoofed\r\nCarta-Revision: 99\r\nX-Request-Id: spoofed\r\nSet-Cookie: a=1\r\nSet-Cookie: \
                        b=2\r\nLocation: LOCATION\r\nWWW-Authenticate: Bearer realm=\"theirs\"\r\nX-Stays: \
                        1\r\nContent-Length: 2\r\n\r\nok";

fn answering(text: impl Fn(&str) -> String + Send + Sync + 'static) -> Upstream {
    Upstream::scripted(move |exchange| {
        exchange.read_body()?;
        let own = format!("http://{}", exchange.received.header("host").unwrap());
        exchange.send(text(&own))?;
        Ok(true)
    })
}

#[test]
fn an_answer_comes_back_less_what_may_not_travel() {
    let upstream = answering(|_| RESPONSE.replace("LOCATION", "/elsewhere"));
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let response = gateway.call("GET", "/materials/mp/x").token(&gateway.token("alice")).send();
    assert_eq!((response.status(), response.text().as_str()), (203, "ok"));
    for gone in ["x-named", "keep-alive", "proxy-authenticate", "upgrade", "carta-gateway", "carta-revision"] {
        assert_eq!(response.header(gone), None, "{gone}");
    }
    assert_ne!(response.header("x-request-id").unwrap(), "spoofed");
    assert_eq!(response.head.headers.all("set-cookie"), ["a=1", "b=2"]);
    assert_eq!(response.header("x-stays"), Some("1"));
    assert_eq!(response.header("www-authenticate"), Some("Bearer realm=\"theirs\""));
    let through_api = gateway.rest("GET", "/service/materials/mp/x").token(&gateway.token("alice")).send();
    assert_eq!(through_api.status(), 203);
    assert_eq!(through_api.header("set-cookie"), None);
    assert_eq!(through_api.header("content-security-policy"), Some("sandbox"));
    assert_eq!(through_api.header("x-content-type-options"), Some("nosniff"));
}

#[test]
fn a_location_under_the_base_url_becomes_the_callers_address() {
    let upstream = answering(|own| {
        let mut lines = String::new();
        // Each call consumes nothing: the location is chosen by what the base URL is.
        lines.push_str(&RESPONSE.replace("LOCATION", &format!("{own}/base/a?b=c#d")));
        lines
    });
    let gateway = Gateway::with_service(&format!("{}/base", upstream.url()), "").start();
    let token = gateway.token("alice");
    let direct = gateway.call("GET", "/materials/mp/x").token(&token).send();
    let expected = format!("http://{}/materials/mp/a?b=c#d", gateway.proxy());
    let location = direct.header("location").unwrap();
    assert!(location == expected || location == "/materials/mp/a?b=c#d", "{location}");
    let through_api = gateway.rest("GET", "/service/materials/mp/x").token(&token).send();
    let location = through_api.header("location").unwrap();
    assert!(location.ends_with("/service/materials/mp/a?b=c#d"), "{location}");
}

#[test]
fn a_location_elsewhere_stays_as_it_is() {
    for elsewhere in ["https://example.org/x", "http://127.0.0.1:1/base/x", "//example.org/x"] {
        let upstream = answering(move |_| RESPONSE.replace("LOCATION", elsewhere));
        let gateway = Gateway::with_service(&format!("{}/base", upstream.url()), "").start();
        let response = gateway.call("GET", "/materials/mp/x").token(&gateway.token("alice")).send();
        assert_eq!(response.header("location"), Some(elsewhere));
    }
}

#[test]
fn bodiless_answers_stay_bodiless_and_keep_the_connection() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        match exchange.received.head.target() {
            "/204" => exchange.send("HTTP/1.1 204 No Content\r\n\r\n")?,
            "/304" => exchange.send("HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 10\r\n\r\n")?,
            _ => exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n")?,
        }
        Ok(true)
    });
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let token = gateway.token("alice");
    let mut wire = gateway.wire();
    for (method, target, status) in [("GET", "204", 204), ("GET", "304", 304), ("HEAD", "x", 200), ("GET", "204", 204)]
    {
        wire.send(gateway.call(method, &format!("/materials/mp/{target}")).token(&token).bytes());
        let response = wire.bodiless_response();
        assert_eq!(response.status(), status);
        if method == "HEAD" {
            assert_eq!(response.header("content-length"), Some("1234"));
        }
    }
}

#[test]
fn every_problem_says_its_type_its_id_and_what_to_do() {
    let upstream = Upstream::fixed("ok");
    let gateway =
        Gateway::with_service(&upstream.url(), "[service.inject]\nheaders = { X-API-KEY = \"{secret:mp-api-key}\" }")
            .start();
    let (alice, bob) = (gateway.token("alice"), gateway.token("bob"));
    for (ask, status, problem) in [
        (gateway.call("GET", "/materials/mp/x"), 401, "not-authenticated"),
        (gateway.call("GET", "/materials/mp/x").token("nonsense"), 401, "invalid-credential"),
        (gateway.call("GET", "/materials/mp/x").token(&bob), 403, "permission-denied"),
        (gateway.call("GET", "/materials/nothing/x").token(&bob), 404, "unknown-service"),
        (gateway.call("GET", "/nothing/mp/x").token(&bob), 404, "unknown-service"),
        (gateway.call("GET", "/materials/mp/../x").token(&bob), 400, "ambiguous-path"),
        (gateway.call("GET", "/materials/mp/x").token(&alice), 400, "missing-secret"),
    ] {
        let response = ask.expect(status);
        assert_eq!(response.problem(), Some(problem));
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
        assert_eq!(response.header("www-authenticate").is_some(), status == 401);
        let body = response.json();
        for member in ["type", "title", "detail", "request_id", "status"] {
            assert!(!body[member].is_null(), "`{member}` is missing: {body}");
        }
        assert_eq!(body["request_id"], response.header("x-request-id").unwrap());
        assert!(body["type"].as_str().unwrap().ends_with(problem));
    }
    let refused = gateway.call("GET", "/materials/mp/x").token(&bob).expect(403).text();
    for told in ["execute", "materials.mp", "olga"] {
        assert!(refused.contains(told), "the caller learns the level, the resource and its owner: {refused}");
    }
    assert!(gateway.call("GET", "/materials/mp/x").token(&alice).expect(400).text().contains("mp-api-key"));
    let unknown = gateway.call("GET", "/materials/nothing/x").expect(401);
    assert!(!unknown.text().contains("nothing"), "what exists is told to identified callers only");
    assert_eq!(upstream.received().len(), 0);
}

#[test]
fn cors_is_off_by_default_and_answers_for_the_listed_origins_only() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "")
        .service(
            "materials",
            "shared",
            &upstream.url(),
            "cors = { origins = [\"https://app.example.org\"], methods = [\"GET\", \"PUT\"], headers = [\"authorization\"] }",
        )
        .start();
    let preflight = |service: &str, origin: &str| {
        gateway
            .call("OPTIONS", &format!("/materials/{service}/x"))
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "PUT")
            .header("Access-Control-Request-Headers", "authorization")
            .send()
    };
    let off = preflight("mp", "https://app.example.org");
    assert_eq!((off.status(), off.header("access-control-allow-origin")), (401, None));
    let on = preflight("shared", "https://app.example.org");
    assert_eq!(on.status(), 204, "{}", on.text());
    assert_eq!(on.header("access-control-allow-origin"), Some("https://app.example.org"));
    let foreign = preflight("shared", "https://evil.example.org");
    assert_eq!(foreign.header("access-control-allow-origin"), None);
    assert_eq!(upstream.received().len(), 0, "a preflight never reaches the upstream");
    let token = gateway.token(support::gateway::OWNER);
    let call = gateway
        .call("GET", "/materials/shared/x")
        .token(&token)
        .header("Origin", "https://app.example.org")
        .expect(200);
    assert_eq!(call.header("access-control-allow-origin"), Some("https://app.example.org"));
}

#[test]
fn a_method_that_would_show_what_was_injected_is_not_forwarded() {
    let upstream = Upstream::echo();
    let lines = "[service.inject]\nheaders = { X-API-KEY = \"canary-of-the-service\" }";
    let gateway = Gateway::with_service(&upstream.url(), lines).start();
    let token = gateway.token("alice");
    for method in ["TRACE", "TRACK", "CONNECT"] {
        // CONNECT to a path is no request at all (RFC 9112 §3.2.3).
        let target = if method == "CONNECT" { "upstream.example:443" } else { "/materials/mp/x" };
        let response = gateway.call(method, target).token(&token).send();
        assert_eq!((response.status(), response.problem()), (405, Some("method-not-allowed")), "{method}");
        // RFC 9110 §15.5.6.
        assert_eq!(response.header("allow"), Some("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"), "{method}");
        assert!(!response.text().contains("canary-of-the-service"), "{method}");
    }
    assert_eq!(upstream.received().len(), 0);
}

#[test]
fn an_expectation_that_nobody_can_meet_is_refused() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let ask = gateway.call("POST", "/materials/mp/x").token(&gateway.token("alice")).header("Expect", "200-fine");
    assert_eq!(ask.body("x").send().status(), 417);
    assert_eq!(upstream.received().len(), 0);
}
