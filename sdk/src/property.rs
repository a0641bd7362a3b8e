//! What the host knows about the stream beyond its headers: addresses, route, connection, times.
//!
//! Paths are those of Envoy's attributes, like `["source", "address"]` or `["request", "id"]`. Numbers come as eight
//! bytes, least significant first.

use proxy_wasm::hostcalls;

use crate::error::HostError;
use crate::raw;

/// The raw value, or `None` if the host has none.
pub fn bytes(path: &[&str]) -> Option<Vec<u8>> {
    raw::property(path)
}

/// The value as text, or `None` if there is none or it is not UTF-8.
pub fn text(path: &[&str]) -> Option<String> {
    bytes(path).and_then(|value| String::from_utf8(value).ok())
}

/// The value as a number, or `None` if there is none or it is not eight bytes.
pub fn number(path: &[&str]) -> Option<u64> {
    bytes(path).and_then(|value| value.try_into().ok()).map(u64::from_le_bytes)
}

/// Sets a value that later filters of the same stream and the access log can read.
pub fn set(path: &[&str], value: &[u8]) -> Result<(), HostError> {
    Ok(hostcalls::set_property(path.to_vec(), Some(value))?)
}
