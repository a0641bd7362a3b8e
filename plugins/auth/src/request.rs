//! The request as the rules see it: plain values, no host.

use std::borrow::Cow;
use std::cell::OnceCell;

use crate::path;
use crate::peer::Peer;

/// What is judged: the request as it arrived. A value is bytes, since HTTP lets it be any.
#[derive(Debug)]
pub struct Request<'a> {
    /// The method; empty if there is none.
    pub method: &'a [u8],
    /// The path with its query; empty if there is none.
    pub path: &'a [u8],
    /// Who is at the other end of the connection, as far as a rule asks.
    pub peer: Peer,
    /// All headers; names are lower case.
    headers: Vec<(&'a [u8], &'a [u8])>,
    /// When it arrived, in seconds since 1970; 0 if nobody knows.
    pub now: u64,
    /// Found when the first rule asks.
    readings: OnceCell<Vec<Cow<'a, [u8]>>>,
}

impl<'a> Request<'a> {
    /// The request that these headers (`:method` and `:path` among them) describe.
    pub fn of(headers: &'a [(impl AsRef<[u8]>, impl AsRef<[u8]>)], now: u64) -> Self {
        Self::new(headers.iter().map(|(name, value)| (name.as_ref(), value.as_ref())).collect(), now)
    }

    /// As [`Request::of`], of headers that are at hand in this form.
    pub fn new(headers: Vec<(&'a [u8], &'a [u8])>, now: u64) -> Self {
        let first = |name: &[u8]| headers.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let (method, path) = (first(b":method").unwrap_or_default(), first(b":path").unwrap_or_default());
        Self { method, path, peer: Peer::default(), headers, now, readings: OnceCell::new() }
    }

    /// The same from this peer.
    pub fn from_peer(self, peer: Peer) -> Self {
        Self { peer, ..self }
    }

    /// Every value of a header.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let matching = move |(key, _): &&(&[u8], &[u8])| key.eq_ignore_ascii_case(name.as_bytes());
        self.headers.iter().filter(matching).map(|(_, value)| *value)
    }

    /// Every plausible reading of the path.
    pub fn path_readings(&self) -> &[Cow<'a, [u8]>] {
        self.readings.get_or_init(|| path::readings(self.path))
    }
}
