//! `ObservedIo`: a byte stream that reports when bytes come in. `server` uses it on HTTP/2 connections, whose
//! first request must begin in time.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A byte stream that calls a function after each read that returned bytes.
pub(crate) struct ObservedIo<T, F> {
    io: T,
    on_read: F,
}

impl<T, F: Fn()> ObservedIo<T, F> {
    /// Wraps `io`. `on_read` is called while `io` is polled, so it must not block.
    pub(crate) fn new(io: T, on_read: F) -> Self {
        Self { io, on_read }
    }
}

impl<T: AsyncRead + Unpin, F: Fn() + Unpin> AsyncRead for ObservedIo<T, F> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let poll = Pin::new(&mut this.io).poll_read(context, buffer);
        if buffer.filled().len() > before {
            (this.on_read)();
        }
        poll
    }
}

impl<T: AsyncWrite + Unpin, F: Unpin> AsyncWrite for ObservedIo<T, F> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}
