//! A connection of an HTTP/2 client. hyper waits for the preface without a limit, and sends pings only after it.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Sleep, sleep};

use crate::limits::XDS_PREFACE_TIMEOUT;
use crate::net::connections::{ActiveRequest, Connection};

/// Bytes of the preface and of the header of the SETTINGS frame after it (RFC 9113 §3.4).
const PREFACE_BYTES: usize = 24 + 9;

/// A stream that fails if the client does not send the preface within [`XDS_PREFACE_TIMEOUT`]. Until then the
/// connection may be evicted.
#[derive(Debug)]
pub(crate) struct PrefaceStream<S> {
    stream: S,
    connection: Arc<Connection>,
    state: PrefaceState,
}

#[derive(Debug)]
enum PrefaceState {
    Waiting {
        /// The bytes that are still missing.
        missing: usize,
        deadline: Pin<Box<Sleep>>,
        evicted: Pin<Box<OwnedNotified>>,
    },
    /// The client speaks HTTP/2. hyper closes the connection when a ping is not answered.
    Complete(#[expect(dead_code, reason = "its drop ends the request")] ActiveRequest),
}

impl<S> PrefaceStream<S> {
    /// Wraps a stream of a connection.
    pub(crate) fn new(stream: S, connection: Arc<Connection>) -> Self {
        let (deadline, evicted) = (Box::pin(sleep(XDS_PREFACE_TIMEOUT)), Box::pin(connection.evicted()));
        Self { stream, state: PrefaceState::Waiting { missing: PREFACE_BYTES, deadline, evicted }, connection }
    }

    /// Fails if the client is late, or if the connection is evicted.
    fn poll_waiting(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        let PrefaceState::Waiting { deadline, evicted, .. } = &mut self.state else { return Ok(()) };
        if deadline.as_mut().poll(context).is_ready() {
            self.connection.record_timeout();
            return Err(io::ErrorKind::TimedOut.into());
        }
        if evicted.as_mut().poll(context).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    fn received(&mut self, bytes: usize) {
        let PrefaceState::Waiting { missing, .. } = &mut self.state else { return };
        *missing = missing.saturating_sub(bytes);
        if *missing == 0 {
            self.state = PrefaceState::Complete(self.connection.begin_request());
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PrefaceStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_waiting(context)?;
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.received(buffer.filled().len() - before);
        result
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PrefaceStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
