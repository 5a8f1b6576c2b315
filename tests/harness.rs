//! The test support judged by itself: what the black-box tests stand on must not bend.

mod support;

use std::net::SocketAddr;

use support::message::Framing;
use support::tls::Authority;
use support::{Ask, Upstream, Wire};

#[test]
fn the_upstream_records_the_bytes_exactly_as_they_were_sent() {
    let upstream = Upstream::fixed("hello");
    let sent = b"PUT /a%2Fb?x=1&&y#z HTTP/1.1\r\nhOsT:  x\r\nX_Odd: \xe9\r\nTransfer-Encoding: chunked\r\n\r\n\
                 3;ext=1\r\nabc\r\n0\r\nT: 1\r\n\r\n";
    let response = Wire::connect(upstream.address()).send(sent).response();
    assert_eq!((response.status(), response.text().as_str()), (200, "hello"));
    let received = upstream.only();
    assert_eq!([&received.head.raw[..], &received.raw_body].concat(), sent);
    assert_eq!((received.body.as_slice(), received.whole), (&b"abc"[..], true));
    assert_eq!(received.trailers.one("t"), Some("1"));
    assert_eq!(received.head.target(), "/a%2Fb?x=1&&y#z");
    assert_eq!(received.head.headers.0[1], ("X_Odd".to_owned(), "\u{e9}".to_owned()));
}

#[test]
fn requests_on_one_connection_are_told_from_requests_on_two() {
    let upstream = Upstream::fixed("");
    let mut wire = Wire::connect(upstream.address());
    for _ in 0..2 {
        wire.send("GET / HTTP/1.1\r\n\r\n").response();
    }
    ask(upstream.address()).expect(200);
    let connections: Vec<usize> = upstream.received().iter().map(|received| received.connection).collect();
    assert_eq!((connections, upstream.connections()), (vec![1, 1, 2], 2));
}

#[test]
fn a_body_cut_short_is_not_taken_for_a_whole_one() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")?;
        Ok(false)
    });
    let response = ask(upstream.address()).expect(200);
    assert_eq!((response.text().as_str(), response.whole), ("half", false));
    Wire::connect(upstream.address()).send("PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nx").finish_sending();
    let received = upstream.wait_for(2).pop().unwrap();
    assert_eq!(
        (received.body.as_slice(), received.whole, received.head.framing()),
        (&b"x"[..], false, Framing::Length(3))
    );
}

#[test]
fn tls_of_a_test_authority_works_between_both_ends() {
    let authority = Authority::new();
    let server = authority.certify(&["localhost", "127.0.0.1"]).server();
    let upstream = Upstream::wrapped(server, |exchange| exchange.answer("200 OK", &[], "sealed"));
    let mut wire = Wire::connect(upstream.address()).wrapped(authority.client("localhost", &[]));
    assert_eq!(wire.send("GET / HTTP/1.1\r\n\r\n").response().text(), "sealed");
}

#[test]
fn two_claims_never_share_a_port() {
    let ports: Vec<_> = (0..50).map(|_| support::ports::claim()).collect();
    let mut numbers: Vec<u16> = ports.iter().map(|port| port.number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 50);
}

fn ask(to: SocketAddr) -> Ask {
    Ask::new(to, "GET", "/")
}
