//! Calls to upstreams, judged by the bytes that the upstream gets and by what becomes of its connections.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::error::Error;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use carta_gateway::config::{
    Endpoint, Injection, Protocol, Register, Service, Timeouts, TokenForwarding, Unmatched, UpstreamTls,
};
use carta_gateway::policy::Levels;
use carta_gateway::upstream::{
    BodyError, Pools, Roots, SendError, SendErrorKind, TargetGuard, TargetRefused, Upstream, UpstreamBody,
};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::{Builder, LocalOptions};

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(150);

type BoxError = Box<dyn Error + Send + Sync>;
type Outbound = UnsyncBoxBody<Bytes, BoxError>;

/// An upstream that hands each connection to the test as it comes.
struct Fake {
    addr: SocketAddr,
    connections: Receiver<Connection>,
}

struct Connection(TcpStream);

impl Fake {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (give, connections) = channel();
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                stream.set_read_timeout(Some(LONG)).unwrap();
                if give.send(Connection(stream)).is_err() {
                    return;
                }
            }
        });
        Self { addr, connections }
    }

    /// Plays `script` with the connections, beside the test.
    fn play<T: Send + 'static>(self, script: impl FnOnce(&Self) -> T + Send + 'static) -> Play<T> {
        let (give, outcome) = channel();
        let addr = self.addr;
        std::thread::spawn(move || give.send(script(&self)));
        Play { addr, outcome }
    }

    fn next(&self) -> Connection {
        self.connections.recv_timeout(LONG).unwrap()
    }

    fn nobody(&self) -> bool {
        self.connections.try_recv().is_err()
    }
}

struct Play<T> {
    addr: SocketAddr,
    outcome: Receiver<T>,
}

impl<T> Play<T> {
    fn end(&self) -> T {
        self.outcome.recv_timeout(LONG).unwrap()
    }
}

