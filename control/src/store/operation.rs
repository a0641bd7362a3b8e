//! What an engine is asked for.

/// What a transaction does, all of it or nothing.
#[derive(Debug, Default)]
pub(crate) struct Write {
    /// Keys and their new values.
    pub(crate) puts: Vec<(String, Vec<u8>)>,
    /// Keys to forget.
    pub(crate) deletes: Vec<String>,
}

/// What a key must hold for a transaction to happen; `None`: it must not be there.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guard<'a> {
    pub(crate) key: &'a str,
    pub(crate) value: Option<&'a [u8]>,
}

/// Which way a list goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Forward,
    Reverse,
}

impl Write {
    /// One key and its new value.
    pub(crate) fn put(key: impl Into<String>, value: Vec<u8>) -> Self {
        Self { puts: vec![(key.into(), value)], deletes: Vec::new() }
    }

    /// Keys to forget.
    pub(crate) fn delete(keys: Vec<String>) -> Self {
        Self { puts: Vec::new(), deletes: keys }
    }
}
