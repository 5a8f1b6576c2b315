//! Upstreams behind TLS and in HTTP/2, with real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carta_gateway::config::{
    Endpoint, Hidden, Injection, Protocol, Register, Service, Timeouts, TokenForwarding, Unmatched, UpstreamTls,
};
use carta_gateway::policy::Levels;
use carta_gateway::upstream::{BodyError, Pools, Roots, SendError, SendErrorKind, TargetGuard, Upstream, UpstreamBody};
use http::{HeaderMap, Request, Response, Version};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions};
use tokio_rustls::TlsAcceptor;

const LONG: Duration = Duration::from_secs(30);

type BoxError = Box<dyn Error + Send + Sync>;
type Outbound = UnsyncBoxBody<Bytes, BoxError>;

fn on_a_worker<F: Future>(future: F) -> F::Output {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default()).unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, future).await.expect("done in time") })
}

#[derive(Clone)]
struct OnThisThread;

impl<F: Future + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

/// What the upstream saw.
#[derive(Default)]
struct Seen {
    connections: Cell<usize>,
    requests: RefCell<Vec<http::request::Parts>>,
    dropped: Cell<usize>,
    listens: Cell<bool>,
}

struct OnDrop(Rc<Seen>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.dropped.set(self.0.dropped.get() + 1);
    }
}

/// Serves HTTP/1.1 or HTTP/2 as ALPN says; without TLS as `two` says.
async fn start(tls: Option<Arc<ServerConfig>>, two: bool) -> (SocketAddr, Rc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let seen = Rc::new(Seen::default());
    let shared = Rc::clone(&seen);
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (tls, seen) = (tls.clone(), Rc::clone(&shared));
            seen.connections.set(seen.connections.get() + 1);
            tokio::task::spawn_local(async move {
                let service = {
                    let seen = Rc::clone(&seen);
                    service_fn(move |request| answer(request, Rc::clone(&seen)))
                };
                match tls {
                    None if two => {
                        let builder = hyper::server::conn::http2::Builder::new(OnThisThread);
                        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                    }
                    None => {
                        let builder = hyper::server::conn::http1::Builder::new();
                        let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                    }
                    Some(config) => {
                        let Ok(stream) = TlsAcceptor::from(config).accept(stream).await else { return };
                        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
                            let builder = hyper::server::conn::http2::Builder::new(OnThisThread);
                            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                        } else {
                            let builder = hyper::server::conn::http1::Builder::new();
                            let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                        }
                    }
                }
            });
        }
    });
    (addr, seen)
}

