//! The listeners' threads: each with a socket, a current-thread runtime, and whatever is worker-local.

use std::future::ready;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use futures_util::future::Either;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::StartError;
use crate::api::{Api, Front};
use crate::batch::Runtime;
use crate::config::Config;
use crate::proxy::body::ProxyBody;
use crate::proxy::target::Door;
use crate::proxy::{self, Gateway, Peer, Worker};
use crate::server::{self, Admission, Serving, TlsReload};

/// What all threads share.
pub(super) struct Shared {
    pub(super) config: Arc<Config>,
    pub(super) gateway: Arc<Gateway>,
    pub(super) api: Arc<Api>,
}

/// The sockets, reserved before anything slow happens: a port that is taken is told at once. Callers are turned away
/// until there is something to answer from.
pub(super) struct Bound {
    /// Where calls are taken.
    pub(super) proxy: SocketAddr,
    /// Where the REST API is.
    pub(super) api: SocketAddr,
    workers: Vec<TcpListener>,
    front: TcpListener,
    claims: [Claim; 2],
}

impl Bound {
    /// Binds a socket for each worker, and one for the API.
    pub(super) fn bind(config: &Config) -> Result<Self, StartError> {
        let listen = &config.listen;
        let first = bind("proxy", listen.proxy)?;
        let proxy = first.local_addr().map_err(|error| internal(&error))?;
        let mut workers = vec![first];
        for _ in 1..listen.workers.max(1) {
            workers.push(server::reserve(proxy).map_err(|error| taken("proxy", proxy, &error))?);
        }
        let front = bind("api", listen.api)?;
        let api = front.local_addr().map_err(|error| internal(&error))?;
        let claims = [Claim::of("proxy", proxy)?, Claim::of("api", api)?];
        Ok(Self { proxy, api, workers, front, claims })
    }

    /// Serves, each socket on a thread of its own, until `stop`.
    pub(super) fn serve(
        self,
        shared: &Shared,
        tls: Option<Arc<TlsReload>>,
        stop: &CancellationToken,
    ) -> Result<Vec<JoinHandle<std::io::Result<()>>>, StartError> {
        let config = &shared.config;
        let claims = Arc::new(self.claims);
        for (which, addr, sockets) in
            [("proxy", self.proxy, self.workers.as_slice()), ("api", self.api, std::slice::from_ref(&self.front))]
        {
            for socket in sockets {
                server::open(socket).map_err(|error| taken(which, addr, &error))?;
            }
        }
        let serving = || Serving {
            tls: tls.clone(),
            limits: config.limits.clone(),
            admission: Admission::new(config.limits.connections),
            access: config.log.access,
            drain: config.listen.drain,
            stop: stop.clone(),
        };
        let mut threads = Vec::with_capacity(self.workers.len() + 1);
        let calls = serving();
        for (number, listener) in self.workers.into_iter().enumerate() {
            let (serving, gateway, readiness) = (calls.clone(), shared.gateway.clone(), shared.api.readiness.clone());
            let (stop, claims) = (stop.clone(), claims.clone());
            threads.push(spawn(format!("proxy-{number}"), Runtime::with_batches, stop.clone(), async move || {
                let _held = claims;
                let worker = Worker::new();
                gateway.records().add(&worker.record);
                let upgraded = worker.upgraded.clone();
                let handler = move |request: http::Request<hyper::body::Incoming>, peer: server::Peer| match readiness
                    .probe(request.uri().path())
                {
                    Some(answer) => Either::Left(ready(answer.map(ProxyBody::from))),
                    None => Either::Right(proxy::walk(&gateway, &worker, request, caller(peer), Door::Proxy)),
                };
                let drain = serving.drain;
                until_drained(server::serve(listener, serving, handler), &[&upgraded], &stop, drain).await
            })?);
        }
        let (serving, gateway, api) = (serving(), shared.gateway.clone(), shared.api.clone());
        let listener = self.front;
        let stop = stop.clone();
        threads.push(spawn("api".to_owned(), Runtime::without_batches, stop.clone(), async move || {
            let _held = claims;
            let worker = Worker::new();
            gateway.records().add(&worker.record);
            let (upgraded, tunnels) = (worker.upgraded.clone(), gateway.tunnels().clone());
            let front = Front::new(api, gateway, worker);
            let handler = move |request: http::Request<hyper::body::Incoming>, peer: server::Peer| {
                let front = front.clone();
                async move { front.answer(request, caller(peer)).await }
            };
            let drain = serving.drain;
            until_drained(server::serve(listener, serving, handler), &[&upgraded, tunnels.running()], &stop, drain)
                .await
        })?);
        Ok(threads)
    }
}

/// A peer as the proxy sees one.
fn caller(peer: server::Peer) -> Peer {
    Peer { addr: peer.addr.ip(), tls: peer.tls }
}

