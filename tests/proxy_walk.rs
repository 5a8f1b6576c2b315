//! The walk, step by step, over real sockets: a gateway in this process before a recording upstream.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod proxy_house;
mod support;

use carta_gateway::policy::{Change, Grant, Levels, Pattern, Subject};
use carta_gateway::store::{Consent, Item, Key, Withdrawal};
use jiff::{SignedDuration, Timestamp};
use proxy_house::{ALICE, BOB, House, MP, OLGA, alices};
use serde_json::{Value, json};
use support::{Ask, Upstream};

fn table(upstream: &Upstream, more: Value) -> Value {
    let mut table = json!({"base_url": format!("{}/base", upstream.url())});
    for (key, value) in more.as_object().unwrap() {
        table[key] = value.clone();
    }
    table
}

fn start(upstream: &Upstream, more: Value) -> House {
    House::start("", &table(upstream, more))
}

fn call(house: &House, method: &str, target: &str) -> Ask {
    Ask::new(house.proxy(), method, target)
}

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
fn a_secret_goes_where_its_user_consented_and_the_first_use_of_a_service_of_the_file_is_the_consent() {
    let upstream = Upstream::fixed("answer");
    let house = start(&upstream, json!({"inject": {"headers": {"X-Key": "{secret:key}"}}}));
    let token = house.token(ALICE);
    let status = || call(&house, "GET", "/materials/mp/x").token(&token).send();
    assert_eq!(status().problem(), Some("missing-secret"));
    house.secret(ALICE, "key", "s3cr3t");
    assert_eq!(status().problem(), Some("secret-consent"));
    assert!(status().text().contains("https://api.gw.example.org/secret/key/consent?service=materials/mp"));
    assert_eq!(upstream.received().len(), 0);
    house.consent(ALICE);
    assert_eq!(status().status(), 200);
    assert_eq!(upstream.only().header("x-key"), Some("s3cr3t"));
    house.service(
        MP,
        "materials",
        "mp",
        &table(&upstream, json!({"inject": {"headers": {"X-Other": "{secret:key}"}}})),
        false,
    );
    assert_eq!(status().problem(), Some("secret-consent"), "another template needs it anew");
    house.service(
        MP,
        "materials",
        "mp",
        &table(&upstream, json!({"inject": {"headers": {"X-Other": "{secret:key}"}}})),
        true,
    );
    assert_eq!(status().problem(), Some("secret-consent"), "of a service of the file too");
    assert!(house.first_uses.noted.lock().unwrap().is_empty());
    house.consent(ALICE);
    assert_eq!(status().status(), 200);
    house.secret(BOB, "key", "s3cr3t");
    house.policy([Change::Grant(Grant {
        subject: Subject::User(BOB),
        pattern: Pattern::parse("materials.mp").unwrap(),
        levels: Levels::EXECUTE,
        expires: None,
    })]);
    call(&house, "GET", "/materials/mp/x").token(&house.token(BOB)).expect(200);
    assert_eq!(house.first_uses.noted.lock().unwrap().len(), 1, "the very first use is the consent");
}

