//! Where one message ends and the next begins: ambiguous framing is refused or made unambiguous, in both directions.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

mod support;

use std::time::Duration;

use support::message::find;
use support::{Gateway, Upstream, Wire};

fn start(upstream: &Upstream) -> (Gateway, String) {
    let gateway = Gateway::with_service(&upstream.url(), "").start();
    let token = gateway.token("alice");
    (gateway, token)
}

#[test]
fn a_request_whose_end_can_be_read_in_two_ways_never_becomes_two_requests() {
    let upstream = Upstream::fixed("ok");
    let (gateway, token) = start(&upstream);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n";
    let long = smuggled.len();
    for (what, lines, body) in [
        ("length and chunks", format!("Content-Length: {long}\r\nTransfer-Encoding: chunked\r\n"), "0\r\n\r\n"),
        ("chunks and length", format!("Transfer-Encoding: chunked\r\nContent-Length: {long}\r\n"), "0\r\n\r\n"),
        ("two lengths", format!("Content-Length: 0\r\nContent-Length: {long}\r\n"), ""),
        ("a list of lengths", format!("Content-Length: 0, {long}\r\n"), ""),
        ("a signed length", "Content-Length: +0\r\n".to_owned(), ""),
        ("a negative length", "Content-Length: -1\r\n".to_owned(), ""),
        ("a hexadecimal length", "Content-Length: 0x0\r\n".to_owned(), ""),
        ("a length beyond all numbers", "Content-Length: 99999999999999999999999\r\n".to_owned(), ""),
        ("an unknown coding", "Transfer-Encoding: xchunked\r\n".to_owned(), "0\r\n\r\n"),
        ("a coding after chunked", "Transfer-Encoding: chunked, identity\r\n".to_owned(), "0\r\n\r\n"),
        ("chunked twice", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n".to_owned(), "0\r\n\r\n"),
        ("a vertical tab", "Transfer-Encoding: \x0bchunked\r\n".to_owned(), "0\r\n\r\n"),
        ("a blank before the colon", "Transfer-Encoding : chunked\r\n".to_owned(), "0\r\n\r\n"),
        ("a folded line", "X: y\r\n Transfer-Encoding: chunked\r\n".to_owned(), "0\r\n\r\n"),
        ("a length in underscores", "Content_Length: 0\r\nContent-Length: 5\r\n".to_owned(), "12345"),
        ("a null byte", "X: a\0b\r\n".to_owned(), ""),
        ("a lone carriage return", "X: a\rTransfer-Encoding: chunked\r\n".to_owned(), ""),
    ] {
        upstream.forget();
        let mut wire = gateway.wire();
        wire.send(format!(
            "POST /materials/mp/outer HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\n{lines}\r\n{body}{smuggled}"
        ));
        wire.finish_sending();
        let answers = String::from_utf8_lossy(&wire.until_closed()).into_owned();
        for received in upstream.received() {
            let text = received.text();
            assert!(!received.head.target().contains("smuggled"), "{what}: {text}");
            let framings = received.head.headers.all("content-length").len()
                + received.head.headers.all("transfer-encoding").len();
            assert!(framings <= 1, "{what}: framed {framings} times: {text}");
            assert!(received.whole, "{what}: {text}");
        }
        assert!(!answers.is_empty(), "{what}: the caller hears of it");
    }
}

#[test]
fn a_length_that_is_said_twice_alike_is_refused_or_said_once() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.answer("200 OK", &[], "ok")
    });
    let (gateway, token) = start(&upstream);
    for (lines, passes) in [
        ("Content-Length: 5\r\n", true),
        ("Content-Length: 5, 5\r\n", false),
        ("Content-Length: 5,5\r\n", false),
        ("Content-Length: 5,\r\n", false),
        ("Content-Length: ,5\r\n", false),
        ("Content-Length: 5 5\r\n", false),
        ("Content-Length: 05\r\nContent-Length: 5\r\n", true),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", true),
    ] {
        upstream.forget();
        let mut wire = gateway.wire();
        wire.send(format!(
            "POST /materials/mp/x HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\n{lines}\r\nhello"
        ));
        let response = wire.response();
        if passes {
            assert_eq!(response.status(), 200, "{lines:?}: {}", response.text());
            let received = upstream.only();
            let lengths = received.head.headers.all("content-length");
            assert_eq!((lengths.as_slice(), received.body.as_slice()), (&["5"][..], &b"hello"[..]), "{lines:?}");
            assert!(received.head.headers.all("transfer-encoding").is_empty(), "{lines:?}: {}", received.text());
        } else {
            assert_eq!(response.status(), 400, "{lines:?}: {}", response.text());
            assert_eq!(String::from_utf8_lossy(&wire.until_closed()), "", "{lines:?}: what follows is not read");
            assert!(upstream.received().is_empty(), "{lines:?}");
        }
    }
}

