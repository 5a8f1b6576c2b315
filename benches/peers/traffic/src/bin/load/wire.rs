//! Connections to the proxy, with TLS and without.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::Failure;

pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// How to speak TLS, where an authority is named.
pub fn connector(ca: Option<&Path>, http2: bool) -> Result<Option<TlsConnector>, Failure> {
    let Some(ca) = ca else { return Ok(None) };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca)? {
        roots.add(certificate?)?;
    }
    let config = ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13]);
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(Some(TlsConnector::from(Arc::new(config))))
}

pub async fn connect(port: u16, connector: Option<&TlsConnector>) -> Result<Box<dyn Stream>, Failure> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream.set_nodelay(true)?;
    let Some(connector) = connector else { return Ok(Box::new(stream)) };
    let name = ServerName::try_from("localhost")?;
    Ok(Box::new(connector.connect(name, stream).await?))
}
