//! Raw TCP peers, for bytes that no HTTP library would write.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::wait::with_deadline;

/// One end of a TCP connection.
#[derive(Debug)]
pub struct RawConnection {
    socket: TcpStream,
    /// Bytes that were read from the socket and not yet returned.
    pending: Vec<u8>,
}

impl RawConnection {
    /// Connects to an address.
    pub async fn connect(address: SocketAddr) -> Self {
        let socket = with_deadline("a connection", TcpStream::connect(address)).await;
        Self::new(socket.unwrap_or_else(|error| panic!("connect to {address}: {error}")))
    }

    fn new(socket: TcpStream) -> Self {
        socket.set_nodelay(true).expect("a TCP socket");
        Self { socket, pending: Vec::new() }
    }

    /// Writes all bytes. A peer that has closed the connection is no failure, since the test reads the bytes that
    /// arrived before.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _peer_may_have_closed =
            with_deadline("the bytes to be written", self.socket.write_all(bytes.as_ref())).await;
    }

    /// Writes the bytes that fit into the socket's send buffer, and returns their number.
    pub fn send_some(&mut self, bytes: &[u8]) -> usize {
        self.socket.try_write(bytes).unwrap_or(0)
    }

    /// Reads the head of a message, including the empty line that ends it.
    pub async fn head(&mut self) -> String {
        with_deadline("a head", self.take_until(b"\r\n\r\n")).await
    }

    /// Reads one line.
    pub async fn line(&mut self) -> String {
        with_deadline("a line", self.take_until(b"\r\n")).await
    }

    /// Reads exactly `length` bytes.
    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.pending.len() < length {
            assert!(
                with_deadline("bytes", self.fill()).await,
                "closed after {:?}",
                String::from_utf8_lossy(&self.pending)
            );
        }
        self.pending.drain(..length).collect()
    }

    /// Reads a response with a `content-length`, and returns its head and body.
    pub async fn response(&mut self) -> (String, String) {
        let head = self.head().await;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().expect("a length"))
        });
        let body = self.exactly(length.unwrap_or(0)).await;
        (head, String::from_utf8_lossy(&body).into_owned())
    }

    /// Reads a body in the chunked coding, without trailers.
    pub async fn chunked(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = self.line().await;
            let size = usize::from_str_radix(line.trim_end(), 16).expect("a chunk size");
            body.extend(self.exactly(size).await);
            assert_eq!(self.exactly(2).await, b"\r\n", "the end of a chunk");
            if size == 0 {
                return body;
            }
        }
    }

    /// Reads until the peer closes.
    pub async fn rest(&mut self) -> String {
        while with_deadline("the end of the connection", self.fill()).await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }

    /// Reads the head of a message; `None` when the peer closes first.
    pub async fn try_head(&mut self) -> Option<String> {
        while !self.pending.windows(4).any(|window| window == b"\r\n\r\n") {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.take_until(b"\r\n\r\n").await)
    }

    /// Reads exactly `length` bytes; `None` when the peer closes first.
    pub async fn try_exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.pending.len() < length {
            if !self.fill().await {
                return None;
            }
        }
        Some(self.pending.drain(..length).collect())
    }

    /// Writes all bytes. Returns false when the peer has closed the connection.
    pub async fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).await.is_ok()
    }

    /// Closes the sending direction (FIN).
    pub async fn finish(&mut self) {
        self.socket.shutdown().await.ok();
    }

    /// Resets the connection (RST).
    pub fn reset(self) {
        self.socket.set_zero_linger().expect("a TCP socket");
    }

    async fn take_until(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.pending.windows(end.len()).position(|window| window == end) {
                return String::from_utf8_lossy(&self.pending.drain(..at + end.len()).collect::<Vec<_>>()).into_owned();
            }
            assert!(self.fill().await, "closed after {:?}", String::from_utf8_lossy(&self.pending));
        }
    }

    /// Reads available bytes. Returns false at the end of the stream, and after a reset.
    async fn fill(&mut self) -> bool {
        self.pending.reserve(16 * 1024);
        self.socket.read_buf(&mut self.pending).await.is_ok_and(|length| length > 0)
    }
}

/// A TCP upstream. Dropping it closes its listener and its connections.
pub struct RawOrigin {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl RawOrigin {
    /// Starts an origin that runs `handler` on each connection.
    pub async fn start<F>(handler: impl Fn(RawConnection) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), handler).await
    }

    /// Starts an origin at an address that runs `handler` on each connection.
    pub async fn start_at<F>(address: SocketAddr, handler: impl Fn(RawConnection) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let handler = Arc::new(handler);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(handler(RawConnection::new(socket)));
            }
        });
        Self { address, _tasks: tasks }
    }

    /// Starts an origin that reads the head of a request, writes `response` and closes the connection.
    pub async fn responding(response: &'static [u8]) -> Self {
        Self::start(move |mut connection| async move {
            connection.head().await;
            connection.send(response).await;
        })
        .await
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