impl Connection {
    fn until(&mut self, end: &str) -> String {
        let mut text = String::new();
        let mut byte = [0];
        while !text.ends_with(end) {
            self.0.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} after {text:?}"));
            text.push(char::from(byte[0]));
        }
        text
    }

    fn head(&mut self) -> String {
        self.until("\r\n\r\n")
    }

    fn say(&mut self, text: &str) -> &mut Self {
        self.0.write_all(text.as_bytes()).unwrap();
        self
    }

    /// Whatever still comes, until the peer closes.
    fn rest(&mut self) -> String {
        let mut text = Vec::new();
        match self.0.read_to_end(&mut text) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("it stays open"),
            _ => String::from_utf8_lossy(&text).into_owned(),
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn service(urls: &[String], timeouts: Timeouts, protocol: Protocol) -> Service {
    Service {
        namespace: "n".to_owned(),
        name: "s".to_owned(),
        owner: None,
        endpoints: urls.iter().map(|url| Endpoint { url: url.parse().unwrap(), weight: 1 }).collect(),
        level: Levels::EXECUTE,
        unmatched: Unmatched::Refuse,
        public: Vec::new(),
        forward_token: TokenForwarding::No,
        inject: Injection::default(),
        operations: Vec::new(),
        timeouts,
        tls: UpstreamTls { protocol, ..UpstreamTls::default() },
        cors: None,
        trusted: true,
    }
}

fn timeouts() -> Timeouts {
    Timeouts { connect: Some(LONG), first_byte: Some(LONG), idle: Some(LONG), total: None }
}

fn guard(own: &[SocketAddr]) -> Arc<TargetGuard> {
    let register = Register { allow_hosts: vec!["127.0.0.1".to_owned()], allow_loopback: false, allow_private: false };
    Arc::new(TargetGuard::new(&register, own))
}

struct Client {
    pools: Pools<Outbound>,
    upstream: Arc<Upstream>,
}

impl Client {
    fn new(addr: SocketAddr, timeouts: Timeouts) -> Self {
        Self::of(&service(&[format!("http://{addr}/base")], timeouts, Protocol::Auto))
    }

    fn of(service: &Service) -> Self {
        Self { pools: Pools::new(), upstream: Upstream::new(service, guard(&[]), &Roots::native()).unwrap() }
    }

    async fn send(&self, request: Request<Outbound>) -> Result<Response<UpstreamBody<Outbound>>, SendError<Outbound>> {
        let endpoint = self.pools.pick(&self.upstream).unwrap();
        self.pools.send(&self.upstream, endpoint, request).await
    }

    async fn get(&self, path: &str) -> String {
        text(self.send(get(path)).await.unwrap()).await.unwrap()
    }

    async fn fail(&self, request: Request<Outbound>) -> SendErrorKind {
        self.send(request).await.map(|response| response.status()).unwrap_err().kind()
    }

    /// Waits until so many connections are idle.
    async fn idle(&self, count: usize) {
        while self.pools.idle() != count {
            tokio::task::yield_now().await;
        }
    }
}

async fn text(response: Response<UpstreamBody<Outbound>>) -> Result<String, BodyError> {
    Ok(String::from_utf8_lossy(&response.into_body().collect().await?.to_bytes()).into_owned())
}

fn empty() -> Outbound {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn full(text: &'static str) -> Outbound {
    Full::from(text).map_err(|never| match never {}).boxed_unsync()
}

fn get(path: &str) -> Request<Outbound> {
    Request::get(path).body(empty()).unwrap()
}

type Pieces = tokio::sync::mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>;

fn pieces() -> (Pieces, Outbound) {
    let (give, mut take) = tokio::sync::mpsc::unbounded_channel();
    (give, StreamBody::new(futures_util::stream::poll_fn(move |cx| take.poll_recv(cx))).boxed_unsync())
}

fn piece(text: &'static str) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn on_a_worker<F: Future>(future: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, future).await.expect("done in time") })
}

#[test]
fn a_request_arrives_in_origin_form_with_the_upstreams_host() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        let head = connection.head();
        connection.say(OK);
        head
    });
    let addr = play.addr;
    on_a_worker(async {
        let client = Client::new(addr, timeouts());
        let mut request = get("https://caller.example/base/a%2Fb;c?q=%20&q");
        request.headers_mut().insert("host", "caller.example".parse().unwrap());
        request.headers_mut().insert("x-a", "1".parse().unwrap());
        *request.version_mut() = http::Version::HTTP_2;
        assert_eq!(text(client.send(request).await.unwrap()).await.unwrap(), "ok");
    });
    let head = play.end();
    assert!(head.starts_with("GET /base/a%2Fb;c?q=%20&q HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("\r\nhost: {addr}\r\n")) && !head.contains("caller"), "{head}");
    assert!(head.contains("\r\nx-a: 1\r\n"), "{head}");
}

#[test]
fn a_drained_connection_serves_the_next_request() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        for _ in 0..3 {
            connection.head();
            connection.say(OK);
        }
        connection.head();
        connection.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
        connection.head();
        connection.say("HTTP/1.1 204 No Content\r\n\r\n");
        connection.head();
        connection.say(OK);
        (fake.nobody(), connection)
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        for _ in 0..6 {
            client.get("/").await;
            client.idle(1).await;
        }
    });
    assert!(play.end().0, "there was one connection");
}

#[test]
fn a_response_that_is_dropped_before_its_end_costs_the_connection() {
    for framing in ["Content-Length: 10\r\n\r\npart", "Transfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"] {
        let play = Fake::start().play(move |fake| {
            let mut first = fake.next();
            first.head();
            first.say("HTTP/1.1 200 OK\r\n").say(framing);
            assert_eq!(first.rest(), "", "closed, and nothing else was sent on it");
            let mut second = fake.next();
            second.head();
            second.say(OK);
        });
        on_a_worker(async {
            let client = Client::new(play.addr, timeouts());
            let mut response = client.send(get("/")).await.unwrap();
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), "part");
            drop(response);
            assert_eq!(client.pools.idle(), 0);
            assert_eq!(client.get("/").await, "ok");
        });
        play.end();
    }
}

