//! Headers and trailers of the message in flight, read and changed where they lie: in the host.
//!
//! Values are bytes, because HTTP lets them be any bytes. The `text` readers answer `None` for a value that is not
//! UTF-8, so a filter that must not be fooled by such a value reads the bytes.

use std::ops::{Deref, DerefMut};

use proxy_wasm::hostcalls;
use proxy_wasm::types::MapType;

use crate::raw;

/// A header map of the stream: request headers, response headers, or trailers.
#[derive(Debug)]
pub struct Headers {
    map: MapType,
}

impl Headers {
    pub(crate) fn of(map: MapType) -> Self {
        Self { map }
    }

    /// The first value of `name`.
    pub fn first(&self, name: &str) -> Option<Vec<u8>> {
        hostcalls::get_map_value_bytes(self.map, name).ok().flatten()
    }

    /// The first value of `name`, if it is UTF-8.
    pub fn text(&self, name: &str) -> Option<String> {
        self.first(name).and_then(|value| String::from_utf8(value).ok())
    }

    /// Every value of `name`, in order.
    pub fn values(&self, name: &str) -> Vec<Vec<u8>> {
        let matching = |(key, value): (String, Vec<u8>)| key.eq_ignore_ascii_case(name).then_some(value);
        self.pairs().into_iter().filter_map(matching).collect()
    }

    /// All names and values, in order: one crossing to the host, so prefer it to many single reads.
    pub fn pairs(&self) -> Vec<(String, Vec<u8>)> {
        hostcalls::get_map_bytes(self.map).unwrap_or_default()
    }

    /// As [`Headers::pairs`], in one piece: a filter that looks at every request makes no allocation for each header.
    pub fn list(&self) -> HeaderList {
        HeaderList(raw::pairs(self.map))
    }

    /// Makes `value` the only value of `name`.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.log_refusal(name, hostcalls::set_map_value_bytes(self.map, name, Some(value.as_ref())));
    }

    /// Adds a value beside those that `name` has.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.log_refusal(name, hostcalls::add_map_value_bytes(self.map, name, value.as_ref()));
    }

    /// Removes every value of `name`.
    pub fn remove(&mut self, name: &str) {
        self.log_refusal(name, hostcalls::remove_map_value(self.map, name));
    }

    fn log_refusal(&self, name: &str, result: Result<(), proxy_wasm::types::Status>) {
        if let Err(status) = result {
            log::warn!("header {name} of {:?} was not changed: {status:?}", self.map);
        }
    }
}

/// A copy of a header map, as it was when it was asked for.
#[derive(Debug)]
pub struct HeaderList(Vec<u8>);

impl HeaderList {
    /// All names and values, in order. Hosts give names in lower case.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        raw::read_pairs(&self.0)
    }
}

/// The head of a request: its method, path and headers.
#[derive(Debug)]
pub struct RequestHeaders {
    headers: Headers,
    end_of_stream: bool,
}

impl RequestHeaders {
    pub(crate) fn new(end_of_stream: bool) -> Self {
        Self { headers: Headers::of(MapType::HttpRequestHeaders), end_of_stream }
    }

    /// The method, like `GET`.
    pub fn method(&self) -> String {
        self.text(":method").unwrap_or_default()
    }

    /// The path with its query, like `/search?q=weir`.
    pub fn path(&self) -> String {
        self.text(":path").unwrap_or_default()
    }

    /// The host name, with the port if the downstream gave one.
    pub fn authority(&self) -> String {
        self.text(":authority").unwrap_or_default()
    }

    /// Whether the request ends here, without a body.
    pub fn is_end_of_stream(&self) -> bool {
        self.end_of_stream
    }
}

impl Deref for RequestHeaders {
    type Target = Headers;

    fn deref(&self) -> &Headers {
        &self.headers
    }
}

impl DerefMut for RequestHeaders {
    fn deref_mut(&mut self) -> &mut Headers {
        &mut self.headers
    }
}

/// The head of a response: its status and headers.
#[derive(Debug)]
pub struct ResponseHeaders {
    headers: Headers,
    end_of_stream: bool,
}

impl ResponseHeaders {
    pub(crate) fn new(end_of_stream: bool) -> Self {
        Self { headers: Headers::of(MapType::HttpResponseHeaders), end_of_stream }
    }

    /// The status, like 200; 0 when there is no response.
    pub fn status(&self) -> u16 {
        self.text(":status").and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// Whether the response ends here, without a body.
    pub fn is_end_of_stream(&self) -> bool {
        self.end_of_stream
    }
}

impl Deref for ResponseHeaders {
    type Target = Headers;

    fn deref(&self) -> &Headers {
        &self.headers
    }
}

impl DerefMut for ResponseHeaders {
    fn deref_mut(&mut self) -> &mut Headers {
        &mut self.headers
    }
}