#[test]
fn what_was_withdrawn_deleted_or_replaced_while_a_first_use_was_noted_counts() {
    let upstream = Upstream::fixed("answer");
    let house = std::sync::Arc::new(start(&upstream, json!({})));
    let headers = json!({"inject": {"headers": {"X-First": "{secret:first}", "X-Known": "{secret:known}"}}});
    let with_both = |trusted| house.service(MP, "materials", "mp", &table(&upstream, headers.clone()), trusted);
    with_both(true);
    let token = house.token(ALICE);
    house.secret(ALICE, "first", "f1rst");
    let consent = |name: &str| house.consent_to(ALICE, name);
    let (first, known) = (consent("first"), consent("known"));
    let unsay =
        |consent: &Consent| Item::Gone(Key::Consent(ALICE, consent.secret.clone(), consent.fingerprint.clone()));
    let withdrawal = Withdrawal { user: ALICE, secret: "known".into(), service: MP, at: Timestamp::now() };
    let meanwhile = |change: Box<dyn FnOnce(&House) + Send>| {
        house.secret(ALICE, "known", "kn0wn");
        house.secrets(&[unsay(&first), Item::Consent(known.clone())]);
        let inner = house.clone();
        *house.first_uses.meanwhile.lock().unwrap() = Some(Box::new(move || change(&inner)));
        let answer = call(&house, "GET", "/materials/mp/x").token(&token).send();
        assert!(house.first_uses.meanwhile.lock().unwrap().is_none(), "nothing was waited for");
        answer.problem().map(str::to_owned)
    };

    let withdrawn = vec![unsay(&known), Item::Withdrawal(withdrawal)];
    assert_eq!(meanwhile(Box::new(move |house| house.secrets(&withdrawn))).as_deref(), Some("secret-consent"));
    let again = Item::Gone(Key::Withdrawal(ALICE, "known".into(), MP));
    house.secrets(&[again]);
    let deleted = vec![Item::Gone(Key::Secret(ALICE, "known".into()))];
    assert_eq!(meanwhile(Box::new(move |house| house.secrets(&deleted))).as_deref(), Some("missing-secret"));
    assert!(upstream.received().is_empty(), "what was withdrawn or deleted was sent");
    assert_eq!(meanwhile(Box::new(|house| house.secret(ALICE, "known", "n3w"))), None);
    assert_eq!(upstream.only().header("x-known"), Some("n3w"));
}

#[test]
fn a_stream_ends_when_the_grant_is_gone_and_goes_on_while_another_carries_it() {
    let upstream = open_ended();
    let house = start(&upstream, json!({}));
    let mut events = call(&house, "GET", "/materials/mp/live").token(&house.token(ALICE)).open();
    events.until("open\r\n");
    let everyone = Pattern::parse("materials").unwrap();
    house.policy([Change::Grant(Grant {
        subject: Subject::Everyone,
        pattern: everyone.clone(),
        levels: Levels::EXECUTE,
        expires: None,
    })]);
    house.policy([Change::Ungrant(Subject::User(ALICE), Pattern::parse("materials.mp").unwrap())]);
    assert!(events.stays_silent_for(std::time::Duration::from_millis(200)));
    house.policy([Change::Ungrant(Subject::Everyone, everyone)]);
    events.until_closed();
    upstream.wait_until_closed(1);
}

#[test]
fn a_stream_ends_when_a_grant_expires_or_its_user_is_disabled() {
    let upstream = open_ended();
    let house = start(&upstream, json!({}));
    house.policy([Change::Grant(Grant {
        subject: Subject::User(BOB),
        pattern: Pattern::parse("materials.mp").unwrap(),
        levels: Levels::EXECUTE,
        expires: Timestamp::now().checked_add(SignedDuration::from_secs(2)).ok(),
    })]);
    let mut bobs = call(&house, "GET", "/materials/mp/live").token(&house.token(BOB)).open();
    let mut alices = call(&house, "GET", "/materials/mp/live").token(&house.token(ALICE)).open();
    bobs.until("open");
    alices.until("open");
    bobs.until_closed();
    house.disable("alice");
    alices.until_closed();
}

#[test]
fn an_answer_of_known_length_ends_with_its_permit_too() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.tell();
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\nopen")?;
        if exchange.received.head.target().ends_with("/flood") {
            loop {
                exchange.send([b'x'; 65536])?;
            }
        }
        exchange.until_closed()?;
        Ok(false)
    });
    let house = start(&upstream, json!({}));
    let token = house.token(ALICE);
    let mut slow = call(&house, "GET", "/materials/mp/slow").token(&token).open();
    let mut flood = call(&house, "GET", "/materials/mp/flood").token(&token).open();
    slow.until("open");
    flood.until("open");
    flood.exactly(4 << 20);
    house.policy([Change::Ungrant(Subject::User(ALICE), Pattern::parse("materials.mp").unwrap())]);
    slow.until_closed();
    upstream.wait_until_closed(1);
    let rest = flood.until_closed();
    assert!(rest.len() < 64 << 20, "{} bytes came after the end", rest.len());
    upstream.wait_until_closed(2);
}

