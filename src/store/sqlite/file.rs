//! The file itself: whether it is still the one that was opened.

use std::path::{Path, PathBuf};

use crate::store::StoreError;

/// The file that was opened.
pub(super) struct OpenFile {
    path: PathBuf,
    /// Device and inode, where the system has them.
    identity: Option<(u64, u64)>,
}

impl OpenFile {
    /// The file that is at the path now.
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), identity: identity(path) }
    }

    /// Its path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Fails once another file, or none, is at the path: what is written to a file that nobody can open again is lost,
    /// and what is read from it is old.
    pub(super) fn still_there(&self) -> Result<(), StoreError> {
        if identity(&self.path) == self.identity {
            return Ok(());
        }
        Err(StoreError::Unavailable(format!(
            "the file `{}` was removed or replaced while it was open\nrestart, so that the file that is there is read",
            self.path.display()
        )))
    }
}

#[cfg(unix)]
fn identity(path: &Path) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Windows does not let an open file be removed.
#[cfg(not(unix))]
fn identity(_: &Path) -> Option<(u64, u64)> {
    None
}
