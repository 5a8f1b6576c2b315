//! TLS of the listener, with a real client and real certificates.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::future::Future;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use carta_gateway::batch::Runtime;
use carta_gateway::config::{Limits, ListenTls};
use carta_gateway::server::{Admission, Peer, Serving, TlsReload, bind, serve};
use http::{Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

const LONG: Duration = Duration::from_secs(30);

fn on_a_worker<F: Future>(future: F) -> F::Output {
    let runtime = Runtime::with_batches().unwrap();
    runtime.block_on(async { tokio::time::timeout(LONG, future).await.expect("done in time") })
}

struct Pair {
    directory: TempDir,
}

impl Pair {
    fn new() -> (Self, CertificateDer<'static>) {
        let pair = Self { directory: TempDir::new().unwrap() };
        let certificate = pair.renew();
        (pair, certificate)
    }

    fn files(&self) -> ListenTls {
        let path = self.directory.path();
        ListenTls { certificate: path.join("cert.pem"), key: path.join("key.pem") }
    }

    fn renew(&self) -> CertificateDer<'static> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        replace(&self.files().key, &signing_key.serialize_pem());
        replace(&self.files().certificate, &cert.pem());
        cert.der().clone()
    }
}

fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

async fn hello(request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
    assert!(peer.tls);
    Response::new(Full::from(format!("{:?}", request.version())))
}

fn start(tls: Arc<TlsReload>) -> SocketAddr {
    let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let addr = listener.local_addr().unwrap();
    let limits = Limits {
        header_bytes: 16384,
        headers: 64,
        uri_bytes: 8192,
        body_bytes: None,
        api_body_bytes: 1024,
        changes: 1,
        change_each: None,
        connections: 100,
        h2_streams: 10,
        handshake_timeout: Duration::from_millis(500),
        header_timeout: LONG,
        api_body_timeout: LONG,
        keep_alive: LONG,
    };
    let serving = Serving {
        tls: Some(tls),
        limits,
        admission: Admission::new(100),
        access: false,
        drain: LONG,
        stop: CancellationToken::new(),
    };
    tokio::task::spawn_local(serve(listener, serving, hello));
    addr
}

async fn connect(
    addr: SocketAddr,
    trust: &CertificateDer<'static>,
    alpn: &[&str],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(trust.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, TcpStream::connect(addr).await?).await
}

#[test]
fn the_version_is_agreed_on_by_alpn() {
    let (pair, certificate) = Pair::new();
    on_a_worker(async {
        let addr = start(TlsReload::load(&pair.files()).unwrap());

        let stream = connect(addr, &certificate, &["h2", "http/1.1"]).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("https://localhost/").body(Empty::<Bytes>::new()).unwrap();
        let body = sender.send_request(request).await.unwrap().collect().await.unwrap().to_bytes();
        assert_eq!(body, "HTTP/2.0");

        for alpn in [&["http/1.1"][..], &[]] {
            let mut stream = connect(addr, &certificate, alpn).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("HTTP/1.1"), "{answer}");
        }
    });
}

#[test]
fn a_certificate_that_changes_is_taken_up_and_a_bad_one_is_not() {
    let (pair, first) = Pair::new();
    on_a_worker(async {
        let tls = TlsReload::load(&pair.files()).unwrap();
        let addr = start(Arc::clone(&tls));
        connect(addr, &first, &[]).await.unwrap();

        let second = pair.renew();
        tls.reload().unwrap();
        connect(addr, &second, &[]).await.unwrap();
        connect(addr, &first, &[]).await.unwrap_err();

        replace(&pair.files().key, &KeyPair::generate().unwrap().serialize_pem());
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains("cannot be used with its key"), "{error}");
        replace(&pair.files().certificate, "garbage");
        let error = tls.reload().unwrap_err().to_string();
        assert!(error.contains("cannot read certificates from `"), "{error}");
        connect(addr, &second, &[]).await.unwrap();
    });
}

