//! The one body type that goes to hyper, in both directions: nothing, bytes at hand, a body as it came in, or one made
//! on the way (through filters, with a deadline, with a count).

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use crate::error::ProxyError;

/// A body on its way to hyper.
pub(crate) enum Body {
    /// Nothing.
    Empty,
    /// Bytes at hand; `None` once given.
    Full(Option<Bytes>),
    /// As it came in, untouched: what a test's endpoint echoes.
    #[cfg(test)]
    Incoming(hyper::body::Incoming),
    /// Made on the way.
    Made(Pin<Box<dyn HttpBody<Data = Bytes, Error = ProxyError>>>),
}

impl Body {
    /// Bytes at hand.
    pub(crate) fn full(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(Some(bytes)) }
    }

    /// A body made on the way.
    pub(crate) fn made(body: impl HttpBody<Data = Bytes, Error = ProxyError> + 'static) -> Self {
        Self::Made(Box::pin(body))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ProxyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            #[cfg(test)]
            Self::Incoming(incoming) => {
                Pin::new(incoming).poll_frame(context).map_err(|error| ProxyError::UpstreamReset(error.to_string()))
            }
            Self::Made(body) => body.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            #[cfg(test)]
            Self::Incoming(incoming) => incoming.is_end_stream(),
            Self::Made(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            #[cfg(test)]
            Self::Incoming(incoming) => incoming.size_hint(),
            Self::Made(body) => body.size_hint(),
        }
    }
}
