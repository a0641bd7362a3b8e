//! The vocabulary of the key-value stores: transactions, their preconditions, and ranges of keys.

/// A key with its new value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Put {
    pub(crate) key: String,
    pub(crate) value: Vec<u8>,
}

/// The writes of one transaction, applied atomically.
#[derive(Debug, Default)]
pub(crate) struct Txn {
    /// A put whose value no other transaction writes to its key. etcd reads it back to find out whether a transaction
    /// was applied whose response was lost. `None` for a transaction without preconditions or puts.
    pub(crate) marker: Option<Put>,
    /// All other puts.
    pub(crate) puts: Vec<Put>,
    /// Keys to delete.
    pub(crate) deletes: Vec<String>,
}

/// The value that a key must have for a transaction to be applied; `None` if the key must be absent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Precondition<'a> {
    pub(crate) key: &'a str,
    pub(crate) value: Option<&'a [u8]>,
}

/// The keys from `from` to before `to`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeyRange<'a> {
    pub(crate) from: &'a str,
    pub(crate) to: &'a str,
}

/// The order of a listing, by key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Forward,
    Reverse,
}

impl Put {
    pub(crate) fn new(key: impl Into<String>, value: Vec<u8>) -> Self {
        Self { key: key.into(), value }
    }
}

impl Txn {
    /// Creates a transaction of one put, which is its own marker.
    pub(crate) fn put(key: impl Into<String>, value: Vec<u8>) -> Self {
        Self { marker: Some(Put::new(key, value)), ..Self::default() }
    }

    /// Creates a transaction that deletes keys.
    pub(crate) fn delete(deletes: Vec<String>) -> Self {
        Self { deletes, ..Self::default() }
    }

    /// Returns every put, the marker first.
    pub(crate) fn all_puts(&self) -> impl Iterator<Item = &Put> {
        self.marker.iter().chain(&self.puts)
    }
}
