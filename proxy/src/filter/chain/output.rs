//! Output of one direction, after its last filter. The driver writes, and a body adapter or `stream/await_head.rs` is
//! woken and reads. Bounded: the source is read only while [`OutputBuffer::buffered_bytes`] is below a limit.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::event::EndOfStream;

/// One frame of a direction, after its headers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum OutputFrame {
    /// Body bytes, never empty.
    Data(Bytes),
    /// The trailers, which are in the exchange. The last frame.
    Trailers,
    /// The end of a message without trailers. The last frame.
    End,
    /// The direction was reset. The last frame.
    Reset,
}

/// Output of one direction, after its last filter.
#[derive(Debug, Default)]
pub(crate) struct OutputBuffer {
    /// True if the message ends with its headers. `None` until the headers are released.
    headers: Option<bool>,
    /// True once the reader has taken the headers. Nothing else is read before.
    headers_taken: bool,
    data: VecDeque<Bytes>,
    buffered_bytes: usize,
    last: Option<OutputFrame>,
    waker: Option<Waker>,
}

impl OutputBuffer {
    /// Releases the headers to the reader. `end` is `Yes` if nothing follows them.
    pub(crate) fn push_headers(&mut self, end: EndOfStream) {
        debug_assert!(self.headers.is_none(), "headers are pushed once");
        self.headers = Some(end == EndOfStream::Yes);
        if end == EndOfStream::Yes {
            self.last = Some(OutputFrame::End);
        }
        self.wake();
    }

    /// Appends body bytes, which must not be empty.
    pub(crate) fn push_data(&mut self, bytes: Bytes) {
        debug_assert!(self.last.is_none(), "nothing follows the end");
        self.buffered_bytes += bytes.len();
        self.data.push_back(bytes);
        self.wake();
    }

    /// Appends the last frame.
    pub(crate) fn push_end(&mut self, last: OutputFrame) {
        debug_assert!(self.last.is_none(), "nothing follows the end");
        self.last = Some(last);
        self.wake();
    }

    /// Ends the direction after the buffered frames, unless it has an end already.
    pub(crate) fn end(&mut self) {
        self.last.get_or_insert(OutputFrame::End);
        self.wake();
    }

    /// Resets the direction and drops buffered data. A message whose frames were all read stays complete.
    pub(crate) fn reset(&mut self) {
        if self.headers_taken && self.last == Some(OutputFrame::End) && self.data.is_empty() {
            return;
        }
        self.data.clear();
        self.buffered_bytes = 0;
        self.last = Some(OutputFrame::Reset);
        self.wake();
    }

    /// Removes all frames, so that another message can replace them. The reader must not have taken the headers.
    pub(crate) fn clear_unsent(&mut self) {
        debug_assert!(!self.headers_taken, "headers that were taken cannot be replaced");
        *self = Self { waker: self.waker.take(), ..Self::default() };
    }

    /// Wakes the reader.
    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Registers the reader's waker for the next change.
    pub(crate) fn register_waker(&mut self, context: &Context<'_>) {
        match &mut self.waker {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
    }

    /// Returns whether the message ends with its headers. `None` until the headers are released.
    pub(crate) fn headers(&self) -> Option<bool> {
        self.headers
    }

    /// Returns the same as [`Self::headers`] and marks the headers as taken, so that another message cannot replace
    /// them.
    pub(crate) fn take_headers(&mut self) -> Option<bool> {
        self.headers_taken |= self.headers.is_some();
        self.headers
    }

    /// Returns true once the reader has taken the headers.
    pub(crate) fn headers_taken(&self) -> bool {
        self.headers_taken
    }

    /// Returns true once the direction was reset.
    pub(crate) fn is_reset(&self) -> bool {
        self.last == Some(OutputFrame::Reset)
    }

    /// Returns the number of buffered body bytes.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.buffered_bytes
    }

    /// Returns the number of body bytes left to read. `None` until the end of the message is known.
    pub(crate) fn remaining(&self) -> Option<usize> {
        (self.last == Some(OutputFrame::End)).then_some(self.buffered_bytes)
    }

    /// Returns the next frame. The last frame is returned again by each further call.
    pub(crate) fn poll_frame(&mut self, context: &Context<'_>) -> Poll<OutputFrame> {
        if let Some(bytes) = self.data.pop_front() {
            self.buffered_bytes -= bytes.len();
            return Poll::Ready(OutputFrame::Data(bytes));
        }
        match &self.last {
            Some(OutputFrame::Trailers) => Poll::Ready(OutputFrame::Trailers),
            Some(OutputFrame::End) => Poll::Ready(OutputFrame::End),
            Some(_) => Poll::Ready(OutputFrame::Reset),
            None => {
                self.register_waker(context);
                Poll::Pending
            }
        }
    }
}
