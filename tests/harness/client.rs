//! Sends requests on one connection, HTTP/1.1 or HTTP/2 with prior knowledge, and reads answers whole or in steps.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::body::{Body, empty, full};
use crate::wait::within;

/// One connection. Dropped, it is closed.
#[derive(Debug)]
pub struct Client {
    sender: Sender,
    address: SocketAddr,
    tasks: JoinSet<()>,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The protocol that the proxy answered in.
    pub version: Version,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailers, if any.
    pub trailers: Option<HeaderMap>,
}

impl Answer {
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The first value of a trailer.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.as_ref()?.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// A connection that speaks HTTP/1.1.
    pub async fn http1(address: SocketAddr) -> Self {
        Self::http1_over(connect(address).await, address).await
    }

    /// A connection that speaks HTTP/2, with prior knowledge.
    pub async fn http2(address: SocketAddr) -> Self {
        Self::http2_over(connect(address).await, address).await
    }

    /// HTTP/1.1 over a stream that is open already.
    pub async fn http1_over(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        address: SocketAddr,
    ) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1 needs no handshake");
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(connection.await) }); // Its error is the request's, too.
        Self { sender: Sender::Http1(sender), address, tasks }
    }

    /// HTTP/2 over a stream that is open already.
    pub async fn http2_over(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        address: SocketAddr,
    ) -> Self {
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await.expect("a preface can be written");
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(connection.await) });
        Self { sender: Sender::Http2(sender), address, tasks }
    }

    /// A connection in the given version.
    pub async fn speaking(codec: crate::Codec, address: SocketAddr) -> Self {
        match codec {
            crate::Codec::Http1 => Self::http1(address).await,
            crate::Codec::Http2 => Self::http2(address).await,
        }
    }

    /// `GET`, answered whole.
    pub async fn get(&mut self, path: &str) -> Answer {
        self.send(Request::get(path).body(empty()).expect("a valid path")).await
    }

    /// `POST` of bytes, answered whole.
    pub async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> Answer {
        self.send(Request::post(path).body(full(body)).expect("a valid path")).await
    }

    /// Any request, answered whole.
    pub async fn send(&mut self, request: Request<Body>) -> Answer {
        let what = format!("{} {}", request.method(), request.uri());
        let response = self.begin(request).await;
        within(&format!("an answer to {what}"), read(response)).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Any request, answered by a head whose body is read by the caller.
    pub async fn begin(&mut self, request: Request<Body>) -> Response<Incoming> {
        let what = format!("{} {}", request.method(), request.uri());
        self.attempt(request).await.unwrap_or_else(|error| panic!("no answer to {what}: {error:?}"))
    }

    /// Any request, which may fail. `host` or `:authority` is the address, when the request says nothing.
    pub async fn attempt(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let what = format!("an answer to {} {}", request.method(), request.uri());
        let (request, authority) = (request, self.address.to_string());
        match &mut self.sender {
            Sender::Http1(sender) => {
                let request = with_host(request, &authority);
                within(&what, async {
                    sender.ready().await.and(Ok(()))?;
                    sender.send_request(request).await
                })
                .await
            }
            Sender::Http2(sender) => {
                let request = with_authority(request, &authority);
                within(&what, async {
                    sender.ready().await.and(Ok(()))?;
                    sender.send_request(request).await
                })
                .await
            }
        }
    }

    /// A future of an answer, so that several requests can be under way on one HTTP/2 connection.
    pub fn concurrent(
        &self,
        request: Request<Body>,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        let Sender::Http2(sender) = &self.sender else { panic!("only HTTP/2 carries several requests at once") };
        let mut sender = sender.clone();
        let request = with_authority(request, &self.address.to_string());
        async move {
            sender.ready().await?;
            sender.send_request(request).await
        }
    }

    /// Waits until the peer has ended the connection.
    pub async fn closed(&mut self) {
        within("the end of the connection", self.tasks.join_next()).await;
    }

    /// True when the connection has ended.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    let socket = within("a connection", TcpStream::connect(address)).await;
    let socket = socket.unwrap_or_else(|error| panic!("connect to {address}: {error}"));
    socket.set_nodelay(true).expect("a TCP socket");
    socket
}

/// Reads a response to its end.
///
/// # Errors
/// It broke off.
pub async fn read(response: Response<Incoming>) -> hyper::Result<Answer> {
    let (head, body) = response.into_parts();
    let whole = body.collect().await?;
    let trailers = whole.trailers().cloned();
    let (status, version, headers) = (head.status.as_u16(), head.version, head.headers);
    Ok(Answer { status, version, headers, body: whole.to_bytes(), trailers })
}

fn with_host(mut request: Request<Body>, authority: &str) -> Request<Body> {
    let host = request.uri().authority().map_or(authority, |named| named.as_str()).parse().expect("a host");
    request.headers_mut().entry(http::header::HOST).or_insert(host);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse().expect("a path");
    *request.uri_mut() = path; // HTTP/1.1 asks an origin, or one that stands for it, by path (RFC 9112 §3.2.1).
    request
}

fn with_authority(mut request: Request<Body>, authority: &str) -> Request<Body> {
    let host = request.headers_mut().remove(http::header::HOST);
    let named = request.uri().authority().map(|named| named.as_str().to_owned());
    let host = host.and_then(|host| host.to_str().ok().map(str::to_owned)).or(named);
    let host = host.unwrap_or_else(|| authority.to_owned());
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = format!("http://{host}{path}").parse().expect("a valid host and path");
    request
}
