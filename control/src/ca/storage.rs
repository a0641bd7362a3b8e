//! The storage of the certificate authority's state: a file, or the shared store.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use weir_model::atomic_file;

use crate::ca::error::CaError;
use crate::store::{AUTHORITY, AUTHORITY_FILE, ResourceStore, StoreError};

/// The advice for roots that are lost or damaged, as the end of a message.
pub(super) const RECOVERY: &str = "workloads keep their certificates until they end; restore a backup with `weir-control \
                                   restore`, or create a new root, which every workload must join again, with \
                                   `weir-control recover authority` (docs/operations.md, Recovery)";

/// The storage of the certificate authority's state.
pub enum CaStorage {
    /// A file that only this user can read and only this process writes.
    File(PathBuf),
    /// A store that several control planes share.
    Store(Arc<ResourceStore>),
}

impl CaStorage {
    /// Returns the storage of a control plane: its store if others share it, else a file in its folder.
    pub fn of(store: &Arc<ResourceStore>, folder: &Path) -> Self {
        if store.is_shared() { Self::Store(Arc::clone(store)) } else { Self::File(folder.join(AUTHORITY_FILE)) }
    }

    /// Returns true for a shared store that an operator has accepted empty, without roots.
    pub(super) fn is_new_store(&self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Store(store) => !store.is_initialized(),
        }
    }

    /// Returns the error for roots that are gone.
    pub(super) fn lost(&self) -> CaError {
        let reason = format!("the roots of the mesh are gone; {RECOVERY}");
        CaError::InvalidState { location: self.to_string(), reason }
    }

    /// Returns the stored bytes. Blocks on disk or etcd.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::File(path) => match std::fs::read(path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(self.failed(&error)),
            },
            Self::Store(store) => store.get_singleton(AUTHORITY),
        }
    }

    /// Replaces the stored bytes. Returns false, and changes nothing, if a shared store does not contain `before`.
    /// Blocks on disk or etcd.
    pub(super) fn replace(&self, before: Option<&[u8]>, after: &[u8]) -> Result<bool, StoreError> {
        match self {
            Self::File(path) => {
                atomic_file::write_private(path, after).map(|()| true).map_err(|error| self.failed(&error))
            }
            Self::Store(store) => store.compare_and_swap(AUTHORITY, before, after),
        }
    }

    fn failed(&self, error: &io::Error) -> StoreError {
        StoreError::Unavailable(format!("{self}: {error}"))
    }
}

impl fmt::Display for CaStorage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(formatter),
            Self::Store(_) => formatter.write_str("the store"),
        }
    }
}
