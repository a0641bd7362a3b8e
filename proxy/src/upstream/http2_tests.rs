//! Tests of HTTP/2 endpoints that limit, refuse and end streams, over real sockets. The endpoint writes its frames one
//! by one (RFC 9113 §6).

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use weir_model::UpstreamProtocol;

use super::testing::*;
use super::*;
use crate::body::Body;
use crate::error::ProxyError;
use crate::identity::Identity;
use crate::incoming::InformationalSink;
use crate::limits::MAX_REPLAY_BYTES;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// `:status: 200` (RFC 7541, appendix A).
const STATUS_200: u8 = 0x88;

/// The endpoint's side of a connection.
struct Frames(TcpStream);

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frames {
    /// Reads the preface, and sends the settings.
    async fn accept(mut socket: TcpStream, max_streams: Option<u32>) -> Self {
        let mut preface = [0; 24];
        socket.read_exact(&mut preface).await.unwrap();
        let mut frames = Self(socket);
        frames.send_max_streams(max_streams).await;
        frames
    }

    async fn send_max_streams(&mut self, max_streams: Option<u32>) {
        let setting = |max: u32| [&[0, 3][..], &max.to_be_bytes()].concat();
        self.send(SETTINGS, 0, 0, &max_streams.map(setting).unwrap_or_default()).await;
    }

    async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
        self.0.write_all(&[&head, payload].concat()).await.ok();
    }

    async fn respond(&mut self, stream: u32) {
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &[STATUS_200]).await;
    }

    /// Returns the next frame; `None` at the end of the connection.
    async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        Some(Frame { kind: head[3], flags: head[4], stream, payload })
    }

    /// Returns the stream of the next request; `None` at the end of the connection.
    async fn next_request(&mut self) -> Option<u32> {
        loop {
            let frame = self.next().await?;
            if frame.kind == HEADERS {
                return Some(frame.stream);
            }
        }
    }

    /// Returns the stream of the next request and its whole body.
    async fn next_whole_request(&mut self) -> Option<(u32, Vec<u8>)> {
        let mut body = Vec::new();
        loop {
            let frame = self.next().await?;
            if frame.kind == DATA {
                body.extend_from_slice(&frame.payload);
            }
            if matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0 {
                return Some((frame.stream, body));
            }
        }
    }
}

fn http2_cluster(addresses: &[SocketAddr]) -> std::sync::Arc<Cluster> {
    cluster(addresses, |model| model.protocol = UpstreamProtocol::Http2)
}

/// Sends `count` requests at the same time, and returns their results.
async fn send_all(
    upstreams: &Rc<Upstreams>,
    cluster: &std::sync::Arc<Cluster>,
    count: usize,
) -> Vec<Result<u16, ProxyError>> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..count {
        let (upstreams, cluster) = (Rc::clone(upstreams), std::sync::Arc::clone(cluster));
        tasks.spawn_local(async move {
            let response = send(&upstreams, &cluster, get_request(), NONE).await.map_err(|failure| failure.error)?;
            Ok(read_response(response).await.0)
        });
    }
    let mut results = Vec::new();
    while let Some(result) = tasks.join_next().await {
        results.push(result.unwrap());
    }
    results
}

#[test]
fn streams_above_limit_of_endpoint_use_further_connections() {
    on_worker(async {
        // Responds when all requests have arrived.
        let (waiting, all) = (Rc::new(Cell::new(0)), Rc::new(Notify::new()));
        let (address, seen) = raw_endpoint(move |_, socket, _| {
            let (waiting, all) = (Rc::clone(&waiting), Rc::clone(&all));
            async move {
                let mut frames = Frames::accept(socket, Some(2)).await;
                let mut streams = Vec::new();
                for _ in 0..2 {
                    streams.push(frames.next_request().await.unwrap());
                    waiting.set(waiting.get() + 1);
                }
                match waiting.get() {
                    14 => all.notify_waiters(),
                    _ => all.notified().await,
                }
                for stream in streams {
                    frames.respond(stream).await;
                }
                while frames.next().await.is_some() {}
            }
        })
        .await;
        let (upstreams, cluster) = (Upstreams::new(Identity::empty()), http2_cluster(&[address]));
        assert_eq!(send_all(&upstreams, &cluster, 14).await, vec![Ok(200); 14]);
        assert_eq!(seen.connections.get(), 7);
    });
}

