//! An HTTP server with bounds, for the API and for modules. Without TLS it listens on a loopback address only.
//!
//! | state of a connection | bound |
//! |---|---|
//! | handshake | [`HANDSHAKE_TIMEOUT`] |
//! | head of a request, and idle (HTTP/1) | [`API_HEADER_TIMEOUT`] |
//! | body of a request | [`REQUEST_BODY_TIMEOUT`] |
//! | no byte in either direction | [`API_IDLE_TIMEOUT`] |
//! | number of connections | [`ConnectionLimits`] |

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{ConnectInfo, Request};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tower_service::Service;
use tracing::debug;
use weir_identity::{ServerConfig, handshake_error};

use crate::limits::{API_HEADER_TIMEOUT, API_IDLE_TIMEOUT, HANDSHAKE_TIMEOUT, REQUEST_BODY_TIMEOUT};
use crate::net::accept::accept_next;
use crate::net::body_timeout;
use crate::net::connections::{ActiveRequest, Connection, ConnectionLimits, Connections};
use crate::net::idle::IdleStream;
use crate::task;

/// The address of the client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClientAddr(pub(crate) SocketAddr);

/// The settings of an HTTP server.
pub(crate) struct HttpServer {
    /// The bounds of its connections.
    pub(crate) limits: ConnectionLimits,
    /// The certificate; `None` for plaintext.
    pub(crate) tls: Option<Arc<ServerConfig>>,
    /// The routes.
    pub(crate) router: Router,
}

impl HttpServer {
    /// Serves the connections of a listener until the process exits.
    pub(crate) async fn serve(self, listener: TcpListener) {
        let Self { limits, tls, router } = self;
        let (connections, acceptor) = (Connections::new(limits), tls.map(TlsAcceptor::from));
        loop {
            let (socket, address, connection) = accept_next(&listener, &connections).await;
            let served = ServedConnection { router: router.clone(), address, connection };
            let acceptor = acceptor.clone();
            task::spawn("HTTP connection", async move {
                let connection = Arc::clone(&served.connection);
                tokio::select! {
                    () = served.run(socket, acceptor) => {}
                    () = connection.evicted() => {}
                }
            });
        }
    }
}

/// A connection and the routes that it is served by.
struct ServedConnection {
    router: Router,
    address: SocketAddr,
    connection: Arc<Connection>,
}

impl ServedConnection {
    async fn run(self, socket: TcpStream, acceptor: Option<TlsAcceptor>) {
        let Some(acceptor) = acceptor else { return self.serve(socket).await };
        match timeout(HANDSHAKE_TIMEOUT, acceptor.accept(socket)).await {
            Ok(Ok(stream)) => self.serve(stream).await,
            Ok(Err(error)) => debug!(address = %self.address, reason = handshake_error(&error), "TLS handshake failed"),
            Err(_) => self.connection.record_timeout(),
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: S) {
        let Self { router, address, connection } = self;
        let mut builder = Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(API_HEADER_TIMEOUT);
        builder.http2().timer(TokioTimer::new());
        let has_request = Arc::new(AtomicBool::new(false));
        let service = service_fn(|request: http::Request<Incoming>| {
            has_request.store(true, Ordering::Relaxed);
            respond(router.clone(), address, connection.begin_request(), request)
        });
        let io = TokioIo::new(IdleStream::new(stream, API_IDLE_TIMEOUT));
        let mut serving = std::pin::pin!(builder.serve_connection(io, service));
        // hyper's own timeout begins after the first bytes, which tell HTTP/1 from HTTP/2.
        let result = tokio::select! {
            result = &mut serving => result,
            () = sleep(API_HEADER_TIMEOUT) => {
                if !has_request.load(Ordering::Relaxed) {
                    connection.record_timeout();
                    return;
                }
                serving.await
            }
        };
        if let Err(error) = result {
            if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_timeout) {
                connection.record_timeout();
            }
            debug!(%address, error, "connection failed");
        }
    }
}

async fn respond(
    mut router: Router,
    address: SocketAddr,
    active: ActiveRequest,
    request: http::Request<Incoming>,
) -> Result<http::Response<Body>, Infallible> {
    let body = |incoming| body_timeout::with_timeout(Body::new(incoming), REQUEST_BODY_TIMEOUT);
    let mut request: Request = request.map(body);
    request.extensions_mut().insert(ConnectInfo(ClientAddr(address)));
    let response = router.call(request).await?;
    Ok(response.map(|body| Body::new(ResponseBody { body, _active: active })))
}

/// The body of a response. Its end is the end of the request.
struct ResponseBody {
    body: Body,
    _active: ActiveRequest,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
