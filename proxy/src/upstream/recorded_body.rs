//! The body of a request that a retry policy may send again: what an attempt reads of it is retained, within a bound,
//! and read again by the next attempt.
//!
//! ```text
//! attempt 1 reads ─► retained ◄─ source
//! attempt 2 reads ─► retained, then ◄─ source
//! a response is accepted: what was read is dropped, and the attempt reads the rest
//! ```

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::body::Body;
use crate::error::ProxyError;
use crate::limits::MAX_REPLAY_BYTES;

/// A body that several attempts read, one after another.
#[derive(Clone)]
pub(super) struct RecordedBody(Rc<RefCell<Recording>>);

/// The part of a body that was read, and the rest.
struct Recording {
    source: Body,
    /// The frames that an attempt has read or may read again.
    retained: VecDeque<RetainedFrame>,
    /// The position of the current reader in `retained`.
    next: usize,
    /// Bytes in `retained`: the data, and [`RETAINED_FRAME_BYTES`] for each piece.
    bytes: usize,
    /// The number of the current reader. An earlier one reads nothing more.
    reader: u32,
    /// False once the beginning is lost: it was longer than the bound, a response was accepted, or the source has failed.
    is_whole: bool,
}

/// Bytes that a retained piece counts beside its data, so that many small pieces have a bound, too.
const RETAINED_FRAME_BYTES: usize = 64;

enum RetainedFrame {
    Data(Bytes),
    /// Boxed, because they are rare.
    Trailers(Box<HeaderMap>),
}

impl RetainedFrame {
    fn to_frame(&self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data.clone()),
            Self::Trailers(trailers) => Frame::trailers(HeaderMap::clone(trailers)),
        }
    }
}

impl RecordedBody {
    /// Returns a body of which nothing was read.
    pub(super) fn new(source: Body) -> Self {
        let (retained, next, bytes, reader) = (VecDeque::new(), 0, 0, 0);
        Self(Rc::new(RefCell::new(Recording { source, retained, next, bytes, reader, is_whole: true })))
    }

    /// Returns true if the whole body can be read once more.
    pub(super) fn is_whole(&self) -> bool {
        self.0.borrow().is_whole
    }

    /// Returns the body from its beginning, for the next attempt. The reader of an earlier attempt fails.
    pub(super) fn read_again(&self) -> Body {
        let mut recording = self.0.borrow_mut();
        recording.next = 0;
        recording.reader += 1;
        Body::stream(Reader { recording: Rc::clone(&self.0), number: recording.reader })
    }

    /// Retains nothing more, and drops what was read.
    pub(super) fn forget(&self) {
        let mut recording = self.0.borrow_mut();
        recording.forget();
    }
}

impl Recording {
    fn forget(&mut self) {
        self.retained.drain(..self.next);
        (self.next, self.is_whole) = (0, false);
    }

    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        if !self.is_whole {
            return match self.retained.pop_front() {
                Some(frame) => Poll::Ready(Some(Ok(frame.to_frame()))),
                None => Pin::new(&mut self.source).poll_frame(context),
            };
        }
        if let Some(frame) = self.retained.get(self.next) {
            self.next += 1;
            return Poll::Ready(Some(Ok(frame.to_frame())));
        }
        let Some(frame) = ready!(Pin::new(&mut self.source).poll_frame(context)) else { return Poll::Ready(None) };
        let Ok(frame) = frame else {
            self.forget();
            return Poll::Ready(Some(frame));
        };
        if let Some(data) = frame.data_ref() {
            self.bytes = self.bytes.saturating_add(data.len() + RETAINED_FRAME_BYTES);
            self.retained.push_back(RetainedFrame::Data(data.clone()));
        } else if let Some(trailers) = frame.trailers_ref() {
            self.retained.push_back(RetainedFrame::Trailers(Box::new(trailers.clone())));
        }
        self.next = self.retained.len();
        if self.bytes > MAX_REPLAY_BYTES {
            self.forget();
        }
        Poll::Ready(Some(Ok(frame)))
    }

    /// Returns the bytes of data that are retained and not read.
    fn unread_bytes(&self) -> u64 {
        let length = |frame: &RetainedFrame| if let RetainedFrame::Data(data) = frame { data.len() as u64 } else { 0 };
        self.retained.iter().skip(self.next).map(length).sum()
    }
}

