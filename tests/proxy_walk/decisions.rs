//! What is decided, on which state, and for how long that is remembered.

use super::*;

#[test]
fn a_permitted_call_reaches_the_upstream_and_its_answer_the_caller() {
    let upstream = Upstream::fixed("answer");
    let house = start(&upstream, json!({}));
    let token = house.token(ALICE);
    let response = call(&house, "POST", "/materials/mp/a%2Fb?c=%20d").token(&token).body("body").expect(200);
    assert_eq!(response.text(), "answer");
    let received = upstream.only();
    assert_eq!(received.head.start, "POST /base/a%2Fb?c=%20d HTTP/1.1");
    assert_eq!(received.body, b"body");
    assert_eq!(received.header("x-carta-user"), Some("alice"));
    assert_eq!(received.header("x-request-id"), response.header("x-request-id"));
    assert_eq!(received.header("host"), Some(upstream.address().to_string().as_str()));
    assert!(!received.text().contains(&token));
}

#[test]
fn who_is_not_identified_or_not_permitted_reaches_nothing() {
    let upstream = Upstream::fixed("answer");
    let house = start(&upstream, json!({}));
    let bob = house.token(BOB);
    let refused = call(&house, "GET", "/materials/mp/x").token(&bob).expect(403);
    let told = refused.json();
    assert_eq!(
        (&told["level"], &told["resource"], &told["owner"]),
        (&json!("execute"), &json!("materials.mp"), &json!("olga"))
    );
    assert!(told["grants"].is_null(), "grants are the owner's to see");
    for (ask, status, problem) in [
        (call(&house, "GET", "/materials/mp/x"), 401, "not-authenticated"),
        (call(&house, "GET", "/materials/no/x"), 401, "not-authenticated"),
        (call(&house, "GET", "/materials/no/x").token(&bob), 404, "unknown-service"),
        (call(&house, "GET", "/materials").token(&bob), 404, "unknown-service"),
        (call(&house, "GET", "/materials/mp/x").token("x"), 401, "invalid-credential"),
        (call(&house, "GET", "/materials/mp/../x"), 400, "ambiguous-path"),
        (Ask::new(house.api(), "GET", "/materials/mp/x").token(&bob), 404, "not-found"),
    ] {
        assert_eq!(ask.expect(status).problem(), Some(problem));
    }
    house.policy([Change::Grant(Grant {
        subject: Subject::User(OLGA),
        pattern: Pattern::parse("materials.mp").unwrap(),
        levels: Levels::EXECUTE,
        expires: None,
    })]);
    assert_eq!(upstream.received().len(), 0);
}

#[test]
fn a_decision_is_remembered_for_no_longer_than_its_snapshot_and_its_grants_hold() {
    let upstream = Upstream::fixed("answer");
    let house = start(&upstream, json!({}));
    let token = house.token(BOB);
    let status = || call(&house, "GET", "/materials/mp/x").token(&token).send().status();
    let grant = |expires| {
        Change::Grant(Grant {
            subject: Subject::User(BOB),
            pattern: Pattern::parse("materials.mp").unwrap(),
            levels: Levels::EXECUTE,
            expires,
        })
    };
    for _ in 0..20 {
        assert_eq!((status(), status()), (403, 403));
        house.policy([grant(None)]);
        assert_eq!((status(), status()), (200, 200));
        house.policy([Change::Ungrant(Subject::User(BOB), Pattern::parse("materials.mp").unwrap())]);
    }
    house.policy([grant(Timestamp::now().checked_add(SignedDuration::from_secs(2)).ok())]);
    assert_eq!(status(), 200);
    support::eventually("the grant runs out, with no change that tells", support::PATIENCE, || {
        (status() == 403).then_some(())
    });
}

