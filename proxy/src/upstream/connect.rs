//! Opens a connection to an endpoint: TCP and TLS within the cluster's connect timeout, then the codec. `pool` calls it. A
//! task runs an HTTP/2 connection until either side closes it. A connection counts as open until it is closed.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tracing::debug;
use weir_model::Workload;

use super::open_guard::OpenConnectionGuard;
use crate::body::Body;
use crate::error::ProxyError;
use crate::identity::Identity;
use crate::limits::{
    CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, UPSTREAM_SEND_BUFFER_BYTES, UPSTREAM_UNACKED_TIMEOUT,
};
use crate::task::{self, LocalExecutor};
use crate::tls::{self, Transport, WorkerClientTls};

/// The parameters of a connection to an endpoint.
pub(super) struct ConnectTarget<'a> {
    /// The address of the endpoint.
    pub(super) address: SocketAddr,
    /// Timeout for TCP and TLS.
    pub(super) timeout: Duration,
    /// TLS; `None` for plaintext.
    pub(super) tls: Option<&'a UpstreamTlsContext>,
    /// Bytes of a response's head on an HTTP/2 connection.
    pub(super) max_head_bytes: u32,
}

/// The TLS of the connections to an endpoint.
pub(super) enum UpstreamTlsContext {
    /// Mutual TLS of the mesh.
    Mesh {
        /// The identity of the proxy.
        identity: Arc<Identity>,
        /// The identity that the endpoint must have.
        workload: Workload,
    },
    /// TLS with a server outside the mesh.
    Server(Rc<WorkerClientTls>),
}

/// An open transport. It counts as open until it is dropped.
pub(super) struct OpenTransport {
    pub(super) transport: Transport,
    pub(super) open: OpenConnectionGuard,
}

/// Opens the transport of an HTTP/1.1 connection, which counts in `open` until it is closed.
pub(super) async fn http1(target: ConnectTarget<'_>, open: OpenConnectionGuard) -> Result<OpenTransport, ProxyError> {
    Ok(OpenTransport { transport: connect_transport(target, b"http/1.1").await?, open })
}

/// Opens an HTTP/2 connection with prior knowledge, which counts in `open` until it is closed.
pub(super) async fn http2(
    target: ConnectTarget<'_>,
    open: OpenConnectionGuard,
) -> Result<http2::SendRequest<Body>, ProxyError> {
    let max_head_bytes = target.max_head_bytes;
    let (address, is_tls) = (target.address, target.tls.is_some());
    let stream = connect_transport(target, b"h2").await?;
    if is_tls && stream.alpn().is_none() {
        debug!(%address, "the endpoint selected no protocol by ALPN; HTTP/2 is used all the same");
    }
    let (sender, connection) = http2::Builder::new(LocalExecutor { task_name: "upstream_http2_stream" })
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(max_head_bytes)
        .max_send_buf_size(UPSTREAM_SEND_BUFFER_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| ProxyError::ConnectFailed(error.to_string()))?;
    spawn_connection("upstream_http2", Box::pin(connection), open);
    Ok(sender)
}

/// Opens a connection without a codec, for a TCP relay. The caller keeps `open` alive while it uses the connection.
pub(super) async fn raw(
    target: ConnectTarget<'_>,
    open: OpenConnectionGuard,
) -> Result<(Transport, OpenConnectionGuard), ProxyError> {
    Ok((connect_transport(target, b"").await?, open))
}

/// Opens a TCP connection, and performs the TLS handshake if the cluster requires one.
async fn connect_transport(
    ConnectTarget { address, timeout, tls, max_head_bytes: _ }: ConnectTarget<'_>,
    protocol: &[u8],
) -> Result<Transport, ProxyError> {
    let opened = async {
        let socket = connect_socket(address).await?;
        let encrypted = match tls {
            None => return Ok(Transport::Plain(socket)),
            Some(UpstreamTlsContext::Mesh { identity, workload }) => {
                tls::connect(socket, address, identity, workload, protocol).await
            }
            Some(UpstreamTlsContext::Server(tls)) => tls::connect_server(socket, address, tls, protocol).await,
        };
        encrypted.map_err(|error| ProxyError::TlsFailed(error.to_string()))
    };
    tokio::time::timeout(timeout, opened).await.unwrap_or(Err(ProxyError::ConnectTimeout))
}

async fn connect_socket(address: SocketAddr) -> Result<TcpStream, ProxyError> {
    let stream = TcpStream::connect(address).await.map_err(|error| ProxyError::ConnectFailed(error.to_string()))?;
    // Heads and bodies are written as a whole, so waiting for more bytes would only add latency. A vanished endpoint
    // must not occupy an idle or an HTTP/2 connection for the kernel's quarter of an hour.
    let socket = socket2::SockRef::from(&stream);
    let keepalive = socket2::TcpKeepalive::new().with_time(UPSTREAM_UNACKED_TIMEOUT);
    socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_user_timeout(Some(UPSTREAM_UNACKED_TIMEOUT)))
        .and_then(|()| socket.set_tcp_keepalive(&keepalive))
        .map_err(|error| ProxyError::ConnectFailed(error.to_string()))?;
    Ok(stream)
}

fn spawn_connection(
    name: &'static str,
    mut connection: impl Future<Output = hyper::Result<()>> + Unpin + 'static,
    open: OpenConnectionGuard,
) {
    drop(task::spawn_local(name, async move {
        let _open = open;
        // By reference: a captured future that is awaited by value would be in the task twice.
        if let Err(error) = (&mut connection).await {
            debug!(%error, "upstream connection closed with an error");
        }
    }));
}
