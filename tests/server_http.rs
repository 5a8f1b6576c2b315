//! The listener, judged by the bytes on its sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::future::pending;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use carta_gateway::batch::Runtime;
use carta_gateway::config::Limits;
use carta_gateway::server::{Admission, Peer, Serving, bind, serve};
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_secs(30);

fn limits() -> Limits {
    Limits {
        header_bytes: 16384,
        headers: 64,
        uri_bytes: 8192,
        body_bytes: None,
        api_body_bytes: 1024,
        changes: 1,
        change_each: None,
        connections: 100,
        h2_streams: 10,
        handshake_timeout: LONG,
        header_timeout: LONG,
        api_body_timeout: LONG,
        keep_alive: LONG,
    }
}

struct Server {
    addr: SocketAddr,
    stop: CancellationToken,
    events: mpsc::Receiver<&'static str>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn start(limits: Limits, drain: Duration) -> Self {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let admission = Admission::new(limits.connections);
        let serving = Serving { tls: None, limits, admission, access: false, drain, stop: stop.clone() };
        let (tell, events) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = Runtime::with_batches().unwrap();
            let handler = move |request, peer| handle(request, peer, tell.clone());
            runtime.block_on(serve(listener, serving, handler)).unwrap();
        });
        Self { addr, stop, events, thread: Some(thread) }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    fn exchange(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        stream.write_all(request).unwrap();
        rest(&mut stream)
    }

    fn event(&self) -> &'static str {
        self.events.recv_timeout(LONG).unwrap()
    }

    fn join(mut self) {
        self.thread.take().unwrap().join().unwrap();
    }
}

struct Told(mpsc::Sender<&'static str>, &'static str);

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.0.send(self.1);
    }
}