#[test]
fn an_operation_asks_for_its_own_level_on_its_own_resource() {
    let upstream = Upstream::fixed("answer");
    let operations = json!({"operation": [
        {"name": "tag", "match": "POST|PUT /tags/{id}", "level": "create", "resource": "{namespace}.{service}.tag.{id}"},
        {"name": "read", "match": "GET /files/**"},
    ]});
    let house = start(&upstream, operations);
    let token = house.token(ALICE);
    let status = |method: &str, rest: &str| call(&house, method, &format!("/materials/mp{rest}")).token(&token).send();
    assert_eq!(status("GET", "/files/a//b%2Fc").status(), 200, "nothing reads what `**` stands for");
    assert_eq!(status("HEAD", "/files").status(), 200);
    assert_eq!(status("POST", "/tags/7").status(), 403);
    assert_eq!(status("DELETE", "/tags/7").problem(), Some("no-operation"));
    house.policy([Change::Grant(Grant {
        subject: Subject::User(ALICE),
        pattern: Pattern::parse("materials.mp.tag.7").unwrap(),
        levels: Levels::CREATE,
        expires: None,
    })]);
    assert_eq!(status("POST", "/tags/7/").status(), 200);
    assert_eq!(status("POST", "/tags/%37").status(), 200);
    for ambiguous in
        ["/tags/7%2F", "/tags//7", "/tags/7//", "/tags/7;x", "/tags/7%00", "/tags%5C7", "//tags/7", "/tags/%zz"]
    {
        assert_eq!(status("POST", ambiguous).problem(), Some("ambiguous-path"), "{ambiguous}");
    }
    assert_eq!(upstream.received().len(), 4);
}

#[test]
fn a_public_endpoint_is_open_to_all_at_exactly_its_path_and_gets_nothing() {
    let upstream = Upstream::fixed("answer");
    let house = start(
        &upstream,
        json!({"public": ["/health"], "inject": {"headers": {"X-Key": "{secret:key}"}, "query": {"key": "x"}}}),
    );
    call(&house, "GET", "/materials/mp/health?key=mine&a=1")
        .header("X-Key", "mine")
        .header("Authorization", "junk")
        .expect(200);
    let received = upstream.only();
    assert_eq!(received.head.target(), "/base/health?a=1");
    for absent in ["x-key", "authorization", "x-carta-user", "x-carta-email"] {
        assert_eq!(received.header(absent), None, "{absent}");
    }
    call(&house, "HEAD", "/materials/mp/h%65alth").expect(200);
    for name in ["X-HTTP-Method-Override", "X_Http_Method", "X-Method-Override"] {
        call(&house, "GET", "/materials/mp/health").header(name, "DELETE").expect(200);
        assert!(!upstream.last().text().contains("DELETE"), "{name} makes another call of one that is open to all");
    }
    for (method, rest) in [
        ("POST", "/health"),
        ("GET", "/health/"),
        ("GET", "/health/x"),
        ("GET", "//health"),
        ("GET", "/health;x"),
        ("GET", "/health%2F"),
        ("GET", "/Health"),
        ("OPTIONS", "/health"),
    ] {
        let status = call(&house, method, &format!("/materials/mp{rest}")).send().status();
        assert_eq!(status, 401, "{method} {rest}");
    }
}

#[test]
fn what_changed_while_a_caller_was_being_identified_counts() {
    let upstream = Upstream::fixed("answer");
    let house = std::sync::Arc::new(start(&upstream, json!({})));
    let bobs = Pattern::parse("materials.mp").unwrap();
    house.policy([Change::Grant(Grant {
        subject: Subject::User(BOB),
        pattern: bobs.clone(),
        levels: Levels::EXECUTE,
        expires: None,
    })]);
    let inner = house.clone();
    *house.enrolment.linking.lock().unwrap() = Some(Box::new(move |link| {
        inner.change(|state| {
            state.directory = state.directory.patched(&[Item::Link(link)]).into();
            state.policy = state.policy.patched([Change::Ungrant(Subject::User(BOB), bobs)]);
        });
    }));
    let ask = call(&house, "GET", "/materials/mp/x").header("X-Forwarded-Email", "bob@example.org");
    assert_eq!(ask.expect(403).problem(), Some("permission-denied"));
    assert!(house.enrolment.linking.lock().unwrap().is_none(), "he was not linked");
    assert!(upstream.received().is_empty());
}

