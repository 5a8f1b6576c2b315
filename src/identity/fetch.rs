//! A small HTTP client for what an identity provider publishes: bounded in bytes and time, no redirects, no pool.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, HOST, USER_AGENT};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, IpAddr, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_util::task::AbortOnDropHandle;
use url::{Host, Url};

/// The longest answer, in bytes.
const MAX_BODY: usize = 1024 * 1024;

/// For all of it: resolve, connect, handshake, answer.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

/// Fetches documents.
#[derive(Clone)]
pub(super) struct Client {
    tls: Arc<ClientConfig>,
}

/// A document.
pub(super) struct Document {
    pub(super) body: Bytes,
    /// How long it may be kept (RFC 9111 §5.2.2.1), where the answer says so.
    pub(super) max_age: Option<Duration>,
}

/// Why there is no document; for the log.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no answer within 10 seconds")]
    Timeout,
    #[error("cannot resolve, connect or read: {0}")]
    Io(#[from] std::io::Error),
    #[error("no proper HTTP answer: {0}")]
    Http(String),
    #[error("the answer's status is {0}")]
    Status(StatusCode),
    #[error("the document cannot be used: {0}")]
    Content(&'static str),
}

/// Why the client cannot be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("the configured certificates are no PEM certificates")]
    Pem,
    #[error("{0}")]
    Tls(#[from] rustls::Error),
}

impl Client {
    /// Trusts these certificates (PEM), and the system's roots where there are none. Without any, each https fetch fails.
    pub(super) fn new(ca: Option<&[u8]>) -> Result<Self, ClientError> {
        let mut roots = RootCertStore::empty();
        if ca.is_none() {
            // What the system has and does not parse is nothing that the operator wrote.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        if let Some(pem) = ca {
            let certificates: Vec<CertificateDer<'_>> =
                CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|_| ClientError::Pem)?;
            if certificates.is_empty() {
                return Err(ClientError::Pem);
            }
            for certificate in certificates {
                roots.add(certificate)?;
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Arc::new(tls) })
    }

    /// Fetches one document; only 200 is an answer.
    pub(super) async fn get(&self, url: &Url) -> Result<Document, FetchError> {
        tokio::time::timeout(TIMEOUT, self.exchange(url)).await.map_err(|_| FetchError::Timeout)?
    }

    async fn exchange(&self, url: &Url) -> Result<Document, FetchError> {
        let host = url.host().ok_or(FetchError::Content("the URL has no host"))?;
        let port = url.port_or_known_default().ok_or(FetchError::Content("the URL has no port"))?;
        let tcp = connect(&host, port).await?;
        if url.scheme() != "https" {
            return converse(tcp, url).await;
        }
        let name = match host {
            Host::Domain(domain) => {
                ServerName::try_from(domain.to_owned()).map_err(|_| FetchError::Content("the host is no name"))?
            }
            Host::Ipv4(ip) => ServerName::IpAddress(IpAddr::from(std::net::IpAddr::V4(ip))),
            Host::Ipv6(ip) => ServerName::IpAddress(IpAddr::from(std::net::IpAddr::V6(ip))),
        };
        converse(TlsConnector::from(self.tls.clone()).connect(name, tcp).await?, url).await
    }
}

async fn connect(host: &Host<&str>, port: u16) -> Result<TcpStream, FetchError> {
    match host {
        Host::Domain(domain) => Ok(TcpStream::connect((*domain, port)).await?),
        Host::Ipv4(ip) => Ok(TcpStream::connect(SocketAddr::from((*ip, port))).await?),
        Host::Ipv6(ip) => Ok(TcpStream::connect(SocketAddr::from((*ip, port))).await?),
    }
}

async fn converse<I>(io: I, url: &Url) -> Result<Document, FetchError>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let http = |error: hyper::Error| FetchError::Http(error.to_string());
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(http)?;
    let _driver = AbortOnDropHandle::new(tokio::spawn(connection));
    let authority = url[url::Position::BeforeHost..url::Position::AfterPort].to_owned();
    let request = Request::get(&url[url::Position::BeforePath..url::Position::AfterQuery])
        .header(HOST, authority)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("carta-gateway/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| FetchError::Http(error.to_string()))?;
    let answer = sender.send_request(request).await.map_err(http)?;
    if answer.status() != StatusCode::OK {
        return Err(FetchError::Status(answer.status()));
    }
    let max_age = max_age(answer.headers());
    let body = Limited::new(answer.into_body(), MAX_BODY).collect().await;
    let body = body.map_err(|error| FetchError::Http(error.to_string()))?.to_bytes();
    Ok(Document { body, max_age })
}

fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let lines = headers.get_all(CACHE_CONTROL).iter().filter_map(|line| line.to_str().ok());
    let mut directives = lines.flat_map(|line| line.split(',')).map(|directive| directive.trim().to_ascii_lowercase());
    directives.find_map(|directive| match directive.as_str() {
        "no-store" | "no-cache" => Some(Duration::ZERO),
        other => other.strip_prefix("max-age=")?.trim_matches('"').parse().ok().map(Duration::from_secs),
    })
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn max_age_is_read_as_issuers_write_it() {
        for (line, seconds) in [
            ("max-age=300", Some(300)),
            ("public, Max-Age=86400, must-revalidate", Some(86400)),
            ("no-store", Some(0)),
            ("private", None),
            ("max-age=soon", None),
            ("max-age=-1", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, HeaderValue::from_static(line));
            assert_eq!(max_age(&headers), seconds.map(Duration::from_secs), "{line}");
        }
    }

    #[test]
    fn certificates_that_do_not_load_are_an_error() {
        for bad in [&b""[..], b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            assert!(Client::new(Some(bad)).is_err());
        }
    }
}
