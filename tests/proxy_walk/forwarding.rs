//! Bodies, trailers and upgrades on their way, and upstreams that fail.

use super::*;

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