#[test]
fn bytes_after_a_response_are_never_taken_for_the_next_one() {
    let play = Fake::start().play(|fake| {
        let mut first = fake.next();
        first.head();
        first.say(OK).say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        assert_eq!(first.rest(), "");
        let mut second = fake.next();
        second.head();
        second.say(OK);
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        assert_eq!(client.get("/").await, "ok");
        client.idle(0).await;
        assert_eq!(client.get("/").await, "ok");
    });
    play.end();
}

#[test]
fn a_call_that_is_dropped_before_its_response_closes_the_connection() {
    let (seen, wait) = channel();
    let play = Fake::start().play(move |fake| {
        let mut connection = fake.next();
        connection.head();
        seen.send(()).unwrap();
        connection.rest()
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let upstream = Arc::clone(&client.upstream);
        let pools = client.pools.clone();
        let call = tokio::task::spawn_local(async move {
            let endpoint = pools.pick(&upstream).unwrap();
            pools.send(&upstream, endpoint, get("/")).await.map(|_| ())
        });
        while wait.try_recv().is_err() {
            tokio::task::yield_now().await;
        }
        call.abort();
        while !call.is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(tokio::task::spawn_blocking(move || play.end()).await.unwrap(), "");
    });
}

#[test]
fn a_body_of_unknown_length_goes_in_chunks_whatever_the_method() {
    for method in ["POST", "GET", "HEAD", "DELETE"] {
        let play = Fake::start().play(|fake| {
            let mut connection = fake.next();
            let head = connection.head();
            let body = connection.until("0\r\n\r\n");
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            (head, body)
        });
        on_a_worker(async {
            let client = Client::new(play.addr, timeouts());
            let (give, body) = pieces();
            give.send(piece("hello")).unwrap();
            drop(give);
            let request = Request::builder().method(method).uri("/").body(body).unwrap();
            assert_eq!(client.send(request).await.unwrap().status(), 200);
        });
        let (head, body) = play.end();
        assert!(head.contains("\r\ntransfer-encoding: chunked\r\n"), "{method}: {head}");
        assert_eq!(body, "5\r\nhello\r\n0\r\n\r\n", "{method}");
    }
}

#[test]
fn a_body_of_known_length_goes_as_it_is() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        let head = connection.head();
        connection.until("hello");
        connection.say(OK);
        (head, connection)
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let response = client.send(Request::post("/").body(full("hello")).unwrap()).await.unwrap();
        assert_eq!(text(response).await.unwrap(), "ok");
        client.idle(1).await;
    });
    assert!(play.end().0.contains("\r\ncontent-length: 5\r\n"));
}

#[test]
fn an_early_response_keeps_the_connection_out_of_the_pool_until_the_request_is_written() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        connection.head();
        connection.say(OK);
        (connection.until("0\r\n\r\n"), connection)
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let (give, body) = pieces();
        give.send(piece("a")).unwrap();
        let response = client.send(Request::post("/").body(body).unwrap()).await.unwrap();
        assert_eq!(text(response).await.unwrap(), "ok");
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(client.pools.idle(), 0, "the request is still under way");
        give.send(piece("b")).unwrap();
        drop(give);
        client.idle(1).await;
    });
    assert_eq!(play.end().0, "1\r\na\r\n1\r\nb\r\n0\r\n\r\n");
}

#[test]
fn dropping_an_early_response_breaks_off_the_request() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        connection.head();
        connection.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n");
        connection.rest()
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let (give, body) = pieces();
        give.send(piece("a")).unwrap();
        let response = client.send(Request::post("/").body(body).unwrap()).await.unwrap();
        drop(response);
        give.closed().await;
    });
    assert!(!play.end().contains("0\r\n\r\n"), "the body must not look whole");
}

