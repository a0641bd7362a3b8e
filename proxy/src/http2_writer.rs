//! Writes a body to one stream of an HTTP/2 connection: requests to endpoints, responses to downstreams. The body is
//! read only while the peer's windows have room, which gives backpressure.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::SendStream;
use http_body::Body as _;

use crate::body::Body;
use crate::error::ProxyError;

/// Writes the body of one message, until its end.
pub(crate) struct Http2Writer {
    body: Body,
    stream: SendStream<Bytes>,
    /// True once the end of the body was passed to the codec.
    has_ended: bool,
    has_sent_trailers: bool,
}

/// The failure of writing a body. The stream is reset.
#[derive(Debug)]
pub(crate) enum Http2WriteError {
    /// The peer has reset the stream, or the connection has failed. Reading the stream returns the reason.
    Stream,
    /// The body has failed.
    Body(ProxyError),
}

impl Http2Writer {
    /// Returns the writer of a body that has not ended with the message's head.
    pub(crate) fn new(body: Body, stream: SendStream<Bytes>) -> Self {
        Self { body, stream, has_ended: false, has_sent_trailers: false }
    }

    /// Writes as much as the windows allow. `sent` is called with each piece of data before it is sent.
    ///
    /// # Errors
    /// The stream or the body has failed; [`h2::Reason`] of a failed body is `reason`.
    pub(crate) fn poll_write(
        &mut self,
        reason: h2::Reason,
        mut sent: impl FnMut(&Bytes),
        context: &mut Context<'_>,
    ) -> Poll<Result<(), Http2WriteError>> {
        while !self.has_ended {
            // A reset must be noticed also while the body has nothing to send.
            if self.stream.poll_reset(context).is_ready() {
                return Poll::Ready(Err(Http2WriteError::Stream));
            }
            self.stream.reserve_capacity(1);
            while self.stream.capacity() == 0 {
                if !matches!(ready!(self.stream.poll_capacity(context)), Some(Ok(_))) {
                    return Poll::Ready(Err(Http2WriteError::Stream));
                }
            }
            let frame = match self.body.is_end_stream() {
                true => None,
                false => ready!(Pin::new(&mut self.body).poll_frame(context)),
            };
            let written = match frame.transpose() {
                Err(error) => {
                    self.stream.send_reset(reason);
                    return Poll::Ready(Err(Http2WriteError::Body(error)));
                }
                Ok(None) => {
                    self.has_ended = true;
                    self.stream.send_data(Bytes::new(), true)
                }
                Ok(Some(frame)) => match frame.into_data() {
                    Ok(data) => {
                        sent(&data);
                        self.has_ended = self.body.is_end_stream();
                        self.stream.send_data(data, self.has_ended)
                    }
                    Err(frame) => {
                        (self.has_ended, self.has_sent_trailers) = (true, true);
                        self.stream.reserve_capacity(0); // Trailers are not flow-controlled.
                        self.stream.send_trailers(frame.into_trailers().unwrap_or_default())
                    }
                },
            };
            written.map_err(|_| Http2WriteError::Stream)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Returns true if the body had trailers, and they were sent.
    pub(crate) fn has_sent_trailers(&self) -> bool {
        self.has_sent_trailers
    }

    /// Returns what the writer has not read of the body.
    pub(crate) fn into_rest(self) -> Body {
        self.body
    }
}
