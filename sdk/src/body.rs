//! The part of a body that a callback receives.
//!
//! That is the data received since the last callback or, after [`Action::Pause`](crate::Action::Pause), all data
//! buffered so far. To read a whole body, pause until [`Body::end_of_stream`]. The host buffers up to its limit: it
//! answers a longer request with 413 and does not call the filter again.

use proxy_wasm::hostcalls;
use proxy_wasm::types::BufferType;

/// A part of a request or response body.
#[derive(Debug)]
pub struct Body {
    buffer: BufferType,
    len: usize,
    end_of_stream: bool,
}

impl Body {
    pub(crate) fn new(buffer: BufferType, len: usize, end_of_stream: bool) -> Self {
        Self { buffer, len, end_of_stream }
    }

    /// Returns the number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True if the body ends with these bytes.
    pub fn end_of_stream(&self) -> bool {
        self.end_of_stream
    }

    /// Returns all bytes.
    pub fn read(&self) -> Vec<u8> {
        self.read_range(0, self.len)
    }

    /// Returns at most `len` bytes, from offset `start`.
    pub fn read_range(&self, start: usize, len: usize) -> Vec<u8> {
        hostcalls::get_buffer(self.buffer, start, len).ok().flatten().unwrap_or_default()
    }

    /// Replaces all bytes. Weir corrects `content-length`; only in Envoy the filter must remove it in the headers
    /// callback when the length changes.
    pub fn replace(&mut self, bytes: &[u8]) {
        self.splice(0, self.len, bytes);
    }

    /// Inserts `bytes` before the first byte.
    pub fn prepend(&mut self, bytes: &[u8]) {
        self.splice(0, 0, bytes);
    }

    /// Appends `bytes` after the last byte.
    pub fn append(&mut self, bytes: &[u8]) {
        self.splice(self.len, 0, bytes);
    }

    fn splice(&mut self, start: usize, removed: usize, bytes: &[u8]) {
        match hostcalls::set_buffer(self.buffer, start, removed, bytes) {
            Ok(()) => self.len = self.len - removed + bytes.len(),
            Err(status) => log::warn!("the body was not modified: {status:?}"),
        }
    }
}