/// Serves to the end, then waits for upgraded connections: they have left the listener, and have the same drain time.
async fn until_drained(
    serving: impl Future<Output = std::io::Result<()>>,
    upgraded: &[&TaskTracker],
    stop: &CancellationToken,
    drain: Duration,
) -> std::io::Result<()> {
    let end = async {
        stop.cancelled().await;
        Instant::now() + drain
    };
    let (served, end) = tokio::join!(
        async {
            // A listener that fails ends the process: half a gateway is worse than a restart.
            serving.await.inspect_err(|_| stop.cancel())
        },
        end
    );
    for upgraded in upgraded {
        upgraded.close();
        // Those that are still open when the time is over are cut.
        let _ = tokio::time::timeout_at(end, upgraded.wait()).await;
    }
    served
}

/// Ends the process in good order when the thread that holds it panics.
struct Fuse(CancellationToken);

impl Drop for Fuse {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.cancel();
        }
    }
}

/// A thread with a runtime of its own, for futures that stay on it.
fn spawn<S>(
    name: String,
    runtime: fn() -> std::io::Result<Runtime>,
    stop: CancellationToken,
    serve: S,
) -> Result<JoinHandle<std::io::Result<()>>, StartError>
where
    S: AsyncFnOnce() -> std::io::Result<()> + Send + 'static,
{
    let (built, is_built) = std::sync::mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(name)
        .spawn(move || {
            let runtime = match runtime() {
                Ok(runtime) => runtime,
                Err(error) => {
                    // Whoever waits for the word returns it.
                    let _ = built.send(Err(error));
                    return Ok(());
                }
            };
            let _ = built.send(Ok(()));
            // After the runtime, so that it blows before that ends, which may wait for work that blocks.
            let _fuse = Fuse(stop);
            let served = runtime.block_on(serve());
            served.inspect_err(|error| tracing::error!(%error, "a listener failed"))
        })
        .map_err(|error| internal(&error))?;
    let told = is_built.recv().unwrap_or_else(|error| Err(std::io::Error::other(error)));
    told.map_err(|error| internal(&error)).map(|()| thread)
}

/// Workers share the port, so a second gateway could bind it too and take half of the calls: a socket that does not
/// share tells whether somebody is there.
fn bind(which: &str, addr: SocketAddr) -> Result<TcpListener, StartError> {
    drop(TcpListener::bind(addr).map_err(|error| taken(which, addr, &error))?);
    server::reserve(addr).map_err(|error| taken(which, addr, &error))
}

/// Keeps every other gateway of this machine from the address for as long as it is held. The probe of [`bind`] does not
/// see a gateway that still loads: its sockets are bound and do not listen yet.
struct Claim {
    /// A name that the kernel gives once, and takes back with the process.
    #[cfg(target_os = "linux")]
    _name: std::os::unix::net::UnixListener,
}

impl Claim {
    #[cfg(target_os = "linux")]
    fn of(which: &str, addr: SocketAddr) -> Result<Self, StartError> {
        use std::os::linux::net::SocketAddrExt;
        use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener};

        let name = UnixAddr::from_abstract_name(format!("carta-gateway/{addr}")).map_err(|error| internal(&error))?;
        let name = UnixListener::bind_addr(&name).map_err(|error| taken(which, addr, &error))?;
        Ok(Self { _name: name })
    }

    #[cfg(not(target_os = "linux"))]
    fn of(_: &str, _: SocketAddr) -> Result<Self, StartError> {
        Ok(Self {})
    }
}

fn taken(which: &str, addr: SocketAddr, error: &std::io::Error) -> StartError {
    StartError::Configuration(format!(
        "the {which} listener cannot listen at {addr}: {error}\nend what listens there, or set another `{which}` in [listen]"
    ))
}

fn internal(error: &std::io::Error) -> StartError {
    StartError::Internal(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gateway_that_still_loads_keeps_another_from_its_addresses() {
        let free = || SocketAddr::from(([127, 0, 0, 1], 0));
        let text = |proxy: SocketAddr, api: SocketAddr| {
            format!(
                "[listen]\nproxy = \"{proxy}\"\napi = \"{api}\"\n[vault]\nkey = \"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\"\n"
            )
        };
        let config = |proxy, api| {
            crate::config::parse(&text(proxy, api), std::path::Path::new("."), &|_| None).expect("it is whole")
        };
        let first = Bound::bind(&config(free(), free())).unwrap();
        for addr in [first.proxy, first.api] {
            // Nor does it answer: a probe of its readiness finds nobody until the state is loaded.
            let refused = std::net::TcpStream::connect(addr).map_err(|error| error.kind());
            assert_eq!(refused.err(), Some(std::io::ErrorKind::ConnectionRefused));
        }
        assert!(Bound::bind(&config(first.proxy, free())).is_err());
        assert!(Bound::bind(&config(free(), first.api)).is_err());
        let (proxy, api) = (first.proxy, first.api);
        drop(first);
        Bound::bind(&config(proxy, api)).unwrap();
    }
}
