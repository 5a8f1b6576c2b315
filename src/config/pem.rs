//! Certificates and private keys in PEM: read at once, so that a wrong file is a fault and not a surprise later.

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::fault::Complaint;

/// At least one certificate.
pub(super) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, Complaint> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match read {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(Complaint::new("there is no PEM certificate in it", "name a PEM file, as `file:PATH`")),
    }
}

/// Trust anchors: certificates, each of which can be read as one.
pub(super) fn anchors(text: &str) -> Result<Vec<u8>, Complaint> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(text)? {
        roots.add(certificate).map_err(|_| {
            Complaint::new("a certificate in it cannot be trusted: it is damaged", "name a PEM file of certificates")
        })?;
    }
    Ok(text.as_bytes().to_vec())
}

/// A chain and the private key of its first certificate.
pub(super) fn identity(chain: &str, key: &str) -> Result<(), (Part, Complaint)> {
    let chain = certificates(chain).map_err(|complaint| (Part::Certificate, complaint))?;
    let no_key = || (Part::Key, Complaint::new("there is no PEM private key in it", "name a PEM file"));
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| no_key())?;
    let key = any_supported_type(&key).map_err(|_| {
        let what = "the private key is of no kind that TLS can use here";
        (Part::Key, Complaint::new(what, "use an ECDSA, RSA or Ed25519 key"))
    })?;
    match CertifiedKey::new(chain, key).keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => Err((
            Part::Key,
            Complaint::new(
                "the private key does not belong to the certificate",
                "name the key that the certificate was made for; the chain's first certificate is the server's own",
            ),
        )),
        Err(rustls::Error::InvalidCertificate(_)) => {
            let what = "the first certificate of the chain is damaged";
            Err((Part::Certificate, Complaint::new(what, "name a PEM file, the server's own certificate first")))
        }
        _ => Ok(()),
    }
}

/// Which of the two is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Certificate,
    Key,
}
