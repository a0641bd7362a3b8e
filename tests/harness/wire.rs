//! Bytes as they are: a peer that writes what no HTTP library would, and reads what came back.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::wait::within;

/// One end of a TCP connection.
#[derive(Debug)]
pub struct Wire {
    socket: TcpStream,
    /// Read, not yet taken.
    pending: Vec<u8>,
}

impl Wire {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let socket = within("a connection", TcpStream::connect(address)).await;
        Self::new(socket.unwrap_or_else(|error| panic!("connect to {address}: {error}")))
    }

    fn new(socket: TcpStream) -> Self {
        socket.set_nodelay(true).expect("a TCP socket");
        Self { socket, pending: Vec::new() }
    }

    /// Writes all of it. A peer that has closed is no failure: what it said before is what counts.
    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        let _peer_may_have_closed = within("room to write", self.socket.write_all(bytes.as_ref())).await;
    }

    /// Writes what fits now; how much that was.
    pub fn send_some(&mut self, bytes: &[u8]) -> usize {
        self.socket.try_write(bytes).unwrap_or(0)
    }

    /// Reads a head, with the empty line that ends it.
    pub async fn head(&mut self) -> String {
        within("a head", self.take_until(b"\r\n\r\n")).await
    }

    /// Reads one line.
    pub async fn line(&mut self) -> String {
        within("a line", self.take_until(b"\r\n")).await
    }

    /// Reads so many bytes.
    pub async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.pending.len() < length {
            assert!(within("bytes", self.fill()).await, "closed after {:?}", String::from_utf8_lossy(&self.pending));
        }
        self.pending.drain(..length).collect()
    }

    /// Reads a response with a `content-length`: head and body.
    pub async fn response(&mut self) -> (String, String) {
        let head = self.head().await;
        let length = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().expect("a length"))
        });
        let body = self.exactly(length.unwrap_or(0)).await;
        (head, String::from_utf8_lossy(&body).into_owned())
    }

    /// Reads until the peer closes.
    pub async fn rest(&mut self) -> String {
        while within("the end of the connection", self.fill()).await {}
        String::from_utf8_lossy(&std::mem::take(&mut self.pending)).into_owned()
    }

    /// Says that nothing more will be written.
    pub async fn finish(&mut self) {
        self.socket.shutdown().await.ok();
    }

    /// Ends the connection with a reset instead of an orderly close.
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

    /// Reads something; false at the end, a reset included.
    async fn fill(&mut self) -> bool {
        self.pending.reserve(16 * 1024);
        self.socket.read_buf(&mut self.pending).await.is_ok_and(|length| length > 0)
    }
}

/// An upstream that speaks bytes. Dropped, it is gone with all its connections.
pub struct WireOrigin {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl WireOrigin {
    /// Does with each connection what `script` says.
    pub async fn start<F>(script: impl Fn(Wire) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let script = Arc::new(script);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(script(Wire::new(socket)));
            }
        });
        Self { address, _tasks: tasks }
    }

    /// Reads one head of a request, writes `response` and closes.
    pub async fn answering(response: &'static [u8]) -> Self {
        Self::start(move |mut wire| async move {
            wire.head().await;
            wire.send(response).await;
        })
        .await
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
