//! Requests over real sockets: reuse and its limits, retries, framing, both protocols.

use std::future::pending;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use weir_model::{Balancing, UpstreamProtocol};

use super::cluster::ClusterCounts;
use super::testing::*;
use super::*;
use crate::body::Body;
use crate::error::ProxyError;
use crate::identity::Identity;
use crate::limits::UPSTREAM_IDLE_SWEEPS;

const NONE: SendOptions = SendOptions { attempt_timeout: None };

async fn hello(_: Request<Incoming>) -> Response<Body> {
    Response::new(Body::full(Bytes::from_static(b"hello")))
}

/// A port that nobody listens on.
async fn refusing() -> SocketAddr {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[test]
fn a_connection_serves_again_when_both_bodies_have_ended() {
    on_worker(async {
        let (address, seen) = endpoint(UpstreamProtocol::Http1, echo).await;
        let (upstreams, cluster) = (Upstreams::new(Identity::none()), cluster(&[address], |_| {}));
        for _ in 0..5 {
            for (body, expected) in [
                (Body::Empty, ""),
                (Body::full(Bytes::from_static(b"known")), "known"),
                (chunks(vec![b"un", b"known"], None), "unknown"),
            ] {
                let answer = send(&upstreams, &cluster, outgoing(Method::POST, body), NONE).await.unwrap();
                assert_eq!((answer.attempts, answer.endpoint), (1, address));
                assert_eq!(finish(answer).await.1, expected);
            }
        }
        assert_eq!((seen.connections.get(), seen.requests()), (1, 15));
        let expected = ClusterCounts { requests: 15, connects: 1, connections: 1, ..ClusterCounts::default() };
        assert_eq!(cluster.counts(), expected);
    });
}

#[test]
fn a_response_that_is_not_read_to_its_end_closes_the_connection() {
    on_worker(async {
        let (address, seen) = endpoint(UpstreamProtocol::Http1, |_| async {
            Response::new(Body::full(Bytes::from(vec![b'x'; 4 << 20])))
        })
        .await;
        let (upstreams, cluster) = (Upstreams::new(Identity::none()), cluster(&[address], |_| {}));
        let mut answer = send(&upstreams, &cluster, get(), NONE).await.unwrap();
        answer.response.body_mut().frame().await.unwrap().unwrap();
        drop(answer);
        until(|| seen.closed.get() == 1).await;
        finish(send(&upstreams, &cluster, get(), NONE).await.unwrap()).await;
        assert_eq!(seen.connections.get(), 2);
    });
}

#[test]
fn a_request_that_is_not_sent_whole_closes_the_connection() {
    on_worker(async {
        // Answers when it has seen the head, without waiting for the body.
        let (address, seen) = sockets(|_, stream, seen| answer_all(stream, seen)).await;
        let (upstreams, cluster) = (Upstreams::new(Identity::none()), cluster(&[address], |_| {}));
        let body = Body::made(Never);
        let answer = send(&upstreams, &cluster, outgoing(Method::POST, body), NONE).await.unwrap();
        finish(answer).await;
        finish(send(&upstreams, &cluster, get(), NONE).await.unwrap()).await;
        assert_eq!(seen.connections.get(), 2, "the second request must not follow the half of the first");
    });
}

struct Never;

impl http_body::Body for Never {
    type Data = Bytes;
    type Error = ProxyError;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Bytes>, ProxyError>>> {
        std::task::Poll::Pending
    }
}

#[test]
fn a_refused_connection_is_tried_elsewhere() {
    on_worker(async {
        let (address, seen) = endpoint(UpstreamProtocol::Http1, echo).await;
        let (one, two) = (refusing().await, refusing().await);
        let upstreams = Upstreams::new(Identity::none());
        let cluster = cluster(&[one, address, two], |_| {});
        for _ in 0..6 {
            let request = outgoing(Method::POST, chunks(vec![b"once"], None));
            let answer = send(&upstreams, &cluster, request, NONE).await.unwrap();
            assert_eq!(finish(answer).await.1, "once");
        }
        assert_eq!(seen.requests(), 6);
        assert!(cluster.counts().connect_failures > 0 && cluster.counts().failures == 0);
        assert!(cluster.endpoints().iter().any(|endpoint| endpoint.last_failure().is_some()));
    });
}

#[test]
fn without_another_endpoint_a_refused_connection_is_the_answer() {
    on_worker(async {
        let address = refusing().await;
        for (addresses, attempts, endpoint) in [(vec![address], 1, Some(address)), (vec![], 0, None)] {
            let (upstreams, cluster) = (Upstreams::new(Identity::none()), cluster(&addresses, |_| {}));
            let failure = send(&upstreams, &cluster, get(), NONE).await.err().unwrap();
            match endpoint {
                Some(_) => assert!(matches!(failure.error, ProxyError::ConnectFailed(_)), "{failure:?}"),
                None => assert_eq!(failure.error, ProxyError::NoEndpoint),
            }
            assert_eq!((failure.endpoint, failure.attempts), (endpoint, attempts));
            assert_eq!((cluster.counts().failures, cluster.counts().in_flight), (1, 0));
        }
    });
}

#[test]
fn an_endpoint_that_does_not_accept_is_given_up_in_time() {
    on_worker(async {
        // A full queue of connections: the kernel drops what asks to get in.
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let _waiting = TcpStream::connect(address).await.unwrap();
        let (upstreams, cluster) = (
            Upstreams::new(Identity::none()),
            cluster(&[address], |model| model.connect_timeout = Duration::from_millis(50)),
        );
        let failure = send(&upstreams, &cluster, get(), NONE).await.err().unwrap();
        assert_eq!((failure.error, failure.endpoint), (ProxyError::ConnectTimeout, Some(address)));
        assert_eq!(cluster.counts().connections, 0);
    });
}

/// Serves one request on each connection, and closes it.
async fn answering_once() -> (SocketAddr, Rc<Seen>) {
    sockets(|_, mut stream, seen| async move {
        answer_one(&mut stream, &seen).await;
    })
    .await
}

#[test]
fn a_connection_that_the_endpoint_has_closed_is_not_used() {
    on_worker(async {
        let (address, seen) = answering_once().await;
        let (upstreams, cluster) = (Upstreams::new(Identity::none()), cluster(&[address], |_| {}));
        for count in 1..4 {
            let request = outgoing(Method::POST, Body::full(Bytes::from_static(b"")));
            finish(send(&upstreams, &cluster, request, NONE).await.unwrap()).await;
            until(|| cluster.counts().connections == 0).await;
            assert_eq!(seen.connections.get(), count);
        }
    });
}

#[test]
fn what_the_endpoint_has_closed_is_noticed_at_once() {
    on_worker(async {
        let (address, seen) = answering_once().await;
        let (other, _) = endpoint(UpstreamProtocol::Http1, hello).await;
        let (upstreams, cluster, other) =
            (Upstreams::new(Identity::none()), cluster(&[address], |_| {}), cluster(&[other], |_| {}));
        for count in 1..4 {
            // A POST is not sent again, so it must not be sent there.
            let request = outgoing(Method::POST, Body::full(Bytes::from_static(b"x")));
            let answer = send(&upstreams, &cluster, request, NONE).await.unwrap();
            assert_eq!((answer.attempts, seen.connections.get()), (1, count));
            finish(answer).await;
            until(|| seen.closed.get() == count).await;
            // By the time of this answer, the worker has heard of what came before.
            finish(send(&upstreams, &other, get(), NONE).await.unwrap()).await;
        }
    });
}

#[test]
fn a_request_is_sent_to_its_end_whatever_becomes_of_its_response() {
    on_worker(async {
        // Reads the request's body while its response is on the way.
        let (address, seen) = sockets(|_, mut stream, seen| async move {
            read_head(&mut stream, &seen).await;
            write(&mut stream, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await;
            let mut bytes = vec![0; 1 << 20];
            let mut last = Vec::new();
            while !last.ends_with(b"0\r\n\r\n") {
                let count = stream.read(&mut bytes).await.unwrap();
                last.extend_from_slice(&bytes[..count]);
                last.drain(..last.len().saturating_sub(5));
            }
            seen.requests.borrow_mut().push("whole".to_owned());
            write(&mut stream, "ok").await;
        })
        .await;
        let (upstreams, cluster) = (Upstreams::new(Identity::none()), cluster(&[address], |_| {}));
        const CHUNK: &[u8] = &[b'x'; 64 * 1024];
        let body = chunks(vec![CHUNK; 256], None); // Far more than the sockets hold.
        let answer = send(&upstreams, &cluster, outgoing(Method::POST, body), NONE).await.unwrap();
        until(|| seen.requests() == 2).await;
        assert_eq!(finish(answer).await.1, "ok");
    });
}

/// Serves one request on the first connection, and closes it on the second one after `last_words`.
async fn closing(last_words: &'static str) -> (SocketAddr, Rc<Seen>) {
    sockets(move |number, mut stream, seen| async move {
        if number > 0 {
            return answer_all(stream, seen).await;
        }
        answer_one(&mut stream, &seen).await;
        read_head(&mut stream, &seen).await;
        write(&mut stream, last_words).await;
    })
    .await
}

#[test]
fn the_keep_alive_race_is_retried_for_idempotent_requests_only() {
    on_worker(async {
        for (method, last_words, again) in [
            (Method::GET, "", true),
            (Method::DELETE, "", true),
            (Method::POST, "", false),
            (Method::GET, "HTTP/1.1 ", false),
        ] {
            let (address, seen) = closing(last_words).await;
            let (upstreams, cluster) = (Upstreams::new(Identity::none()), cluster(&[address], |_| {}));
            finish(send(&upstreams, &cluster, get(), NONE).await.unwrap()).await;
            let result = send(&upstreams, &cluster, outgoing(method.clone(), Body::Empty), NONE).await;
            if again {
                let answer = result.ok().unwrap();
                assert_eq!(answer.attempts, 2, "{method}");
                finish(answer).await;
                let requests = seen.requests.borrow();
                assert_eq!(requests[1], requests[2], "the same request, to the last header");
            } else {
                let failure = result.err().unwrap();
                assert!(matches!(failure.error, ProxyError::UpstreamReset(_)), "{failure:?}");
                assert_eq!((failure.attempts, seen.requests()), (1, 2), "{method} is not sent twice");
            }
        }
    });
}

#[test]
fn a_new_connection_that_closes_is_not_retried() {
    on_worker(async {
        let (address, seen) = sockets(|_, mut stream, seen| async move {
            read_head(&mut stream, &seen).await;
        })
        .await;
        let (upstreams, cluster) = (Upstreams::new(Identity::none()), cluster(&[address], |_| {}));
        let failure = send(&upstreams, &cluster, get(), NONE).await.err().unwrap();
        assert!(matches!(failure.error, ProxyError::UpstreamReset(_)), "{failure:?}");
        assert_eq!((failure.attempts, seen.requests()), (1, 1));
    });
}

#[test]
fn an_attempt_ends_at_its_timeout() {
    on_worker(async {
        for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
            let (address, seen) = endpoint(protocol, |_| pending()).await;
            let (upstreams, cluster) =
                (Upstreams::new(Identity::none()), cluster(&[address], |model| model.protocol = protocol));
            let options = SendOptions { attempt_timeout: Some(Duration::from_millis(50)) };
            let failure = send(&upstreams, &cluster, get(), options).await.err().unwrap();
            assert_eq!((failure.error, failure.endpoint), (ProxyError::AttemptTimeout, Some(address)));
            assert_eq!((cluster.counts().in_flight, seen.requests()), (0, 1));
            let open = if protocol == UpstreamProtocol::Http1 { 0 } else { 1 };
            until(|| cluster.counts().connections == open).await;
        }
    });
}

#[test]
fn the_framing_is_that_of_the_body_whatever_the_headers_say() {
    on_worker(async {
        let made = || chunks(vec![b"abc"], None);
        let full = || Body::full(Bytes::from_static(b"abc"));
        for (method, told, body, expected) in [
            (Method::GET, None, Body::Empty, "\r\n\r\n"),
            (Method::GET, Some("3"), Body::Empty, "content-length: 0\r\n"),
            (Method::POST, None, Body::Empty, "content-length: 0\r\n"),
            (Method::POST, Some("99"), full(), "content-length: 3\r\n"),
            (Method::POST, None, full(), "content-length: 3\r\n"),
            (Method::POST, Some("99"), made(), "transfer-encoding: chunked\r\n"),
            (Method::GET, None, made(), "transfer-encoding: chunked\r\n"),
            (Method::DELETE, None, made(), "transfer-encoding: chunked\r\n"),
        ] {
            let (address, seen) = sockets(|_, stream, seen| answer_all(stream, seen)).await;
            let (upstreams, cluster) = (Upstreams::new(Identity::none()), cluster(&[address], |_| {}));
            let mut request = outgoing(method.clone(), body);
            if let Some(told) = told {
                request.headers.insert(CONTENT_LENGTH, HeaderValue::from_static(told));
            }
            request.headers.insert("transfer-encoding", HeaderValue::from_static("gzip"));
            finish(send(&upstreams, &cluster, request, NONE).await.unwrap()).await;
            let head = seen.requests.borrow()[0].clone();
            assert!(head.starts_with(&format!("{method} /path?query HTTP/1.1\r\n")), "{head}");
            assert!(head.contains(expected) && head.contains("host: a.com\r\n"), "{head}");
            let framed = head.matches("content-length").count() + head.matches("transfer-encoding").count();
            assert_eq!(framed, usize::from(expected != "\r\n\r\n"), "{head}");
        }
    });
}

#[test]
fn a_head_beyond_the_limits_is_a_protocol_error() {
    on_worker(async {
        let many = "a: b\r\n".repeat(101);
        let long = format!("a: {}\r\n", "b".repeat(100 * 1024));
        for headers in [
            many,
            long,
            "no colon at all in this\r\n".to_owned(),
            "content-length: 1\r\ncontent-length: 2\r\n".to_owned(),
        ] {
            let shown = headers[..20].to_owned();
            let (address, _) = sockets(move |_, mut stream, seen| {
                let head = format!("HTTP/1.1 200 OK\r\n{headers}\r\n");
                async move {
                    read_head(&mut stream, &seen).await;
                    write(&mut stream, &head).await;
                    read_head(&mut stream, &seen).await;
                }
            })
            .await;
            let (upstreams, cluster) = (Upstreams::new(Identity::none()), cluster(&[address], |_| {}));
            let failure = send(&upstreams, &cluster, get(), NONE).await.err().expect(&shown);
            assert!(matches!(failure.error, ProxyError::UpstreamProtocol(_)), "{shown} {failure:?}");
        }
    });
}

#[test]
fn http2_requests_share_a_connection_up_to_its_limit() {
    on_worker(async {
        let (address, seen) = endpoint(UpstreamProtocol::Http2, hello).await;
        let (upstreams, cluster) =
            (Upstreams::new(Identity::none()), cluster(&[address], |model| model.protocol = UpstreamProtocol::Http2));
        let mut answers = Vec::new();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..150 {
            let (upstreams, cluster) = (Rc::clone(&upstreams), std::sync::Arc::clone(&cluster));
            tasks.spawn_local(async move { send(&upstreams, &cluster, get(), NONE).await.ok().unwrap() });
        }
        while let Some(answer) = tasks.join_next().await {
            answers.push(answer.unwrap());
        }
        assert_eq!((seen.connections.get(), cluster.counts().in_flight), (2, 150));
        for answer in answers {
            assert_eq!(finish(answer).await.1, "hello");
        }
        assert_eq!((seen.connections.get(), cluster.counts().in_flight), (2, 0));
        // A connection that fails is one failed attempt for all who waited for it.
        let gone = refusing().await;
        cluster.set_endpoints(&models(&[gone]));
        let failure = send(&upstreams, &cluster, get(), NONE).await.err().unwrap();
        assert!(matches!(failure.error, ProxyError::ConnectFailed(_)));
        until(|| seen.closed.get() == 2).await;
    });
}

#[test]
fn trailers_pass_both_ways() {
    on_worker(async {
        for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
            let (address, _) = endpoint(protocol, echo).await;
            let (upstreams, cluster) =
                (Upstreams::new(Identity::none()), cluster(&[address], |model| model.protocol = protocol));
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("3"));
            let mut request = outgoing(Method::POST, chunks(vec![b"abc"], Some(trailers.clone())));
            request.headers.insert("trailer", HeaderValue::from_static("x-sum"));
            request.headers.insert("te", HeaderValue::from_static("trailers"));
            let answer = send(&upstreams, &cluster, request, NONE).await.unwrap();
            let (_, body, echoed) = finish(answer).await;
            assert_eq!((&body[..], echoed), (&b"abc"[..], Some(trailers)), "{protocol:?}");
        }
    });
}

