//! A client of one connection, HTTP/1.1 or HTTP/2 with prior knowledge. Responses are read whole or frame by frame.

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
use crate::wait::with_deadline;

/// One connection. Dropping it closes the connection.
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

/// A response with its complete body.
#[derive(Debug)]
pub struct ClientResponse {
    /// The status.
    pub status: u16,
    /// The protocol of the response.
    pub version: Version,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// The trailers; `None` if the response has none.
    pub trailers: Option<HeaderMap>,
}

impl ClientResponse {
    /// Returns the first value of a header; `None` if it is absent or not visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the first value of a trailer; `None` if it is absent or not visible ASCII.
    pub fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.as_ref()?.get(name).and_then(|value| value.to_str().ok())
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    /// Opens an HTTP/1.1 connection.
    pub async fn http1(address: SocketAddr) -> Self {
        Self::http1_over(connect(address).await, address).await
    }

    /// Opens an HTTP/2 connection with prior knowledge.
    pub async fn http2(address: SocketAddr) -> Self {
        Self::http2_over(connect(address).await, address).await
    }

    /// Starts HTTP/1.1 on an open stream.
    pub async fn http1_over(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
        address: SocketAddr,
    ) -> Self {
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP/1.1 needs no handshake");
        let mut tasks = JoinSet::new();
        tasks.spawn(async { drop(connection.await) }); // The request reports the same error.
        Self { sender: Sender::Http1(sender), address, tasks }
    }

    /// Starts HTTP/2 on an open stream.
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

    /// Opens a connection of the protocol `codec`.
    pub async fn connect(codec: crate::Codec, address: SocketAddr) -> Self {
        match codec {
            crate::Codec::Http1 => Self::http1(address).await,
            crate::Codec::Http2 => Self::http2(address).await,
        }
    }

    /// Sends a `GET`, and reads the response.
    pub async fn get(&mut self, path: &str) -> ClientResponse {
        self.send(Request::get(path).body(empty()).expect("a valid path")).await
    }

    /// Sends a `POST` with a body, and reads the response.
    pub async fn post(&mut self, path: &str, body: impl Into<Bytes>) -> ClientResponse {
        self.send(Request::post(path).body(full(body)).expect("a valid path")).await
    }

    /// Sends a request, and reads the response.
    pub async fn send(&mut self, request: Request<Body>) -> ClientResponse {
        let what = format!("{} {}", request.method(), request.uri());
        let response = self.send_head(request).await;
        with_deadline(&format!("a response to {what}"), read(response))
            .await
            .unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Sends a request, and returns the response's head as soon as it arrives. The caller reads the body.
    pub async fn send_head(&mut self, request: Request<Body>) -> Response<Incoming> {
        let what = format!("{} {}", request.method(), request.uri());
        self.try_send(request).await.unwrap_or_else(|error| panic!("no response to {what}: {error:?}"))
    }

    /// Sends a request that may fail, and returns the response's head.
    ///
    /// A request without `host` or `:authority` gets the address of the connection.
    ///
    /// # Errors
    /// The connection failed, or was closed before the response's head.
    pub async fn try_send(&mut self, request: Request<Body>) -> hyper::Result<Response<Incoming>> {
        let what = format!("a response to {} {}", request.method(), request.uri());
        let (request, authority) = (request, self.address.to_string());
        match &mut self.sender {
            Sender::Http1(sender) => {
                let request = with_host(request, &authority);
                with_deadline(&what, async {
                    sender.ready().await.and(Ok(()))?;
                    sender.send_request(request).await
                })
                .await
            }
            Sender::Http2(sender) => {
                let request = with_authority(request, &authority);
                with_deadline(&what, async {
                    sender.ready().await.and(Ok(()))?;
                    sender.send_request(request).await
                })
                .await
            }
        }
    }

    /// Returns the future of a response's head, so that one HTTP/2 connection carries several requests at once.
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

    /// Waits until the peer has closed the connection.
    pub async fn closed(&mut self) {
        with_deadline("the end of the connection", self.tasks.join_next()).await;
    }

    /// Returns true if the connection is closed.
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }
}

async fn connect(address: SocketAddr) -> TcpStream {
    let socket = with_deadline("a connection", TcpStream::connect(address)).await;
    let socket = socket.unwrap_or_else(|error| panic!("connect to {address}: {error}"));
    socket.set_nodelay(true).expect("a TCP socket");
    socket
}

/// Reads the complete body and the trailers of a response.
///
/// # Errors
/// The connection or the stream ended before the body was complete.
pub async fn read(response: Response<Incoming>) -> hyper::Result<ClientResponse> {
    let (head, body) = response.into_parts();
    let whole = body.collect().await?;
    let trailers = whole.trailers().cloned();
    let (status, version, headers) = (head.status.as_u16(), head.version, head.headers);
    Ok(ClientResponse { status, version, headers, body: whole.to_bytes(), trailers })
}

fn with_host(mut request: Request<Body>, authority: &str) -> Request<Body> {
    let host = request.uri().authority().map_or(authority, |named| named.as_str()).parse().expect("a host");
    request.headers_mut().entry(http::header::HOST).or_insert(host);
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str()).parse().expect("a path");
    *request.uri_mut() = path; // RFC 9112 §3.2.1: the target of a request to an origin or a reverse proxy is a path.
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