#[test]
fn an_answer_that_begins_after_the_permit_is_gone_does_not_reach_the_caller() {
    let revoked = std::sync::Arc::new(std::sync::Barrier::new(2));
    let inner = revoked.clone();
    let upstream = Upstream::scripted(move |exchange| {
        exchange.tell();
        inner.wait();
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")?;
        Ok(true)
    });
    let house = start(&upstream, json!({}));
    let mut wire = call(&house, "GET", "/materials/mp/slow").token(&house.token(ALICE)).open();
    upstream.wait_for(1);
    house.policy([Change::Ungrant(Subject::User(ALICE), Pattern::parse("materials.mp").unwrap())]);
    revoked.wait();
    let answer = wire.response();
    assert_eq!((answer.status(), answer.problem()), (403, Some("permission-denied")));
}

#[test]
fn an_upload_ends_with_its_permit_though_its_answer_began_before() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.some()?;
        exchange.tell();
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal")?;
        exchange.until_closed()?;
        Ok(false)
    });
    let house = start(&upstream, json!({}));
    let mut wire = call(&house, "POST", "/materials/mp/x")
        .token(&house.token(ALICE))
        .header("Transfer-Encoding", "chunked")
        .open();
    wire.send("5\r\nbegin\r\n");
    wire.until("hal");
    house.policy([Change::Ungrant(Subject::User(ALICE), Pattern::parse("materials.mp").unwrap())]);
    upstream.wait_until_closed(1);
    wire.until_closed();
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
fn an_upgrade_joins_both_sides_after_the_upstreams_101_and_ends_with_the_permit() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.tell();
        exchange.send(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nCarta-X: y\r\n\r\n",
        )?;
        loop {
            let bytes = exchange.some()?;
            if bytes.is_empty() {
                return Ok(false);
            }
            exchange.send(bytes)?;
        }
    });
    let house = start(&upstream, json!({}));
    let ask = call(&house, "GET", "/materials/mp/ws")
        .token(&house.token(ALICE))
        .header("Connection", "Upgrade, h2c")
        .header("Upgrade", "h2c, WebSocket");
    let mut socket = ask.open();
    let head = socket.head();
    assert_eq!(head.status(), 101);
    assert_eq!(head.headers.one("carta-x"), None);
    assert_eq!(upstream.wait_for(1)[0].header("upgrade"), Some("WebSocket"));
    socket.send("hello");
    socket.until("hello");
    house.policy([alices(Levels::NONE)]);
    socket.until_closed();
    upstream.wait_until_closed(1);
}

#[test]
fn a_protocol_that_nobody_asked_for_is_not_switched_to() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.tell();
        exchange.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")?;
        exchange.until_closed()?;
        Ok(false)
    });
    let house = start(&upstream, json!({}));
    let ask = || call(&house, "GET", "/materials/mp/ws").token(&house.token(ALICE));
    let response = ask().header("Connection", "Upgrade").header("Upgrade", "websocket").expect(502);
    assert_eq!(response.problem(), Some("upstream-protocol"));
    assert_eq!(ask().expect(502).problem(), Some("upstream-protocol"));
    upstream.wait_until_closed(1);
    upstream.wait_until_closed(2);
}

