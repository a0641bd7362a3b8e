//! The location of the store, as the command line names it.

use std::fmt;
use std::path::PathBuf;

use super::etcd::EtcdOptions;

/// The location of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreLocation {
    /// A folder that only this process opens.
    Folder(PathBuf),
    /// An etcd, which other replicas may share.
    Etcd(EtcdOptions),
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => folder.display().fmt(formatter),
            Self::Etcd(options) => options.fmt(formatter),
        }
    }
}
