//! Bodies in both directions: never held whole, seen as they come, ended when either side ends.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may stop on the spot")]

#[path = "../support/mod.rs"]
mod support;

mod breaks;
mod http2;

use std::time::{Duration, Instant};

use support::{Gateway, PATIENCE, Upstream};

const MIB: u64 = 1024 * 1024;

fn start(upstream: &Upstream, lines: &str) -> (Gateway, String) {
    let gateway = Gateway::with_service(&upstream.url(), lines).start();
    let token = gateway.token("alice");
    (gateway, token)
}

#[test]
fn an_upload_of_two_gigabytes_takes_constant_memory() {
    let upstream = Upstream::scripted(|exchange| {
        let count = exchange.count_body()?;
        exchange.answer("200 OK", &[], count.to_string())
    });
    let (gateway, token) = start(&upstream, "");
    let before = gateway.peak_memory();
    let total = 2048 * MIB;
    for framing in [format!("Content-Length: {total}"), "Transfer-Encoding: chunked".to_owned()] {
        let mut wire = gateway.wire();
        wire.send(format!(
            "PUT /materials/mp/x HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\n{framing}\r\n\r\n"
        ));
        let chunked = framing.starts_with('T');
        // Half of it chunk by chunk is as telling, and quicker in a debug build.
        let (piece, count) = (vec![b'x'; MIB as usize], if chunked { 1024 } else { 2048 });
        for _ in 0..count {
            if chunked {
                wire.send("100000\r\n").send(&piece).send("\r\n");
            } else {
                wire.send(&piece);
            }
        }
        if chunked {
            wire.send("0\r\n\r\n");
        }
        assert_eq!(wire.response().text(), (count * MIB).to_string());
    }
    let grown = gateway.peak_memory() - before;
    assert!(grown < 32 * MIB, "the gateway grew by {} MiB", grown / MIB);
}

#[test]
fn an_endless_download_takes_constant_memory_even_when_nobody_reads() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.tell();
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        let piece = [b"100000\r\n".as_slice(), &vec![b'x'; MIB as usize], b"\r\n"].concat();
        loop {
            exchange.send(&piece)?;
        }
    });
    let (gateway, token) = start(&upstream, "");
    let before = gateway.peak_memory();
    let mut reader = gateway.call("GET", "/materials/mp/x").token(&token).open();
    assert_eq!(reader.head().status(), 200);
    reader.exactly(256 * MIB as usize);
    let mut silent = gateway.call("GET", "/materials/mp/x").token(&token).open();
    assert_eq!(silent.head().status(), 200);
    reader.exactly(64 * MIB as usize);
    let grown = gateway.peak_memory() - before;
    assert!(grown < 32 * MIB, "the gateway grew by {} MiB", grown / MIB);
    drop((reader, silent));
    upstream.wait_until_closed(1);
    upstream.wait_until_closed(2);
}

#[test]
fn each_event_of_an_endless_stream_is_seen_before_the_next_is_sent() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::scripted(move |exchange| {
        exchange.tell();
        exchange.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for number in 0.. {
            let event = format!("data: {number}\n\n");
            exchange.send(format!("{:x}\r\n{event}\r\n", event.len()))?;
            if wait.lock().unwrap().recv().is_err() {
                return Ok(false);
            }
        }
        Ok(false)
    });
    let (gateway, token) = start(&upstream, "");
    let mut events = gateway.call("GET", "/materials/mp/events").token(&token).open();
    for number in 0..50 {
        // The upstream sends the next only after this one was seen here: a buffer anywhere would end the test.
        events.until(format!("data: {number}\n\n"));
        go.send(()).unwrap();
    }
}

#[test]
fn the_upstream_sees_the_beginning_of_a_body_whose_end_is_not_sent_yet() {
    let upstream = Upstream::scripted(|exchange| {
        let first = exchange.some()?;
        exchange.tell();
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nseen\r\n")?;
        assert!(String::from_utf8_lossy(&first).contains("begin"));
        while !String::from_utf8_lossy(&exchange.some()?).contains("end") {}
        exchange.send("4\r\ndone\r\n0\r\n\r\n")?;
        Ok(false)
    });
    let (gateway, token) = start(&upstream, "");
    let mut wire = gateway.wire();
    wire.send(format!(
        "POST /materials/mp/x HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbegin\r\n"
    ));
    assert_eq!(wire.head().status(), 200);
    wire.until("seen");
    wire.send("3\r\nend\r\n0\r\n\r\n");
    wire.until("done");
}

