//! TLS towards upstreams: whom to trust, who we are, which HTTP version to offer. What fails to load fails the service.

use std::sync::{Arc, OnceLock};

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsConnector;

use super::UpstreamError;
use crate::config::{Protocol, UpstreamTls};

/// The system's trusted certificates, read when the first service needs them.
#[derive(Debug, Default)]
pub struct Roots(OnceLock<Result<Arc<RootCertStore>, String>>);

impl Roots {
    /// Nothing is read yet.
    #[must_use]
    pub const fn native() -> Self {
        Self(OnceLock::new())
    }

    fn store(&self) -> Result<Arc<RootCertStore>, UpstreamError> {
        self.0.get_or_init(read_native).clone().map_err(UpstreamError::Roots)
    }
}

/// The ways to shake hands with one upstream.
#[derive(Clone)]
pub(super) struct Handshakes {
    /// By the service's protocol.
    pub(super) usual: TlsConnector,
    /// HTTP/1.1, for a request that asks for an upgrade.
    pub(super) one: TlsConnector,
}

impl Handshakes {
    pub(super) fn new(tls: &UpstreamTls, roots: &Roots) -> Result<Self, UpstreamError> {
        let trusted = match &tls.ca {
            Some(pem) => Arc::new(read_ca(pem)?),
            None => roots.store()?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| UpstreamError::Setup(error.to_string()))?
            .with_root_certificates(trusted);
        let mut usual = match &tls.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let chain = read_chain(chain).map_err(UpstreamError::Identity)?;
                // The parser's words only: never what it read.
                let key = PrivateKeyDer::from_pem_slice(key.reveal().as_bytes())
                    .map_err(|_| UpstreamError::Identity("no PEM private key is in the key".to_owned()))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| UpstreamError::Identity(error.to_string()))?
            }
        };
        let mut one = usual.clone();
        let (h1, h2) = (b"http/1.1".to_vec(), b"h2".to_vec());
        one.alpn_protocols = vec![h1.clone()];
        usual.alpn_protocols = match tls.protocol {
            Protocol::Auto => vec![h2, h1],
            Protocol::Http1 => vec![h1],
            Protocol::Http2 => vec![h2],
        };
        Ok(Self { usual: TlsConnector::from(Arc::new(usual)), one: TlsConnector::from(Arc::new(one)) })
    }
}

impl std::fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Handshakes")
    }
}

fn read_native() -> Result<Arc<RootCertStore>, String> {
    let found = rustls_native_certs::load_native_certs();
    for error in &found.errors {
        tracing::warn!(%error, "a trusted certificate of the system cannot be read");
    }
    let mut store = RootCertStore::empty();
    let (added, _ignored) = store.add_parsable_certificates(found.certs);
    if added == 0 { Err("the system has no trusted certificates".to_owned()) } else { Ok(Arc::new(store)) }
}

/// Every certificate counts: one that is left out is one that was meant to be trusted.
fn read_ca(pem: &[u8]) -> Result<RootCertStore, UpstreamError> {
    let mut store = RootCertStore::empty();
    for certificate in read_chain(pem).map_err(UpstreamError::Ca)? {
        store.add(certificate).map_err(|error| UpstreamError::Ca(error.to_string()))?;
    }
    Ok(store)
}

fn read_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    if chain.is_empty() { Err("no PEM certificate is in it".to_owned()) } else { Ok(chain) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Hidden;

    fn error(tls: &UpstreamTls) -> String {
        Handshakes::new(tls, &Roots::native()).unwrap_err().to_string()
    }

    #[test]
    fn a_ca_that_does_not_load_fails_closed() {
        for ca in [&b""[..], b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
            let error = error(&UpstreamTls { ca: Some(ca.to_vec()), ..UpstreamTls::default() });
            assert!(error.starts_with("the configured `ca` cannot be used: "), "{error}");
        }
    }

    #[test]
    fn an_identity_that_does_not_load_fails_without_showing_the_key() {
        let made = rcgen::generate_simple_self_signed(["a".to_owned()]).unwrap();
        let ca = Some(made.cert.pem().into_bytes());
        let chain = made.cert.pem().into_bytes();
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        for (chain, key) in [(b"x".to_vec(), other.clone()), (chain.clone(), "canary".to_owned()), (chain, other)] {
            let tls =
                UpstreamTls { ca: ca.clone(), identity: Some((chain, Hidden::new(key))), ..UpstreamTls::default() };
            let error = error(&tls);
            assert!(
                error.starts_with("the client certificate cannot be used: ") && !error.contains("canary"),
                "{error}"
            );
        }
    }
}