#[test]
fn a_chunk_that_breaks_the_rules_does_not_pass() {
    let upstream = Upstream::fixed("ok");
    let (gateway, token) = start(&upstream);
    for chunks in
        ["zz\r\nabc\r\n0\r\n\r\n", "-1\r\na\r\n0\r\n\r\n", "3\r\nabcdef\r\n0\r\n\r\n", "FFFFFFFFFFFFFFFFF\r\nx\r\n"]
    {
        upstream.forget();
        let mut wire = gateway.wire();
        wire.send(format!(
            "POST /materials/mp/x HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"
        ));
        wire.finish_sending();
        let answers = wire.until_closed();
        assert!(!answers.starts_with(b"HTTP/1.1 200"), "{chunks:?}: {}", String::from_utf8_lossy(&answers));
        assert!(upstream.received().iter().all(|received| !received.whole), "{chunks:?}");
    }
}

#[test]
fn requests_in_a_pipeline_are_answered_one_by_one_in_order() {
    let upstream = Upstream::echo();
    let (gateway, token) = start(&upstream);
    let mut wire = gateway.wire();
    let mut all = String::new();
    for number in 0..5 {
        all += &format!(
            "POST /materials/mp/{number} HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\nContent-Length: 1\r\n\r\n{number}"
        );
    }
    wire.send(all);
    for number in 0..5 {
        let response = wire.response();
        assert!(response.text().starts_with(&format!("POST /{number} HTTP/1.1\r\n")), "{}", response.text());
    }
}

#[test]
fn trailers_travel_both_ways_without_what_may_not_travel() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.send(
            "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 7\r\nConnection: \
             x\r\nCarta-Gateway: spoofed\r\nX-Request-Id: spoofed\r\n\r\n",
        )?;
        Ok(true)
    });
    let (gateway, token) = start(&upstream);
    let mut wire = gateway.wire();
    wire.send(format!(
        "POST /materials/mp/x HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\nTE: trailers\r\nConnection: TE, \
         X-Named\r\nTrailer: X-Check\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-Check: 1\r\nX-Carta-User: \
         spoofed\r\nx_forwarded_user: spoofed\r\nAuthorization: Bearer spoofed\r\nKeep-Alive: spoofed\r\nX-Named: \
         spoofed\r\nContent-Length: 99\r\n\r\n"
    ));
    let response = wire.response();
    assert_eq!((response.status(), response.text().as_str(), response.whole), (200, "ok", true));
    assert_eq!(response.trailers.one("x-sum"), Some("7"));
    assert_eq!(response.trailers.names(), ["x-sum"], "hop-by-hop and our own names are removed");
    let received = upstream.only();
    assert_eq!(received.trailers.one("x-check"), Some("1"));
    assert_eq!(received.trailers.names(), ["x-check"], "{}", received.text());
}

#[test]
fn a_response_that_is_no_http_is_a_bad_gateway_and_no_secret_leaks_with_it() {
    let cases: &[&'static str] = &[
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
        "HTTP/1.1 99 X\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    ];
    for case in cases {
        let upstream = Upstream::scripted(move |exchange| {
            exchange.read_body()?;
            exchange.send(case)?;
            Ok(false)
        });
        let (gateway, token) = start(&upstream);
        let response = gateway.call("GET", "/materials/mp/x").token(&token).expect(502);
        assert!(response.problem().is_some_and(|problem| problem.starts_with("upstream-")), "{case:?}");
        assert!(!response.text().contains("garbage"), "the upstream's bytes are not shown");
    }
}

#[test]
fn both_content_length_and_chunked_from_an_upstream_are_read_as_chunked_or_refused() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.send(
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        )?;
        Ok(true)
    });
    let (gateway, token) = start(&upstream);
    let response = gateway.call("GET", "/materials/mp/x").token(&token).send();
    match response.status() {
        200 => {
            assert_eq!(response.text(), "hello");
            assert_eq!(
                response.head.headers.all("content-length").len()
                    + response.head.headers.all("transfer-encoding").len(),
                1
            );
        }
        status => assert_eq!(status, 502),
    }
}