async fn handle(request: Request<Incoming>, peer: Peer, tell: mpsc::Sender<&'static str>) -> Response<Full<Bytes>> {
    match request.uri().path() {
        "/hang" => {
            let _told = Told(tell.clone(), "dropped");
            tell.send("hanging").unwrap();
            pending().await
        }
        "/echo" => {
            tell.send("echo").unwrap();
            let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
            Response::new(Full::new(body.unwrap_or_default()))
        }
        "/switch" => {
            let upgrade = hyper::upgrade::on(request);
            tokio::task::spawn_local(async move {
                let mut io = hyper_util::rt::TokioIo::new(upgrade.await.unwrap());
                let (mut reader, mut writer) = tokio::io::split(&mut io);
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
            Response::builder()
                .status(101)
                .header("connection", "upgrade")
                .header("upgrade", "echo")
                .body(Full::default())
                .unwrap()
        }
        path => Response::new(Full::from(format!("{path} {} {}", peer.addr.ip(), peer.tls))),
    }
}

/// Everything up to the end of the stream.
fn rest(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let outcome = stream.read_to_end(&mut text);
    assert!(
        !outcome.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
        "the connection stays open after {:?}",
        String::from_utf8_lossy(&text)
    );
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads until `end` has come.
fn until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with(end) {
        stream.read_exact(&mut byte).unwrap();
        text.push(char::from(byte[0]));
    }
    text
}

#[test]
fn requests_on_one_connection_are_answered_in_turn() {
    let server = Server::start(limits(), LONG);
    let mut stream = server.connect();
    for _ in 0..3 {
        stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let answer = until(&mut stream, "/a 127.0.0.1 false");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    stream.write_all(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    until(&mut stream, "/1 127.0.0.1 false");
    until(&mut stream, "/2 127.0.0.1 false");
}

#[test]
fn http_2_is_known_by_its_preface_even_in_pieces() {
    let server = Server::start(limits(), LONG);
    let mut stream = server.connect();
    stream.set_nodelay(true).unwrap();
    for piece in [&b"PRI * HT"[..], b"TP/2.0\r\n\r\nSM\r\n", b"\r\n\0\0\0\x04\0\0\0\0\0"] {
        stream.write_all(piece).unwrap();
    }
    let mut head = [0; 9];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[3], 4, "the server begins with SETTINGS: {head:?}");
}

#[test]
fn a_connection_that_begins_like_http_2_and_is_not_is_answered() {
    let server = Server::start(limits(), LONG);
    let answer = server.exchange(b"PRI /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[test]
fn bad_input_gets_a_clear_answer_and_the_server_lives_on() {
    let server = Server::start(limits(), LONG);
    let long_uri = format!("GET /{} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "a".repeat(9000));
    let long_head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "a".repeat(20000));
    let endless_head = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(70000));
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{}\r\n", "X: y\r\n".repeat(70));
    let too_many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200));
    let cases: &[(&str, &str)] = &[
        ("\x16\x03\x01\x02\x00\x01\x00\x01\x00\r\n\r\n", "400"),
        ("GET /\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nab", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nab", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", "400"),
        ("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nConnection: close\r\n\r\n", "400"),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n", "400"),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\nConnection: close\r\n\r\n", "405"),
        (&long_uri, "414"),
        (&long_head, "431"),
        (&endless_head, "431"),
        (&many, "431"),
        (&too_many, "431"),
    ];
    for (request, status) in cases {
        let answer = server.exchange(request.as_bytes());
        let shown: String = request.chars().take(60).collect();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{shown:?} gets {answer:?}");
    }
    let answer = server.exchange(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(answer.ends_with("/a 127.0.0.1 false"), "{answer}");
}

#[test]
fn a_refusal_whose_head_was_read_is_a_problem_with_a_request_id() {
    let server = Server::start(limits(), LONG);
    let answer = server.exchange(b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n");
    assert!(answer.contains("\r\ncontent-type: application/problem+json\r\n"), "{answer}");
    assert!(answer.contains("\r\ncarta-gateway: malformed-request\r\n"), "{answer}");
    let id = answer.split("\r\nx-request-id: ").nth(1).unwrap().split('\r').next().unwrap();
    assert_eq!(id.len(), 32);
    assert!(answer.contains(&format!("\"request_id\":\"{id}\"")), "{answer}");
}

#[test]
fn both_framings_at_once_are_read_as_chunked_and_end_the_connection() {
    let server = Server::start(limits(), LONG);
    let answer = server.exchange(
        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n\
          2\r\nhi\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    );
    assert!(answer.contains("\r\nconnection: close\r\n") && answer.ends_with("\r\n\r\nhi"), "{answer}");
}

#[test]
fn a_head_that_does_not_arrive_in_time_gets_408() {
    let server = Server::start(Limits { header_timeout: Duration::from_millis(200), ..limits() }, LONG);
    let mut stream = server.connect();
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n").unwrap();
    let answer = rest(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");

    let mut stream = server.connect();
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    until(&mut stream, "/a 127.0.0.1 false");
    stream.write_all(b"GET /b HTTP/1.1\r\n").unwrap();
    let answer = rest(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 408 "), "a later head: {answer}");
}

#[test]
fn a_connection_that_says_nothing_is_closed_without_a_word() {
    let limits =
        Limits { header_timeout: Duration::from_millis(100), keep_alive: Duration::from_millis(300), ..limits() };
    let server = Server::start(limits, LONG);
    assert_eq!(rest(&mut server.connect()), "");

    let mut stream = server.connect();
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    until(&mut stream, "/a 127.0.0.1 false");
    let begin = Instant::now();
    assert_eq!(rest(&mut stream), "", "kept alive, then closed");
    assert!(begin.elapsed() >= Duration::from_millis(250), "the header timeout does not govern idle connections");
}

#[test]
fn a_caller_that_leaves_cancels_its_request() {
    let server = Server::start(limits(), LONG);
    let mut stream = server.connect();
    stream.write_all(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(server.event(), "hanging");
    drop(stream);
    assert_eq!(server.event(), "dropped");
}

#[test]
fn draining_lets_the_request_in_flight_finish_and_closes_the_idle() {
    let server = Server::start(limits(), LONG);
    let mut fresh = server.connect();
    let mut idle = server.connect();
    idle.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    until(&mut idle, "/a 127.0.0.1 false");
    let mut busy = server.connect();
    busy.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab").unwrap();
    assert_eq!(server.event(), "echo");

    server.stop.cancel();
    assert_eq!(rest(&mut idle), "");
    assert_eq!(rest(&mut fresh), "");
    busy.write_all(b"cd").unwrap();
    let answer = rest(&mut busy);
    assert!(answer.contains("\r\nconnection: close\r\n") && answer.ends_with("abcd"), "{answer}");
    assert!(TcpStream::connect(server.addr).is_err(), "the listener is closed");
    server.join();
}

#[test]
fn a_request_that_outlasts_the_drain_is_dropped() {
    let server = Server::start(limits(), Duration::from_millis(100));
    let mut stream = server.connect();
    stream.write_all(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(server.event(), "hanging");
    server.stop.cancel();
    assert_eq!(server.event(), "dropped");
    assert_eq!(rest(&mut stream), "");
    server.join();
}

#[test]
fn an_answer_arrives_though_the_body_was_not_read() {
    let server = Server::start(limits(), LONG);
    for _ in 0..10 {
        let mut stream = server.connect();
        let size = 4 << 20;
        stream.write_all(format!("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n").as_bytes()).unwrap();
        stream.write_all(&vec![b'a'; size]).unwrap();
        let answer = until(&mut stream, "/a 127.0.0.1 false");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
}

#[test]
fn an_upgraded_connection_is_a_plain_stream_of_bytes() {
    let server = Server::start(limits(), LONG);
    let mut stream = server.connect();
    stream.write_all(b"GET /switch HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly ").unwrap();
    let answer = until(&mut stream, "\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    stream.write_all(b"late.").unwrap();
    assert_eq!(until(&mut stream, "."), "early late.");
}

#[test]
fn a_caller_beyond_the_limit_is_told_so() {
    let server = Server::start(Limits { connections: 1, ..limits() }, LONG);
    let mut first = server.connect();
    first.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    until(&mut first, "/a 127.0.0.1 false");
    let answer = server.exchange(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        answer.contains("carta-gateway: too-many-connections\r\n") && answer.contains("retry-after: 1\r\n"),
        "{answer}"
    );
    first.write_all(b"GET /b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    assert!(rest(&mut first).ends_with("/b 127.0.0.1 false"));
}

#[test]
fn a_caller_that_takes_no_bytes_is_let_go() {
    // The answer is larger than what the kernel holds for both ends.
    let server = Server::start(Limits { keep_alive: Duration::from_millis(300), ..limits() }, LONG);
    let mut stream = server.connect();
    let size = 32 << 20;
    stream.write_all(format!("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {size}\r\n\r\n").as_bytes()).unwrap();
    stream.write_all(&vec![b'a'; size]).unwrap();
    assert_eq!(server.event(), "echo");
    server.stop.cancel();
    // With the drain time as long as it is, the server ends only by letting go.
    server.thread.unwrap().join().unwrap();
}

#[test]
fn an_upgraded_connection_keeps_its_place() {
    let server = Server::start(Limits { connections: 1, ..limits() }, LONG);
    let mut first = server.connect();
    first.write_all(b"GET /switch HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nx.").unwrap();
    until(&mut first, "x.");
    let answer = server.exchange(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}