#[test]
fn a_connection_that_closed_while_idle_is_replaced_without_a_word() {
    for (method, body) in [("GET", ""), ("POST", "data")] {
        let (close, wait) = channel::<()>();
        let play = Fake::start().play(move |fake| {
            let mut first = fake.next();
            first.head();
            first.say(OK);
            wait.recv().unwrap();
            drop(first);
            let mut second = fake.next();
            let head = second.head();
            second.until(body);
            second.say(OK);
            head
        });
        on_a_worker(async {
            let client = Client::new(play.addr, timeouts());
            assert_eq!(client.get("/").await, "ok");
            client.idle(1).await;
            close.send(()).unwrap();
            client.idle(0).await;
            let request = Request::builder().method(method).uri("/again").body(full(body)).unwrap();
            assert_eq!(text(client.send(request).await.unwrap()).await.unwrap(), "ok");
        });
        assert!(play.end().contains("/again"));
    }
}

#[test]
fn what_may_have_arrived_is_not_sent_again() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        connection.head();
        connection.say(OK);
        connection.until("data");
        drop(connection);
        std::thread::yield_now();
        fake.nobody()
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        assert_eq!(client.get("/").await, "ok");
        client.idle(1).await;
        let error = client.send(Request::post("/").body(full("data")).unwrap()).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), SendErrorKind::Closed);
        assert!(!error.is_unsent());
    });
    assert!(play.end(), "no second connection was made");
}

#[test]
fn a_harmless_request_that_a_stale_connection_swallowed_is_sent_again() {
    let play = Fake::start().play(|fake| {
        let mut first = fake.next();
        first.head();
        first.say(OK);
        let swallowed = first.head();
        drop(first);
        let mut second = fake.next();
        let again = second.head();
        second.say(OK);
        (swallowed, again, second)
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        assert_eq!(client.get("/").await, "ok");
        // Only a connection that has waited for a second is worth the copy of a request.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(client.get("/again?a").await, "ok");
    });
    let (swallowed, again, _) = play.end();
    assert_eq!(swallowed, again);
}

#[test]
fn each_timeout_is_told_apart() {
    // Nobody answers: the connections wait in the backlog, or are read and left.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = silent.local_addr().unwrap();
    on_a_worker(async {
        let first_byte = Client::new(addr, Timeouts { first_byte: Some(SHORT), ..timeouts() });
        assert_eq!(first_byte.fail(get("/")).await, SendErrorKind::FirstByteTimeout);

        let total = Client::new(addr, Timeouts { total: Some(SHORT), ..timeouts() });
        assert_eq!(total.fail(get("/")).await, SendErrorKind::TotalTimeout);

        let (give, body) = pieces();
        let times = Timeouts { idle: Some(SHORT), ..timeouts() };
        let idle = Client::new(addr, times);
        assert_eq!(idle.fail(Request::post("/").body(body).unwrap()).await, SendErrorKind::CallerIdle);
        drop(give);

        let (give, body) = pieces();
        for _ in 0..2000 {
            give.send(Ok(Frame::data(Bytes::from(vec![b'a'; 65536])))).unwrap();
        }
        assert_eq!(idle.fail(Request::post("/").body(body).unwrap()).await, SendErrorKind::IdleTimeout);
    });
}

#[test]
fn a_slow_upload_does_not_run_into_the_first_byte_timeout() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        connection.head();
        connection.until("0\r\n\r\n");
        connection.say(OK);
    });
    on_a_worker(async {
        let client = Client::new(play.addr, Timeouts { first_byte: Some(SHORT), ..timeouts() });
        let (give, body) = pieces();
        tokio::task::spawn_local(async move {
            let mut ticks = tokio::time::interval(SHORT);
            for _ in 0..4 {
                ticks.tick().await;
                give.send(piece("slow")).unwrap();
            }
        });
        let response = client.send(Request::post("/").body(body).unwrap()).await.unwrap();
        assert_eq!(text(response).await.unwrap(), "ok");
    });
    play.end();
}

