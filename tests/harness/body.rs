//! Bodies: in memory, in steps that the test decides, and very long ones that exist only while they are read.

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

/// Why a body or an exchange breaks off.
#[derive(Debug, Clone, Copy)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the script breaks off here")
    }
}

impl std::error::Error for Broken {}

/// A body of a request or a response.
pub type Body = UnsyncBoxBody<Bytes, Broken>;

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// These bytes, with a known length.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// These bytes without a known length, then trailers.
pub fn with_trailers(bytes: impl Into<Bytes>, trailers: HeaderMap) -> Body {
    let (sender, body) = channel(2);
    let _room = sender.0.try_send(Ok(Frame::data(bytes.into())));
    let _room = sender.0.try_send(Ok(Frame::trailers(trailers)));
    body
}

/// A body that goes on when the test says so. One step waits at most.
pub fn in_steps() -> (BodySender, Body) {
    channel(1)
}

fn channel(room: usize) -> (BodySender, Body) {
    let (sender, receiver) = mpsc::channel(room);
    (BodySender(sender), Steps(receiver).boxed_unsync())
}

/// Decides how a body goes on; dropped, the body ends well.
#[derive(Debug, Clone)]
pub struct BodySender(mpsc::Sender<Result<Frame<Bytes>, Broken>>);

impl BodySender {
    /// Some more bytes. False when nobody reads any more.
    pub async fn data(&self, bytes: impl Into<Bytes>) -> bool {
        self.0.send(Ok(Frame::data(bytes.into()))).await.is_ok()
    }

    /// Trailers, after which nothing may follow.
    pub async fn trailers(&self, trailers: HeaderMap) {
        let _anyone = self.0.send(Ok(Frame::trailers(trailers))).await;
    }

    /// Breaks off in the middle.
    pub async fn break_off(&self) {
        let _anyone = self.0.send(Err(Broken)).await;
    }

    /// Waits until nobody reads the body any more.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}

struct Steps(mpsc::Receiver<Result<Frame<Bytes>, Broken>>);

impl HttpBody for Steps {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        Poll::Ready(ready!(self.0.poll_recv(context)))
    }
}

/// What a very long body is made of.
static PATTERN: [u8; 32 * 1024] = [b'w'; 32 * 1024];

/// A body of `length` bytes, and how many of them have been taken so far.
pub fn counted(length: u64) -> (Body, Arc<AtomicU64>) {
    let taken = Arc::new(AtomicU64::new(0));
    (counted_by(length, Arc::clone(&taken)), taken)
}

/// As [`counted`], with a counter that is there already.
pub fn counted_by(length: u64, taken: Arc<AtomicU64>) -> Body {
    Counted { length, taken }.boxed_unsync()
}

struct Counted {
    length: u64,
    taken: Arc<AtomicU64>,
}

impl Counted {
    fn left(&self) -> u64 {
        self.length - self.taken.load(Ordering::Relaxed)
    }
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let size = usize::try_from(self.left()).map_or(PATTERN.len(), |left| left.min(PATTERN.len()));
        if size == 0 {
            return Poll::Ready(None);
        }
        self.taken.fetch_add(size as u64, Ordering::Relaxed);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&PATTERN[..size])))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left())
    }
}
