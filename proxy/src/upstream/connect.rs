//! Opens a connection to an endpoint: TCP and TLS within the cluster's connect timeout, then the codec. `pool` calls it. A
//! task runs an HTTP/2 connection until either side closes it. A connection counts as open until it is closed.

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, SendRequest};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_rustls::TlsStream;
use tracing::debug;
use weir_model::{EndpointAddress, TcpKeepalive, UnixPath, UpstreamProtocol, Workload};

use super::open_guard::OpenConnectionGuard;
use crate::error::ProxyError;
use crate::identity::Identity;
use crate::limits::{CONNECTION_WINDOW_BYTES, STREAM_WINDOW_BYTES, UNIX_CONNECT_INTERVAL, UPSTREAM_SEND_BUFFER_BYTES};
use crate::task;
use crate::tls::{self, Transport, WorkerClientTls};

/// The parameters of a connection to an endpoint.
pub(super) struct ConnectTarget<'a> {
    /// The address of the endpoint.
    pub(super) address: &'a EndpointAddress,
    /// Timeout for TCP and TLS.
    pub(super) timeout: Duration,
    /// TLS; `None` for plaintext.
    pub(super) tls: Option<&'a UpstreamTlsContext>,
    /// TCP keepalive.
    pub(super) keepalive: TcpKeepalive,
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

/// An open connection for HTTP.
pub(super) enum OpenConnection {
    Http1(OpenTransport),
    Http2(SendRequest<Bytes>),
}

/// Opens a connection for HTTP, which counts in `open` until it is closed.
pub(super) async fn http(
    target: ConnectTarget<'_>,
    protocol: UpstreamProtocol,
    open: OpenConnectionGuard,
) -> Result<OpenConnection, ProxyError> {
    let settings = Http2Settings::new(&target);
    let (address, is_tls) = (target.address, target.tls.is_some());
    // For `Auto` the settings of the cluster have both protocols.
    let alpn: &[u8] = if protocol == UpstreamProtocol::Http1 { b"http/1.1" } else { b"h2" };
    let transport = connect_transport(target, alpn).await?;
    let is_http2 = match protocol {
        UpstreamProtocol::Http1 => false,
        UpstreamProtocol::Http2 => {
            if is_tls && transport.alpn().is_none() {
                debug!(%address, "the endpoint selected no protocol by ALPN; HTTP/2 is used all the same");
            }
            true
        }
        UpstreamProtocol::Auto => transport.alpn() == Some(b"h2"),
    };
    match is_http2 {
        true => start_http2(transport, settings, open).await.map(OpenConnection::Http2),
        false => Ok(OpenConnection::Http1(OpenTransport { transport, open })),
    }
}

/// The value of `max_concurrent_send_streams` until the endpoint's settings arrive. No endpoint can set it.
const UNKNOWN_STREAM_LIMIT: usize = usize::MAX - 1;

/// The settings with which HTTP/2 starts on a transport.
struct Http2Settings {
    max_head_bytes: u32,
    deadline: Instant,
}

impl Http2Settings {
    /// Returns the settings of a connection that is about to be opened.
    fn new(target: &ConnectTarget<'_>) -> Self {
        Self { max_head_bytes: target.max_head_bytes, deadline: Instant::now() + target.timeout }
    }
}

/// Starts HTTP/2 on a transport.
///
/// Completes when the endpoint's settings have arrived (RFC 9113 §3.4): a request must not exceed its
/// `MAX_CONCURRENT_STREAMS`.
async fn start_http2(
    stream: Transport,
    Http2Settings { max_head_bytes, deadline }: Http2Settings,
    open: OpenConnectionGuard,
) -> Result<SendRequest<Bytes>, ProxyError> {
    let settled = async {
        let (sender, mut connection) = client::Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .initial_max_send_streams(UNKNOWN_STREAM_LIMIT)
            .max_header_list_size(max_head_bytes)
            .max_send_buffer_size(UPSTREAM_SEND_BUFFER_BYTES)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(|error| handshake_error(&error))?;
        poll_fn(|context| match Pin::new(&mut connection).poll(context) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(ProxyError::ConnectFailed("it closed the connection".into()))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(handshake_error(&error))),
            Poll::Pending if sender.current_max_send_streams() == UNKNOWN_STREAM_LIMIT => Poll::Pending,
            Poll::Pending => Poll::Ready(Ok(())),
        })
        .await?;
        Ok((sender, connection))
    };
    let settled = tokio::time::timeout_at(deadline, settled).await;
    let (sender, connection) = settled.unwrap_or(Err(ProxyError::ConnectTimeout))?;
    spawn_connection("upstream_http2", Box::pin(connection), open);
    Ok(sender)
}

