//! State of one filter in one direction: data received, delivered to the filter, and buffered by it. Only `driver.rs`
//! moves data between filters.

use bytes::{Bytes, BytesMut};

/// Why a filter is paused, and what it pauses. Follows `proxy_action_t` of Proxy-Wasm and Envoy's
/// `FilterHeadersStatus`, `FilterDataStatus` and `FilterTrailersStatus`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// Pauses everything, with backpressure. No callback runs until the filter continues.
    All,
    /// Pauses the headers only. Body callbacks still run.
    Headers,
    /// Buffers the body. Each callback sees all of it.
    BufferBody,
    /// Buffers the body, with backpressure. Each callback sees only new bytes.
    WatermarkBody,
    /// Buffers the bytes of a TCP connection, with backpressure. Each callback sees all of them.
    TcpData,
    /// Pauses the trailers, and all that was buffered before them.
    Trailers,
}

/// Result of a filter's callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FilterStatus {
    /// Forwards what the filter has seen.
    Continue,
    /// Pauses the filter.
    Pause(Pause),
    /// Drops the visible body bytes, and pauses the filter with [`Pause::BufferBody`].
    DropBody,
}

/// Parts of a message that have passed a point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "one flag for each part of a message")]
pub(super) struct Progress {
    pub(super) headers: bool,
    pub(super) end_of_stream: bool,
    pub(super) trailers: bool,
}

/// The next callback of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextCallback {
    Headers,
    Body,
    Trailers,
}

/// State of one filter in one direction.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent flags of one filter")]
pub(super) struct FilterState {
    /// Parts that have arrived from the filter before. `end_of_stream` and `trailers` exclude each other.
    pub(super) received: Progress,
    /// Parts that the filter was called with.
    pub(super) delivered: Progress,
    /// Parts that were forwarded to the next filter.
    pub(super) forwarded: Progress,
    /// True if the message ended with its headers.
    pub(super) headers_end_stream: bool,
    /// Why the filter is paused, if it is.
    pub(super) pause: Option<Pause>,
    /// Buffered bytes that the next callback does not show. See [`Pause::WatermarkBody`].
    pub(super) withheld: BytesMut,
    /// Bytes that the next callback shows.
    pub(super) visible: BytesMut,
    /// True if `visible` has bytes that the filter has not seen.
    pub(super) has_new_data: bool,
    /// True while the filter's body callback runs.
    pub(super) in_body_callback: bool,
    /// The filter's buffer limit, in bytes.
    pub(super) buffer_limit_bytes: usize,
}

impl FilterState {
    /// Returns the callback that can run now, if one can.
    pub(super) fn next_callback(&self) -> Option<NextCallback> {
        if !self.received.headers {
            None
        } else if !self.delivered.headers {
            Some(NextCallback::Headers)
        } else if matches!(self.pause, Some(Pause::All | Pause::Trailers)) {
            None
        } else if self.has_new_data || (self.received.end_of_stream && !self.delivered.end_of_stream) {
            Some(NextCallback::Body)
        } else if self.received.trailers && !self.delivered.trailers {
            Some(NextCallback::Trailers)
        } else {
            None
        }
    }

    /// Returns true if body bytes bypass the filter when it does not want them.
    pub(super) fn is_passthrough(&self) -> bool {
        self.forwarded.headers && self.pause.is_none() && self.visible.is_empty() && self.withheld.is_empty()
    }

    /// Returns true while the filter may change the body: in its body callback, and while it buffers what it has seen.
    pub(super) fn is_writable(&self) -> bool {
        self.in_body_callback
            || (!self.visible.is_empty()
                && matches!(self.pause, Some(Pause::BufferBody | Pause::TcpData | Pause::Trailers)))
    }

    /// Returns the number of buffered bytes.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.withheld.len() + self.visible.len()
    }

    /// Appends a chunk to the visible bytes.
    pub(super) fn append(&mut self, bytes: Bytes) {
        if self.visible.is_empty() {
            self.visible = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        } else {
            self.visible.extend_from_slice(&bytes);
        }
        self.has_new_data = true;
    }

    /// Removes and returns the bytes that the filter has seen, in order.
    pub(super) fn drain_delivered(&mut self) -> Bytes {
        if self.visible.capacity() == 0 && self.withheld.capacity() == 0 {
            return Bytes::new(); // The common case: no body arrived here.
        }
        if self.has_new_data {
            return self.withheld.split().freeze();
        }
        if self.withheld.is_empty() {
            return std::mem::take(&mut self.visible).freeze();
        }
        self.withheld.unsplit(self.visible.split());
        std::mem::take(&mut self.withheld).freeze()
    }
}
