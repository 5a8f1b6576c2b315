//! From an endpoint's name to a connection: resolve, judge, connect, shake hands, all within one time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;
use url::Host;

use super::error::SendErrorKind;
use super::stream::Stream;
use super::{Endpoint, Upstream};
use crate::config::Protocol;
use crate::telemetry::metrics::PoolMetrics;

/// What the connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Http {
    One,
    Two,
}

/// Why there is no connection: the kind, and words for the log.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) kind: SendErrorKind,
    pub(super) detail: String,
}

impl Failure {
    fn new(kind: SendErrorKind, detail: impl ToString) -> Self {
        Self { kind, detail: detail.to_string() }
    }
}

/// Connects within the service's connect timeout. `upgrade`: HTTP/1.1 is a must.
///
/// The endpoint's health learns of the outcome, unless the address was refused: that is our doing, not its fault.
pub(super) async fn connect(
    upstream: &Upstream,
    endpoint: &Endpoint,
    upgrade: bool,
    metrics: &PoolMetrics,
) -> Result<(Stream, Http), Failure> {
    let deadline = upstream.timeouts.connect.map(|time| Instant::now() + time);
    let attempt = attempt(upstream, endpoint, upgrade, deadline, metrics);
    let outcome = match deadline {
        None => attempt.await,
        Some(deadline) => tokio::time::timeout_at(deadline, attempt)
            .await
            .unwrap_or_else(|_| Err(Failure::new(SendErrorKind::ConnectTimeout, "no connection in time"))),
    };
    match &outcome {
        Ok(_) => {
            metrics.connected.increment(1);
            endpoint.health.succeed();
        }
        Err(failure) => {
            metrics.failed.increment(1);
            if !matches!(failure.kind, SendErrorKind::Refused(_)) {
                endpoint.health.fail();
            }
        }
    }
    outcome
}

async fn attempt(
    upstream: &Upstream,
    endpoint: &Endpoint,
    upgrade: bool,
    deadline: Option<Instant>,
    metrics: &PoolMetrics,
) -> Result<(Stream, Http), Failure> {
    let stream = reach(upstream, endpoint, deadline).await?;
    let Some(name) = &endpoint.tls else {
        let http = if upstream.protocol == Protocol::Http2 { Http::Two } else { Http::One };
        return Ok((Stream::plain(stream, metrics.open.clone()), http));
    };
    let Some(handshakes) = &upstream.handshakes else {
        return Err(Failure::new(SendErrorKind::Tls, "TLS is not set up"));
    };
    let connector = if upgrade { &handshakes.one } else { &handshakes.usual };
    let stream =
        connector.connect(name.clone(), stream).await.map_err(|error| Failure::new(SendErrorKind::Tls, error))?;
    let http = match stream.get_ref().1.alpn_protocol() {
        Some(b"h2") => Http::Two,
        _ if upstream.protocol == Protocol::Http2 => {
            return Err(Failure::new(SendErrorKind::Tls, "the server did not agree on HTTP/2"));
        }
        _ => Http::One,
    };
    Ok((Stream::tls(stream, metrics.open.clone()), http))
}

/// Tries the addresses of the name in the resolver's order. Refused ones are passed over; where all are, that is told.
async fn reach(upstream: &Upstream, endpoint: &Endpoint, deadline: Option<Instant>) -> Result<TcpStream, Failure> {
    let addrs = resolve(endpoint).await?;
    let mut failure = Failure::new(SendErrorKind::Resolve, "the name has no addresses");
    let mut left = addrs.len();
    for addr in addrs {
        left -= 1;
        if let Err(reason) = upstream.guard.address(addr, upstream.trusted) {
            let told = matches!(failure.kind, SendErrorKind::Connect);
            if !told {
                failure = Failure::new(SendErrorKind::Refused(reason), format!("{}: {reason}", addr.ip()));
            }
            continue;
        }
        let connecting = dial(addr);
        let outcome = if left == 0 {
            connecting.await
        } else {
            // An address that swallows packets must leave time for the next.
            let patience = deadline.map_or(Duration::from_secs(5), |at| at.duration_since(Instant::now()) / 2);
            tokio::time::timeout(patience, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        };
        match outcome {
            Ok(stream) => return Ok(stream),
            Err(error) => failure = Failure::new(SendErrorKind::Connect, format!("{addr}: {error}")),
        }
    }
    Err(failure)
}

async fn resolve(endpoint: &Endpoint) -> Result<Vec<SocketAddr>, Failure> {
    let port = endpoint.port;
    match &endpoint.host {
        Host::Ipv4(ip) => Ok(vec![SocketAddr::new(IpAddr::V4(*ip), port)]),
        Host::Ipv6(ip) => Ok(vec![SocketAddr::new(IpAddr::V6(*ip), port)]),
        Host::Domain(name) => tokio::net::lookup_host((name.as_str(), port))
            .await
            .map(Iterator::collect)
            .map_err(|error| Failure::new(SendErrorKind::Resolve, error)),
    }
}

async fn dial(addr: SocketAddr) -> io::Result<TcpStream> {
    let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_nodelay(true)?;
    let quiet = Duration::from_secs(60);
    SockRef::from(&socket).set_tcp_keepalive(&TcpKeepalive::new().with_time(quiet).with_interval(quiet / 4))?;
    socket.connect(addr).await
}