/// The body of one attempt.
struct Reader {
    recording: Rc<RefCell<Recording>>,
    number: u32,
}

impl HttpBody for Reader {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let mut recording = self.recording.borrow_mut();
        if recording.reader != self.number {
            let reason = "another attempt reads the body".to_owned();
            return Poll::Ready(Some(Err(ProxyError::UpstreamReset(reason))));
        }
        recording.poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        let recording = self.recording.borrow();
        recording.next == recording.retained.len() && recording.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let recording = self.recording.borrow();
        let rest = recording.source.size_hint().exact();
        rest.map_or_else(SizeHint::default, |rest| SizeHint::with_exact(recording.unread_bytes() + rest))
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;

    /// A body of these pieces, and trailers.
    struct Pieces(VecDeque<Bytes>, Option<HeaderMap>);

    impl HttpBody for Pieces {
        type Data = Bytes;
        type Error = ProxyError;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
            let data = self.0.pop_front().map(Frame::data);
            Poll::Ready(data.or_else(|| self.1.take().map(Frame::trailers)).map(Ok))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty() && self.1.is_none()
        }
    }

    fn recorded(lengths: &[usize]) -> (RecordedBody, Vec<u8>) {
        let pieces: VecDeque<Bytes> =
            lengths.iter().zip(b'a'..).map(|(length, byte)| Bytes::from(vec![byte; *length])).collect();
        let whole = pieces.iter().flatten().copied().collect();
        let trailers = HeaderMap::from_iter([(http::header::TE, http::HeaderValue::from_static("x"))]);
        (RecordedBody::new(Body::stream(Pieces(pieces, Some(trailers)))), whole)
    }

    /// Reads at most so many frames. Returns the data, and whether the trailers came.
    fn read(body: &mut Body, frames: usize) -> Result<(Vec<u8>, bool), ProxyError> {
        let (mut data, mut has_trailers) = (Vec::new(), false);
        for _ in 0..frames {
            match Pin::new(&mut *body).poll_frame(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Some(frame)) => match frame?.into_data() {
                    Ok(piece) => data.extend_from_slice(&piece),
                    Err(_) => has_trailers = true,
                },
                Poll::Ready(None) => break,
                Poll::Pending => unreachable!("the pieces are there"),
            }
        }
        Ok((data, has_trailers))
    }

    proptest! {
        #[test]
        fn each_attempt_reads_the_whole_body(
            lengths in prop::collection::vec(0_usize..20_000, 0..8),
            reads in prop::collection::vec(0_usize..10, 0..5),
            accepted_after in 0_usize..10,
        ) {
            let (body, whole) = recorded(&lengths);
            let mut longest = 0;
            for frames in reads {
                let expected: usize = lengths.iter().take(frames).sum();
                longest = longest.max(expected + lengths.len().min(frames) * RETAINED_FRAME_BYTES);
                let read = read(&mut body.read_again(), frames).unwrap();
                prop_assert_eq!(&read.0, &whole[..expected]);
                prop_assert_eq!(body.is_whole(), longest <= MAX_REPLAY_BYTES);
                if !body.is_whole() {
                    return Ok(());
                }
            }
            let mut last = body.read_again();
            let (mut data, _) = read(&mut last, accepted_after).unwrap();
            body.forget();
            let (rest, _) = read(&mut last, 100).unwrap();
            data.extend(rest);
            prop_assert_eq!(data, whole);
            prop_assert!(last.is_end_stream() && !body.is_whole());
        }
    }

    #[test]
    fn reader_of_an_earlier_attempt_takes_nothing() {
        let (body, whole) = recorded(&[3, 4]);
        let mut first = body.read_again();
        assert_eq!(read(&mut first, 1).unwrap().0, whole[..3]);
        let mut second = body.read_again();
        assert!(read(&mut first, 1).is_err());
        assert_eq!(read(&mut second, 9).unwrap(), (whole, true));
    }
}