#[test]
fn a_response_that_stands_still_is_broken_off() {
    for (times, total) in [
        (Timeouts { idle: Some(SHORT), ..timeouts() }, false),
        (Timeouts { total: Some(SHORT * 2), ..timeouts() }, true),
    ] {
        let play = Fake::start().play(|fake| {
            let mut connection = fake.next();
            connection.head();
            connection.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart");
            connection.rest()
        });
        on_a_worker(async {
            let client = Client::new(play.addr, times);
            let error = text(client.send(get("/")).await.unwrap()).await.unwrap_err();
            assert_eq!(matches!(error, BodyError::TotalTimeout), total, "{error:?}");
            assert_eq!(matches!(error, BodyError::IdleTimeout), !total, "{error:?}");
        });
        assert_eq!(play.end(), "");
    }
}

#[test]
fn a_truncated_response_is_an_error() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        connection.head();
        connection.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\npart");
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let error = text(client.send(get("/")).await.unwrap()).await.unwrap_err();
        assert!(matches!(error, BodyError::Broken(_)), "{error:?}");
        client.idle(0).await;
    });
}

#[test]
fn what_is_not_http_is_a_protocol_error() {
    for answer in ["SSH-2.0-OpenSSH\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "HTTP/1.1 101 No\r\n\r\n"]
    {
        let play = Fake::start().play(move |fake| {
            let mut connection = fake.next();
            connection.head();
            connection.say(answer);
            connection.rest();
        });
        on_a_worker(async {
            let client = Client::new(play.addr, timeouts());
            assert_eq!(client.fail(get("/")).await, SendErrorKind::Protocol, "{answer:?}");
        });
    }
}

#[test]
fn a_body_waits_for_100_continue() {
    let (asked, was_asked): (Sender<()>, _) = channel();
    let play = Fake::start().play(move |fake| {
        let mut connection = fake.next();
        let head = connection.head();
        connection.say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
        assert!(was_asked.try_recv().is_err(), "the body was not asked for");
        connection.say("HTTP/1.1 100 Continue\r\n\r\n");
        connection.until("0\r\n\r\n");
        connection.say(OK);
        (head, connection)
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let mut whole = Some(piece("data"));
        let body = StreamBody::new(futures_util::stream::poll_fn(move |_| {
            let _ = asked.send(());
            std::task::Poll::Ready(whole.take())
        }));
        let request = Request::post("/").header("expect", "100-continue").body(body.boxed_unsync()).unwrap();
        assert_eq!(text(client.send(request).await.unwrap()).await.unwrap(), "ok");
        client.idle(1).await;
    });
    assert!(play.end().0.contains("\r\nexpect: 100-continue\r\n"));
}

#[test]
fn a_final_answer_instead_of_100_continue_means_that_the_body_never_goes() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        connection.head();
        connection.say("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\n\r\nno");
        connection.rest()
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let (give, body) = pieces();
        give.send(piece("data")).unwrap();
        let request = Request::post("/").header("expect", "100-continue").body(body).unwrap();
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), 417);
        assert_eq!(text(response).await.unwrap(), "no");
        give.closed().await;
        assert_eq!(client.pools.idle(), 0);
    });
    assert_eq!(play.end(), "");
}

#[test]
fn a_silent_upstream_gets_the_body_after_a_second() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        connection.head();
        connection.until("data");
        connection.say(OK);
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let request = Request::post("/").header("expect", "100-continue").body(full("data")).unwrap();
        assert_eq!(text(client.send(request).await.unwrap()).await.unwrap(), "ok");
    });
    play.end();
}

