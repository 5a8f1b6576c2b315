//! Calls to upstreams, judged by the bytes that the upstream gets and by what becomes of its connections.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod failures;
mod requests;
mod reuse;
mod targets;

use std::error::Error;
use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use carta_gateway::batch::Runtime;
use carta_gateway::config::{
    Endpoint, Injection, Protocol, Register, Service, Timeouts, TokenForwarding, Unmatched, UpstreamTls,
};
use carta_gateway::policy::Levels;
use carta_gateway::upstream::{
    BodyError, Pools, RequestHead, Roots, SendError, SendErrorKind, TargetGuard, TargetRefused, Upstream, UpstreamBody,
};
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
        tunnel: false,
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
        let (parts, body) = request.into_parts();
        self.pools.send(&self.upstream, endpoint, &RequestHead::from(&parts), body, tokio::time::Instant::now()).await
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
    let runtime = Runtime::with_batches().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, future).await.expect("done in time") })
}
