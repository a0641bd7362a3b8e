//! `Transport`: the byte stream of a connection, a socket or TLS on it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

/// The byte stream of a connection after its handshake.
pub(crate) enum Transport {
    /// Plaintext.
    Plain(TcpStream),
    /// TLS, after its handshake.
    Tls(Box<TlsStream<TcpStream>>),
    /// Plaintext on a Unix socket.
    Unix(UnixStream),
    /// TLS on a Unix socket, after its handshake.
    UnixTls(Box<TlsStream<UnixStream>>),
}

impl From<TcpStream> for Transport {
    fn from(socket: TcpStream) -> Self {
        Self::Plain(socket)
    }
}

impl From<TlsStream<TcpStream>> for Transport {
    fn from(tls: TlsStream<TcpStream>) -> Self {
        Self::Tls(Box::new(tls))
    }
}

impl From<UnixStream> for Transport {
    fn from(socket: UnixStream) -> Self {
        Self::Unix(socket)
    }
}

impl From<TlsStream<UnixStream>> for Transport {
    fn from(tls: TlsStream<UnixStream>) -> Self {
        Self::UnixTls(Box::new(tls))
    }
}

impl Transport {
    /// Returns the protocol that ALPN selected; `None` without TLS or without ALPN.
    pub(crate) fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) | Self::Unix(_) => None,
            Self::Tls(tls) => tls.get_ref().1.alpn_protocol(),
            Self::UnixTls(tls) => tls.get_ref().1.alpn_protocol(),
        }
    }

    /// Makes the connection close with a reset when it is dropped. Without effect on a Unix socket.
    pub(crate) fn reset(&self) {
        let socket = match self {
            Self::Plain(socket) => socket,
            Self::Tls(tls) => tls.get_ref().0,
            Self::Unix(_) | Self::UnixTls(_) => return,
        };
        socket.set_zero_linger().ok(); // If it fails, the connection closes with a FIN.
    }
}

macro_rules! each {
    ($self:expr, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Transport::Plain(socket) => {
                let $stream = Pin::new(socket);
                $call
            }
            Transport::Tls(tls) => {
                let $stream = Pin::new(&mut **tls);
                $call
            }
            Transport::Unix(socket) => {
                let $stream = Pin::new(socket);
                $call
            }
            Transport::UnixTls(tls) => {
                let $stream = Pin::new(&mut **tls);
                $call
            }
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read(context, buffer))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(socket) => socket.is_write_vectored(),
            Self::Tls(tls) => tls.is_write_vectored(),
            Self::Unix(socket) => socket.is_write_vectored(),
            Self::UnixTls(tls) => tls.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(context))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(context))
    }
}
