//! Backends: addresses, connections, pools, TLS, and which targets may be connected to.
//!
//! An [`Upstream`] is a service's backend as configured: immutable, shared by all threads. [`Pools`] are one thread's
//! connections to all of them. A call is [`Pools::pick`], then [`Pools::send`]; the response's [`UpstreamBody`] gives
//! the connection back when it has been read to its end, and closes it when it is dropped before.
//!
//! A service that nothing can connect to comes by a [`tunnel`] instead.

mod alarm;
mod balance;
mod body;
mod connect;
mod error;
pub mod h1;
mod outgoing;
mod pool;
mod request;
mod send;
mod speak;
mod stream;
mod target;
mod tls;
pub mod tunnel;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::HeaderValue;
use http::uri::{Authority, Scheme};
use rustls_pki_types::ServerName;
use url::Host;

pub use body::{BodyError, UpstreamBody, ends_early};
pub use error::{SendError, SendErrorKind};
pub use outgoing::Upload;
pub use pool::Pools;
pub use request::{Heads, Lines, RequestHead, is_free_of_controls};
pub use target::{TargetGuard, TargetRefused};
pub use tls::Roots;

use crate::config::{Protocol, Service, Timeouts};
use balance::Health;
use tls::Handshakes;

/// A service's backend. Its pooled connections are its own: another service at the same address has others.
#[derive(Debug)]
pub struct Upstream {
    id: u64,
    endpoints: Vec<Endpoint>,
    timeouts: Timeouts,
    protocol: Protocol,
    handshakes: Option<Handshakes>,
    guard: Arc<TargetGuard>,
    trusted: bool,
}

impl Upstream {
    /// Reads what the service's table says about its backend. The system's `roots` are read only where needed.
    ///
    /// # Errors
    /// When a certificate or key cannot be used, an endpoint's host can be in no certificate, or a registered service
    /// names a host that is not allowed. The service must not be called then.
    pub fn new(service: &Service, guard: Arc<TargetGuard>, roots: &Roots) -> Result<Arc<Self>, UpstreamError> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let endpoints = service
            .endpoints
            .iter()
            .enumerate()
            .map(|(index, written)| Endpoint::new(index, written))
            .collect::<Result<Vec<_>, _>>()?;
        if endpoints.is_empty() {
            return Err(UpstreamError::Endpoint("there is none".to_owned()));
        }
        if !service.trusted {
            for endpoint in &endpoints {
                guard
                    .host(&endpoint.host.to_string())
                    .map_err(|reason| UpstreamError::Refused { host: endpoint.host.to_string(), reason })?;
            }
        }
        let handshakes = if endpoints.iter().any(|endpoint| endpoint.tls.is_some()) {
            Some(Handshakes::new(&service.tls, roots)?)
        } else {
            None
        };
        Ok(Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            endpoints,
            timeouts: service.timeouts,
            protocol: service.tls.protocol,
            handshakes,
            guard,
            trusted: service.trusted,
        }))
    }

    /// Where the service is, in the order of its table.
    #[must_use]
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// How long each phase may take.
    #[must_use]
    pub fn timeouts(&self) -> &Timeouts {
        &self.timeouts
    }
}

/// One address of an upstream.
#[derive(Debug)]
pub struct Endpoint {
    index: usize,
    host: Host,
    port: u16,
    scheme: Scheme,
    authority: Authority,
    host_header: HeaderValue,
    tls: Option<ServerName<'static>>,
    path: String,
    weight: u32,
    health: Health,
}

impl Endpoint {
    fn new(index: usize, written: &crate::config::Endpoint) -> Result<Self, UpstreamError> {
        let url = &written.url;
        let wrong = |what: &str| UpstreamError::Endpoint(format!("`{}`: {what}", url.origin().ascii_serialization()));
        let host = url.host().ok_or_else(|| wrong("it has no host"))?.to_owned();
        let port = url.port_or_known_default().ok_or_else(|| wrong("it has no port"))?;
        let shown = url.port().map_or_else(|| host.to_string(), |port| format!("{host}:{port}"));
        let tls = match (url.scheme(), &host) {
            ("http", _) => None,
            ("https", Host::Ipv4(ip)) => Some(ServerName::from(std::net::IpAddr::V4(*ip))),
            ("https", Host::Ipv6(ip)) => Some(ServerName::from(std::net::IpAddr::V6(*ip))),
            ("https", Host::Domain(name)) => {
                Some(ServerName::try_from(name.clone()).map_err(|_| wrong("no certificate can name this host"))?)
            }
            _ => return Err(wrong("the scheme is neither `http` nor `https`")),
        };
        Ok(Self {
            index,
            port,
            scheme: if tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP },
            authority: shown.parse().map_err(|_| wrong("the host cannot be in a request"))?,
            host_header: shown.parse().map_err(|_| wrong("the host cannot be in a header"))?,
            host,
            tls,
            path: url.path().trim_end_matches('/').to_owned(),
            weight: written.weight,
            health: Health::default(),
        })
    }

    /// The path of its base URL, without a trailing slash: empty for the root. What a caller asks for comes after it.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// Host and port as in the base URL; the port is left out where it is the scheme's own.
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }
}

/// Why a service cannot be called as its table stands.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// An endpoint that is no place to call.
    #[error("the service's endpoint cannot be used: {0}\ngive a URL such as `https://api.example.org/v2`")]
    Endpoint(String),
    /// A host that a registered service may not name.
    #[error("the host `{host}` is refused: {reason}")]
    Refused {
        /// The host.
        host: String,
        /// Why.
        reason: TargetRefused,
    },
    /// The configured trust.
    #[error("the configured `ca` cannot be used: {0}\ngive PEM certificates")]
    Ca(String),
    /// The configured client certificate.
    #[error("the client certificate cannot be used: {0}\ngive a PEM chain and its key")]
    Identity(String),
    /// The system's trust.
    #[error("no upstream can be trusted: {0}\ninstall `ca-certificates`, or set `tls.ca`")]
    Roots(String),
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}
