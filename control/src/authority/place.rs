//! Where the roots are kept.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::private_file;
use crate::store::{ResourceStore, StoreError};

const KEY: &str = "authority";

/// Where the roots are kept.
pub enum RootsPlace {
    /// A file that nobody else may read, of this process alone.
    File(PathBuf),
    /// A store that several control planes share.
    Store(Arc<ResourceStore>),
}

impl RootsPlace {
    /// What is there. Blocks.
    pub(super) fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::File(path) => match std::fs::read(path) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                Err(error) => Err(self.failed(&error)),
            },
            Self::Store(store) => store.single(KEY),
        }
    }

    /// Puts something else there; false when what is there is not `before` any more. Blocks.
    pub(super) fn replace(&self, before: Option<&[u8]>, after: &[u8]) -> Result<bool, StoreError> {
        match self {
            Self::File(path) => private_file::write(path, after).map(|()| true).map_err(|error| self.failed(&error)),
            Self::Store(store) => store.replace_single(KEY, before, after),
        }
    }

    fn failed(&self, error: &io::Error) -> StoreError {
        StoreError::Unavailable(format!("{self}: {error}"))
    }
}

impl fmt::Display for RootsPlace {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(formatter),
            Self::Store(_) => formatter.write_str("the store"),
        }
    }
}
