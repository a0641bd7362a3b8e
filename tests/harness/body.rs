//! Bodies: in memory, sent frame by frame by the test, and long ones that are generated while they are read.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use tokio::sync::mpsc;

/// The error with which a test breaks off a body or an exchange.
#[derive(Debug, Clone, Copy)]
pub struct BodyError;

impl std::fmt::Display for BodyError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the test breaks off the body here")
    }
}

impl std::error::Error for BodyError {}

/// The body of a request or a response.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// Returns an empty body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Returns a body of known length.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Returns a body of unknown length, followed by trailers.
pub fn with_trailers(bytes: impl Into<Bytes>, trailers: HeaderMap) -> Body {
    let (sender, body) = channel(2);
    let _fits = sender.0.try_send(Ok(Frame::data(bytes.into())));
    let _fits = sender.0.try_send(Ok(Frame::trailers(trailers)));
    body
}

/// Returns a body whose frames the test sends. The channel buffers one frame.
pub fn body_channel() -> (BodySender, Body) {
    channel(1)
}

fn channel(capacity: usize) -> (BodySender, Body) {
    let (sender, receiver) = mpsc::channel(capacity);
    (BodySender(sender), SteppedBody(receiver).boxed_unsync())
}

/// Sends the frames of a body. Dropping it completes the body.
#[derive(Debug, Clone)]
pub struct BodySender(mpsc::Sender<Result<Frame<Bytes>, BodyError>>);

impl BodySender {
    /// Sends more bytes. Returns false if the body was dropped.
    pub async fn data(&self, bytes: impl Into<Bytes>) -> bool {
        self.0.send(Ok(Frame::data(bytes.into()))).await.is_ok()
    }

    /// Sends trailers, the last frame of a body.
    pub async fn trailers(&self, trailers: HeaderMap) {
        let _body_may_be_dropped = self.0.send(Ok(Frame::trailers(trailers))).await;
    }

    /// Waits until the body is dropped.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

struct SteppedBody(mpsc::Receiver<Result<Frame<Bytes>, BodyError>>);

impl HttpBody for SteppedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(ready!(self.0.poll_recv(context)))
    }
}

/// One frame of a [`zeros`] body.
static ZEROS: [u8; 32 * 1024] = [0; 32 * 1024];

/// Returns a body of `length` zero bytes, and the number of bytes that were read from it so far.
pub fn zeros(length: u64) -> (Body, Arc<AtomicU64>) {
    let taken = Arc::new(AtomicU64::new(0));
    (zeros_counted_by(length, Arc::clone(&taken)), taken)
}

/// Returns a body of `length` zero bytes that counts the bytes read in `taken`.
pub fn zeros_counted_by(length: u64, taken: Arc<AtomicU64>) -> Body {
    CountingBody { length, taken }.boxed_unsync()
}

struct CountingBody {
    length: u64,
    taken: Arc<AtomicU64>,
}

impl CountingBody {
    fn remaining(&self) -> u64 {
        self.length - self.taken.load(Ordering::Relaxed)
    }
}

impl HttpBody for CountingBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let size = usize::try_from(self.remaining()).map_or(ZEROS.len(), |remaining| remaining.min(ZEROS.len()));
        if size == 0 {
            return Poll::Ready(None);
        }
        self.taken.fetch_add(size as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&ZEROS[..size])))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining())
    }
}
