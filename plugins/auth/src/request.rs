//! The request as plain values, which the rules match.

use std::borrow::Cow;
use std::cell::OnceCell;

use weir_sdk::path;

use crate::peer::Peer;

/// A request as it arrived. Values are bytes, since HTTP allows values that are not UTF-8.
#[derive(Debug)]
pub struct Request<'a> {
    /// The method; empty if the request has no `:method`.
    pub method: &'a [u8],
    /// The path with its query; empty if the request has no `:path`.
    pub path: &'a [u8],
    /// The other end of the connection, with the properties that the rules need.
    pub peer: Peer,
    /// All headers, with names in lower case.
    headers: Vec<(&'a [u8], &'a [u8])>,
    /// The time of arrival in seconds since 1970, or 0 if unknown.
    pub now: u64,
    /// The readings of the path, computed for the first rule that needs them.
    readings: OnceCell<Vec<Cow<'a, [u8]>>>,
}

impl<'a> Request<'a> {
    /// Creates a request from its headers, with `:method` and `:path` among them.
    pub fn from_headers(headers: &'a [(impl AsRef<[u8]>, impl AsRef<[u8]>)], now: u64) -> Self {
        Self::new(headers.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect(), now)
    }

    /// Creates a request like [`Request::from_headers`], from headers of the final type.
    pub fn new(headers: Vec<(&'a [u8], &'a [u8])>, now: u64) -> Self {
        let first = |name: &[u8]| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let (method, path) = (first(b":method").unwrap_or_default(), first(b":path").unwrap_or_default());
        Self { method, path, peer: Peer::default(), headers, now, readings: OnceCell::new() }
    }

    /// Sets the peer.
    pub fn from_peer(self, peer: Peer) -> Self {
        Self { peer, ..self }
    }

    /// Returns all values of a header.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let matching = move |(key, _): &&(&[u8], &[u8])| key.eq_ignore_ascii_case(name.as_bytes());
        self.headers.iter().filter(matching).map(|(_, value)| *value)
    }

    /// Returns every plausible reading of the path.
    pub fn path_readings(&self) -> &[Cow<'a, [u8]>] {
        self.readings.get_or_init(|| path::readings(self.path))
    }
}