async fn answer(request: Request<Incoming>, seen: Rc<Seen>) -> Result<Response<Outbound>, Infallible> {
    let (parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    seen.requests.borrow_mut().push(parts);
    let ok = |text: String| Ok(Response::new(Full::from(text).map_err(|never| match never {}).boxed_unsync()));
    match path.as_str() {
        "/hang" => {
            let _told = OnDrop(seen);
            pending().await
        }
        "/endless" => {
            // hyper's streams need a body that may be sent: the counter is told by the request's body instead.
            tokio::task::spawn_local(async move {
                let _told = OnDrop(seen);
                let _ = body.collect().await;
            });
            let first = futures_util::stream::once(async { Ok(Frame::data(Bytes::from_static(b"first"))) });
            let endless = futures_util::StreamExt::chain(first, futures_util::stream::pending());
            Ok(Response::new(StreamBody::new(endless).boxed_unsync()))
        }
        "/deaf" => {
            // Answers, and takes nothing of the request before it is told to.
            tokio::task::spawn_local(async move {
                until(|| seen.listens.get()).await;
                if body.collect().await.is_err() {
                    drop(OnDrop(seen));
                }
            });
            let first = futures_util::stream::once(async { Ok(Frame::data(Bytes::from_static(b"first"))) });
            let endless = futures_util::StreamExt::chain(first, futures_util::stream::pending());
            Ok(Response::new(StreamBody::new(endless).boxed_unsync()))
        }
        "/flood" => {
            let piece = Bytes::from(vec![b'x'; 64 * 1024]);
            let pieces = futures_util::stream::repeat_with(move || Ok(Frame::data(piece.clone())));
            Ok(Response::new(StreamBody::new(pieces).boxed_unsync()))
        }
        "/early" => {
            // All is answered, and the request's body still taken.
            tokio::task::spawn_local(async move {
                let _told = OnDrop(seen);
                let _ = body.collect().await;
            });
            ok("early".to_owned())
        }
        "/trailers" => {
            let received = body.collect().await.unwrap();
            let mut trailers = received.trailers().cloned().unwrap_or_default();
            trailers.insert("grpc-status", "0".parse().unwrap());
            let frames = vec![Ok(Frame::data(received.to_bytes())), Ok(Frame::trailers(trailers))];
            Ok(Response::new(StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync()))
        }
        _ => {
            let text = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            ok(String::from_utf8_lossy(&text).into_owned())
        }
    }
}

struct Authority {
    ca: Vec<u8>,
    chain: Vec<CertificateDer<'static>>,
    key: Vec<u8>,
}

fn authority(name: &str) -> Authority {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed([name.to_owned()]).unwrap();
    Authority { ca: cert.pem().into_bytes(), chain: vec![cert.der().clone()], key: signing_key.serialize_der() }
}

fn server(authority: &Authority, alpn: &[&str], client: Option<&[u8]>) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions().unwrap();
    let builder = match client {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            use rustls::pki_types::pem::PemObject;
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_slice(pem).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::try_from(authority.key.clone()).unwrap();
    let mut config = builder.with_single_cert(authority.chain.clone(), key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

struct Client {
    pools: Pools<Outbound>,
    upstream: Arc<Upstream>,
}

impl Client {
    fn new(url: &str, tls: UpstreamTls) -> Self {
        Self::patient(url, tls, LONG)
    }

    fn patient(url: &str, tls: UpstreamTls, idle: Duration) -> Self {
        let service = Service {
            namespace: "n".to_owned(),
            name: "s".to_owned(),
            owner: None,
            endpoints: vec![Endpoint { url: url.parse().unwrap(), weight: 1 }],
            level: Levels::EXECUTE,
            unmatched: Unmatched::Refuse,
            public: Vec::new(),
            forward_token: TokenForwarding::No,
            inject: Injection::default(),
            operations: Vec::new(),
            timeouts: Timeouts { connect: Some(LONG), first_byte: Some(LONG), idle: Some(idle), total: None },
            tls,
            cors: None,
            trusted: true,
        };
        let register = Register { allow_hosts: Vec::new(), allow_loopback: false, allow_private: false };
        let guard = Arc::new(TargetGuard::new(&register, &[]));
        Self { pools: Pools::new(), upstream: Upstream::new(&service, guard, &Roots::native()).unwrap() }
    }

    async fn send(&self, request: Request<Outbound>) -> Result<Response<UpstreamBody<Outbound>>, SendError<Outbound>> {
        let endpoint = self.pools.pick(&self.upstream).unwrap();
        self.pools.send(&self.upstream, endpoint, request).await
    }

    async fn echo(&self, text: &'static str) -> String {
        let body = Full::from(text).map_err(|never| match never {}).boxed_unsync();
        let response = self.send(Request::post("/echo?q=1").body(body).unwrap()).await.unwrap();
        String::from_utf8_lossy(&response.into_body().collect().await.unwrap().to_bytes()).into_owned()
    }

    async fn fail(&self) -> SendErrorKind {
        self.send(Request::get("/").body(empty()).unwrap()).await.map(|_| ()).unwrap_err().kind()
    }
}

fn empty() -> Outbound {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn trust(authority: &Authority, protocol: Protocol) -> UpstreamTls {
    UpstreamTls { ca: Some(authority.ca.clone()), identity: None, protocol }
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::task::yield_now().await;
    }
}

#[test]
fn the_protocol_is_agreed_on_by_alpn_unless_it_is_set() {
    let authority = authority("localhost");
    on_a_worker(async {
        for (protocol, offered, version) in [
            (Protocol::Auto, &["h2", "http/1.1"][..], Version::HTTP_2),
            (Protocol::Auto, &["http/1.1"], Version::HTTP_11),
            (Protocol::Auto, &[], Version::HTTP_11),
            (Protocol::Http1, &["h2", "http/1.1"], Version::HTTP_11),
            (Protocol::Http2, &["h2", "http/1.1"], Version::HTTP_2),
        ] {
            let (addr, seen) = start(Some(server(&authority, offered, None)), false).await;
            let client = Client::new(&format!("https://localhost:{}/", addr.port()), trust(&authority, protocol));
            assert_eq!(client.echo("hello").await, "hello");
            assert_eq!(seen.requests.borrow()[0].version, version, "{protocol:?} {offered:?}");
        }
        let (addr, _) = start(Some(server(&authority, &["http/1.1"], None)), false).await;
        let client = Client::new(&format!("https://localhost:{}/", addr.port()), trust(&authority, Protocol::Http2));
        assert_eq!(client.fail().await, SendErrorKind::Tls);
    });
}

#[test]
fn a_server_that_is_not_trusted_gets_no_request() {
    let (right, wrong) = (authority("localhost"), authority("localhost"));
    let elsewhere = authority("elsewhere.test");
    on_a_worker(async {
        let (addr, seen) = start(Some(server(&right, &[], None)), false).await;
        let url = format!("https://localhost:{}/", addr.port());
        assert_eq!(Client::new(&url, trust(&wrong, Protocol::Auto)).fail().await, SendErrorKind::Tls);

        let (addr, other) = start(Some(server(&elsewhere, &[], None)), false).await;
        let url = format!("https://localhost:{}/", addr.port());
        assert_eq!(Client::new(&url, trust(&elsewhere, Protocol::Auto)).fail().await, SendErrorKind::Tls, "by name");
        assert!(seen.requests.borrow().is_empty() && other.requests.borrow().is_empty());

        let (addr, _) = start(None, false).await;
        let url = format!("https://localhost:{}/", addr.port());
        assert_eq!(Client::new(&url, trust(&right, Protocol::Auto)).fail().await, SendErrorKind::Tls, "no TLS at all");
    });
}

#[test]
fn the_gateway_proves_itself_with_its_client_certificate() {
    let authority = authority("localhost");
    let key = KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(["gateway.test".to_owned()]).unwrap();
    parameters.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let chain = parameters.self_signed(&key).unwrap().pem().into_bytes();
    on_a_worker(async {
        let (addr, _) = start(Some(server(&authority, &["h2"], Some(&chain))), false).await;
        let url = format!("https://localhost:{}/", addr.port());
        let mut tls = trust(&authority, Protocol::Auto);
        assert!(Client::new(&url, tls.clone()).send(Request::get("/").body(empty()).unwrap()).await.is_err());
        tls.identity = Some((chain.clone(), Hidden::new(key.serialize_pem())));
        assert_eq!(Client::new(&url, tls).echo("hello").await, "hello");
    });
}

#[test]
fn http_2_requests_share_one_connection_and_carry_no_connection_headers() {
    on_a_worker(async {
        let (addr, seen) = start(None, true).await;
        let client = Rc::new(Client::new(&format!("http://{addr}/"), protocol(Protocol::Http2)));
        let calls: Vec<_> = (0..20)
            .map(|_| {
                let client = Rc::clone(&client);
                tokio::task::spawn_local(async move { client.echo("hello").await })
            })
            .collect();
        for call in calls {
            assert_eq!(call.await.unwrap(), "hello");
        }
        assert_eq!(seen.connections.get(), 1);

        let mut request = Request::get("/a%2Fb?q=%20").body(empty()).unwrap();
        for (name, value) in [
            ("host", "caller.example"),
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("transfer-encoding", "chunked"),
            ("te", "trailers, deflate"),
            ("x-a", "1"),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        client.send(request).await.unwrap();
        let requests = seen.requests.borrow();
        let last = requests.last().unwrap();
        assert_eq!(last.uri.to_string(), format!("http://{addr}/a%2Fb?q=%20"));
        assert_eq!(last.headers.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["x-a"]);
    });
}

fn protocol(protocol: Protocol) -> UpstreamTls {
    UpstreamTls { protocol, ..UpstreamTls::default() }
}

#[test]
fn trailers_pass_in_both_directions() {
    on_a_worker(async {
        let (addr, seen) = start(None, true).await;
        let client = Client::new(&format!("http://{addr}/"), protocol(Protocol::Http2));
        let mut trailers = HeaderMap::new();
        trailers.insert("x-checksum", "7".parse().unwrap());
        let frames: Vec<Result<_, BoxError>> =
            vec![Ok(Frame::data(Bytes::from_static(b"message"))), Ok(Frame::trailers(trailers))];
        let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
        let request = Request::post("/trailers").header("te", "trailers").body(body).unwrap();
        let received = client.send(request).await.unwrap().into_body().collect().await.unwrap();
        let trailers = received.trailers().unwrap().clone();
        assert_eq!((&trailers["grpc-status"], &trailers["x-checksum"]), (&"0".parse().unwrap(), &"7".parse().unwrap()));
        assert_eq!(received.to_bytes(), "message");
        assert_eq!(seen.requests.borrow()[0].headers["te"], "trailers");
    });
}

#[test]
fn dropping_an_http_2_call_resets_its_stream_and_leaves_the_others() {
    on_a_worker(async {
        let (addr, seen) = start(None, true).await;
        let client = Rc::new(Client::new(&format!("http://{addr}/"), protocol(Protocol::Http2)));
        let hanging = {
            let client = Rc::clone(&client);
            tokio::task::spawn_local(async move { client.send(Request::get("/hang").body(empty()).unwrap()).await })
        };
        until(|| !seen.requests.borrow().is_empty()).await;
        hanging.abort();
        until(|| seen.dropped.get() == 1).await;

        // The request's body is still under way when the response is dropped: it ends too.
        let (give, mut take) = tokio::sync::mpsc::unbounded_channel::<Result<Frame<Bytes>, BoxError>>();
        let body = StreamBody::new(futures_util::stream::poll_fn(move |cx| take.poll_recv(cx))).boxed_unsync();
        let mut response = client.send(Request::post("/endless").body(body).unwrap()).await.unwrap();
        assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "first");
        drop(response);
        give.closed().await;
        until(|| seen.dropped.get() == 2).await;

        assert_eq!(client.echo("hello").await, "hello");
        assert_eq!(seen.connections.get(), 1);
    });
}

#[test]
fn callers_who_take_nothing_do_not_hold_up_the_others_on_an_http_2_connection() {
    on_a_worker(async {
        let (addr, seen) = start(None, true).await;
        let client = Client::new(&format!("http://{addr}/"), protocol(Protocol::Http2));
        let mut stalled = Vec::new();
        for _ in 0..24 {
            stalled.push(client.send(Request::get("/flood").body(empty()).unwrap()).await.unwrap());
        }
        assert_eq!(client.echo("hello").await, "hello");
        let mut taken = 0;
        while taken < 16 << 20 {
            let frame = stalled[0].body_mut().frame().await.unwrap().unwrap();
            taken += frame.into_data().unwrap().len();
        }
        assert_eq!(client.echo("hello").await, "hello");
        assert_eq!(seen.connections.get(), 1);
    });
}

#[test]
fn an_upload_that_outlives_its_answer_and_stands_still_is_broken_off() {
    on_a_worker(async {
        let (addr, seen) = start(None, true).await;
        let url = format!("http://{addr}/");
        let client = Client::patient(&url, protocol(Protocol::Http2), Duration::from_millis(200));
        let (give, mut take) = tokio::sync::mpsc::unbounded_channel::<Result<Frame<Bytes>, BoxError>>();
        let body = StreamBody::new(futures_util::stream::poll_fn(move |cx| take.poll_recv(cx))).boxed_unsync();
        let response = client.send(Request::post("/early").body(body).unwrap()).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "early");
        give.closed().await;
        until(|| seen.dropped.get() == 1).await;
        assert_eq!(client.echo("hello").await, "hello");
        assert_eq!(seen.connections.get(), 1);
    });
}

#[test]
fn an_upload_that_waits_for_an_http_2_upstreams_window_ends_with_its_call() {
    on_a_worker(async {
        for impatient in [false, true] {
            let (addr, seen) = start(None, true).await;
            let idle = if impatient { Duration::from_millis(100) } else { LONG };
            let client = Client::patient(&format!("http://{addr}/"), protocol(Protocol::Http2), idle);
            let (give, mut take) = tokio::sync::mpsc::unbounded_channel::<Result<Frame<Bytes>, BoxError>>();
            for _ in 0..32 {
                give.send(Ok(Frame::data(Bytes::from_static(&[b'x'; 128 * 1024])))).unwrap();
            }
            let body = StreamBody::new(futures_util::stream::poll_fn(move |cx| take.poll_recv(cx))).boxed_unsync();
            let mut response = client.send(Request::post("/deaf").body(body).unwrap()).await.unwrap();
            assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "first");
            if impatient {
                let error = response.body_mut().frame().await.unwrap().unwrap_err();
                assert!(matches!(error, BodyError::IdleTimeout), "{error}");
            }
            drop(response);
            give.closed().await;
            seen.listens.set(true);
            until(|| seen.dropped.get() == 1).await;
            assert_eq!(client.echo("hello").await, "hello");
            assert_eq!(seen.connections.get(), 1);
        }
    });
}

#[test]
fn an_upgrade_goes_over_http_1_even_where_http_2_is_preferred() {
    let authority = authority("localhost");
    on_a_worker(async {
        let (addr, seen) = start(Some(server(&authority, &["h2", "http/1.1"], None)), false).await;
        let url = format!("https://localhost:{}/", addr.port());
        let client = Client::new(&url, trust(&authority, Protocol::Auto));
        client.echo("hello").await;
        let request =
            || Request::get("/").header("connection", "upgrade").header("upgrade", "echo").body(empty()).unwrap();
        client.send(request()).await.unwrap();
        assert_eq!(seen.requests.borrow().last().unwrap().version, Version::HTTP_11);
        client.echo("hello").await;
        assert_eq!(seen.requests.borrow().last().unwrap().version, Version::HTTP_2);
        assert_eq!(seen.connections.get(), 2);

        let strict = Client::new(&url, trust(&authority, Protocol::Http2));
        let error = strict.send(request()).await.map(|_| ()).unwrap_err();
        assert_eq!(error.kind(), SendErrorKind::NoUpgrade);
    });
}

#[test]
fn an_http_2_connection_that_is_gone_is_made_anew() {
    on_a_worker(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let client = Rc::new(Client::new(&format!("http://{addr}/"), protocol(Protocol::Http2)));
        let seen = Rc::new(Seen::default());
        for _ in 0..3 {
            let call = {
                let client = Rc::clone(&client);
                tokio::task::spawn_local(async move { client.echo("hello").await })
            };
            let (stream, _) = listener.accept().await.unwrap();
            let service = {
                let seen = Rc::clone(&seen);
                service_fn(move |request| answer(request, Rc::clone(&seen)))
            };
            let builder = hyper::server::conn::http2::Builder::new(OnThisThread);
            let mut connection = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                _ = connection.as_mut() => panic!("the connection ended by itself"),
                text = call => assert_eq!(text.unwrap(), "hello"),
            }
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
        assert_eq!(seen.requests.borrow().len(), 3);
    });
}
