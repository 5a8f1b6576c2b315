//! What breaks off never looks whole, in either version and in either direction.

use super::support::frames::{self, DATA, RST_STREAM};
use super::support::{Frames, Gateway, Upstream, eventually};
use super::{PATIENCE, start};

/// Each way in which an HTTP/1.1 upstream may break off, and what of the body came before.
const CUTS: [(&str, &str); 6] = [
    ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n", ""),
    ("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf", "half"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ""),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "half"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nhalf", "half"),
    ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n", "half"),
];

/// What the access lines say of the answers so far, once there are `count`: whether they were whole.
fn told(gateway: &Gateway, count: usize) -> Vec<bool> {
    eventually("the access lines", PATIENCE, || {
        let log = gateway.log();
        let told: Vec<_> =
            log.lines().filter(|line| line.contains("complete=")).map(|line| line.contains("complete=true")).collect();
        (told.len() >= count).then_some(told)
    })
}

fn cut_upstream() -> Upstream {
    Upstream::scripted(|exchange| {
        exchange.read_body()?;
        let number: usize = exchange.received.head.target()[1..].parse().unwrap();
        exchange.send(CUTS[number].0)?;
        Ok(false)
    })
}

#[test]
fn an_upstream_that_breaks_off_is_not_taken_for_one_that_finished() {
    let upstream = cut_upstream();
    let (gateway, token) = start(&upstream, "");
    for (number, (cut, came)) in CUTS.iter().enumerate() {
        let mut caller = gateway.call("GET", &format!("/materials/mp/{number}")).token(&token).open();
        // Where nothing but the head came the connection may end without it.
        let Some(response) = caller.try_response() else {
            assert_eq!(*came, "", "{cut:?}");
            continue;
        };
        assert!(!response.whole, "{cut:?}: {:?}", response.text());
        assert_eq!((response.status(), response.text().as_str()), (200, *came), "{cut:?}");
    }
    assert_eq!(told(&gateway, CUTS.len()), [false; CUTS.len()]);
}

#[test]
fn an_upstream_that_breaks_off_resets_the_callers_http_2_stream() {
    let upstream = cut_upstream();
    let (gateway, token) = start(&upstream, "");
    let mut caller = Frames::connect(gateway.proxy(), &[]);
    let authorization = format!("Bearer {token}");
    for number in 0..CUTS.len() {
        let stream = u32::try_from(2 * number + 1).unwrap();
        caller.request(stream, &format!("/materials/mp/{number}"), &[("authorization", &authorization)], false);
        let frames = caller.rest();
        assert!(frames.iter().all(|frame| !frame.ends() && frame.stream == stream), "{number}: {frames:?}");
        assert_eq!(frames.last().map(|frame| frame.kind), Some(RST_STREAM), "{number}: {frames:?}");
        assert_ne!(frames.last().unwrap().payload, 0_u32.to_be_bytes(), "{number}: a reason that is an error");
    }
    assert_eq!(told(&gateway, CUTS.len()), [false; CUTS.len()]);
}

#[test]
fn an_http_2_upstream_that_resets_its_answer_is_not_taken_for_one_that_finished() {
    // Without an error, cancelled, and refused; right after the head, and after a piece.
    const CASES: [(u32, &str); 6] = [(0, ""), (0, "half"), (8, ""), (8, "half"), (2, ""), (2, "half")];
    let upstream = Frames::listen(|frames| {
        let mut number = 0;
        while let Some(frame) = frames.next() {
            if frame.kind != frames::HEADERS {
                continue;
            }
            let (reason, came) = CASES[number % CASES.len()];
            number += 1;
            frames.ok(frame.stream);
            if !came.is_empty() {
                frames.send(DATA, 0, frame.stream, came.as_bytes());
            }
            frames.reset(frame.stream, reason);
        }
    });
    let gateway = Gateway::with_service(&format!("http://{upstream}"), "tls = { protocol = \"http2\" }").start();
    let token = gateway.token("alice");
    for case in CASES {
        let mut caller = gateway.call("GET", "/materials/mp/x").token(&token).open();
        let whole = caller.try_response().is_some_and(|response| response.whole && response.status() == 200);
        assert!(!whole, "{case:?}");
    }
    let mut caller = Frames::connect(gateway.proxy(), &[]);
    for (number, case) in CASES.into_iter().enumerate() {
        let stream = u32::try_from(2 * number + 1).unwrap();
        let authorization = format!("Bearer {token}");
        caller.request(stream, "/materials/mp/x", &[("authorization", &authorization)], false);
        let frames = caller.rest();
        let refused = frames.first().is_some_and(|head| !head.payload.starts_with(&frames::STATUS_200));
        assert!(refused || frames.last().map(|frame| frame.kind) == Some(RST_STREAM), "{case:?}: {frames:?}");
    }
}

#[test]
fn an_upload_that_its_caller_resets_is_not_taken_for_one_that_finished() {
    for reason in [0, 8] {
        let upstream = Upstream::scripted(|exchange| {
            let first = exchange.some()?;
            assert!(String::from_utf8_lossy(&first).contains("half"));
            exchange.tell();
            let mut all = Vec::new();
            loop {
                let more = exchange.some()?;
                if more.is_empty() {
                    break;
                }
                all.extend_from_slice(&more);
            }
            assert!(!String::from_utf8_lossy(&all).contains("0\r\n\r\n"), "it looks whole");
            exchange.received.whole = false;
            Ok(false)
        });
        let (gateway, token) = start(&upstream, "");
        let mut caller = Frames::connect(gateway.proxy(), &[]);
        caller.request(1, "/materials/mp/x", &[("authorization", &format!("Bearer {token}"))], true);
        caller.send(DATA, 0, 1, b"half");
        upstream.wait_for(1);
        caller.reset(1, reason);
        upstream.wait_until_closed(1);
    }
}

#[test]
fn a_body_that_ends_with_the_connection_arrives_whole() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.send("HTTP/1.1 200 OK\r\n\r\nuntil the end")?;
        Ok(false)
    });
    let (gateway, token) = start(&upstream, "");
    let response = gateway.call("GET", "/materials/mp/x").token(&token).send();
    assert_eq!((response.text().as_str(), response.whole), ("until the end", true));
    assert_eq!(told(&gateway, 1), [true]);
}

#[test]
fn an_answer_that_says_to_be_short_and_drips_ends_with_its_permit() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.tell();
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")?;
        loop {
            exchange.send("x")?;
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    });
    let (gateway, token) = start(&upstream, "");
    let mut caller = gateway.call("GET", "/materials/mp/x").token(&token).open();
    caller.until("\r\n\r\nx");
    gateway.run(&["revoke", "alice", "materials.mp", "execute"]).done();
    upstream.wait_until_closed(1);
    assert!(caller.until_closed().len() < 59_999);
    assert!(gateway.log().contains("problem=\"permission-denied\" status=200"), "{}", gateway.log());
}
