//! TLS of the listeners: rustls, with a certificate that is read again when its files change.

use std::io;
use std::os::unix::fs::MetadataExt;
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

/// How long the directories must be still before the files are read: they change one after the other.
const SETTLE: Duration = Duration::from_millis(300);

/// How long that is waited for: something else in the directory, such as a log, may never be still.
const PATIENCE: Duration = Duration::from_secs(2);

/// A listener's TLS.
pub struct TlsReload {
    files: ListenTls,
    /// The files as they stood when they were last read.
    read: ArcSwap<Seen>,
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
        let seen = ArcSwap::from_pointee(Seen::now(files));
        let current = Arc::new(Current(ArcSwap::from_pointee(read(files, &provider)?)));
        let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::<Current>::clone(&current));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Arc::new(Self { files: files.clone(), read: seen, acceptor, current, provider }))
    }

    /// Reads the files again; from then on new connections get the new certificate.
    ///
    /// # Errors
    /// As [`TlsReload::load`]; the old certificate stays in use then.
    pub fn reload(&self) -> Result<(), TlsError> {
        // Before they are read: what changes meanwhile is then a change still.
        self.read.store(Arc::new(Seen::now(&self.files)));
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
        // What changed between the load and here has told nobody.
        changed.notify_one();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = changed.notified() => {}
            }
            // Most events are of neighbours; when the log is one, to read and log because of each would never end.
            if self.is_read() {
                continue;
            }
            let still = async { while tokio::time::timeout(SETTLE, changed.notified()).await.is_ok() {} };
            let _ = tokio::time::timeout(PATIENCE, still).await;
            match self.reload() {
                Ok(()) => tracing::info!(certificate = %self.files.certificate.display(), "certificate read again"),
                Err(error) => tracing::error!(%error, "the new certificate cannot be used, the old one stays"),
            }
        }
    }

    /// Whether the files are those that were last read.
    fn is_read(&self) -> bool {
        **self.read.load() == Seen::now(&self.files)
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

/// What tells a file from another, or from itself with other contents, of the certificate and its key; of the file that
/// a link leads to. None where there is none.
#[derive(Debug, PartialEq, Eq)]
struct Seen([Option<FileIdentity>; 2]);

#[derive(Debug, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    /// Also of the permissions: a file that could not be read may be readable now.
    changed: (i64, i64),
}

impl Seen {
    fn now(files: &ListenTls) -> Self {
        Self([&files.certificate, &files.key].map(|file| {
            let file = std::fs::metadata(file).ok()?;
            Some(FileIdentity {
                device: file.dev(),
                inode: file.ino(),
                bytes: file.len(),
                modified: (file.mtime(), file.mtime_nsec()),
                changed: (file.ctime(), file.ctime_nsec()),
            })
        }))
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_is_no_change_of_the_files_and_another_file_of_the_same_length_is() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let files = ListenTls { certificate: at("cert.pem"), key: at("key.pem") };
        assert_eq!(Seen::now(&files), Seen([None, None]));
        for file in [&files.certificate, &files.key] {
            std::fs::write(file, "one").unwrap();
        }
        let first = Seen::now(&files);
        std::fs::write(at("gateway.log"), "a line").unwrap();
        std::fs::rename(at("gateway.log"), at("gateway.log.1")).unwrap();
        assert_eq!(Seen::now(&files), first);
        std::fs::write(at("new"), "two").unwrap();
        std::fs::rename(at("new"), &files.key).unwrap();
        assert_ne!(Seen::now(&files), first);
    }
}
