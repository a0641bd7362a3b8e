//! The key that a request is counted under: a keyed hash of its values, in the order of the configuration.

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use weir_sdk::path::{lenient, without_end_slash};

use crate::host::Host;
use crate::seed::Seed;

/// A value of the request that is part of the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyPart {
    /// The downstream's address without the port. Of IPv6 only the first 64 bits, since a downstream has all the
    /// others.
    Address,
    /// The first value of a header. The consumer and claims are headers, too: `auth` sets them.
    Header(String),
    /// The path without the query, as the most lenient upstream reads it: all spellings of a path share a bucket.
    Path,
}

/// The action on a request without a value of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingKey {
    /// All such requests are counted together.
    Share,
    /// The request is not counted.
    Skip,
    /// The request is rejected.
    Reject,
}

/// The key of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The hash that the request is counted under.
    Counted(u64),
    /// A value is missing, and [`MissingKey`] does not share.
    Missing,
}

/// Returns the key of a request for a limit. Keys of two limits collide with a chance of 1 in 2^64.
pub fn from_request<H: Host>(parts: &[KeyPart], missing: MissingKey, host: &H, seed: Seed, limit: u64) -> Key {
    let mut hasher = seed.hasher();
    hasher.write_u64(limit);
    for part in parts {
        match part.value(host) {
            // The length separates `ab`, `c` from `a`, `bc`, and an empty value from a missing one.
            Some(value) => {
                hasher.write_u64(value.len() as u64 + 1);
                hasher.write(&value);
            }
            None if missing == MissingKey::Share => hasher.write_u64(0),
            None => return Key::Missing,
        }
    }
    Key::Counted(hasher.finish())
}

impl KeyPart {
    fn value<H: Host>(&self, host: &H) -> Option<Vec<u8>> {
        match self {
            Self::Address => host.address().map(|address| network(&address)),
            Self::Header(name) => host.header(name),
            Self::Path => host.header(":path").map(|path| without_end_slash(&lenient(&path)).to_vec()),
        }
    }
}

/// Returns the part of `192.0.2.7:1234` or `[2001:db8::1]:1234` that identifies the downstream. Other values, like the
/// path of a socket, are returned unchanged.
fn network(address: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(address).unwrap_or_default();
    let ip = text.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| text.parse::<IpAddr>());
    match ip.map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => ip.octets().to_vec(),
        Ok(IpAddr::V6(ip)) => ip.octets()[..8].to_vec(),
        Err(_) => address.to_vec(),
    }
}