#[test]
fn a_caller_who_goes_away_cancels_the_upstreams_work() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.tell();
        if exchange.received.head.target() == "/streaming" {
            exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")?;
        }
        exchange.until_closed()?;
        Ok(false)
    });
    let (gateway, token) = start(&upstream, "");
    let waiting = gateway.call("GET", "/materials/mp/waiting").token(&token).open();
    upstream.wait_for(1);
    drop(waiting);
    upstream.wait_until_closed(1);
    let mut streaming = gateway.call("GET", "/materials/mp/streaming").token(&token).open();
    streaming.until("1\r\nx\r\n");
    drop(streaming);
    upstream.wait_until_closed(2);
}

#[test]
fn each_timeout_is_a_problem_of_its_own() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.tell();
        match exchange.received.head.target() {
            "/first-byte" => exchange.until_closed()?,
            "/idle" => {
                exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")?;
                exchange.until_closed()?;
            }
            "/total" => {
                exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
                loop {
                    exchange.send("1\r\nx\r\n")?;
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            _ => {
                exchange.answer("200 OK", &[], "ok")?;
            }
        }
        Ok(true)
    });
    let (silent, _full) = silent_listener();
    let url = upstream.url();
    let service = |name: &str, timeouts: &str| (name.to_owned(), format!("timeouts = {{ {timeouts} }}"));
    let mut builder = Gateway::builder();
    for (name, lines) in [
        service("first", "first_byte = \"300ms\""),
        service("idle", "idle = \"300ms\""),
        service("total", "total = \"600ms\", idle = \"10s\""),
    ] {
        builder = builder.service("materials", &name, &url, &lines);
    }
    let gateway = builder
        .service("materials", "gone", "http://127.0.0.1:9", "")
        .service("materials", "silent", &format!("http://{silent}"), "timeouts = { connect = \"300ms\" }")
        .start();
    let token = gateway.token(support::gateway::OWNER);
    let call = |target: &str| gateway.call("GET", target).token(&token);

    let late = call("/materials/first/first-byte").expect(504);
    assert_eq!(late.problem(), Some("upstream-timeout"));
    let start = Instant::now();
    let idle = call("/materials/idle/idle").send();
    assert_eq!((idle.status(), idle.whole), (200, false), "what has begun can only break off");
    let total = call("/materials/total/total").send();
    assert_eq!((total.status(), total.whole), (200, false));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
    let gone = call("/materials/gone/x").expect(502);
    assert_eq!(gone.problem(), Some("upstream-unreachable"));
    let silent = call("/materials/silent/x").expect(504);
    assert_eq!(silent.problem(), Some("upstream-connect-timeout"));
    call("/materials/first/fine").expect(200);
}

/// A listener that takes no more connections and refuses none: its queue is full.
fn silent_listener() -> (std::net::SocketAddr, Vec<socket2::Socket>) {
    let socket = || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let listener = socket();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut open = vec![listener];
    for _ in 0..4 {
        let caller = socket();
        caller.set_nonblocking(true).unwrap();
        caller.connect(&address.into()).ok();
        open.push(caller);
    }
    (address, open)
}

#[test]
fn a_caller_who_stops_in_the_middle_of_a_body_does_not_hold_the_upstream_for_ever() {
    let upstream = Upstream::fixed("ok");
    let (gateway, token) = start(&upstream, "timeouts = { idle = \"500ms\", first_byte = \"0\" }");
    let mut wire = gateway.wire();
    wire.send(format!(
        "POST /materials/mp/x HTTP/1.1\r\nHost: gw\r\nAuthorization: Bearer {token}\r\nContent-Length: 10\r\n\r\nhalf"
    ));
    let answer = wire.try_response();
    assert!(answer.is_none_or(|answer| matches!(answer.status(), 408 | 504)), "it ends, one way or the other");
    upstream.wait_until_closed(1);
    assert!(!upstream.only().whole);
}

