//! The response body that the downstream reads. Its end is the end of the stream; dropped before, the downstream has
//! gone.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, SizeHint};

use crate::error::ProxyError;
use crate::stream::body::{Polled, SideBody};
use crate::stream::http_stream::{Finisher, HttpStream};
use crate::stream::source::Source;
use crate::upstream::Lease;

/// A response's body on its way to the downstream.
pub(super) struct ResponseBody {
    stream: Rc<HttpStream>,
    body: SideBody,
    lease: Option<Lease>,
    finisher: Option<Finisher>,
}

impl ResponseBody {
    pub(super) fn new(stream: &Rc<HttpStream>, finisher: Finisher, (source, lease): (Source, Option<Lease>)) -> Self {
        let body = SideBody::new(stream, source);
        Self { stream: Rc::clone(stream), body, lease, finisher: Some(finisher) }
    }

    /// Nothing of it will be read: the response has ended with its head.
    pub(super) fn whole(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.lease = None; // The connection to the endpoint is free for the next request.
        if let Some(finisher) = self.finisher.take() {
            finisher.whole();
        }
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Polled {
        let response = self.get_mut();
        if response.finisher.is_none() {
            return Poll::Ready(None);
        }
        let polled = Pin::new(&mut response.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                response.stream.count_out(frame.data_ref().map_or(0, Bytes::len));
                // A body of known length is not polled again after its last byte, nor one after its trailers.
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
