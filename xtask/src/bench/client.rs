//! A client connection of the bench itself, for loads that `wrk` cannot send: requests in pieces, idle connections.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// The request, in pieces that end within a line.
pub(super) const REQUEST: [&str; 3] =
    ["GET / HTTP/1.1\r\nhost: be", "nch\r\nx-api-key: bench-key\r\nuser-a", "gent: bench\r\n\r\n"];

/// The last bytes of the origin's response.
const RESPONSE_END: &[u8] = b"hello from the origin\n";

/// Bound of each read and write.
const IO_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection with keep-alive. It sends each write at once.
pub(super) struct Connection(TcpStream);

impl Connection {
    pub(super) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, IO_TIMEOUT).context("a connection")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(IO_TIMEOUT))?;
        stream.set_write_timeout(Some(IO_TIMEOUT))?;
        Ok(Self(stream))
    }

    pub(super) fn send(&mut self, piece: &str) -> Result<()> {
        self.0.write_all(piece.as_bytes()).context("a request")
    }

    /// Reads a response to its end. Errors when the status is not 200.
    pub(super) fn receive(&mut self) -> Result<()> {
        let mut response = Vec::new();
        let mut buffer = [0; 2048];
        while !response.ends_with(RESPONSE_END) {
            let count = self.0.read(&mut buffer).context("a response")?;
            ensure!(count > 0, "the connection ended after {:?}", String::from_utf8_lossy(&response));
            response.extend_from_slice(&buffer[..count]);
            ensure!(response.starts_with(b"HTTP/1.1 200 "), "{:?}", String::from_utf8_lossy(&response));
        }
        Ok(())
    }

    /// Errors when the proxy has closed the connection, or sent more than its response.
    pub(super) fn ensure_idle(&self) -> Result<()> {
        self.0.set_nonblocking(true)?;
        let peeked = self.0.peek(&mut [0]);
        self.0.set_nonblocking(false)?;
        match peeked {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Ok(0) => bail!("the proxy has closed an idle connection"),
            other => bail!("an idle connection: {other:?}"),
        }
    }
}