#[test]
fn a_request_in_flight_finishes_after_sigterm_and_no_new_one_is_taken() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let upstream = Upstream::scripted(move |exchange| {
        exchange.read_body()?;
        wait.lock().unwrap().recv().ok();
        exchange.answer("200 OK", &[], "finished")
    });
    let (gateway, token) = start(&upstream, "");
    let mut flight = gateway.call("GET", "/materials/mp/x").token(&token).open();
    upstream.wait_for(1);
    gateway.signal("TERM");
    support::eventually("the listener is closed", support::PATIENCE, || {
        std::net::TcpStream::connect(gateway.proxy()).is_err().then_some(())
    });
    go.send(()).unwrap();
    let response = flight.response();
    assert_eq!((response.status(), response.text().as_str()), (200, "finished"));
    assert_eq!(gateway.wait_for_end(), Some(0));
}

/// A WebSocket that is open, and what the test says when it may end.
fn tunnel(upstream: &Upstream, listen: &str) -> (Gateway, support::Wire) {
    let gateway = Gateway::with_service(&upstream.url(), "").listen(listen).start();
    let token = gateway.token("alice");
    let ask = gateway.call("GET", "/materials/mp/ws").token(&token);
    let mut wire = ask.header("Connection", "Upgrade").header("Upgrade", "websocket").open();
    assert_eq!(wire.head().status(), 101);
    wire.send("one").until("one");
    gateway.signal("TERM");
    support::eventually("the listener is closed", support::PATIENCE, || {
        std::net::TcpStream::connect(gateway.proxy()).is_err().then_some(())
    });
    (gateway, wire)
}

/// Switches protocols, and then sends back what comes.
fn parrot() -> Upstream {
    Upstream::scripted(|exchange| {
        exchange.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")?;
        loop {
            let bytes = exchange.some()?;
            if bytes.is_empty() {
                return Ok(false);
            }
            exchange.send(bytes)?;
        }
    })
}

#[test]
fn a_websocket_goes_on_after_sigterm_and_the_gateway_ends_with_it() {
    let upstream = parrot();
    let (gateway, mut wire) = tunnel(&upstream, "drain = \"5m\"");
    for _ in 0..20 {
        wire.send("still here").until("still here");
    }
    assert_eq!(gateway.ended(), None, "the tunnel is waited for");
    wire.finish_sending();
    assert_eq!(wire.until_closed(), b"");
    assert_eq!(gateway.wait_for_end(), Some(0));
}

#[test]
fn a_websocket_that_outlasts_the_drain_is_cut() {
    let upstream = parrot();
    let (gateway, mut wire) = tunnel(&upstream, "drain = \"1s\"");
    assert_eq!(gateway.wait_for_end(), Some(0));
    assert_eq!(wire.until_closed(), b"");
}

#[test]
fn a_second_signal_ends_at_once_what_still_drains() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.until_closed()?;
        Ok(false)
    });
    let gateway = Gateway::with_service(&upstream.url(), "").listen("drain = \"1h\"").start();
    let token = gateway.token("alice");
    let _flight = gateway.call("GET", "/materials/mp/x").token(&token).open();
    upstream.wait_for(1);
    gateway.signal("TERM");
    support::eventually("it drains", support::PATIENCE, || gateway.log().contains("draining").then_some(()));
    assert_eq!(gateway.ended(), None, "a request is in flight");
    gateway.signal("TERM");
    assert_eq!(gateway.wait_for_end(), Some(0));
}

#[test]
fn an_idle_connection_that_the_upstream_closed_is_not_an_error_of_the_next_call() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.answer("200 OK", &[], "ok")?;
        Ok(false)
    });
    let (gateway, token) = start(&upstream, "");
    for number in 1..=30 {
        gateway.call("GET", &format!("/materials/mp/{number}")).token(&token).expect(200);
        // Else the next call may be on its way before the end is.
        upstream.wait_until_closed(number);
    }
    assert_eq!(upstream.received().len(), 30);
}

#[test]
fn connections_to_an_upstream_are_used_again() {
    let upstream = Upstream::fixed("ok");
    let (gateway, token) = {
        let gateway = Gateway::with_service(&upstream.url(), "").listen("workers = 1").start();
        let token = gateway.token("alice");
        (gateway, token)
    };
    for _ in 0..20 {
        gateway.call("GET", "/materials/mp/x").token(&token).expect(200);
    }
    assert_eq!(upstream.connections(), 1);
}
