//! Whole calls over the network: of a service in this process, and of the same one through a gateway before it, which
//! has the population, a listener, and a worker as `serve` has them.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hdrhistogram::Histogram;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::server::conn::http1 as http1_server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio_util::sync::CancellationToken;

use super::house::{House, internal};
use super::report::{Layer, Report};
use super::{Failure, histogram, record};
use crate::batch;
use crate::cli::open::block_on;
use crate::cli::progress::Progress;
use crate::proxy::{Door, Gateway, Peer, Worker, walk};
use crate::server::{self, Admission, Serving};

/// What the service answers.
const ANSWER: &[u8] = &[b'x'; 128];

/// Calls before the measured ones, where as many are measured.
const WARM_UP: u32 = 200;

/// Measures calls over kept connections, one after the other. A token is first seen in the first call with it.
pub(super) fn run(house: &House, service: SocketAddr, calls: u32, report: &mut Report<'_>) -> Result<(), Failure> {
    // As `serve` counts them; where a recorder is there already, they are counted by that.
    let _ = crate::telemetry::metrics::install();
    let proxy = Proxy::start(house)?;
    let requests: Vec<_> = house.callers.iter().map(|caller| (caller.path(), &caller.headers)).collect();
    let (none, warm_up) = (HeaderMap::new(), calls.min(WARM_UP));
    let (direct, first, through) = block_on(async {
        let direct = measure(service, &[("/hello".to_owned(), &none)], calls, warm_up).await?;
        let first = measure(proxy.addr, &requests, u32::try_from(requests.len()).unwrap_or(u32::MAX), 0).await?;
        let through = measure(proxy.addr, &requests, calls, warm_up).await?;
        Ok((direct, first, through))
    })?;
    proxy.end()?;
    report.row(Layer::Upstream, "call of the service itself", &direct)?;
    report.row(Layer::Walk, "call through the gateway", &through)?;
    report.row(Layer::Walk, "call with a token first seen", &first)
}

/// A service that answers with [`ANSWER`] at once, on a thread of its own for as long as the process lives.
pub(super) fn service() -> Result<SocketAddr, Failure> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(|error| internal(&error))?;
    listener.set_nonblocking(true).map_err(|error| internal(&error))?;
    let addr = listener.local_addr().map_err(|error| internal(&error))?;
    let runtime = Builder::new_current_thread().enable_all().build().map_err(|error| internal(&error))?;
    let serve = move || {
        runtime.block_on(async {
            let Ok(listener) = TcpListener::from_std(listener) else { return };
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    stream.set_nodelay(true)?;
                    let answer = async |_| Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(ANSWER))));
                    let connection =
                        http1_server::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer));
                    // Whoever calls notices what goes wrong.
                    connection.await.map_err(std::io::Error::other)
                });
            }
        });
    };
    std::thread::Builder::new().name("service".to_owned()).spawn(serve).map_err(|error| internal(&error))?;
    Ok(addr)
}

/// A worker of the gateway on a thread of its own.
struct Proxy {
    addr: SocketAddr,
    stop: CancellationToken,
    thread: JoinHandle<std::io::Result<()>>,
}

impl Proxy {
    fn start(house: &House) -> Result<Self, Failure> {
        let listener = server::bind(([127, 0, 0, 1], 0).into()).map_err(|error| internal(&error))?;
        let addr = listener.local_addr().map_err(|error| internal(&error))?;
        let (stop, limits) = (CancellationToken::new(), house.config.limits.clone());
        let serving = Serving {
            tls: None,
            admission: Admission::new(limits.connections),
            limits,
            access: false,
            drain: Duration::from_secs(1),
            stop: stop.clone(),
        };
        let gateway = house.gateway.clone();
        let thread =
            std::thread::Builder::new().name("proxy".to_owned()).spawn(move || serve(listener, serving, gateway));
        Ok(Self { addr, stop, thread: thread.map_err(|error| internal(&error))? })
    }

    fn end(self) -> Result<(), Failure> {
        self.stop.cancel();
        let ended = self.thread.join().map_err(|_panic| internal(&"the worker ended early"))?;
        ended.map_err(|error| internal(&error))
    }
}

fn serve(listener: std::net::TcpListener, serving: Serving, gateway: Arc<Gateway>) -> std::io::Result<()> {
    let runtime = batch::Runtime::with_batches()?;
    let worker = Worker::new();
    gateway.records().add(&worker.record);
    let handler = move |request: Request<Incoming>, peer: server::Peer| {
        let (gateway, worker) = (gateway.clone(), worker.clone());
        let peer = Peer { addr: peer.addr.ip(), tls: peer.tls };
        async move { walk(&gateway, &worker, request, peer, Door::Proxy).await }
    };
    runtime.block_on(server::serve(listener, serving, handler))
}

/// One call after the other, each with the next request; the first so many are not noted.
async fn measure(
    to: SocketAddr,
    requests: &[(String, &HeaderMap)],
    calls: u32,
    warm_up: u32,
) -> Result<Histogram<u64>, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::Internal(format!("a call failed: {error}"));
    let stream = TcpStream::connect(to).await.map_err(|error| failed(&error))?;
    stream.set_nodelay(true).map_err(|error| failed(&error))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| failed(&error))?;
    tokio::spawn(connection);
    let mut times = histogram()?;
    let (turns, mut progress) = (calls.saturating_add(warm_up), Progress::of("calling"));
    for (turn, (path, headers)) in (0..turns).zip(requests.iter().cycle()) {
        if turn.is_multiple_of(64) {
            progress.at(turn, turns);
        }
        let mut request = Request::get(path).body(Empty::<Bytes>::new()).map_err(|error| failed(&error))?;
        request.headers_mut().clone_from(headers);
        request.headers_mut().insert(HOST, HeaderValue::from_static("bench"));
        let started = Instant::now();
        sender.ready().await.map_err(|error| failed(&error))?;
        let response = sender.send_request(request).await.map_err(|error| failed(&error))?;
        let status = response.status();
        response.collect().await.map_err(|error| failed(&error))?;
        let took = started.elapsed();
        if status != 200 {
            return Err(Failure::Internal(format!("a call was answered with {status}")));
        }
        if turn >= warm_up {
            record(&mut times, took);
        }
    }
    Ok(times)
}

/// A folder that goes when the measuring is over.
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn make() -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("carta-gateway-bench-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir(&path)
            .map_err(|error| Failure::Usage(format!("cannot make `{}`: {error}", path.display())))?;
        Ok(Self(path))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        remove(&self.0);
    }
}

fn remove(path: &Path) {
    // What cannot be removed is in the folder for what is temporary anyway.
    let _ = std::fs::remove_dir_all(path);
}
