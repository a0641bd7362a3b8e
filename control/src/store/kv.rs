//! The key-value store below [`ResourceStore`](super::ResourceStore): a file of this process, or an etcd that several
//! control planes share.
//!
//! Every method blocks on disk or on etcd.

use tokio::sync::watch;

use super::error::StoreError;
use super::etcd::EtcdKv;
use super::lineage::StoreFault;
use super::location::StoreLocation;
use super::redb::{self, RedbKv};
use super::txn::{KeyRange, Order, Precondition, Txn};

/// A key-value store with conditional transactions.
#[derive(Debug)]
pub(crate) enum KvStore {
    /// A file that only this process opens.
    Redb(RedbKv),
    /// An etcd, which other replicas may share.
    Etcd(EtcdKv),
}

impl KvStore {
    /// Opens the store at a location. An absent file is created if `may_create` is true.
    ///
    /// # Errors
    /// The store cannot be read or written, its file is absent, empty or damaged, or another process has it open.
    pub(super) fn open(location: &StoreLocation, may_create: bool) -> Result<Self, StoreError> {
        match location {
            StoreLocation::Folder(folder) if RedbKv::exists(folder) => RedbKv::open(folder).map(Self::Redb),
            StoreLocation::Folder(folder) if may_create => RedbKv::create(folder).map(Self::Redb),
            StoreLocation::Folder(folder) => {
                Err(StoreFault::NoFile(folder.join(redb::FILE)).error(&location.to_string()))
            }
            StoreLocation::Etcd(options) => EtcdKv::open(options).map(Self::Etcd),
        }
    }

    /// Checks that a file is as this process has left it. An etcd is checked by the values in it.
    ///
    /// # Errors
    /// The file was removed, replaced or overwritten by another program.
    pub(super) fn check_unchanged(&self) -> Result<(), StoreError> {
        match self {
            Self::Redb(redb) => redb.check_unchanged(),
            Self::Etcd(_) => Ok(()),
        }
    }

    /// Returns the value of a key.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Redb(redb) => redb.get(key),
            Self::Etcd(etcd) => etcd.get(key),
        }
    }

    /// Returns at most `limit` keys of a range with their values, sorted. etcd reads a long range in pages, which may
    /// be of different revisions.
    pub(crate) fn list(
        &self,
        range: KeyRange<'_>,
        limit: usize,
        order: Order,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        match self {
            Self::Redb(redb) => redb.list(range, limit, order),
            Self::Etcd(etcd) => etcd.list(range, limit, order),
        }
    }

    /// Returns the keys of a range, sorted.
    pub(crate) fn keys(&self, range: KeyRange<'_>) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Redb(redb) => redb.keys(range),
            Self::Etcd(etcd) => etcd.keys(range),
        }
    }

    /// Applies a transaction if every precondition is met, and returns whether it did. An applied transaction is
    /// durable.
    ///
    /// # Errors
    /// The store failed. In etcd the transaction may have been applied nevertheless.
    pub(crate) fn write(&self, preconditions: &[Precondition<'_>], txn: &Txn) -> Result<bool, StoreError> {
        match self {
            Self::Redb(redb) => redb.write(preconditions, txn),
            Self::Etcd(etcd) => etcd.write(preconditions, txn),
        }
    }

    /// Returns a channel that changes when another process may have written; `None` for a store of this process alone.
    pub(crate) fn changes(&self) -> Option<watch::Receiver<u64>> {
        match self {
            Self::Redb(_) => None,
            Self::Etcd(etcd) => Some(etcd.changes()),
        }
    }
}
