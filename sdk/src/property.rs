//! What the host knows about the stream beyond its headers: addresses, route, connection, times.
//!
//! Paths are those of Envoy's attributes, like `["source", "address"]` or `["request", "id"]`. Numbers come as eight
//! bytes, least significant first. A path that is asked for with each request is best kept as a [`Path`].

use std::borrow::Cow;
use std::fmt;

use crate::error::HostError;
use crate::raw;

/// A path that is known before the stream is: asking for it puts nothing together.
///
/// ```
/// use weir_sdk::property::Path;
///
/// const ROUTE: Path = Path::joined("xds\0route_name");
/// let tenant = Path::new(&["request", "headers", "x-tenant"]);
/// // In a callback: ROUTE.bytes(), tenant.bytes()
/// assert_eq!(Path::new(&["xds", "route_name"]), ROUTE);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Path(Cow<'static, str>);

impl Path {
    /// The path of these segments.
    pub fn new(segments: &[&str]) -> Self {
        Self(Cow::Owned(segments.join("\0")))
    }

    /// The path whose segments are joined by NUL, as the ABI has it.
    pub const fn joined(segments: &'static str) -> Self {
        Self(Cow::Borrowed(segments))
    }

    /// The raw value, or `None` if the host has none.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        raw::property(self.0.as_bytes())
    }

    /// The value as text, or `None` if there is none or it is not UTF-8.
    pub fn text(&self) -> Option<String> {
        self.bytes().and_then(|value| String::from_utf8(value).ok())
    }

    /// The value as a number, or `None` if there is none or it is not eight bytes.
    pub fn number(&self) -> Option<u64> {
        self.bytes().and_then(|value| value.try_into().ok()).map(u64::from_le_bytes)
    }

    /// Sets a value that later filters of the same stream and the access log can read.
    pub fn set(&self, value: &[u8]) -> Result<(), HostError> {
        raw::set_property(self.0.as_bytes(), value)
    }
}

/// Segments joined by dots, as people write them.
impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.replace('\0', "."))
    }
}

/// The raw value, or `None` if the host has none.
pub fn bytes(path: &[&str]) -> Option<Vec<u8>> {
    Path::new(path).bytes()
}

/// The value as text, or `None` if there is none or it is not UTF-8.
pub fn text(path: &[&str]) -> Option<String> {
    Path::new(path).text()
}

/// The value as a number, or `None` if there is none or it is not eight bytes.
pub fn number(path: &[&str]) -> Option<u64> {
    Path::new(path).number()
}

/// Sets a value that later filters of the same stream and the access log can read.
pub fn set(path: &[&str], value: &[u8]) -> Result<(), HostError> {
    Path::new(path).set(value)
}