#[test]
fn an_upgrade_is_a_stream_of_bytes_after_the_101_and_its_connection_is_never_pooled() {
    let play = Fake::start().play(|fake| {
        let mut connection = fake.next();
        let head = connection.head();
        connection.say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly");
        assert_eq!(connection.until("."), "hello.");
        connection.say(" late");
        head
    });
    on_a_worker(async {
        let client = Client::new(play.addr, timeouts());
        let request =
            Request::get("/").header("connection", "upgrade").header("upgrade", "echo").body(empty()).unwrap();
        let mut response = client.send(request).await.unwrap();
        assert_eq!(response.status(), 101);
        let upgraded = hyper::upgrade::on(&mut response).await.unwrap();
        drop(response);
        let mut io = hyper_util::rt::TokioIo::new(upgraded);
        io.write_all(b"hello.").await.unwrap();
        let mut text = String::new();
        io.read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "early late");
        assert_eq!(client.pools.idle(), 0);
    });
    let head = play.end();
    assert!(head.contains("\r\nconnection: upgrade\r\n") && head.contains("\r\nupgrade: echo\r\n"), "{head}");
}

#[test]
fn own_listeners_and_link_local_addresses_are_no_targets() {
    on_a_worker(async {
        let own: SocketAddr = "127.0.0.1:8080".parse().unwrap();
        for (url, reason) in [
            ("http://127.0.0.1:8080/", TargetRefused::Own),
            ("http://localhost:8080/", TargetRefused::Own),
            ("http://169.254.169.254/", TargetRefused::LinkLocal),
            ("http://[::ffff:169.254.169.254]/", TargetRefused::LinkLocal),
            ("http://0.0.0.0/", TargetRefused::Nowhere),
        ] {
            let service = service(&[url.to_owned()], timeouts(), Protocol::Auto);
            let upstream =
                Upstream::new(&service, guard(&[own, "[::1]:8080".parse().unwrap()]), &Roots::native()).unwrap();
            let client = Client { pools: Pools::new(), upstream };
            let error = client.send(get("/?key=canary")).await.map(|_| ()).unwrap_err();
            assert_eq!(error.kind(), SendErrorKind::Refused(reason), "{url}");
            assert!(!format!("{error} {error:?}").contains("canary"));
            assert_eq!(error.into_unsent().unwrap().uri(), "/?key=canary");
        }
    });
}

#[test]
fn a_registered_service_is_judged_at_every_connect() {
    let fake = Fake::start();
    let mut service = service(&[format!("http://{}/", fake.addr)], timeouts(), Protocol::Auto);
    service.trusted = false;
    on_a_worker(async {
        let upstream = Upstream::new(&service, guard(&[]), &Roots::native()).unwrap();
        let client = Client { pools: Pools::new(), upstream };
        assert_eq!(client.fail(get("/")).await, SendErrorKind::Refused(TargetRefused::Loopback));
        assert!(fake.nobody());
    });
    service.endpoints = vec![Endpoint { url: "http://other.test/".parse().unwrap(), weight: 1 }];
    let error = Upstream::new(&service, guard(&[]), &Roots::native()).unwrap_err().to_string();
    assert!(error.starts_with("the host `other.test` is refused: "), "{error}");
}

#[test]
fn an_endpoint_that_takes_no_connections_is_passed_over() {
    // Bound and not listening: nobody else gets the port.
    let closed = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    closed.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    let closed_addr = closed.local_addr().unwrap().as_socket().unwrap();
    let play = Fake::start().play(move |fake| {
        let mut connection = fake.next();
        for _ in 0..50 {
            connection.head();
            connection.say(OK);
        }
        connection
    });
    on_a_worker(async {
        let client = Client::of(&service(
            &[format!("http://{closed_addr}/"), format!("http://{}/", play.addr)],
            timeouts(),
            Protocol::Auto,
        ));
        let (mut failed, mut served) = (0, 0);
        while served < 50 {
            match client.send(get("/")).await {
                Ok(response) => {
                    text(response).await.unwrap();
                    client.idle(1).await;
                    served += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), SendErrorKind::Connect);
                    assert!(error.is_unsent());
                    failed += 1;
                }
            }
        }
        assert!(failed <= 2, "{failed} calls went to the closed endpoint");
    });
    play.end();
}
