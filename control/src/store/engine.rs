//! Keys and values: in a file of our own, or in an etcd that several control planes share. Everything above needs only what
//! is here.
//!
//! Every call blocks.

use tokio::sync::watch;

use super::embedded::Embedded;
use super::etcd::Etcd;
use super::operation::{Guard, Order, Write};
use super::{StoreError, StorePlace};

/// Keys and values.
#[derive(Debug)]
pub(crate) enum Engine {
    /// Of this process alone.
    Embedded(Embedded),
    /// Shared.
    Etcd(Etcd),
}

impl Engine {
    /// Opens what is at a place.
    ///
    /// # Errors
    /// It cannot be read, or is another process's.
    pub(crate) fn open(place: &StorePlace) -> Result<Self, StoreError> {
        match place {
            StorePlace::Folder(folder) => Embedded::open(folder).map(Self::Embedded),
            StorePlace::Etcd(options) => Etcd::open(options).map(Self::Etcd),
        }
    }

    /// The value of a key.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        match self {
            Self::Embedded(embedded) => embedded.get(key),
            Self::Etcd(etcd) => etcd.get(key),
        }
    }

    /// Keys and values from `from` to before `to`, in order, or in reverse; at most `limit`. A long list is not of one
    /// moment.
    pub(crate) fn list(
        &self,
        range: (&str, &str),
        limit: usize,
        order: Order,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        match self {
            Self::Embedded(embedded) => embedded.list(range, limit, order),
            Self::Etcd(etcd) => etcd.list(range, limit, order),
        }
    }

    /// Keys from `from` to before `to`, in order.
    pub(crate) fn keys(&self, range: (&str, &str)) -> Result<Vec<String>, StoreError> {
        match self {
            Self::Embedded(embedded) => embedded.keys(range),
            Self::Etcd(etcd) => etcd.keys(range),
        }
    }

    /// Writes, if the guards hold; false when one does not, and nothing has happened. What is acknowledged is on disk.
    ///
    /// # Errors
    /// It failed; in an etcd it may have happened all the same.
    pub(crate) fn write(&self, guards: &[Guard<'_>], write: &Write) -> Result<bool, StoreError> {
        match self {
            Self::Embedded(embedded) => embedded.write(guards, write),
            Self::Etcd(etcd) => etcd.write(guards, write),
        }
    }

    /// Says when others may have written something; nothing for an engine that has no others.
    pub(crate) fn changes(&self) -> Option<watch::Receiver<u64>> {
        match self {
            Self::Embedded(_) => None,
            Self::Etcd(etcd) => Some(etcd.changes()),
        }
    }
}
