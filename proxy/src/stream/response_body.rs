//! The response body that the codec sends downstream. Its end is the end of the stream. If the codec drops it earlier,
//! the downstream has gone.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::error::ProxyError;
use crate::stream::body::StreamBody;
use crate::stream::http_stream::{HttpStream, StreamGuard};
use crate::stream::response_source::ResponseSource;
use crate::upstream::Lease;

/// The body of a response, which ends the stream.
pub(super) struct ResponseBody {
    stream: Rc<HttpStream>,
    body: StreamBody,
    lease: Option<Lease>,
    guard: Option<StreamGuard>,
}

impl ResponseBody {
    pub(super) fn new(stream: &Rc<HttpStream>, guard: StreamGuard, source: ResponseSource) -> Self {
        let body = StreamBody::new(stream, source.body);
        Self { stream: Rc::clone(stream), body, lease: source.lease, guard: Some(guard) }
    }

    /// Ends the stream without reading the body: the response ended with its headers.
    pub(super) fn complete(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.lease = None; // The upstream connection can serve the next request.
        if let Some(guard) = self.guard.take() {
            guard.complete();
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        let response = self.get_mut();
        if response.guard.is_none() {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut response.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                response.stream.add_response_bytes(frame.data_ref().map_or(0, Bytes::len));
                // A codec does not poll a body of known length after its last byte, nor any body after its trailers.
                if frame.is_trailers() || response.is_end_stream() {
                    response.end();
                }
            }
            Poll::Ready(None) => response.end(),
            Poll::Ready(Some(Err(_))) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
