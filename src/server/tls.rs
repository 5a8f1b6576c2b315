//! TLS of the listeners: rustls, with a certificate that is read again when its files change.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use notify::{RecursiveMode, Watcher};
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use crate::config::ListenTls;

/// How long the files must stand still before they are read: they change one after the other.
const SETTLE: Duration = Duration::from_millis(300);

/// A listener's TLS.
pub struct TlsReload {
    files: ListenTls,
    acceptor: TlsAcceptor,
    current: Arc<Current>,
    provider: Arc<CryptoProvider>,
}

impl TlsReload {
    /// Reads the certificate and its key. HTTP/2 and HTTP/1.1 are offered by ALPN.
    ///
    /// # Errors
    /// When a file cannot be read, holds no PEM of its kind, or the key is not the certificate's.
    pub fn load(files: &ListenTls) -> Result<Arc<Self>, TlsError> {
        let provider = Arc::new(default_provider());
        let current = Arc::new(Current(ArcSwap::from_pointee(read(files, &provider)?)));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Current>::clone(&current));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(Self { files: files.clone(), acceptor: TlsAcceptor::from(Arc::new(config)), current, provider }))
    }

    /// Reads the files again; from then on new connections get the new certificate.
    ///
    /// # Errors
    /// As [`TlsReload::load`]; the old certificate stays in use then.
    pub fn reload(&self) -> Result<(), TlsError> {
        self.current.0.store(Arc::new(read(&self.files, &self.provider)?));
        Ok(())
    }

    /// Reloads whenever the files have changed, until `stop` is cancelled. Needs a runtime with time, not with
    /// `spawn_local`.
    ///
    /// # Errors
    /// When the directories of the files cannot be watched.
    pub async fn watch(self: Arc<Self>, stop: CancellationToken) -> Result<(), TlsError> {
        let changed = Arc::new(tokio::sync::Notify::new());
        let notice = Arc::clone(&changed);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|event| !event.kind.is_access()) {
                notice.notify_one();
            }
        })?;
        // The directories, because files are mostly replaced by renaming, which a watch on the file would not outlive.
        for file in [&self.files.certificate, &self.files.key] {
            let directory = file.parent().filter(|parent| !parent.as_os_str().is_empty());
            watcher.watch(directory.unwrap_or(std::path::Path::new(".")), RecursiveMode::NonRecursive)?;
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = changed.notified() => {}
            }
            while tokio::time::timeout(SETTLE, changed.notified()).await.is_ok() {}
            match self.reload() {
                Ok(()) => tracing::info!(certificate = %self.files.certificate.display(), "certificate read again"),
                Err(error) => tracing::error!(%error, "the new certificate cannot be used, the old one stays"),
            }
        }
    }

    /// Shakes hands.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(stream).await
    }
}

impl std::fmt::Debug for TlsReload {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsReload").field("files", &self.files).finish_non_exhaustive()
    }
}

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read, or is no PEM of the kind expected.
    #[error("cannot read {what} from `{}`: {cause}\ngive a PEM file that the gateway may read", path.display())]
    File {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        cause: pem::Error,
    },
    /// A certificate and key that do not go together.
    #[error("the certificate `{}` cannot be used with its key: {cause}\ngive the key that the certificate was issued for", path.display())]
    Pair {
        /// The certificate's file.
        path: PathBuf,
        /// What went wrong.
        cause: rustls::Error,
    },
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up: {0}")]
    Setup(rustls::Error),
    /// The files cannot be watched.
    #[error("cannot watch the certificate for changes: {0}")]
    Watch(#[from] notify::Error),
}

fn read(files: &ListenTls, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let unreadable = |what, path: &PathBuf| {
        let path = path.clone();
        move |cause| TlsError::File { what, path, cause }
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .and_then(|chain| if chain.is_empty() { Err(pem::Error::NoItemsFound) } else { Ok(chain) })
        .map_err(unreadable("certificates", &files.certificate))?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(unreadable("a private key", &files.key))?;
    CertifiedKey::from_der(chain, key, provider)
        .map_err(|cause| TlsError::Pair { path: files.certificate.clone(), cause })
}

/// The certificate in use, whatever name is asked for.
#[derive(Debug)]
struct Current(ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}
