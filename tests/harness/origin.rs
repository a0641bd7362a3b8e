//! An upstream of a test: hyper's server, HTTP/1.1 or HTTP/2 with prior knowledge, that runs a handler of the test and
//! records the requests.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;

use crate::body::{Body, BodyError, full};
use crate::wait::wait_until;

/// The HTTP version of an origin or a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// The head of a request, as an origin received it.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    /// The method.
    pub method: Method,
    /// `:authority`, or else the header `host`.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// The protocol.
    pub version: Version,
    /// The headers.
    pub headers: HeaderMap,
}

impl ReceivedRequest {
    fn new(request: &Request<Incoming>) -> Self {
        let host = request.headers().get("host").and_then(|host| host.to_str().ok());
        let authority = request.uri().authority().map(http::uri::Authority::as_str).or(host).unwrap_or_default();
        let path = request.uri().path_and_query().map_or("", |path| path.as_str());
        Self {
            method: request.method().clone(),
            authority: authority.to_owned(),
            path: path.to_owned(),
            version: request.version(),
            headers: request.headers().clone(),
        }
    }

    /// Returns the first value of a header; `None` if it is absent or not visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

type HandlerFuture = Pin<Box<dyn Future<Output = Result<Response<Body>, BodyError>> + Send>>;
type Handler = dyn Fn(Request<Incoming>) -> HandlerFuture + Send + Sync;

/// The requests and connections of an origin so far.
#[derive(Default)]
struct OriginLog {
    received: Mutex<Vec<ReceivedRequest>>,
    connections: AtomicUsize,
    open: AtomicUsize,
}

/// The parts of an origin that its connections share.
#[derive(Clone)]
struct OriginState {
    handler: Arc<Handler>,
    log: Arc<OriginLog>,
}

impl OriginState {
    fn count_connection(&self) {
        self.log.connections.fetch_add(1, Ordering::AcqRel);
        self.log.open.fetch_add(1, Ordering::AcqRel);
    }
}

/// An upstream. Dropping it closes its listener and its connections.
pub struct Origin {
    address: SocketAddr,
    log: Arc<OriginLog>,
    _tasks: JoinSet<()>,
}

impl Origin {
    /// Starts an HTTP/1.1 origin that reads each request's body, and responds with a text.
    pub async fn text(text: &'static str) -> Self {
        Self::start(Codec::Http1, move |request| async move {
            read_whole(request).await?;
            Ok(Response::new(full(text)))
        })
        .await
    }

    /// Starts an origin that responds with each request's body, trailers and content type. The body is streamed.
    pub async fn echo(codec: Codec) -> Self {
        Self::start(codec, |request| async move {
            let content_type = request.headers().get("content-type").cloned();
            let body = request.into_body().map_err(|_| BodyError).boxed_unsync();
            let mut response = Response::new(body);
            response.headers_mut().extend(content_type.map(|value| (http::header::CONTENT_TYPE, value)));
            Ok(response)
        })
        .await
    }

    /// Starts an origin that responds with the result of `handler`. An error breaks off the stream.
    pub async fn start<F>(codec: Codec, handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Response<Body>, BodyError>> + Send + 'static,
    {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), codec, handler).await
    }

    /// Starts an origin at an address that responds with the result of `handler`. An error breaks off the stream.
    pub async fn start_at<F>(
        address: SocketAddr,
        codec: Codec,
        handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Response<Body>, BodyError>> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let log = Arc::new(OriginLog::default());
        let handler: Arc<Handler> = Arc::new(move |request| -> HandlerFuture { Box::pin(handler(request)) });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, codec, OriginState { handler, log: Arc::clone(&log) }));
        Self { address, log, _tasks: tasks }
    }

    /// Starts an origin on a Unix socket that responds with the result of `handler`.
    pub fn start_unix<F>(
        path: &Path,
        codec: Codec,
        handler: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Result<Response<Body>, BodyError>> + Send + 'static,
    {
        let listener = UnixListener::bind(path).expect("an unused path");
        let log = Arc::new(OriginLog::default());
        let handler: Arc<Handler> = Arc::new(move |request| -> HandlerFuture { Box::pin(handler(request)) });
        let state = OriginState { handler, log: Arc::clone(&log) };
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                state.count_connection();
                connections.spawn(serve(socket, codec, state.clone()));
            }
        });
        Self { address: SocketAddr::from(([0, 0, 0, 0], 0)), log, _tasks: tasks }
    }

    /// Returns its address; an unspecified one for a Unix socket.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns every request so far, oldest first.
    pub fn received(&self) -> Vec<ReceivedRequest> {
        self.log.received.lock().clone()
    }

    /// Returns the number of requests so far.
    pub fn count(&self) -> usize {
        self.log.received.lock().len()
    }

    /// Returns the newest request.
    pub fn last(&self) -> ReceivedRequest {
        self.log.received.lock().last().cloned().expect("a request")
    }

    /// Returns the number of connections that were opened so far.
    pub fn connections(&self) -> usize {
        self.log.connections.load(Ordering::Acquire)
    }

    /// Returns the number of open connections.
    pub fn open_connections(&self) -> usize {
        self.log.open.load(Ordering::Acquire)
    }

    /// Waits until the origin has received `count` requests.
    pub async fn wait_for(&self, count: usize) {
        let log = &self.log;
        wait_until(&format!("{count} requests at an origin"), async || {
            (log.received.lock().len() >= count).then_some(())
        })
        .await;
    }
}

/// Reads a request's body to its end.
async fn read_whole(request: Request<Incoming>) -> Result<Bytes, BodyError> {
    Ok(request.into_body().collect().await.map_err(|_| BodyError)?.to_bytes())
}

async fn accept(listener: TcpListener, codec: Codec, state: OriginState) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        socket.set_nodelay(true).expect("a TCP socket");
        state.count_connection();
        connections.spawn(serve(socket, codec, state.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(socket: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, codec: Codec, state: OriginState) {
    let io = TokioIo::new(socket);
    let service = service_fn(|request| {
        state.log.received.lock().push(ReceivedRequest::new(&request));
        (state.handler)(request)
    });
    let ended = match codec {
        Codec::Http1 => hyper::server::conn::http1::Builder::new().serve_connection(io, service).await,
        Codec::Http2 => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
        }
    };
    drop(ended); // Tests may make the proxy break off a connection.
    state.log.open.fetch_sub(1, Ordering::AcqRel);
}
