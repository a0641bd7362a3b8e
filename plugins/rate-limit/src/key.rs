//! What requests are counted by: values of the request, in the order of the configuration, as one keyed hash.

use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};

use weir_sdk::matching::without_query;

use crate::host::Host;
use crate::seed::Seed;

/// One value of the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// The downstream's address, without the port; of IPv6 the first 64 bits, since a downstream has all the others.
    Address,
    /// The first value of a header. The consumer and claims are headers, too: `auth` sets them.
    Header(String),
    /// The path without the query.
    Path,
}

/// What becomes of a request that lacks a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingKey {
    /// All such requests are counted together.
    Share,
    /// It is not counted.
    Skip,
    /// It is refused.
    Refuse,
}

/// The key of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Counted under this number.
    Counted(u64),
    /// Not counted, or refused: the value is missing.
    Missing,
}

/// The key of a request under a limit. Two limits never count under the same number, but by chance: 1 in 2^64.
pub fn of_request<H: Host>(parts: &[Part], missing: MissingKey, host: &H, (seed, limit): (Seed, u64)) -> Key {
    let mut hasher = seed.hasher();
    hasher.write_u64(limit);
    for part in parts {
        match part.value(host) {
            // The length keeps `ab`, `c` from `a`, `bc`; an empty value is not a missing one.
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

impl Part {
    fn value<H: Host>(&self, host: &H) -> Option<Vec<u8>> {
        match self {
            Self::Address => host.address().map(|address| network(&address)),
            Self::Header(name) => host.header(name),
            Self::Path => host.header(":path").map(|mut path| {
                path.truncate(without_query(&path).len());
                path
            }),
        }
    }
}

/// The part of `192.0.2.7:1234` or `[2001:db8::1]:1234` that is the downstream's alone. What is no address, like the
/// path of a socket, is taken as it stands.
fn network(address: &[u8]) -> Vec<u8> {
    let text = std::str::from_utf8(address).unwrap_or_default();
    let ip = text.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| text.parse::<IpAddr>());
    match ip.map(|ip| ip.to_canonical()) {
        Ok(IpAddr::V4(ip)) => ip.octets().to_vec(),
        Ok(IpAddr::V6(ip)) => ip.octets()[..8].to_vec(),
        Err(_) => address.to_vec(),
    }
}
