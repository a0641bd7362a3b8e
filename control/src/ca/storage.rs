//! The storage of the certificate authority's state: a file, or the shared store.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use weir_model::atomic_file;

use crate::store::{ResourceStore, StoreError};

/// The key of the state in the store.
const KEY: &str = "authority";

/// The storage of the certificate authority's state.
pub enum CaStorage {
    /// A file that only this user can read and only this process writes.
    File(PathBuf),
    /// A store that several control planes share.
    Store(Arc<ResourceStore>),
}

impl CaStorage {
    /// Returns the stored bytes. Blocks on disk or etcd.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::File(path) => match std::fs::read(path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(self.failed(&error)),
            },
            Self::Store(store) => store.get_singleton(KEY),
        }
    }

    /// Replaces the stored bytes. Returns false, and changes nothing, if a shared store does not contain `before`.
    /// Blocks on disk or etcd.
    pub(super) fn replace(&self, before: Option<&[u8]>, after: &[u8]) -> Result<bool, StoreError> {
        match self {
            Self::File(path) => {
                atomic_file::write_private(path, after).map(|()| true).map_err(|error| self.failed(&error))
            }
            Self::Store(store) => store.compare_and_swap(KEY, before, after),
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
