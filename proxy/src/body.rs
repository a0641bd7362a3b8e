//! The body type of every message that the proxy sends: empty, bytes in memory, or a stream.
//!
//! A stream is the body of one direction (through filters or not), a mirror's copy, or a callout's request.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};
use weir_http1::encode::{BodyEncoder, WrongLength};
use weir_http1::io::MessageIo;

use crate::error::ProxyError;

/// A body that the proxy sends.
pub(crate) enum Body {
    /// No body.
    Empty,
    /// Bytes in memory; `None` once they were read.
    Full(Option<Bytes>),
    /// An incoming body, unchanged. Test endpoints echo it.
    #[cfg(test)]
    Incoming(hyper::body::Incoming),
    /// Frames from another body.
    Stream(Pin<Box<dyn HttpBody<Data = Bytes, Error = ProxyError>>>),
}

impl Body {
    /// Returns a body of these bytes.
    pub(crate) fn full(bytes: Bytes) -> Self {
        if bytes.is_empty() { Self::Empty } else { Self::Full(Some(bytes)) }
    }

    /// Returns a body that reads its frames from `body`.
    pub(crate) fn stream(body: impl HttpBody<Data = Bytes, Error = ProxyError> + 'static) -> Self {
        Self::Stream(Box::pin(body))
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
            Self::Stream(body) => body.as_mut().poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_none(),
            #[cfg(test)]
            Self::Incoming(incoming) => incoming.is_end_stream(),
            Self::Stream(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            #[cfg(test)]
            Self::Incoming(incoming) => incoming.size_hint(),
            Self::Stream(body) => body.size_hint(),
        }
    }
}

/// Encodes the next frame of an HTTP/1 body, or its end after the last one. Returns true when the body has ended.
///
/// # Errors
/// The body does not have the length that its head declares.
pub(crate) fn encode_frame<T: AsyncRead + AsyncWrite + Unpin>(
    io: &mut MessageIo<T>,
    encoder: &mut BodyEncoder,
    frame: Option<Frame<Bytes>>,
) -> Result<bool, WrongLength> {
    let trailers = match frame.map(Frame::into_data) {
        Some(Ok(data)) => {
            if !data.is_empty() {
                let suffix = encoder.data_frame(data.len(), io.encoded())?;
                io.push_data(data, suffix);
            }
            return Ok(false);
        }
        Some(Err(frame)) => frame.into_trailers().ok(),
        None => None,
    };
    encoder.end(trailers.as_ref(), io.encoded())?;
    Ok(true)
}