#[test]
fn limit_of_later_settings_is_obeyed() {
    on_worker(async {
        // The first request lowers the limit. The others are answered when all have arrived.
        let (waiting, all) = (Rc::new(Cell::new(0)), Rc::new(Notify::new()));
        let (address, seen) = raw_endpoint(move |number, socket, _| {
            let (waiting, all) = (Rc::clone(&waiting), Rc::clone(&all));
            async move {
                let mut frames = Frames::accept(socket, Some(if number == 0 { 10 } else { 1 })).await;
                if number == 0 {
                    let first = frames.next_request().await.unwrap();
                    frames.send_max_streams(Some(1)).await;
                    frames.respond(first).await;
                }
                let stream = frames.next_request().await.unwrap();
                waiting.set(waiting.get() + 1);
                match waiting.get() {
                    3 => all.notify_waiters(),
                    _ => all.notified().await,
                }
                frames.respond(stream).await;
                while frames.next().await.is_some() {}
            }
        })
        .await;
        let (upstreams, cluster) = (Upstreams::new(Identity::empty()), http2_cluster(&[address]));
        assert_eq!(send_all(&upstreams, &cluster, 1).await, [Ok(200)]);
        assert_eq!(send_all(&upstreams, &cluster, 3).await, vec![Ok(200); 3]);
        assert_eq!(seen.connections.get(), 3);
    });
}

#[test]
fn limit_of_zero_is_overflow() {
    on_worker(async {
        let (address, seen) = raw_endpoint(|_, socket, _| async move {
            let mut frames = Frames::accept(socket, Some(0)).await;
            while frames.next().await.is_some() {}
        })
        .await;
        let (upstreams, cluster) = (Upstreams::new(Identity::empty()), http2_cluster(&[address]));
        let results = send_all(&upstreams, &cluster, 5).await;
        assert_eq!(results, vec![Err(ProxyError::Overflow("upstream_streams")); 5]);
        assert_eq!(seen.connections.get(), 1);
    });
}

/// Starts an endpoint that ends the first stream of its first connection by `refuse`, and serves every other.
async fn refusing_endpoint<F: Future<Output = ()> + 'static>(
    refuse: impl Fn(Frames, u32) -> F + Copy + 'static,
) -> (SocketAddr, Rc<EndpointLog>) {
    raw_endpoint(move |number, socket, seen| async move {
        let mut frames = Frames::accept(socket, None).await;
        if number == 0 {
            let Some(stream) = frames.next_request().await else { return };
            return refuse(frames, stream).await;
        }
        while let Some((stream, body)) = frames.next_whole_request().await {
            seen.requests.borrow_mut().push(String::from_utf8(body).unwrap());
            frames.respond(stream).await;
        }
    })
    .await
}

async fn refuse_stream(mut frames: Frames, stream: u32) {
    frames.send(RST_STREAM, 0, stream, &7_u32.to_be_bytes()).await;
    while frames.next().await.is_some() {}
}

async fn go_away(mut frames: Frames, last_stream: u32) {
    frames.send(GOAWAY, 0, 0, &[last_stream.to_be_bytes(), 0_u32.to_be_bytes()].concat()).await;
}

#[test]
fn request_that_was_not_processed_is_repeated_for_any_method() {
    on_worker(async {
        let refused = refusing_endpoint(refuse_stream).await;
        let shut_down = refusing_endpoint(|frames, _| go_away(frames, 0)).await;
        for (address, seen) in [refused, shut_down] {
            let (upstreams, cluster) = (Upstreams::new(Identity::empty()), http2_cluster(&[address]));
            let post = request(Method::POST, chunks(vec![b"ab", b"cd"], None));
            let response = send(&upstreams, &cluster, post, NONE).await.unwrap();
            assert_eq!((response.attempts, read_response(response).await.0), (2, 200));
            assert_eq!((seen.connections.get(), &seen.requests.borrow()[..]), (2, &["abcd".to_owned()][..]));
        }
    });
}

#[test]
fn refused_request_is_sent_to_other_endpoint_first() {
    on_worker(async {
        let (refusing, seen) = raw_endpoint(|_, socket, _| async move {
            let mut frames = Frames::accept(socket, None).await;
            while let Some(stream) = frames.next_request().await {
                frames.send(RST_STREAM, 0, stream, &7_u32.to_be_bytes()).await;
            }
        })
        .await;
        let (serving, _) = endpoint(UpstreamProtocol::Http2, hello).await;
        let (upstreams, cluster) = (Upstreams::new(Identity::empty()), http2_cluster(&[refusing, serving]));
        for _ in 0..8 {
            let response = send(&upstreams, &cluster, request(Method::POST, Body::Empty), NONE).await.unwrap();
            assert_eq!(response.endpoint, serving.into());
            read_response(response).await;
        }
        assert!(seen.connections.get() >= 1, "the first endpoint was tried");
        // Without another endpoint the attempts are bounded.
        let alone = http2_cluster(&[refusing]);
        let failure = send(&upstreams, &alone, get_request(), NONE).await.err().unwrap();
        assert!(failure.attempts == 3 && matches!(failure.error, ProxyError::UpstreamReset(_)), "{failure:?}");
    });
}

