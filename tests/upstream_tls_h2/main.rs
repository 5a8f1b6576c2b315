//! Upstreams behind TLS and in HTTP/2, with real servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod http2;
mod tls;

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, pending};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use carta_gateway::batch::Runtime;
use carta_gateway::config::{
    Endpoint, Hidden, Injection, Protocol, Register, Service, Timeouts, TokenForwarding, Unmatched, UpstreamTls,
};
use carta_gateway::policy::Levels;
use carta_gateway::upstream::{
    BodyError, Pools, RequestHead, Roots, SendError, SendErrorKind, TargetGuard, Upstream, UpstreamBody,
};
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
use tokio_rustls::TlsAcceptor;

const LONG: Duration = Duration::from_secs(30);

type BoxError = Box<dyn Error + Send + Sync>;
type Outbound = UnsyncBoxBody<Bytes, BoxError>;

fn on_a_worker<F: Future>(future: F) -> F::Output {
    let runtime = Runtime::with_batches().unwrap();
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
            tunnel: false,
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
        let (parts, body) = request.into_parts();
        self.pools.send(&self.upstream, endpoint, &RequestHead::from(&parts), body, tokio::time::Instant::now()).await
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