#[test]
fn trailers_are_filtered_in_both_directions() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, Carta-Gateway\r\nConnection: X-Hop\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\nCarta-Gateway: spoofed\r\nX-Hop: 1\r\n\r\n")?;
        Ok(true)
    });
    let house = start(&upstream, json!({"inject": {"headers": {"X-Api-Key": "k"}}}));
    let mut wire = call(&house, "POST", "/materials/mp/x")
        .token(&house.token(ALICE))
        .header("Transfer-Encoding", "chunked")
        .header("Trailer", "X-Check, X-Carta-User, X_Api_Key, X-Named")
        .header("Connection", "X-Named")
        .header("TE", "trailers")
        .open();
    wire.send("2\r\nhi\r\n0\r\nX-Check: 1\r\nX-Carta-User: evil\r\nX_Api_Key: evil\r\nX-Named: 1\r\n\r\n");
    let response = wire.response();
    let received = upstream.only();
    assert_eq!((received.body.as_slice(), received.whole), (&b"hi"[..], true));
    assert_eq!(received.header("x-carta-user"), Some("alice"));
    let sent = format!("{:?}", received.trailers);
    assert!(sent.contains("x-check") || sent.contains("X-Check"), "{sent}");
    assert!(!sent.contains("evil") && !sent.to_lowercase().contains("x-named"), "{sent}");
    let got = format!("{:?}", response.trailers).to_lowercase();
    assert!(got.contains("x-sum") && !got.contains("spoofed") && !got.contains("x-hop"), "{got}");
}

#[test]
fn a_body_is_not_asked_for_before_the_upstream_wants_it() {
    let upstream = Upstream::scripted(|exchange| {
        if exchange.received.head.target().ends_with("/no") {
            exchange.tell();
            exchange.send("HTTP/1.1 413 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")?;
            return Ok(false);
        }
        exchange.send("HTTP/1.1 100 Continue\r\n\r\n")?;
        exchange.read_body()?;
        exchange.answer("200 OK", &[], "taken")
    });
    let house = start(&upstream, json!({}));
    let head = |rest: &str| {
        call(&house, "PUT", &format!("/materials/mp{rest}"))
            .token(&house.token(ALICE))
            .header("Expect", "100-continue")
            .header("Content-Length", "4")
            .open()
    };
    let mut refused = head("/no");
    assert_eq!(refused.head().status(), 413, "no 100 before it");
    let mut taken = head("/yes");
    assert_eq!(taken.head().status(), 100);
    taken.send("body");
    assert_eq!(taken.response().text(), "taken");
    assert_eq!(upstream.last().body, b"body");
    let other = call(&house, "PUT", "/materials/mp/x")
        .token(&house.token(ALICE))
        .header("Expect", "201-created")
        .body("x")
        .expect(417);
    assert_eq!(other.problem(), Some("expectation-failed"));
}

#[test]
fn a_body_beyond_the_limit_is_refused_however_it_is_framed() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.count_body()?;
        exchange.answer("200 OK", &[], "ok")
    });
    let house = House::start("[limits]\nbody_bytes = 1024", &table(&upstream, json!({})));
    let token = house.token(ALICE);
    let fits = call(&house, "PUT", "/materials/mp/x").token(&token).body(vec![b'x'; 1024]);
    fits.expect(200);
    let said = call(&house, "PUT", "/materials/mp/x").token(&token).body(vec![b'x'; 1025]).expect(413);
    assert_eq!(said.problem(), Some("body-too-large"));
    let mut wire = call(&house, "PUT", "/materials/mp/x").token(&token).header("Transfer-Encoding", "chunked").open();
    wire.send(format!("400\r\n{}\r\n1\r\nx\r\n0\r\n\r\n", "x".repeat(1024)));
    assert_eq!(wire.response().problem(), Some("body-too-large"));
}

