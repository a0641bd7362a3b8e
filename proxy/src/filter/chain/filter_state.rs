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

/// Position of a message at a point of the chain. It moves forward only. Body bytes between the headers and the end are in
/// the buffers of [`FilterState`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Progress {
    /// Before the headers.
    #[default]
    Nothing,
    /// Behind the headers, before the end.
    Headers,
    /// The end of a message that ended with its headers.
    EndWithHeaders,
    /// The end of a message without trailers.
    EndWithBody,
    /// The end of a message with trailers.
    EndWithTrailers,
}

/// The next callback of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NextCallback {
    Headers,
    Body,
    Trailers,
}

/// State of one filter in one direction. `forwarded <= delivered <= received`.
#[derive(Debug, Default)]
pub(crate) struct FilterState {
    /// The position up to which the message has arrived from the filter before.
    pub(crate) received: Progress,
    /// The position up to which the filter was called.
    pub(crate) delivered: Progress,
    /// The position up to which the message was forwarded to the next filter.
    pub(crate) forwarded: Progress,
    /// Why the filter is paused, if it is.
    pub(crate) pause: Option<Pause>,
    /// Buffered bytes that the next callback does not show. See [`Pause::WatermarkBody`].
    pub(crate) withheld: BytesMut,
    /// Bytes that the next callback shows.
    pub(crate) visible: BytesMut,
    /// True if `visible` has bytes that the filter has not seen.
    pub(crate) has_new_data: bool,
    /// True while the filter's body callback runs.
    pub(crate) in_body_callback: bool,
    /// The filter's buffer limit, in bytes.
    pub(crate) buffer_limit_bytes: usize,
}

impl FilterState {
    /// Moves to the end of the message. A message that has ended stays as it is: its source may report the end of a body
    /// behind headers that ended it.
    pub(crate) fn receive_end(&mut self, end: Progress) {
        if self.received < Progress::EndWithHeaders {
            self.received = end;
        }
    }

    /// Returns the callback that can run now, if one can.
    pub(crate) fn next_callback(&self) -> Option<NextCallback> {
        if self.delivered == Progress::Nothing {
            (self.received > Progress::Nothing).then_some(NextCallback::Headers)
        } else if matches!(self.pause, Some(Pause::All | Pause::Trailers)) {
            None
        } else if self.has_new_data || (self.received == Progress::EndWithBody && self.delivered < self.received) {
            Some(NextCallback::Body)
        } else if self.received == Progress::EndWithTrailers && self.delivered < self.received {
            Some(NextCallback::Trailers)
        } else {
            None
        }
    }

    /// Returns true if body bytes bypass the filter when it does not want them.
    pub(crate) fn is_passthrough(&self) -> bool {
        self.forwarded > Progress::Nothing
            && self.pause.is_none()
            && self.visible.is_empty()
            && self.withheld.is_empty()
    }

    /// Returns true while the filter may change the body: in its body callback, and while it buffers what it has seen.
    pub(crate) fn is_writable(&self) -> bool {
        self.in_body_callback
            || (!self.visible.is_empty()
                && matches!(self.pause, Some(Pause::BufferBody | Pause::TcpData | Pause::Trailers)))
    }

    /// Returns the number of buffered bytes.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.withheld.len() + self.visible.len()
    }

    /// Appends a chunk to the visible bytes.
    pub(crate) fn append(&mut self, bytes: Bytes) {
        if self.visible.is_empty() {
            self.visible = bytes.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        } else {
            self.visible.extend_from_slice(&bytes);
        }
        self.has_new_data = true;
    }

    /// Removes and returns the bytes that the filter has seen, in order.
    pub(crate) fn drain_delivered(&mut self) -> Bytes {
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
