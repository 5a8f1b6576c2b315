//! Bodies over HTTP/2.

use super::support::frames::{DATA, END_STREAM, INITIAL_WINDOW_SIZE, RST_STREAM, WINDOW_UPDATE};
use super::support::{Frames, Gateway, Upstream};
use super::{MIB, start};

const TOTAL: u64 = 256 * MIB;

#[test]
fn an_upload_over_http_2_takes_constant_memory() {
    let upstream = Upstream::scripted(|exchange| {
        let count = exchange.count_body()?;
        exchange.answer("200 OK", &[], count.to_string())
    });
    let (gateway, token) = start(&upstream, "");
    let before = gateway.peak_memory();
    let mut caller = Frames::connect(gateway.proxy(), &[]);
    caller.request(1, "/materials/mp/x", &[("authorization", &format!("Bearer {token}"))], true);
    let piece = vec![b'x'; 16 * 1024];
    // Beyond what the settings say, and beyond 65,535 bytes (RFC 9113 §6.9.2), come updates.
    let (mut stream, mut connection, mut sent) = (0, 65_535, 0);
    while sent < TOTAL {
        while (stream + u64::from(caller.initial_window)).min(connection) < sent + piece.len() as u64 {
            let frame = caller.next_of_any().expect("the gateway takes the upload");
            if frame.kind == WINDOW_UPDATE {
                let more = frame.payload.iter().fold(0, |sum, byte| (sum << 8) | u64::from(*byte));
                *if frame.stream == 0 { &mut connection } else { &mut stream } += more;
            }
        }
        sent += piece.len() as u64;
        caller.send(DATA, if sent == TOTAL { END_STREAM } else { 0 }, 1, &piece);
    }
    assert_eq!(caller.until(DATA).payload, TOTAL.to_string().as_bytes());
    let grown = gateway.peak_memory() - before;
    assert!(grown < 32 * MIB, "the gateway grew by {} MiB", grown / MIB);
}

#[test]
fn a_download_over_http_2_takes_constant_memory_however_fast_it_comes() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\n\r\n"))?;
        let piece = vec![b'x'; MIB as usize];
        for _ in 0..TOTAL / MIB {
            exchange.send(&piece)?;
        }
        Ok(true)
    });
    let (gateway, token) = start(&upstream, "");
    let before = gateway.peak_memory();
    let mut caller = Frames::connect(gateway.proxy(), &[]);
    caller.request(1, "/materials/mp/x", &[("authorization", &format!("Bearer {token}"))], false);
    let mut came = 0;
    while came < TOTAL {
        let frame = caller.until(DATA);
        came += frame.payload.len() as u64;
        if !frame.payload.is_empty() && !frame.ends() {
            caller.give_window(1, u32::try_from(frame.payload.len()).unwrap());
        }
    }
    assert_eq!(came, TOTAL);
    let grown = gateway.peak_memory() - before;
    assert!(grown < 32 * MIB, "the gateway grew by {} MiB", grown / MIB);
}

#[test]
fn a_caller_that_gives_no_window_does_not_hold_the_upstreams_connection() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.tell();
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        loop {
            exchange.send("5\r\nhello\r\n")?;
        }
    });
    let gateway = Gateway::with_service(&upstream.url(), "").config("[limits]\nkeep_alive = \"200ms\"").start();
    let token = gateway.token("alice");
    let mut caller = Frames::connect(gateway.proxy(), &[(INITIAL_WINDOW_SIZE, 0)]);
    caller.request(1, "/materials/mp/x", &[("authorization", &format!("Bearer {token}"))], false);
    upstream.wait_until_closed(1);
    assert_eq!(caller.rest().last().map(|frame| frame.kind), Some(RST_STREAM));
}