#[test]
fn an_upstream_that_is_not_there_or_not_http_is_told_apart() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.tell();
        exchange.send("SSH-2.0-OpenSSH\r\n")?;
        Ok(false)
    });
    let house = start(&upstream, json!({}));
    let token = house.token(ALICE);
    let status = || call(&house, "GET", "/materials/mp/x").token(&token).expect(502);
    assert_eq!(status().problem(), Some("upstream-protocol"));
    house.service(MP, "materials", "mp", &json!({"base_url": "http://127.0.0.1:1"}), false);
    assert_eq!(status().problem(), Some("upstream-unreachable"));
    house.service(MP, "materials", "mp", &json!({"base_url": "http://elsewhere.example"}), false);
    let refused = status();
    assert_eq!(refused.problem(), Some("target-refused"));
    assert!(!refused.text().contains("elsewhere"), "the configuration is the owner's to see");
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
fn a_service_that_asks_for_it_gets_a_token_that_is_good_for_no_call() {
    let upstream = Upstream::fixed("answer");
    let house = start(&upstream, json!({"forward_token": true}));
    let token = house.token(ALICE);
    let ask = || call(&house, "GET", "/materials/mp/x").token(&token).header("X-Carta-Token", "Bearer spoofed");
    ask().expect(200);
    let minted = upstream.only().header("x_carta_token").unwrap().to_owned();
    let bare = minted.strip_prefix("Bearer ").unwrap();
    assert!(bare != token && !upstream.only().text().contains("spoofed"));
    let refused = call(&house, "GET", "/materials/mp/x").token(bare).send();
    assert_eq!((refused.status(), refused.problem()), (403, Some("token-scope")));
    ask().expect(200);
    assert_eq!(upstream.last().header("x_carta_token"), Some(minted.as_str()), "signing is for the first call");

    house.service(MP, "materials", "mp", &table(&upstream, json!({"forward_token": "full"})), true);
    ask().expect(200);
    assert_eq!(upstream.last().header("x_carta_token"), Some(format!("Bearer {token}").as_str()));
    assert_eq!(upstream.last().header("authorization"), None);
    call(&house, "GET", "/materials/mp/x").header("X-Forwarded-Email", "alice@example.org").expect(200);
    let instead = upstream.last().header("x_carta_token").unwrap().to_owned();
    assert!(instead.starts_with("Bearer ") && !instead.contains(&token));
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

#[test]
fn streams_end_with_the_token_that_opened_them() {
    let upstream = open_ended();
    let house = start(&upstream, json!({}));
    let token = house.token_for(ALICE, std::time::Duration::from_secs(2));
    let mut events = call(&house, "GET", "/materials/mp/live").token(&token).open();
    let mut upload =
        call(&house, "PUT", "/materials/mp/up").token(&token).header("Transfer-Encoding", "chunked").open();
    events.until("open\r\n");
    upload.send("4\r\nmore\r\n");
    events.until_closed();
    assert_eq!(upload.response().problem(), Some("permission-denied"));
    upstream.wait_until_closed(1);
    upstream.wait_until_closed(2);
    call(&house, "GET", "/materials/mp/live").token(&token).expect(401);
}

#[test]
fn streams_end_when_the_key_of_their_token_is_withdrawn() {
    let upstream = open_ended();
    let house = start(&upstream, json!({}));
    let token = house.token(ALICE);
    let mut events = call(&house, "GET", "/materials/mp/live").token(&token).open();
    let mut by_header =
        call(&house, "GET", "/materials/mp/live").header("X-Forwarded-Email", "alice@example.org").open();
    events.until("open\r\n");
    by_header.until("open\r\n");
    house.withdraw_keys();
    events.until_closed();
    assert!(by_header.stays_silent_for(std::time::Duration::from_millis(200)), "no token proved this one");
}

#[test]
fn a_long_upload_ends_with_its_permit() {
    let upstream = open_ended();
    let house = start(&upstream, json!({}));
    let mut upload = call(&house, "PUT", "/materials/mp/up")
        .token(&house.token(ALICE))
        .header("Content-Length", "1000000000")
        .open();
    upload.send("some");
    upstream.wait_for(1);
    house.policy([alices(Levels::NONE)]);
    let refused = upload.response();
    assert_eq!((refused.status(), refused.problem()), (403, Some("permission-denied")));
    upstream.wait_until_closed(1);
}

/// An upstream that reads what `PUT` brings, and otherwise begins an answer that does not end.
fn open_ended() -> Upstream {
    Upstream::scripted(|exchange| {
        exchange.tell();
        if exchange.received.head.method() == "PUT" {
            exchange.count_body()?;
        } else {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nopen\r\n")?;
            exchange.until_closed()?;
        }
        Ok(false)
    })
}
