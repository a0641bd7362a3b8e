//! Tests of requests over real sockets: connection reuse and its limits, retries, framing, both protocols.

use std::future::pending;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, Response};
use http_body_util::BodyExt;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use weir_model::{LbPolicy, UpstreamProtocol};

use super::cluster::ClusterCounts;
use super::testing::*;
use super::*;
use crate::body::Body;
use crate::error::ProxyError;
use crate::identity::Identity;

/// Returns an address without a listener.
async fn unused_address() -> SocketAddr {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[test]
fn connection_is_reused_after_both_bodies_end() {
    on_worker(async {
        let (address, seen) = endpoint(UpstreamProtocol::Http1, echo).await;
        let (upstreams, cluster) = (Upstreams::new(Identity::empty()), cluster(&[address], |_| {}));
        for _ in 0..5 {
            for (body, expected) in [
                (Body::Empty, ""),
                (Body::full(Bytes::from_static(b"known")), "known"),
                (chunks(vec![b"un", b"known"], None), "unknown"),
            ] {
                let response = send(&upstreams, &cluster, request(Method::POST, body), NONE).await.unwrap();
                assert_eq!((response.attempts, &response.endpoint), (1, &address.into()));
                assert_eq!(read_response(response).await.1, expected);
            }
        }
        assert_eq!((seen.connections.get(), seen.requests()), (1, 15));
        let expected = ClusterCounts { requests: 15, connects: 1, connections: 1, ..ClusterCounts::default() };
        assert_eq!(cluster.counts(), expected);
    });
}

#[test]
fn unread_response_closes_connection() {
    on_worker(async {
        let (address, seen) = endpoint(UpstreamProtocol::Http1, |_| async {
            Response::new(Body::full(Bytes::from(vec![b'x'; 4 << 20])))
        })
        .await;
        let (upstreams, cluster) = (Upstreams::new(Identity::empty()), cluster(&[address], |_| {}));
        let mut response = send(&upstreams, &cluster, get_request(), NONE).await.unwrap();
        response.response.body_mut().frame().await.unwrap().unwrap();
        drop(response);
        wait_until(|| seen.closed.get() == 1).await;
        read_response(send(&upstreams, &cluster, get_request(), NONE).await.unwrap()).await;
        assert_eq!(seen.connections.get(), 2);
    });
}

#[test]
fn unsent_request_body_closes_connection() {
    on_worker(async {
        // Responds after the head, without waiting for the body.
        let (address, seen) = raw_endpoint(|_, stream, seen| serve_all(stream, seen)).await;
        let (upstreams, cluster) = (Upstreams::new(Identity::empty()), cluster(&[address], |_| {}));
        let body = Body::stream(Never);
        let response = send(&upstreams, &cluster, request(Method::POST, body), NONE).await.unwrap();
        read_response(response).await;
        read_response(send(&upstreams, &cluster, get_request(), NONE).await.unwrap()).await;
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
fn refused_connection_is_retried_at_other_endpoint() {
    on_worker(async {
        let (address, seen) = endpoint(UpstreamProtocol::Http1, echo).await;
        let (one, two) = (unused_address().await, unused_address().await);
        let upstreams = Upstreams::new(Identity::empty());
        let cluster = cluster(&[one, address, two], |_| {});
        for _ in 0..6 {
            let request = request(Method::POST, chunks(vec![b"once"], None));
            let response = send(&upstreams, &cluster, request, NONE).await.unwrap();
            assert_eq!(read_response(response).await.1, "once");
        }
        assert_eq!(seen.requests(), 6);
        assert!(cluster.counts().connect_failures > 0 && cluster.counts().failures == 0);
        assert!(cluster.endpoints().iter().any(|endpoint| endpoint.last_failure().is_some()));
    });
}

#[test]
fn refused_connection_fails_request_without_other_endpoint() {
    on_worker(async {
        let address = unused_address().await;
        for (addresses, attempts, endpoint) in [(vec![address], 1, Some(address)), (vec![], 0, None)] {
            let (upstreams, cluster) = (Upstreams::new(Identity::empty()), cluster(&addresses, |_| {}));
            let failure = send(&upstreams, &cluster, get_request(), NONE).await.err().unwrap();
            match endpoint {
                Some(_) => assert!(matches!(failure.error, ProxyError::ConnectFailed(_)), "{failure:?}"),
                None => assert_eq!(failure.error, ProxyError::NoEndpoint),
            }
            assert_eq!((failure.endpoint, failure.attempts), (endpoint.map(Into::into), attempts));
            assert_eq!((cluster.counts().failures, cluster.counts().in_flight), (1, 0));
        }
    });
}

#[test]
fn connect_fails_after_connect_timeout() {
    on_worker(async {
        // A full accept queue: the kernel drops further connections.
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let _waiting = TcpStream::connect(address).await.unwrap();
        let (upstreams, cluster) = (
            Upstreams::new(Identity::empty()),
            cluster(&[address], |model| model.connect_timeout = Duration::from_millis(50)),
        );
        let failure = send(&upstreams, &cluster, get_request(), NONE).await.err().unwrap();
        assert_eq!((failure.error, failure.endpoint), (ProxyError::ConnectTimeout, Some(address.into())));
        assert_eq!(cluster.counts().connections, 0);
    });
}

/// Serves one request on each connection, and closes it.
async fn endpoint_serving_once() -> (SocketAddr, Rc<EndpointLog>) {
    raw_endpoint(|_, mut stream, seen| async move {
        serve_one(&mut stream, &seen).await;
    })
    .await
}

#[test]
fn closed_idle_connection_is_not_reused() {
    on_worker(async {
        let (address, seen) = endpoint_serving_once().await;
        let (upstreams, cluster) = (Upstreams::new(Identity::empty()), cluster(&[address], |_| {}));
        for count in 1..4 {
            let request = request(Method::POST, Body::full(Bytes::from_static(b"")));
            read_response(send(&upstreams, &cluster, request, NONE).await.unwrap()).await;
            wait_until(|| cluster.counts().connections == 0).await;
            assert_eq!(seen.connections.get(), count);
        }
    });
}

#[test]
fn closed_idle_connection_is_detected_before_next_request() {
    on_worker(async {
        let (address, seen) = endpoint_serving_once().await;
        let (other, _) = endpoint(UpstreamProtocol::Http1, hello).await;
        let (upstreams, cluster, other) =
            (Upstreams::new(Identity::empty()), cluster(&[address], |_| {}), cluster(&[other], |_| {}));
        for count in 1..4 {
            // A POST is never retried, so it must not be sent on the closed connection.
            let request = request(Method::POST, Body::full(Bytes::from_static(b"x")));
            let response = send(&upstreams, &cluster, request, NONE).await.unwrap();
            assert_eq!((response.attempts, seen.connections.get()), (1, count));
            read_response(response).await;
            wait_until(|| seen.closed.get() == count).await;
            // When this response arrives, the worker has seen what came before.
            read_response(send(&upstreams, &other, get_request(), NONE).await.unwrap()).await;
        }
    });
}

#[test]
fn request_body_is_sent_to_its_end_after_response_head() {
    on_worker(async {
        // Reads the request's body while its response is in flight.
        let (address, seen) = raw_endpoint(|_, mut stream, seen| async move {
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
        let (upstreams, cluster) = (Upstreams::new(Identity::empty()), cluster(&[address], |_| {}));
        const CHUNK: &[u8] = &[b'x'; 64 * 1024];
        let body = chunks(vec![CHUNK; 256], None); // Far more than the sockets can buffer.
        let response = send(&upstreams, &cluster, request(Method::POST, body), NONE).await.unwrap();
        wait_until(|| seen.requests() == 2).await;
        assert_eq!(read_response(response).await.1, "ok");
    });
}

/// Serves one request on the first connection, and closes the connection after `last_words` of the second response.
async fn endpoint_closing_after(last_words: &'static str) -> (SocketAddr, Rc<EndpointLog>) {
    raw_endpoint(move |number, mut stream, seen| async move {
        if number > 0 {
            return serve_all(stream, seen).await;
        }
        serve_one(&mut stream, &seen).await;
        read_head(&mut stream, &seen).await;
        write(&mut stream, last_words).await;
    })
    .await
}

#[test]
fn keep_alive_race_is_retried_only_for_idempotent_requests() {
    on_worker(async {
        for (method, last_words, retried) in [
            (Method::GET, "", true),
            (Method::DELETE, "", true),
            (Method::POST, "", false),
            (Method::GET, "HTTP/1.1 ", false),
        ] {
            let (address, seen) = endpoint_closing_after(last_words).await;
            let (upstreams, cluster) = (Upstreams::new(Identity::empty()), cluster(&[address], |_| {}));
            read_response(send(&upstreams, &cluster, get_request(), NONE).await.unwrap()).await;
            let result = send(&upstreams, &cluster, request(method.clone(), Body::Empty), NONE).await;
            if retried {
                let response = result.ok().unwrap();
                assert_eq!(response.attempts, 2, "{method}");
                read_response(response).await;
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
fn closed_new_connection_is_not_retried() {
    on_worker(async {
        let (address, seen) = raw_endpoint(|_, mut stream, seen| async move {
            read_head(&mut stream, &seen).await;
        })
        .await;
        let (upstreams, cluster) = (Upstreams::new(Identity::empty()), cluster(&[address], |_| {}));
        let failure = send(&upstreams, &cluster, get_request(), NONE).await.err().unwrap();
        assert!(matches!(failure.error, ProxyError::UpstreamReset(_)), "{failure:?}");
        assert_eq!((failure.attempts, seen.requests()), (1, 1));
    });
}

#[test]
fn attempt_fails_after_attempt_timeout() {
    on_worker(async {
        for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
            let (address, seen) = endpoint(protocol, |_| pending()).await;
            let (upstreams, cluster) =
                (Upstreams::new(Identity::empty()), cluster(&[address], |model| model.protocol = protocol));
            let options = SendOptions { attempt_timeout: Some(Duration::from_millis(50)), ..SendOptions::default() };
            let failure = send(&upstreams, &cluster, get_request(), options).await.err().unwrap();
            assert_eq!((failure.error, failure.endpoint), (ProxyError::AttemptTimeout, Some(address.into())));
            assert_eq!((cluster.counts().in_flight, seen.requests()), (0, 1));
            let open = if protocol == UpstreamProtocol::Http1 { 0 } else { 1 };
            wait_until(|| cluster.counts().connections == open).await;
        }
    });
}

#[test]
fn framing_follows_body_not_headers() {
    on_worker(async {
        let streamed = || chunks(vec![b"abc"], None);
        let full = || Body::full(Bytes::from_static(b"abc"));
        for (method, declared, body, expected) in [
            (Method::GET, None, Body::Empty, "\r\n\r\n"),
            (Method::GET, Some("3"), Body::Empty, "content-length: 0\r\n"),
            (Method::POST, None, Body::Empty, "content-length: 0\r\n"),
            (Method::POST, Some("99"), full(), "content-length: 3\r\n"),
            (Method::POST, None, full(), "content-length: 3\r\n"),
            (Method::POST, Some("99"), streamed(), "transfer-encoding: chunked\r\n"),
            (Method::GET, None, streamed(), "transfer-encoding: chunked\r\n"),
            (Method::DELETE, None, streamed(), "transfer-encoding: chunked\r\n"),
        ] {
            let (address, seen) = raw_endpoint(|_, stream, seen| serve_all(stream, seen)).await;
            let (upstreams, cluster) = (Upstreams::new(Identity::empty()), cluster(&[address], |_| {}));
            let mut request = request(method.clone(), body);
            if let Some(declared) = declared {
                request.headers.insert(CONTENT_LENGTH, HeaderValue::from_static(declared));
            }
            request.headers.insert("transfer-encoding", HeaderValue::from_static("gzip"));
            read_response(send(&upstreams, &cluster, request, NONE).await.unwrap()).await;
            let head = seen.requests.borrow()[0].clone();
            assert!(head.starts_with(&format!("{method} /path?query HTTP/1.1\r\n")), "{head}");
            assert!(head.contains(expected) && head.contains("host: a.com\r\n"), "{head}");
            let framed = head.matches("content-length").count() + head.matches("transfer-encoding").count();
            assert_eq!(framed, usize::from(expected != "\r\n\r\n"), "{head}");
        }
    });
}

#[test]
fn oversized_or_malformed_response_head_is_protocol_error() {
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
            let (address, _) = raw_endpoint(move |_, mut stream, seen| {
                let head = format!("HTTP/1.1 200 OK\r\n{headers}\r\n");
                async move {
                    read_head(&mut stream, &seen).await;
                    write(&mut stream, &head).await;
                    read_head(&mut stream, &seen).await;
                }
            })
            .await;
            let (upstreams, cluster) = (Upstreams::new(Identity::empty()), cluster(&[address], |_| {}));
            let failure = send(&upstreams, &cluster, get_request(), NONE).await.err().expect(&shown);
            assert!(matches!(failure.error, ProxyError::UpstreamProtocol(_)), "{shown} {failure:?}");
        }
    });
}

#[test]
fn http2_requests_share_connection_up_to_stream_limit() {
    on_worker(async {
        let (address, seen) = endpoint(UpstreamProtocol::Http2, hello).await;
        let (upstreams, cluster) =
            (Upstreams::new(Identity::empty()), cluster(&[address], |model| model.protocol = UpstreamProtocol::Http2));
        let mut responses = Vec::new();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..150 {
            let (upstreams, cluster) = (Rc::clone(&upstreams), std::sync::Arc::clone(&cluster));
            tasks.spawn_local(async move { send(&upstreams, &cluster, get_request(), NONE).await.ok().unwrap() });
        }
        while let Some(response) = tasks.join_next().await {
            responses.push(response.unwrap());
        }
        assert_eq!((seen.connections.get(), cluster.counts().in_flight), (2, 150));
        for response in responses {
            assert_eq!(read_response(response).await.1, "hello");
        }
        assert_eq!((seen.connections.get(), cluster.counts().in_flight), (2, 0));
        // A failed connection is one failed attempt for all requests that waited for it.
        let gone = unused_address().await;
        cluster.set_endpoints(&models(&[gone]));
        let failure = send(&upstreams, &cluster, get_request(), NONE).await.err().unwrap();
        assert!(matches!(failure.error, ProxyError::ConnectFailed(_)));
        wait_until(|| seen.closed.get() == 2).await;
    });
}

#[test]
fn trailers_are_forwarded_in_both_directions() {
    on_worker(async {
        for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
            let (address, _) = endpoint(protocol, echo).await;
            let (upstreams, cluster) =
                (Upstreams::new(Identity::empty()), cluster(&[address], |model| model.protocol = protocol));
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("3"));
            let mut request = request(Method::POST, chunks(vec![b"abc"], Some(trailers.clone())));
            request.headers.insert("trailer", HeaderValue::from_static("x-sum"));
            request.headers.insert("te", HeaderValue::from_static("trailers"));
            let response = send(&upstreams, &cluster, request, NONE).await.unwrap();
            let (_, body, echoed) = read_response(response).await;
            assert_eq!((&body[..], echoed), (&b"abc"[..], Some(trailers)), "{protocol:?}");
        }
    });
}

#[test]
fn every_lb_policy_reaches_every_endpoint() {
    on_worker(async {
        for balancing in [LbPolicy::RoundRobin, LbPolicy::LeastRequest, LbPolicy::Random] {
            let (one, seen) = endpoint(UpstreamProtocol::Http1, hello).await;
            let (two, others) = endpoint(UpstreamProtocol::Http1, hello).await;
            let (upstreams, cluster) =
                (Upstreams::new(Identity::empty()), cluster(&[one, two], |model| model.lb_policy = balancing));
            for _ in 0..40 {
                read_response(send(&upstreams, &cluster, get_request(), NONE).await.unwrap()).await;
            }
            let counts = (seen.requests(), others.requests());
            assert!(counts.0 + counts.1 == 40 && counts.0.min(counts.1) > 4, "{balancing:?} {counts:?}");
            assert!(balancing != LbPolicy::RoundRobin || counts == (20, 20), "{counts:?}");
        }
    });
}

#[test]
fn request_future_is_small() {
    on_worker(async {
        let (upstreams, cluster) = (Upstreams::new(Identity::empty()), cluster(&[], |_| {}));
        let size = size_of_val(&send(&upstreams, &cluster, get_request(), NONE));
        assert!(size <= 1_536, "{size} bytes for each request in flight");
    });
}