#[test]
fn idle_connections_are_closed_in_time() {
    on_worker(async {
        for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
            let (address, seen) = endpoint(protocol, hello).await;
            let (upstreams, cluster) =
                (Upstreams::new(Identity::none()), cluster(&[address], |model| model.protocol = protocol));
            finish(send(&upstreams, &cluster, get(), NONE).await.unwrap()).await;
            let busy = send(&upstreams, &cluster, get(), NONE).await.unwrap();
            for _ in 0..UPSTREAM_IDLE_SWEEPS * 2 {
                assert!(upstreams.sweep(), "a connection in use stays");
            }
            finish(busy).await;
            for _ in 0..UPSTREAM_IDLE_SWEEPS {
                assert_eq!(seen.closed.get(), 0);
                upstreams.sweep();
            }
            until(|| seen.closed.get() == 1 && !upstreams.sweep()).await;
        }
    });
}

#[test]
fn connections_end_with_their_endpoint_their_cluster_and_their_worker() {
    on_worker(async {
        let (one, seen) = endpoint(UpstreamProtocol::Http1, hello).await;
        let (two, others) = endpoint(UpstreamProtocol::Http1, hello).await;
        let (upstreams, first) = (Upstreams::new(Identity::none()), cluster(&[one], |_| {}));
        finish(send(&upstreams, &first, get(), NONE).await.unwrap()).await;
        first.set_endpoints(&models(&[two]));
        finish(send(&upstreams, &first, get(), NONE).await.unwrap()).await;
        until(|| seen.closed.get() == 1).await;

        let known = [(first.model().name.clone(), std::sync::Arc::clone(&first))].into();
        upstreams.retain(&known);
        finish(send(&upstreams, &first, get(), NONE).await.unwrap()).await;
        assert_eq!(others.connections.get(), 1, "a cluster that stays keeps its connections");
        let busy = send(&upstreams, &first, get(), NONE).await.unwrap();
        upstreams.retain(&std::collections::HashMap::new());
        assert_eq!(finish(busy).await.1, "hello", "what is under way ends as it would");
        until(|| others.closed.get() == 1).await;

        finish(send(&upstreams, &first, get(), NONE).await.unwrap()).await;
        upstreams.close_all();
        until(|| others.closed.get() == 2).await;
    });
}

#[test]
fn every_balancer_reaches_every_endpoint() {
    on_worker(async {
        for balancing in [Balancing::RoundRobin, Balancing::LeastRequest, Balancing::Random] {
            let (one, seen) = endpoint(UpstreamProtocol::Http1, hello).await;
            let (two, others) = endpoint(UpstreamProtocol::Http1, hello).await;
            let (upstreams, cluster) =
                (Upstreams::new(Identity::none()), cluster(&[one, two], |model| model.balancing = balancing));
            for _ in 0..40 {
                finish(send(&upstreams, &cluster, get(), NONE).await.unwrap()).await;
            }
            let counts = (seen.requests(), others.requests());
            assert!(counts.0 + counts.1 == 40 && counts.0.min(counts.1) > 4, "{balancing:?} {counts:?}");
            assert!(balancing != Balancing::RoundRobin || counts == (20, 20), "{counts:?}");
        }
    });
}

#[test]
fn the_future_of_a_request_is_small() {
    on_worker(async {
        let (upstreams, cluster) = (Upstreams::new(Identity::none()), cluster(&[], |_| {}));
        let size = size_of_val(&send(&upstreams, &cluster, get(), NONE));
        assert!(size <= 1_536, "{size} bytes for each request in flight");
    });
}
