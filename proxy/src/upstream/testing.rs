//! Loopback endpoints for the tests of this folder: hyper's servers, and sockets with scripted behavior.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use weir_model::{ClusterName, Endpoint, UpstreamProtocol, Weight};

use super::*;
use crate::body::Body;

/// Longer than any test takes. A test that hangs fails.
const TEST_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) const NONE: SendOptions =
    SendOptions { attempt_timeout: None, expects_continue: false, informational: None, target: None, retry: None };

pub(super) async fn hello(_: Request<Incoming>) -> Response<Body> {
    Response::new(Body::full(Bytes::from_static(b"hello")))
}

/// Runs a test as a worker runs: one thread, local tasks.
pub(super) fn on_worker(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let local = tokio::task::LocalSet::new();
    runtime.block_on(local.run_until(async { tokio::time::timeout(TEST_TIMEOUT, test).await.unwrap() }));
}

/// Waits until `condition` returns true.
pub(super) async fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The connections and requests that an endpoint has received.
#[derive(Default)]
pub(super) struct EndpointLog {
    pub(super) connections: Cell<usize>,
    pub(super) closed: Cell<usize>,
    pub(super) requests: RefCell<Vec<String>>,
}

impl EndpointLog {
    pub(super) fn requests(&self) -> usize {
        self.requests.borrow().len()
    }
}

/// Starts an endpoint that runs `serve` for each connection, with the connection's number from 0.
pub(super) async fn raw_endpoint<F: Future<Output = ()> + 'static>(
    serve: impl Fn(usize, TcpStream, Rc<EndpointLog>) -> F + 'static,
) -> (SocketAddr, Rc<EndpointLog>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = Rc::new(EndpointLog::default());
    let ours = Rc::clone(&seen);
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let number = ours.connections.replace(ours.connections.get() + 1);
            let served = serve(number, stream, Rc::clone(&ours));
            let ours = Rc::clone(&ours);
            tokio::task::spawn_local(async move {
                served.await;
                ours.closed.set(ours.closed.get() + 1);
            });
        }
    });
    (address, seen)
}

/// Starts a hyper server that responds to each request with `respond`.
pub(super) async fn endpoint<F: Future<Output = Response<Body>> + 'static>(
    protocol: UpstreamProtocol,
    respond: impl Fn(Request<Incoming>) -> F + Clone + 'static,
) -> (SocketAddr, Rc<EndpointLog>) {
    raw_endpoint(move |_, stream, seen| {
        let respond = respond.clone();
        async move {
            let service = service_fn(move |request: Request<Incoming>| {
                seen.requests.borrow_mut().push(format!("{} {}", request.method(), request.uri().path()));
                let response = respond(request);
                async move { Ok::<_, Infallible>(response.await) }
            });
            let socket = TokioIo::new(stream);
            drop(match protocol {
                UpstreamProtocol::Http1 => {
                    hyper::server::conn::http1::Builder::new().serve_connection(socket, service).await
                }
                UpstreamProtocol::Http2 | UpstreamProtocol::Auto => {
                    hyper::server::conn::http2::Builder::new(Spawn).serve_connection(socket, service).await
                }
            });
        }
    })
    .await
}

#[derive(Clone)]
struct Spawn;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Spawn {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Responds with the request's body, trailers included.
pub(super) async fn echo(request: Request<Incoming>) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    response.headers_mut().insert("trailer", HeaderValue::from_static("x-sum"));
    *response.body_mut() = Body::Incoming(request.into_body());
    response
}

/// Reads one head, up to the empty line. Returns false at the end of the connection.
pub(super) async fn read_head(stream: &mut TcpStream, seen: &EndpointLog) -> bool {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return false,
        }
    }
    seen.requests.borrow_mut().push(String::from_utf8(head).unwrap());
    true
}

pub(super) async fn write(stream: &mut TcpStream, text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

/// Reads a request and responds. Returns false at the end of the connection.
pub(super) async fn serve_one(stream: &mut TcpStream, seen: &EndpointLog) -> bool {
    let received = read_head(stream, seen).await;
    if received {
        write(stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    }
    received
}

/// Responds to every request of a connection.
pub(super) async fn serve_all(mut stream: TcpStream, seen: Rc<EndpointLog>) {
    while serve_one(&mut stream, &seen).await {}
}

/// Returns a cluster of these endpoints.
pub(super) fn cluster(addresses: &[SocketAddr], change: impl FnOnce(&mut weir_model::Cluster)) -> Arc<Cluster> {
    let name = ClusterName::new("shop/reviews:80").unwrap();
    let mut model = weir_model::Cluster::of_endpoints(name, models(addresses)).unwrap();
    change(&mut model);
    Cluster::new(Arc::new(model))
}

pub(super) fn models(addresses: &[SocketAddr]) -> Vec<Endpoint> {
    let model = |address: &SocketAddr| Endpoint { address: (*address).into(), weight: Weight::ONE, version: None };
    addresses.iter().map(model).collect()
}

pub(super) fn request(method: Method, body: Body) -> UpstreamRequest {
    UpstreamRequest {
        method,
        scheme: "http",
        authority: HeaderValue::from_static("a.com"),
        path: "/path?query".parse().unwrap(),
        headers: HeaderMap::new(),
        sent_names: None,
        upgrade: None,
        body,
    }
}

pub(super) fn get_request() -> UpstreamRequest {
    request(Method::GET, Body::Empty)
}

/// Returns a body of unknown length.
pub(super) fn chunks(chunks: Vec<&'static [u8]>, trailers: Option<HeaderMap>) -> Body {
    Body::stream(Chunks(
        chunks
            .into_iter()
            .map(|chunk| http_body::Frame::data(Bytes::from_static(chunk)))
            .chain(trailers.map(http_body::Frame::trailers))
            .collect(),
    ))
}

struct Chunks(std::collections::VecDeque<http_body::Frame<Bytes>>);

impl http_body::Body for Chunks {
    type Data = Bytes;
    type Error = crate::error::ProxyError;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(self.get_mut().0.pop_front().map(Ok))
    }
}

/// Reads a response to its end, and drops its lease.
pub(super) async fn read_response(response: UpstreamResponse) -> (u16, Bytes, Option<HeaderMap>) {
    let status = response.response.status().as_u16();
    let body = response.response.into_body().collect().await.unwrap();
    let trailers = body.trailers().cloned();
    drop(response.lease);
    (status, body.to_bytes(), trailers)
}
