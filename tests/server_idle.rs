//! HTTP/1 connections on which nothing is asked for a while: what they hold, and that they are connections as before.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use carta_gateway::batch::Runtime;
use carta_gateway::config::Limits;
use carta_gateway::server::{Admission, Peer, Serving, bind, serve};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_secs(60);

/// How many connections are idle at a time.
const MANY: usize = 50;

/// What each may hold on the heap; with hyper's buffers alone it would be more than twice as much.
const HELD: i64 = 6 * 1024;

fn limits() -> Limits {
    Limits {
        header_bytes: 16384,
        headers: 64,
        uri_bytes: 8192,
        body_bytes: None,
        api_body_bytes: 1024,
        changes: 1,
        change_each: None,
        connections: 2 * MANY,
        h2_streams: 10,
        handshake_timeout: LONG,
        header_timeout: LONG,
        api_body_timeout: LONG,
        keep_alive: LONG,
    }
}

/// A server on this thread, whose memory is counted; callers are on others.
struct Server {
    runtime: Runtime,
    addr: SocketAddr,
    stop: CancellationToken,
    held: i64,
}

impl Server {
    fn start(limits: Limits) -> Self {
        let runtime = Runtime::with_batches().unwrap();
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let admission = Admission::new(limits.connections);
        let serving = Serving { tls: None, limits, admission, access: false, drain: LONG, stop: stop.clone() };
        let unread = Rc::default();
        let mut server = Self { runtime, addr, stop, held: 0 };
        server.run(async move {
            tokio::task::spawn_local(serve(listener, serving, move |request, peer| {
                handle(request, peer, Rc::clone(&unread))
            }));
        });
        server
    }

    fn run<T>(&mut self, future: impl Future<Output = T>) -> T {
        let mut output = None;
        let info = allocation_counter::measure(|| output = Some(self.runtime.block_on(future)));
        self.held += info.bytes_current;
        output.unwrap()
    }

    /// Serves while `call` runs on another thread.
    fn meanwhile<T: Send + 'static>(&mut self, call: impl FnOnce(SocketAddr) -> T + Send + 'static) -> T {
        let (done, wait) = oneshot::channel();
        let addr = self.addr;
        let caller = std::thread::spawn(move || {
            let outcome = call(addr);
            let _ = done.send(());
            outcome
        });
        // Fails where the caller panicked, which joining tells.
        let _ = self.run(wait);
        caller.join().unwrap()
    }

    /// Opens connections with `open`, and waits until each holds no more than [`HELD`].
    fn idle(&mut self, open: fn(SocketAddr) -> TcpStream) -> Vec<TcpStream> {
        // What the first connection makes for all of them is none of theirs.
        drop(self.meanwhile(open));
        let before = self.held;
        let streams = self.meanwhile(move |addr| (0..MANY).map(|_| open(addr)).collect::<Vec<_>>());
        let begin = Instant::now();
        let each = |held: i64| (held - before) / i64::try_from(MANY).unwrap();
        while each(self.held) > HELD {
            assert!(begin.elapsed() < LONG, "each connection holds {} bytes", each(self.held));
            self.run(async { tokio::time::sleep(Duration::from_millis(20)).await });
        }
        streams
    }
}

/// Has much to remember while it answers, and does not read all of some bodies.
async fn handle(request: Request<Incoming>, _: Peer, unread: Rc<RefCell<Vec<Incoming>>>) -> Response<Full<Bytes>> {
    let room = [request.uri().path().len(); 2048];
    tokio::task::yield_now().await;
    let answer = Response::new(Full::from(format!("{} {}!", request.uri().path(), room[0])));
    unread.borrow_mut().push(request.into_body());
    answer
}

fn connect(addr: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
}

fn asked_once(addr: SocketAddr) -> TcpStream {
    let mut stream = connect(addr);
    ask(&mut stream);
    stream
}

fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    let answer = until(stream, "!");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("/a 2!"), "{answer}");
}

/// Reads until `end` has come.
fn until(stream: &mut TcpStream, end: &str) -> String {
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.ends_with(end) {
        stream.read_exact(&mut byte).unwrap();
        text.push(char::from(byte[0]));
    }
    text
}

/// Everything up to the end of the stream.
fn rest(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_connection_that_was_never_asked_anything_holds_next_to_nothing() {
    Server::start(limits()).idle(connect);
}

#[test]
fn an_idle_connection_gives_back_what_its_call_needed_and_answers_the_next() {
    let mut server = Server::start(limits());
    let mut streams = server.idle(asked_once);
    server.meanwhile(move |_| {
        for stream in &mut streams {
            ask(stream);
            ask(stream);
        }
    });
}

#[test]
fn a_head_that_ends_an_idle_time_must_arrive_in_time() {
    let mut server = Server::start(Limits { header_timeout: Duration::from_millis(300), ..limits() });
    let mut stream = server.idle(asked_once).pop().unwrap();
    let answer = server.meanwhile(move |_| {
        stream.write_all(b"GET /a HTTP/1.1\r\n").unwrap();
        rest(&mut stream)
    });
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
}

#[test]
fn an_idle_connection_is_closed_after_the_keep_alive_time_and_when_draining() {
    let mut server = Server::start(Limits { keep_alive: Duration::from_millis(600), ..limits() });
    let mut streams = server.meanwhile(|addr| (0..MANY).map(|_| asked_once(addr)).collect::<Vec<_>>());
    server.meanwhile(move |_| assert!(streams.iter_mut().all(|stream| rest(stream).is_empty())));

    let mut server = Server::start(limits());
    let mut streams = server.idle(asked_once);
    server.stop.cancel();
    server.meanwhile(move |_| assert!(streams.iter_mut().all(|stream| rest(stream).is_empty())));
}

#[test]
fn what_comes_after_a_body_that_nobody_read_is_no_request_however_late_it_comes() {
    let mut server = Server::start(limits());
    let answer = server.meanwhile(|addr| {
        let mut stream = connect(addr);
        stream.write_all(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nbody").unwrap();
        until(&mut stream, "!");
        stream.set_read_timeout(Some(Duration::from_millis(600))).unwrap();
        assert!(stream.read(&mut [0]).is_err(), "the connection waits for the rest of the body");
        stream.write_all(b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let mut text = String::new();
        let _ended_or_still_waiting = stream.read_to_string(&mut text);
        text
    });
    assert!(!answer.contains("smuggled"), "{answer}");
}
