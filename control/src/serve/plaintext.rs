//! Accepts plaintext xDS connections.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::server::Connected;

use crate::net::{ConnectionLimits, Connections, PrefaceStream, accept_next};
use crate::task;

/// A plaintext connection.
#[derive(Debug)]
pub(super) struct PlaintextStream(PrefaceStream<TcpStream>);

/// Returns the connections of a listener, at most `connections` at the same time.
pub(super) fn accept(listener: TcpListener, connections: usize) -> impl Stream<Item = io::Result<PlaintextStream>> {
    let connections = Connections::new(ConnectionLimits::for_xds("xds", connections));
    let (accepted, receiver) = mpsc::channel(1);
    task::spawn("accept", async move {
        loop {
            let (socket, _, connection) = accept_next(&listener, &connections).await;
            if accepted.send(PlaintextStream(PrefaceStream::new(socket, connection))).await.is_err() {
                return; // The server has ended.
            }
        }
    });
    ReceiverStream::new(receiver).map(Ok)
}

impl Connected for PlaintextStream {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for PlaintextStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for PlaintextStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
