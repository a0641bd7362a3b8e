//! Custom fields of the stream's access log entry.
//!
//! ```no_run
//! weir_sdk::access_log::field("tenant", "gold");
//! ```
//!
//! In Weir the entry ends with `"fields":{"tenant":"gold"}`. It has at most 16 fields of at most 1 KiB, with names of
//! `a-z`, `0-9` and `_`; others are left out. Fields can be set in every callback, including `on_log`. In Envoy the
//! field is the filter state `wasm.access_log.tenant`, which `%FILTER_STATE(wasm.access_log.tenant:PLAIN)%` prints.

use crate::property::Path;

/// Sets a field of the stream's access log entry.
pub fn field(name: &str, value: impl AsRef<[u8]>) {
    LogField::new(name).set(value);
}

/// A field whose name is encoded once, before any stream. Faster than [`field`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogField {
    path: Path,
}

impl LogField {
    /// Creates a field with this name.
    pub fn new(name: &str) -> Self {
        // One segment, because Envoy uses the whole path, including NULs, as the name of the filter state.
        Self { path: Path::new(&[&format!("access_log.{name}")]) }
    }

    /// Sets the field in the stream's access log entry.
    pub fn set(&self, value: impl AsRef<[u8]>) {
        if let Err(error) = self.path.set(value.as_ref()) {
            log::warn!("{} was not set: {error}", self.path);
        }
    }
}
