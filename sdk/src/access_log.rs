//! Fields of your own in the access log's line of this stream.
//!
//! ```no_run
//! weir_sdk::access_log::field("tenant", "gold");
//! ```
//!
//! In Weir the line ends in `"fields":{"tenant":"gold"}`: at most 16 fields of at most 1 KiB, names of `a-z`, `0-9` and
//! `_`; others are left out. What a filter sets in any callback counts, `on_end` included. In Envoy it is the filter
//! state `wasm.access_log.tenant`, which `%FILTER_STATE(wasm.access_log.tenant:PLAIN)%` prints.

use crate::property::Path;

/// Adds a field to the access log's line of this stream, or changes it.
pub fn field(name: &str, value: impl AsRef<[u8]>) {
    Field::new(name).set(value);
}

/// A field whose name is known before the stream is: faster than [`field`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    path: Path,
}

impl Field {
    /// The field of this name.
    pub fn new(name: &str) -> Self {
        // One segment: Envoy makes the whole path, NULs and all, the name of the filter state.
        Self { path: Path::new(&[&format!("access_log.{name}")]) }
    }

    /// Adds it to the access log's line of this stream, or changes it.
    pub fn set(&self, value: impl AsRef<[u8]>) {
        if let Err(error) = self.path.set(value.as_ref()) {
            log::warn!("{} was not set: {error}", self.path);
        }
    }
}
