//! An upstream of a test: hyper's server, HTTP/1.1 or HTTP/2 with prior knowledge, that does what the test says and
//! remembers what it received.

use std::future::Future;
use std::net::SocketAddr;
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
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::body::{Body, Broken, full};
use crate::wait::until;

/// What an origin or a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 with prior knowledge.
    Http2,
}

/// The head of a request as an origin received it.
#[derive(Debug, Clone)]
pub struct Received {
    /// The method.
    pub method: Method,
    /// `host`, or `:authority`.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// The protocol.
    pub version: Version,
    /// The headers.
    pub headers: HeaderMap,
}

impl Received {
    fn of(request: &Request<Incoming>) -> Self {
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

    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

type Reply = Pin<Box<dyn Future<Output = Result<Response<Body>, Broken>> + Send>>;
type Script = dyn Fn(Request<Incoming>) -> Reply + Send + Sync;

#[derive(Default)]
struct Seen {
    received: Mutex<Vec<Received>>,
    connections: AtomicUsize,
    open: AtomicUsize,
}

/// An upstream. Dropped, it is gone with all its connections.
pub struct Origin {
    address: SocketAddr,
    seen: Arc<Seen>,
    _tasks: JoinSet<()>,
}

impl Origin {
    /// Answers everything with this text, after it has read the request's body.
    pub async fn says(text: &'static str) -> Self {
        Self::start(Codec::Http1, move |request| async move {
            read_whole(request).await?;
            Ok(Response::new(full(text)))
        })
        .await
    }

    /// Sends each request's body back as it comes, trailers too, with its content type.
    pub async fn echoes(codec: Codec) -> Self {
        Self::start(codec, |request| async move {
            let content_type = request.headers().get("content-type").cloned();
            let body = request.into_body().map_err(|_| Broken).boxed_unsync();
            let mut response = Response::new(body);
            response.headers_mut().extend(content_type.map(|value| (http::header::CONTENT_TYPE, value)));
            Ok(response)
        })
        .await
    }

    /// Answers as `script` says; an error breaks the exchange off.
    pub async fn start<F>(codec: Codec, script: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Response<Body>, Broken>> + Send + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let seen = Arc::new(Seen::default());
        let script: Arc<Script> = Arc::new(move |request| -> Reply { Box::pin(script(request)) });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, codec, (script, Arc::clone(&seen))));
        Self { address, seen, _tasks: tasks }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far, oldest first.
    pub fn received(&self) -> Vec<Received> {
        self.seen.received.lock().clone()
    }

    /// How many requests there were so far.
    pub fn count(&self) -> usize {
        self.seen.received.lock().len()
    }

    /// The newest request.
    pub fn last(&self) -> Received {
        self.seen.received.lock().last().cloned().expect("a request")
    }

    /// How many connections were opened so far.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Acquire)
    }

    /// How many of them are open.
    pub fn open_connections(&self) -> usize {
        self.seen.open.load(Ordering::Acquire)
    }

    /// Waits until there were so many requests.
    pub async fn wait_for(&self, count: usize) {
        let seen = &self.seen;
        until(&format!("{count} requests at an origin"), async || (seen.received.lock().len() >= count).then_some(()))
            .await;
    }
}

/// The request's body, read to its end.
async fn read_whole(request: Request<Incoming>) -> Result<Bytes, Broken> {
    Ok(request.into_body().collect().await.map_err(|_| Broken)?.to_bytes())
}

async fn accept(listener: TcpListener, codec: Codec, (script, seen): (Arc<Script>, Arc<Seen>)) {
    let mut connections = JoinSet::new();
    while let Ok((socket, _)) = listener.accept().await {
        seen.connections.fetch_add(1, Ordering::AcqRel);
        seen.open.fetch_add(1, Ordering::AcqRel);
        connections.spawn(serve(socket, codec, (Arc::clone(&script), Arc::clone(&seen))));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(socket: TcpStream, codec: Codec, (script, seen): (Arc<Script>, Arc<Seen>)) {
    socket.set_nodelay(true).expect("a TCP socket");
    let io = TokioIo::new(socket);
    let service = service_fn(|request| {
        seen.received.lock().push(Received::of(&request));
        script(request)
    });
    let ended = match codec {
        Codec::Http1 => hyper::server::conn::http1::Builder::new().serve_connection(io, service).await,
        Codec::Http2 => {
            hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
        }
    };
    drop(ended); // A proxy that closes in the middle is what a test may be about.
    seen.open.fetch_sub(1, Ordering::AcqRel);
}
