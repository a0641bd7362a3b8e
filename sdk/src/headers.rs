//! Headers and trailers of the current message. They are stored in the host: every read and write is a hostcall.
//!
//! Values are bytes, because HTTP allows any bytes. The `text` readers return `None` for a value that is not UTF-8. A
//! filter that must distinguish such a value from an absent one reads the bytes.

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
    pub(crate) fn new(map: MapType) -> Self {
        Self { map }
    }

    /// Returns the first value of `name`.
    pub fn first(&self, name: &str) -> Option<Vec<u8>> {
        hostcalls::get_map_value_bytes(self.map, name).ok().flatten()
    }

    /// Returns the first value of `name`; `None` when absent or not UTF-8.
    pub fn text(&self, name: &str) -> Option<String> {
        self.first(name).and_then(|value| String::from_utf8(value).ok())
    }

    /// Returns every value of `name`, in order.
    pub fn values(&self, name: &str) -> Vec<Vec<u8>> {
        let matching = |(key, value): (String, Vec<u8>)| key.eq_ignore_ascii_case(name).then_some(value);
        self.pairs().into_iter().filter_map(matching).collect()
    }

    /// Returns all names and values, in order, with one hostcall.
    pub fn pairs(&self) -> Vec<(String, Vec<u8>)> {
        hostcalls::get_map_bytes(self.map).unwrap_or_default()
    }

    /// Returns all names and values in one buffer: one hostcall and no allocation per header.
    pub fn list(&self) -> HeaderList {
        HeaderList(raw::pairs(self.map))
    }

    /// Sets `name` to this value, and removes its other values.
    pub fn set(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.log_failure(name, hostcalls::set_map_value_bytes(self.map, name, Some(value.as_ref())));
    }

    /// Adds a value to those of `name`.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) {
        self.log_failure(name, hostcalls::add_map_value_bytes(self.map, name, value.as_ref()));
    }

    /// Removes every value of `name`.
    pub fn remove(&mut self, name: &str) {
        self.log_failure(name, hostcalls::remove_map_value(self.map, name));
    }

    fn log_failure(&self, name: &str, result: Result<(), proxy_wasm::types::Status>) {
        if let Err(status) = result {
            log::warn!("header {name} of {:?} was not modified: {status:?}", self.map);
        }
    }
}

/// A copy of a header map. It does not change with the map.
#[derive(Debug)]
pub struct HeaderList(Vec<u8>);

impl HeaderList {
    /// Iterates over all names and values, in order. Names are in lower case.
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
        Self { headers: Headers::new(MapType::HttpRequestHeaders), end_of_stream }
    }

    /// Returns the method, like `GET`.
    pub fn method(&self) -> String {
        self.text(":method").unwrap_or_default()
    }

    /// Returns the path with its query, like `/search?q=weir`.
    pub fn path(&self) -> String {
        self.text(":path").unwrap_or_default()
    }

    /// Returns `:authority`: the host name, and the port if the downstream sent one.
    pub fn authority(&self) -> String {
        self.text(":authority").unwrap_or_default()
    }

    /// True if the request has neither body nor trailers.
    pub fn end_of_stream(&self) -> bool {
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
        Self { headers: Headers::new(MapType::HttpResponseHeaders), end_of_stream }
    }

    /// Returns the status, like 200; 0 when there is no response.
    pub fn status(&self) -> u16 {
        self.text(":status").and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// True if the response has neither body nor trailers.
    pub fn end_of_stream(&self) -> bool {
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
