//! The part of a body that a callback sees.
//!
//! It is what has just arrived or, after [`Action::Pause`](crate::Action::Pause), everything held so far. To see a
//! whole body, pause until [`Body::is_last`]. The host holds no more than its buffer limit: a longer request is
//! answered with 413 and the filter is not called again.

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

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether the body ends with these bytes.
    pub fn is_last(&self) -> bool {
        self.end_of_stream
    }

    /// All bytes.
    pub fn read(&self) -> Vec<u8> {
        self.read_range(0, self.len)
    }

    /// At most `len` bytes from `start` on.
    pub fn read_range(&self, start: usize, len: usize) -> Vec<u8> {
        hostcalls::get_buffer(self.buffer, start, len).ok().flatten().unwrap_or_default()
    }

    /// Puts `bytes` in place of everything. Remove `content-length` in the headers callback when the length changes.
    pub fn replace(&mut self, bytes: &[u8]) {
        self.splice(0, self.len, bytes);
    }

    /// Puts `bytes` before the first byte.
    pub fn prepend(&mut self, bytes: &[u8]) {
        self.splice(0, 0, bytes);
    }

    /// Puts `bytes` after the last byte.
    pub fn append(&mut self, bytes: &[u8]) {
        self.splice(self.len, 0, bytes);
    }

    fn splice(&mut self, start: usize, removed: usize, bytes: &[u8]) {
        match hostcalls::set_buffer(self.buffer, start, removed, bytes) {
            Ok(()) => self.len = self.len - removed + bytes.len(),
            Err(status) => log::warn!("the body was not changed: {status:?}"),
        }
    }
}
