//! Properties of the stream beyond its headers: addresses, route, connection, times.
//!
//! Paths are Envoy's attributes, like `["source", "address"]` or `["request", "id"]`. Numbers are eight bytes, least
//! significant first. Store a path that is read on every request as a [`Path`].

use std::borrow::Cow;
use std::fmt;

use crate::error::HostError;
use crate::raw;

/// A property path that is encoded once, before any stream.
///
/// ```
/// use weir_sdk::property::Path;
///
/// const ROUTE: Path = Path::from_nul_separated("xds\0route_name");
/// let tenant = Path::new(&["request", "headers", "x-tenant"]);
/// // In a callback: ROUTE.bytes(), tenant.bytes()
/// assert_eq!(Path::new(&["xds", "route_name"]), ROUTE);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Cow<'static, str>);

impl Path {
    /// Creates a path from its segments.
    pub fn new(segments: &[&str]) -> Self {
        Self(Cow::Owned(segments.join("\0")))
    }

    /// Creates a path from segments that are separated by NUL, as `proxy_get_property` takes them.
    pub const fn from_nul_separated(segments: &'static str) -> Self {
        Self(Cow::Borrowed(segments))
    }

    /// Returns the raw value; `None` when the host has no value.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        raw::property(self.0.as_bytes())
    }

    /// Returns the value as text; `None` when absent or not UTF-8.
    pub fn text(&self) -> Option<String> {
        self.bytes().and_then(|value| String::from_utf8(value).ok())
    }

    /// Returns the value as a number; `None` when absent or not eight bytes.
    pub fn number(&self) -> Option<u64> {
        self.bytes().and_then(|value| value.try_into().ok()).map(u64::from_le_bytes)
    }

    /// Sets a value, which later filters of the stream and the access log can read.
    pub fn set(&self, value: &[u8]) -> Result<(), HostError> {
        raw::set_property(self.0.as_bytes(), value)
    }
}

/// Writes the segments, separated by dots.
impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.replace('\0', "."))
    }
}

/// Returns the raw value; `None` when the host has no value.
pub fn bytes(path: &[&str]) -> Option<Vec<u8>> {
    Path::new(path).bytes()
}

/// Returns the value as text; `None` when absent or not UTF-8.
pub fn text(path: &[&str]) -> Option<String> {
    Path::new(path).text()
}

/// Returns the value as a number; `None` when absent or not eight bytes.
pub fn number(path: &[&str]) -> Option<u64> {
    Path::new(path).number()
}

/// Sets a value, which later filters of the stream and the access log can read.
pub fn set(path: &[&str], value: &[u8]) -> Result<(), HostError> {
    Path::new(path).set(value)
}
