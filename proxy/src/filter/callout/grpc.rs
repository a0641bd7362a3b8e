//! gRPC on the wire of a callout: events, message frames, and the messages that a guest has sent on a stream.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

use crate::error::ProxyError;
use crate::limits::MAX_CALLOUT_RESPONSE_BYTES;

/// An event of a gRPC call. They occur in this order.
#[derive(Debug)]
pub(crate) enum GrpcEvent {
    /// Headers of the response.
    InitialMetadata(HeaderMap),
    /// A message without its frame header.
    Message(Bytes),
    /// Trailers of the response.
    TrailingMetadata(HeaderMap),
    /// The end of the call.
    Closed(GrpcStatus),
}

/// The status of a gRPC call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct GrpcStatus {
    /// The code; 0 is OK.
    pub(crate) code: u32,
    /// The text, may be empty.
    pub(crate) text: String,
}

impl GrpcStatus {
    /// Returns a status of the proxy's own.
    pub(crate) fn new(code: u32, text: &str) -> Self {
        Self { code, text: text.to_owned() }
    }
}

/// gRPC status codes that the proxy generates.
impl GrpcStatus {
    pub(crate) const UNKNOWN: u32 = 2;
    pub(crate) const DEADLINE_EXCEEDED: u32 = 4;
    pub(crate) const RESOURCE_EXHAUSTED: u32 = 8;
    pub(crate) const INTERNAL: u32 = 13;
    pub(crate) const UNAVAILABLE: u32 = 14;
}

/// Bytes of a message's frame header: the compressed flag, and the length in four bytes.
const FRAME_HEADER_BYTES: usize = 5;

/// Returns a message with its frame header.
pub(crate) fn encode_frame(message: &[u8]) -> Bytes {
    let mut bytes = BytesMut::with_capacity(message.len() + FRAME_HEADER_BYTES);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    bytes.extend_from_slice(message);
    bytes.freeze()
}

/// Messages that a guest has sent on a stream, until the upstream reads them. The body of the stream's request.
#[derive(Clone, Default)]
pub(crate) struct GrpcSendStream(Rc<RefCell<SendQueue>>);

#[derive(Default)]
struct SendQueue {
    frames: VecDeque<Bytes>,
    bytes: usize,
    ended: bool,
    waker: Option<Waker>,
}

impl GrpcSendStream {
    /// Queues a message. Returns false if too many bytes wait already.
    pub(crate) fn push(&self, message: &[u8]) -> bool {
        let mut queue = self.0.borrow_mut();
        if queue.bytes + message.len() > MAX_CALLOUT_RESPONSE_BYTES {
            return false;
        }
        queue.bytes += message.len();
        queue.frames.push_back(encode_frame(message));
        queue.wake();
        true
    }

    /// Ends the stream. Returns false if it had ended before.
    pub(crate) fn end(&self) -> bool {
        let mut queue = self.0.borrow_mut();
        queue.wake();
        !std::mem::replace(&mut queue.ended, true)
    }

    /// Returns true once the stream has ended.
    pub(crate) fn is_ended(&self) -> bool {
        self.0.borrow().ended
    }
}

impl SendQueue {
    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl http_body::Body for GrpcSendStream {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let mut queue = self.0.borrow_mut();
        if let Some(frame) = queue.frames.pop_front() {
            queue.bytes = queue.bytes.saturating_sub(frame.len().saturating_sub(FRAME_HEADER_BYTES));
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        if queue.ended {
            return Poll::Ready(None);
        }
        queue.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

/// Decoder of messages from body data in any chunks.
#[derive(Default)]
pub(crate) struct FrameDecoder {
    bytes: BytesMut,
}

/// The reason for which a message is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// The message is compressed, which the request did not allow.
    Compressed,
    /// The message has more than [`MAX_CALLOUT_RESPONSE_BYTES`] bytes.
    TooLarge,
}

impl From<FrameError> for GrpcStatus {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Compressed => Self::new(Self::INTERNAL, "compressed message"),
            FrameError::TooLarge => Self::new(Self::RESOURCE_EXHAUSTED, "message too large"),
        }
    }
}

impl FrameDecoder {
    /// Appends received data.
    pub(crate) fn push(&mut self, data: &[u8]) {
        self.bytes.extend_from_slice(data);
    }

    /// Returns the next complete message, if there is one.
    ///
    /// # Errors
    /// The message is compressed or too large.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(header) = self.bytes.first_chunk::<FRAME_HEADER_BYTES>() else { return Ok(None) };
        let [compressed, length @ ..] = *header;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if compressed != 0 {
            return Err(FrameError::Compressed);
        }
        if length > MAX_CALLOUT_RESPONSE_BYTES {
            return Err(FrameError::TooLarge);
        }
        if self.bytes.len() < FRAME_HEADER_BYTES + length {
            return Ok(None);
        }
        self.bytes.advance(FRAME_HEADER_BYTES);
        Ok(Some(self.bytes.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn split_frames_are_decoded_into_messages() {
        let mut decoder = FrameDecoder::default();
        let both = [encode_frame(b"one"), encode_frame(b"")].concat();
        let mut messages = Vec::new();
        for byte in both {
            decoder.bytes.put_u8(byte);
            messages.extend(decoder.next().unwrap());
        }
        assert_eq!(messages, [&b"one"[..], b""]);
        decoder.bytes.extend_from_slice(&[1, 0, 0, 0, 0]);
        assert_eq!(decoder.next(), Err(FrameError::Compressed));
        let mut decoder = FrameDecoder { bytes: BytesMut::from(&[0, 0xff, 0, 0, 0][..]) };
        assert_eq!(decoder.next(), Err(FrameError::TooLarge));
    }

    #[test]
    fn send_queue_is_bounded() {
        let stream = GrpcSendStream::default();
        let half = vec![0; MAX_CALLOUT_RESPONSE_BYTES / 2];
        assert!(stream.push(&half) && stream.push(&half) && !stream.push(b"x"));
        assert!(stream.end() && !stream.end() && stream.is_ended());
    }
}