/// Returns the error of an endpoint that does not begin as HTTP/2 requires, or closes the connection.
fn handshake_error(error: &h2::Error) -> ProxyError {
    match error.is_library() {
        true => ProxyError::UpstreamProtocol(format!("it does not speak HTTP/2: {error}")),
        false => ProxyError::ConnectFailed(error.to_string()),
    }
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
    ConnectTarget { address, timeout, tls, keepalive, max_head_bytes: _ }: ConnectTarget<'_>,
    protocol: &[u8],
) -> Result<Transport, ProxyError> {
    let opened = async {
        match address {
            EndpointAddress::Socket(socket) => {
                encrypt(connect_socket(*socket, keepalive).await?, address, tls, protocol).await
            }
            EndpointAddress::Unix(path) => encrypt(connect_unix(path).await?, address, tls, protocol).await,
        }
    };
    tokio::time::timeout(timeout, opened).await.unwrap_or(Err(ProxyError::ConnectTimeout))
}

/// Performs the TLS handshake if the cluster requires one.
async fn encrypt<S: AsyncRead + AsyncWrite + Unpin>(
    socket: S,
    address: &EndpointAddress,
    tls: Option<&UpstreamTlsContext>,
    protocol: &[u8],
) -> Result<Transport, ProxyError>
where
    Transport: From<S> + From<TlsStream<S>>,
{
    let encrypted = match tls {
        None => return Ok(socket.into()),
        Some(UpstreamTlsContext::Mesh { identity, workload }) => {
            tls::connect(socket, address, identity, workload, protocol).await
        }
        Some(UpstreamTlsContext::Server(tls)) => tls::connect_server(socket, address, tls, protocol).await,
    };
    encrypted.map_err(|error| ProxyError::TlsFailed(error.to_string()))
}

/// Connects to a Unix socket. A full queue of its listener is no failure: TCP would wait, too.
async fn connect_unix(path: &UnixPath) -> Result<UnixStream, ProxyError> {
    loop {
        match UnixStream::connect(path.as_str()).await {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                tokio::time::sleep(UNIX_CONNECT_INTERVAL).await;
            }
            connected => return connected.map_err(|error| ProxyError::ConnectFailed(error.to_string())),
        }
    }
}

async fn connect_socket(address: SocketAddr, keepalive: TcpKeepalive) -> Result<TcpStream, ProxyError> {
    let stream = TcpStream::connect(address).await.map_err(|error| ProxyError::ConnectFailed(error.to_string()))?;
    // Heads and bodies are written as a whole, so waiting for more bytes would only add latency. A vanished endpoint
    // must not occupy an idle or an HTTP/2 connection for the kernel's quarter of an hour.
    let socket = socket2::SockRef::from(&stream);
    let vanished_after = keepalive.total();
    let keepalive = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(keepalive.idle_seconds.into()))
        .with_interval(Duration::from_secs(keepalive.interval_seconds.into()))
        .with_retries(keepalive.probes);
    socket
        .set_tcp_nodelay(true)
        .and_then(|()| socket.set_tcp_user_timeout(Some(vanished_after)))
        .and_then(|()| socket.set_tcp_keepalive(&keepalive))
        .map_err(|error| ProxyError::ConnectFailed(error.to_string()))?;
    Ok(stream)
}

fn spawn_connection(
    name: &'static str,
    mut connection: impl Future<Output = Result<(), h2::Error>> + Unpin + 'static,
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
