//! The configuration and the store, opened for one command.

use std::path::Path;
use std::sync::Arc;

use super::Failure;
use crate::config::{Config, StoreUrl};
use crate::store::sqlite::SqliteStore;
use crate::store::{Actor, Committed, Mutation, Store, StoreError};
use crate::vault::{KeyError, Vault};

/// What a command works on.
pub(crate) struct Opened {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) vault: Arc<Vault>,
}

/// Reads the configuration file.
///
/// # Errors
/// [`Failure::Usage`] with every fault of the file.
pub(crate) fn config(path: &Path) -> Result<Config, Failure> {
    crate::config::load(path, &|name| std::env::var(name).ok()).map_err(|faults| Failure::Usage(faults.to_string()))
}

/// Opens the store that the configuration names, and checks the vault's key against it.
///
/// # Errors
/// [`Failure::Usage`] for a configuration or key that does not fit, [`Failure::NotFine`] for a store that cannot be
/// used.
pub(crate) async fn open(path: &Path) -> Result<Opened, Failure> {
    let config = config(path)?;
    let vault = vault(&config)?;
    let store = store(&config, &vault)?;
    crate::vault::verify_key(&*store, &vault).await?;
    Ok(Opened { config, store, vault })
}

/// The vault that the configuration has the key of.
///
/// # Errors
/// [`Failure::Usage`] for a key that the cipher refuses.
pub(crate) fn vault(config: &Config) -> Result<Arc<Vault>, Failure> {
    Vault::new(&config.vault).map(Arc::new).map_err(|error| Failure::Usage(error.to_string()))
}

/// Opens the store that the configuration names; the vault has the keys of its audit.
///
/// # Errors
/// As [`From<StoreError>`] says.
pub(crate) fn store(config: &Config, vault: &Arc<Vault>) -> Result<Arc<dyn Store>, Failure> {
    match &config.store.url {
        StoreUrl::Sqlite(path) => Ok(Arc::new(SqliteStore::open(path, vault.clone())?)),
    }
}

impl Opened {
    /// Makes the change in the name of whoever runs the command.
    pub(crate) async fn commit(&self, mutation: Mutation) -> Result<Committed, Failure> {
        Ok(self.store.commit(actor(), mutation).await?)
    }
}

/// Whoever runs the command, as the audit record names them.
pub(crate) fn actor() -> Actor {
    let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    Actor { user: None, via: "cli", from: user.unwrap_or_else(|| "unknown".to_owned()).into(), request_id: None }
}

/// Runs a command's future: on this thread, with a little help for what blocks.
pub(crate) fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(|error| Failure::Internal(format!("cannot start: {error}")))?;
    runtime.block_on(future)
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::NotFine(error.to_string())
    }
}

impl From<KeyError> for Failure {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Wrong { .. } => Self::Usage(error.to_string()),
            KeyError::Damaged => Self::NotFine(error.to_string()),
            KeyError::Store(error) => error.into(),
            KeyError::Vault(_) => Self::Internal(error.to_string()),
        }
    }
}