#[test]
fn what_an_upstream_sends_after_its_answer_reaches_no_other_caller() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        if exchange.received.head.target() == "/first" {
            exchange.send(
                "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
            )?;
            Ok(true)
        } else {
            exchange.answer("200 OK", &[], "second")
        }
    });
    let (gateway, token) = start(&upstream);
    assert_eq!(gateway.call("GET", "/materials/mp/first").token(&token).expect(200).text(), "ok");
    for _ in 0..5 {
        let response = gateway.call("GET", "/materials/mp/second").token(&token).send();
        assert!(!response.text().contains("poison"), "{}", response.text());
    }
}

#[test]
fn a_connection_whose_request_was_not_read_to_its_end_is_not_used_again() {
    // The upstream answers before the body and says keep-alive: the rest of the body would be read as a request.
    let upstream = Upstream::scripted(|exchange| {
        if exchange.received.head.method() == "POST" {
            exchange.tell();
            exchange.answer("413 Payload Too Large", &[], "no")?;
            exchange.until_closed()?;
            return Ok(false);
        }
        exchange.answer("200 OK", &[], "fresh")
    });
    let (gateway, token) = start(&upstream);
    let mut wire = gateway.wire();
    wire.send(format!(
        "POST /materials/mp/x HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\nContent-Length: 1000\r\n\r\nGET /poison HTTP/1.1\r\n\r\n"
    ));
    let response = wire.response();
    assert_eq!((response.status(), response.text().as_str()), (413, "no"));
    drop(wire);
    assert_eq!(gateway.call("GET", "/materials/mp/y").token(&token).expect(200).text(), "fresh");
    let connections: Vec<usize> = upstream.received().iter().map(|received| received.connection).collect();
    assert_eq!(connections, [1, 2]);
    upstream.wait_until_closed(1);
}

#[test]
fn a_tunnel_opens_only_after_the_upstreams_101_and_only_when_it_was_asked_for() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.tell();
        if exchange.received.head.target() == "/no" {
            return exchange.answer("200 OK", &[], "no tunnel");
        }
        exchange.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly")?;
        loop {
            let bytes = exchange.some()?;
            if bytes.is_empty() {
                return Ok(false);
            }
            exchange.send(bytes)?;
        }
    });
    let (gateway, token) = start(&upstream);
    let ask = |target: &str| {
        let mut wire = gateway.wire();
        wire.send(format!(
            "GET {target} HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
        ));
        wire
    };
    let mut tunnel = ask("/materials/mp/yes");
    let head = tunnel.head();
    assert_eq!(head.status(), 101);
    assert_eq!(head.headers.one("upgrade"), Some("echo"));
    assert_eq!(tunnel.exactly(5), b"early");
    let inside = "GET /materials/mp/smuggled HTTP/1.1\r\n\r\n";
    assert_eq!(tunnel.send(inside).exactly(inside.len()), inside.as_bytes());
    drop(tunnel);
    upstream.wait_until_closed(1);

    let mut refused = ask("/materials/mp/no");
    refused.send("GET /materials/mp/later HTTP/1.1\r\nHost: gw\r\n\r\n");
    let first = refused.response();
    assert_eq!((first.status(), first.text().as_str()), (200, "no tunnel"));
    assert_eq!(refused.response().status(), 401, "what follows is a request of its own, judged on its own");
    assert!(upstream.received().iter().all(|received| find(&received.head.raw, b"smuggled").is_none()));
}

#[test]
fn expect_100_continue_is_answered_only_to_who_may_send() {
    let upstream = Upstream::fixed("ok");
    let (gateway, token) = start(&upstream);
    let ask = |token: &str| {
        let mut wire = gateway.wire();
        wire.send(format!(
            "POST /materials/mp/x HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
        ));
        wire
    };
    let mut permitted = ask(&token);
    assert_eq!(permitted.head().status(), 100);
    assert_eq!(permitted.send("body").response().status(), 200);
    assert_eq!(upstream.only().body, b"body");
    let mut refused = ask(&gateway.token("bob"));
    assert_eq!(refused.head().status(), 403, "no interim answer first");
}

#[test]
fn a_head_that_never_ends_is_cut_off() {
    let upstream = Upstream::fixed("ok");
    let gateway = Gateway::with_service(&upstream.url(), "").config("[limits]\nheader_timeout = \"300ms\"").start();
    let mut wire = Wire::connect(gateway.proxy());
    wire.send("GET /materials/mp/x HTTP/1.1\r\nHost: gw\r\nX-Slow: ");
    wire.until_closed();
    assert!(upstream.received().is_empty());
    let mut idle = gateway.wire();
    assert!(!idle.stays_silent_for(Duration::from_secs(20)), "a connection that says nothing ends too");
}