#[test]
fn a_page_of_another_origin_cannot_use_the_identity_that_its_visitors_browser_adds() {
    let upstream = Upstream::fixed("answer");
    let cors = json!({"cors": {"origins": ["https://app.example.org"], "methods": ["PUT"], "credentials": true}});
    let house = start(&upstream, cors);
    let by_header =
        |method: &str| call(&house, method, "/materials/mp/x").header("X-Forwarded-Email", "alice@example.org");
    by_header("POST").expect(200);
    by_header("POST").header("Origin", "https://gw.example.org").expect(200);
    let page = by_header("POST").header("Origin", "https://app.example.org").expect(200);
    assert_eq!(page.header("access-control-allow-origin"), Some("https://app.example.org"));
    assert_eq!(page.header("access-control-allow-credentials"), Some("true"));
    for ask in [
        by_header("POST").header("Origin", "https://evil.example"),
        by_header("GET")
            .header("Origin", "https://evil.example")
            .header("Connection", "Upgrade")
            .header("Upgrade", "websocket"),
        by_header("POST").header("Sec-Fetch-Site", "cross-site"),
    ] {
        assert_eq!(ask.expect(403).problem(), Some("origin-refused"));
    }
    call(&house, "POST", "/materials/mp/x")
        .token(&house.token(ALICE))
        .header("Origin", "https://evil.example")
        .expect(200);
    let preflight = |origin: &str, method: &str| {
        call(&house, "OPTIONS", "/materials/mp/x")
            .header("Origin", origin)
            .header("Access-Control-Request-Method", method)
            .expect(204)
    };
    assert!(preflight("https://app.example.org", "PUT").header("access-control-allow-methods").is_some());
    assert!(preflight("https://app.example.org", "PUT").header("x-request-id").is_some());
    assert!(preflight("https://app.example.org", "DELETE").header("access-control-allow-origin").is_none());
    assert!(preflight("https://evil.example", "PUT").header("access-control-allow-origin").is_none());
}

#[test]
fn a_state_that_is_too_old_decides_nothing() {
    let upstream = Upstream::fixed("answer");
    let house = start(&upstream, json!({"public": ["/health"]}));
    let token = house.token(ALICE);
    house.grow_stale();
    for rest in ["/x", "/health"] {
        let response = call(&house, "GET", &format!("/materials/mp{rest}")).token(&token).expect(503);
        assert_eq!(response.problem(), Some("stale-snapshot"));
        assert!(response.header("retry-after").is_some());
    }
    house.change(|_| ());
    call(&house, "GET", "/materials/mp/x").token(&token).expect(200);
}

#[test]
fn a_request_waits_for_the_revision_that_it_asks_for() {
    let upstream = Upstream::fixed("answer");
    let house = start(&upstream, json!({}));
    let bob = house.token(BOB);
    let next = house.gateway.shared().state.load().revision + 1;
    let ask =
        |revision: &str| call(&house, "GET", "/materials/mp/x").token(&bob).header("Carta-Min-Revision", revision);
    let mut waiting = ask(&next.to_string()).open();
    assert!(waiting.stays_silent_for(std::time::Duration::from_millis(100)));
    house.policy([Change::Grant(Grant {
        subject: Subject::User(BOB),
        pattern: Pattern::parse("materials.mp").unwrap(),
        levels: Levels::EXECUTE,
        expires: None,
    })]);
    assert_eq!(waiting.response().status(), 200);
    assert_eq!(upstream.only().header("carta-min-revision"), None);
    ask("soon").expect(400);
}

#[test]
fn the_api_listener_serves_the_same_calls_on_the_origin_of_the_ui() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        let own = format!("http://{}/base/made", exchange.received.header("host").unwrap());
        exchange.answer("201 Created", &[("Set-Cookie", "a=b"), ("Location", &own)], "made")
    });
    let house = start(&upstream, json!({}));
    let token = house.token(ALICE);
    let made = Ask::new(house.api(), "POST", "/service/materials/mp/x")
        .token(&token)
        .header("Cookie", "__Host-carta-session=s; a=1")
        .body("")
        .expect(201);
    assert_eq!(made.header("location"), Some("/service/materials/mp/made"));
    assert_eq!(made.header("set-cookie"), None);
    assert_eq!(made.header("content-security-policy"), Some("sandbox"));
    assert_eq!(upstream.only().header("cookie"), Some("a=1"));
    let direct = call(&house, "POST", "/materials/mp/x").token(&token).body("").expect(201);
    assert_eq!(direct.header("location"), Some("/materials/mp/made"));
    assert_eq!(direct.header("set-cookie"), Some("a=b"));
}
