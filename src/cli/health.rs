//! `health`: whether the gateway of this configuration is ready, for where there is no other program to ask it.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

use super::{ConfigArg, Failure, open};

/// A gateway that is well answers at once; a container's health check waits three seconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// Arguments of `health`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
}

/// Asks both listeners of the configuration; ends with a failure where one is not ready.
pub(super) fn run(args: &Args, out: &mut dyn Write) -> Result<(), Failure> {
    let listen = open::config(&args.config.config)?.listen;
    let tls = listen.tls.as_ref().map(|tls| tls_config(&tls.certificate)).transpose()?;
    for (name, address) in [("proxy", listen.proxy), ("api", listen.api)] {
        let address = reachable(address);
        let status = ask(address, tls.clone())
            .map_err(|error| Failure::NotFine(format!("the {name} listener at {address} does not answer: {error}")))?;
        if status != "200" {
            return Err(Failure::NotFine(format!("the {name} listener at {address} is not ready: status {status}")));
        }
    }
    Ok(writeln!(out, "ready")?)
}

/// Who listens on every interface listens on loopback too.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The status of `/-/ready`.
fn ask(address: SocketAddr, tls: Option<Arc<ClientConfig>>) -> std::io::Result<String> {
    let tcp = TcpStream::connect_timeout(&address, PATIENCE)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.set_write_timeout(Some(PATIENCE))?;
    match tls {
        None => exchange(tcp, address),
        Some(config) => {
            let connection = ClientConnection::new(config, ServerName::IpAddress(address.ip().into()));
            exchange(StreamOwned::new(connection.map_err(std::io::Error::other)?, tcp), address)
        }
    }
}

fn exchange(mut stream: impl Read + Write, address: SocketAddr) -> std::io::Result<String> {
    write!(stream, "GET /-/ready HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    stream.flush()?;
    let mut line = [0; 12];
    stream.read_exact(&mut line)?;
    let line = String::from_utf8_lossy(&line);
    line.strip_prefix("HTTP/1.1 ").map(str::to_owned).ok_or_else(|| std::io::Error::other("the answer is not HTTP"))
}

/// Trusts the certificate of the configuration and no other, whatever its names and dates are: it is our own listener,
/// and a certificate that callers no longer trust is another alarm's business.
fn tls_config(certificate: &Path) -> Result<Arc<ClientConfig>, Failure> {
    let own = CertificateDer::from_pem_file(certificate)
        .map_err(|error| Failure::Usage(format!("cannot read `{}`: {error}", certificate.display())))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Internal(error.to_string()))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { own, provider }))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Pinned {
    own: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if end_entity.as_ref() == self.own.as_ref() {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(rustls::Error::General("the listener has another certificate than the configuration".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