#[test]
fn the_files_are_watched() {
    let (pair, _first) = Pair::new();
    on_a_worker(async {
        let tls = TlsReload::load(&pair.files()).unwrap();
        let addr = start(Arc::clone(&tls));
        // What changes before the watch begins is taken up as well.
        let second = pair.renew();
        let stop = CancellationToken::new();
        let watch = tokio::spawn(Arc::clone(&tls).watch(stop.clone()));
        until_served(addr, &second).await;
        let third = pair.renew();
        until_served(addr, &third).await;
        stop.cancel();
        watch.await.unwrap().unwrap();
    });
}

#[test]
fn a_new_certificate_is_taken_up_beside_a_file_that_is_written_without_end() {
    let (pair, first) = Pair::new();
    let ended = Arc::new(AtomicBool::new(false));
    let writer = {
        let (ended, log) = (Arc::clone(&ended), pair.directory.path().join("gateway.log"));
        std::thread::spawn(move || {
            let mut log = std::fs::File::create(log).unwrap();
            while !ended.load(Ordering::Relaxed) {
                writeln!(log, "one more line").unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        })
    };
    on_a_worker(async {
        let tls = TlsReload::load(&pair.files()).unwrap();
        let addr = start(Arc::clone(&tls));
        let stop = CancellationToken::new();
        let watch = tokio::spawn(Arc::clone(&tls).watch(stop.clone()));
        until_served(addr, &first).await;
        let second = pair.renew();
        until_served(addr, &second).await;
        stop.cancel();
        watch.await.unwrap().unwrap();
    });
    ended.store(true, Ordering::Relaxed);
    writer.join().unwrap();
}

/// As Kubernetes does it: the names are links through a directory that is itself a link, and that link is replaced.
#[test]
fn a_certificate_behind_links_is_watched() {
    let (old, _) = Pair::new();
    let (new, second) = Pair::new();
    let mounted = TempDir::new().unwrap();
    let at = |name: &str| mounted.path().join(name);
    symlink(old.directory.path(), at("..data")).unwrap();
    for name in ["cert.pem", "key.pem"] {
        symlink(Path::new("..data").join(name), at(name)).unwrap();
    }
    on_a_worker(async {
        let tls = TlsReload::load(&ListenTls { certificate: at("cert.pem"), key: at("key.pem") }).unwrap();
        let addr = start(Arc::clone(&tls));
        let stop = CancellationToken::new();
        let watch = tokio::spawn(Arc::clone(&tls).watch(stop.clone()));
        symlink(new.directory.path(), at("..data_tmp")).unwrap();
        std::fs::rename(at("..data_tmp"), at("..data")).unwrap();
        until_served(addr, &second).await;
        stop.cancel();
        watch.await.unwrap().unwrap();
    });
}

/// Ends when the listener has this certificate; the test's own limit is the only one.
async fn until_served(addr: SocketAddr, certificate: &CertificateDer<'static>) {
    let mut tries = tokio::time::interval(Duration::from_millis(50));
    while connect(addr, certificate, &[]).await.is_err() {
        tries.tick().await;
    }
}

#[test]
fn what_is_no_handshake_costs_a_connection_and_nothing_more() {
    let (pair, certificate) = Pair::new();
    on_a_worker(async {
        let addr = start(TlsReload::load(&pair.files()).unwrap());
        let mut plain = TcpStream::connect(addr).await.unwrap();
        plain.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https"), "{answer}");
        assert!(answer.contains("content-type: application/problem+json\r\n"), "{answer}");

        let mut silent = TcpStream::connect(addr).await.unwrap();
        assert_eq!(silent.read_to_end(&mut Vec::new()).await.unwrap(), 0, "closed after the handshake timeout");
        connect(addr, &certificate, &[]).await.unwrap();
    });
}

#[test]
fn a_key_of_another_certificate_is_refused_at_once() {
    let (pair, _) = Pair::new();
    replace(&pair.files().key, &KeyPair::generate().unwrap().serialize_pem());
    assert!(TlsReload::load(&pair.files()).is_err());
    std::fs::remove_file(pair.files().key).unwrap();
    let error = TlsReload::load(&pair.files()).unwrap_err().to_string();
    assert!(error.contains("cannot read a private key from `"), "{error}");
}
