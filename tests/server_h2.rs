//! HTTP/2 on the listener, with hyper's client and prior knowledge.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::future::{Future, pending};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use carta_gateway::batch::Runtime;
use carta_gateway::config::Limits;
use carta_gateway::server::{Admission, Serving, bind, serve};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_secs(30);

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

fn limits() -> Limits {
    Limits {
        header_bytes: 16384,
        headers: 64,
        uri_bytes: 1024,
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

fn on_a_worker<F: Future>(future: F) -> F::Output {
    let runtime = Runtime::with_batches().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, future).await.expect("done in time") })
}

#[derive(Default)]
struct Seen {
    open: AtomicUsize,
    dropped: AtomicUsize,
}

impl Seen {
    fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    fn dropped(&self) -> usize {
        self.dropped.load(Ordering::SeqCst)
    }
}

struct OnDrop(Arc<Seen>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

struct Server {
    addr: SocketAddr,
    stop: CancellationToken,
    seen: Arc<Seen>,
    end: JoinHandle<std::io::Result<()>>,
}

fn start(limits: Limits) -> Server {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving =
        Serving { tls: None, limits, admission: Admission::new(100), access: false, drain: LONG, stop: stop.clone() };
    let seen = Arc::new(Seen::default());
    let shared = Arc::clone(&seen);
    let end =
        tokio::task::spawn_local(serve(listener, serving, move |request, _| answer(request, Arc::clone(&shared))));
    Server { addr, stop, seen, end }
}

async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> Response<Body> {
    seen.open.fetch_add(1, Ordering::SeqCst);
    match request.uri().path() {
        // Takes nothing of its request.
        "/deaf" => {
            let _kept = request;
            pending().await
        }
        "/hang" => {
            let _told = OnDrop(seen);
            pending().await
        }
        // Without end, and as fast as it is taken.
        "/flood" => {
            let told = OnDrop(seen);
            let endless = futures_util::stream::repeat_with(move || {
                let _kept = &told;
                Ok(Frame::data(Bytes::from_static(&[b'x'; 64 * 1024])))
            });
            Response::new(StreamBody::new(endless).boxed_unsync())
        }
        // One piece, told to be the last.
        "/large" => {
            let told = OnDrop(seen);
            let body = Full::from(Bytes::from_static(&[b'x'; 64 * 1024]));
            let body = body.map_frame(move |frame| {
                let _kept = &told;
                frame
            });
            Response::new(body.map_err(|never| match never {}).boxed_unsync())
        }
        // The request's body comes back piece by piece, trailers and all.
        "/echo" => Response::new(request.into_body().boxed_unsync()),
        _ => Response::new(Full::from("hello").map_err(|never| match never {}).boxed_unsync()),
    }
}

async fn connect(addr: SocketAddr) -> (SendRequest<Body>, JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    (sender, tokio::spawn(connection))
}

fn get(path: &str) -> Request<Body> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    Request::get(format!("http://gateway.test{path}")).body(body).unwrap()
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn streams_run_side_by_side_and_a_reset_one_drops_its_request() {
    on_a_worker(async {
        let server = start(limits());
        let (mut sender, _connection) = connect(server.addr).await;
        let hanging = tokio::spawn(sender.send_request(get("/hang")));
        until(|| server.seen.open() == 1).await;
        let body = sender.send_request(get("/")).await.unwrap().collect().await.unwrap().to_bytes();
        assert_eq!(body, "hello");
        hanging.abort();
        until(|| server.seen.dropped() == 1).await;
    });
}

#[test]
fn a_caller_that_leaves_cancels_all_its_requests() {
    on_a_worker(async {
        let server = start(limits());
        let socket = std::net::TcpStream::connect(server.addr).unwrap();
        socket.set_nonblocking(true).unwrap();
        let stream = TcpStream::from_std(socket.try_clone().unwrap()).unwrap();
        let (mut sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let _calls: Vec<_> = (0..3).map(|_| tokio::spawn(sender.send_request(get("/hang")))).collect();
        until(|| server.seen.open() == 3).await;
        socket.shutdown(std::net::Shutdown::Both).unwrap();
        until(|| server.seen.dropped() == 3).await;
    });
}

/// A caller whose streams may be sent so many bytes, and no more until it has read them.
async fn connect_with_window(addr: SocketAddr, window: u32) -> SendRequest<Body> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

#[test]
fn a_caller_that_gives_no_window_loses_its_stream_in_time_and_keeps_its_connection() {
    for (path, window) in [("/flood", 0), ("/flood", 1), ("/flood", 100_000), ("/large", 0)] {
        on_a_worker(async {
            let server = start(Limits { keep_alive: Duration::from_millis(100), ..limits() });
            let mut sender = connect_with_window(server.addr, window).await;
            let stalled = sender.send_request(get(path)).await.unwrap();
            let hanging = tokio::spawn(sender.send_request(get("/hang")));
            until(|| server.seen.dropped() == 1).await;
            let error = stalled.into_body().collect().await.unwrap_err();
            assert!(format!("{error:?}").contains("CANCEL"), "{path} {window}: {error:?}");
            assert!(!hanging.is_finished(), "a stream that waits for us is left alone");
            assert_eq!(sender.send_request(get("/")).await.unwrap().status(), 200);
        });
    }
}

#[test]
fn bodies_and_trailers_stream_in_both_directions_at_once() {
    on_a_worker(async {
        let server = start(limits());
        let (mut sender, _connection) = connect(server.addr).await;
        let (give, mut take) = tokio::sync::mpsc::unbounded_channel();
        let body = StreamBody::new(futures_util::stream::poll_fn(move |cx| take.poll_recv(cx))).boxed_unsync();
        let request = Request::post("http://gateway.test/echo").header("te", "trailers").body(body).unwrap();
        let mut response = sender.send_request(request).await.unwrap();
        for text in ["one", "two"] {
            give.send(Ok(Frame::data(Bytes::from(text)))).unwrap();
            assert_eq!(response.frame().await.unwrap().unwrap().into_data().unwrap(), text);
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        give.send(Ok(Frame::trailers(trailers.clone()))).unwrap();
        drop(give);
        assert_eq!(response.frame().await.unwrap().unwrap().into_trailers().unwrap(), trailers);
        assert!(response.frame().await.is_none());
    });
}

#[test]
fn an_upload_that_nobody_takes_leaves_room_for_the_others_on_its_connection() {
    on_a_worker(async {
        let server = start(limits());
        let (mut sender, _connection) = connect(server.addr).await;
        let large = || Full::from(vec![b'x'; 4 << 20]).map_err(|never| match never {}).boxed_unsync();
        let post = |path: &str| Request::post(format!("http://gateway.test{path}")).body(large()).unwrap();
        let _stalled = tokio::spawn(sender.send_request(post("/deaf")));
        until(|| server.seen.open() == 1).await;
        let echoed = sender.send_request(post("/echo")).await.unwrap().collect().await.unwrap().to_bytes();
        assert_eq!(echoed.len(), 4 << 20);
    });
}

#[test]
fn limits_hold_for_streams_too() {
    on_a_worker(async {
        let server = start(limits());
        let (mut sender, _connection) = connect(server.addr).await;
        let mut many = get("/");
        for place in 0..70 {
            let name: http::HeaderName = format!("x-{place}").parse().unwrap();
            many.headers_mut().insert(name, "y".parse().unwrap());
        }
        for (request, status) in [
            (get(&format!("/{}", "a".repeat(2000))), StatusCode::URI_TOO_LONG),
            (many, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        ] {
            assert_eq!(sender.send_request(request).await.unwrap().status(), status);
        }
        let mut large = get("/");
        large.headers_mut().insert("x", "a".repeat(20_000).parse().unwrap());
        let outcome = sender.send_request(large).await;
        assert!(outcome.is_err() || outcome.is_ok_and(|answer| answer.status() == 431));
        let (mut sender, _connection) = connect(server.addr).await;
        assert_eq!(sender.send_request(get("/")).await.unwrap().status(), 200);
    });
}

#[test]
fn draining_says_goaway_and_waits_for_the_streams() {
    on_a_worker(async {
        let server = start(limits());
        let (mut sender, connection) = connect(server.addr).await;
        let (give, mut take) = tokio::sync::mpsc::unbounded_channel();
        let body = StreamBody::new(futures_util::stream::poll_fn(move |cx| take.poll_recv(cx))).boxed_unsync();
        let request = Request::post("http://gateway.test/echo").body(body).unwrap();
        let response = sender.send_request(request).await.unwrap();
        server.stop.cancel();
        until(|| sender.is_closed() || TcpIsClosed(server.addr).now()).await;
        give.send(Ok(Frame::data(Bytes::from_static(b"late")))).unwrap();
        drop(give);
        assert_eq!(response.collect().await.unwrap().to_bytes(), "late");
        connection.await.unwrap().unwrap();
        server.end.await.unwrap().unwrap();
    });
}

/// Whether nobody listens there any more.
struct TcpIsClosed(SocketAddr);

impl TcpIsClosed {
    fn now(&self) -> bool {
        std::net::TcpStream::connect(self.0).is_err()
    }
}

#[test]
fn an_idle_connection_is_closed_in_time() {
    on_a_worker(async {
        let server = start(Limits { keep_alive: Duration::from_millis(100), ..limits() });
        let (mut sender, connection) = connect(server.addr).await;
        sender.send_request(get("/")).await.unwrap().collect().await.unwrap();
        connection.await.unwrap().unwrap();
    });
}