#[test]
fn request_that_may_be_processed_is_not_repeated() {
    on_worker(async {
        // GOAWAY covers the stream, and then the connection closes.
        let (address, seen) = refusing_endpoint(go_away).await;
        let (upstreams, cluster) = (Upstreams::new(Identity::empty()), http2_cluster(&[address]));
        let failure =
            send(&upstreams, &cluster, request(Method::POST, Body::Empty), NONE).await.err().expect("not repeated");
        assert!(failure.attempts == 1 && matches!(failure.error, ProxyError::UpstreamReset(_)), "{failure:?}");
        // More was sent than is retained.
        let (address, seen_large) = refusing_endpoint(|mut frames, stream| async move {
            let mut received = 0;
            while received <= MAX_REPLAY_BYTES {
                received += frames.next().await.unwrap().payload.len();
                let more = 65_535_u32.to_be_bytes();
                frames.send(8, 0, stream, &more).await;
                frames.send(8, 0, 0, &more).await;
            }
            refuse_stream(frames, stream).await;
        })
        .await;
        let cluster = http2_cluster(&[address]);
        let body = chunks(vec![&[b'x'; 16 * 1024]; 2 * MAX_REPLAY_BYTES / (16 * 1024)], None);
        let failure = send(&upstreams, &cluster, request(Method::POST, body), NONE).await.err().expect("not repeated");
        assert_eq!((failure.attempts, seen.connections.get(), seen_large.connections.get()), (1, 1, 1));
    });
}

/// Records informational responses.
#[derive(Default)]
struct Sink(RefCell<Vec<u16>>);

impl InformationalSink for Sink {
    fn send(&self, status: StatusCode, _: HeaderMap) {
        self.0.borrow_mut().push(status.as_u16());
    }
}

#[test]
fn informational_responses_are_passed_on_within_bound() {
    // `:status` with a literal value (RFC 7541 §6.2.2).
    let head = |status: &str| [&[0x08, 3][..], status.as_bytes()].concat();
    for (count, passed) in [(3, true), (17, false)] {
        on_worker(async move {
            let (address, _) = raw_endpoint(move |_, socket, _| async move {
                let mut frames = Frames::accept(socket, None).await;
                let stream = frames.next_request().await.unwrap();
                for _ in 1..count {
                    frames.send(HEADERS, END_HEADERS, stream, &head("103")).await;
                }
                frames.send(HEADERS, END_HEADERS, stream, &head("100")).await;
                frames.respond(stream).await;
                while frames.next().await.is_some() {}
            })
            .await;
            let (upstreams, cluster) = (Upstreams::new(Identity::empty()), http2_cluster(&[address]));
            let sink = Rc::new(Sink::default());
            let options = SendOptions { informational: Some(Rc::clone(&sink) as Rc<dyn InformationalSink>), ..NONE };
            let result = send(&upstreams, &cluster, get_request(), options).await;
            assert_eq!(result.is_ok(), passed);
            if passed {
                assert_eq!(*sink.0.borrow(), [103, 103], "100 is the proxy's own");
            }
        });
    }
}

#[test]
fn reset_after_whole_response_is_its_end() {
    for (reason, length, complete) in [(0_u32, "2", true), (0, "3", false), (8, "2", false), (0, "", true)] {
        on_worker(async move {
            let (address, _) = raw_endpoint(move |_, socket, _| async move {
                let mut frames = Frames::accept(socket, None).await;
                let stream = frames.next_request().await.unwrap();
                let mut head = vec![STATUS_200];
                if !length.is_empty() {
                    // `content-length` with a literal value (RFC 7541 §6.2.2, appendix A: index 28).
                    head.extend([0x0F, 28 - 15, 1, length.as_bytes()[0]]);
                }
                frames.send(HEADERS, END_HEADERS, stream, &head).await;
                frames.send(DATA, 0, stream, b"ok").await;
                frames.send(RST_STREAM, 0, stream, &reason.to_be_bytes()).await;
                while frames.next().await.is_some() {}
            })
            .await;
            let (upstreams, cluster) = (Upstreams::new(Identity::empty()), http2_cluster(&[address]));
            let response = send(&upstreams, &cluster, get_request(), NONE).await.unwrap();
            let body = http_body_util::BodyExt::collect(response.response.into_body()).await;
            assert_eq!(body.ok().map(|body| body.to_bytes()), complete.then(|| Bytes::from_static(b"ok")), "{reason}");
        });
    }
}

#[test]
fn endpoint_that_does_not_speak_http2_is_protocol_error() {
    on_worker(async {
        let (address, _) = raw_endpoint(|_, mut socket, _| async move {
            socket.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).await.ok();
        })
        .await;
        let (upstreams, cluster) = (Upstreams::new(Identity::empty()), http2_cluster(&[address]));
        let failure = send(&upstreams, &cluster, get_request(), NONE).await.err().unwrap();
        let ProxyError::UpstreamProtocol(cause) = failure.error else { panic!("{failure:?}") };
        assert!(cause.contains("does not speak HTTP/2"), "{cause}");
    });
}
