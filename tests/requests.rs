//! Requests and responses in both protocols: bodies, trailers, headers, connections.

use bytes::Bytes;
use harness::{
    Client, ClientResponse, Codec, Origin, Proxy, Resources, body_channel, empty, full, read, with_deadline,
    with_trailers,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;

/// The protocols of the downstream and of the upstream.
#[derive(Debug, Clone, Copy)]
struct Codecs {
    downstream: Codec,
    upstream: Codec,
}

const COMBINATIONS: [Codecs; 4] = [
    Codecs { downstream: Codec::Http1, upstream: Codec::Http1 },
    Codecs { downstream: Codec::Http1, upstream: Codec::Http2 },
    Codecs { downstream: Codec::Http2, upstream: Codec::Http1 },
    Codecs { downstream: Codec::Http2, upstream: Codec::Http2 },
];

fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))])
}

/// Starts an origin that echoes, a proxy in front of it, and a client.
async fn echo(codecs: Codecs) -> (Origin, Proxy, Client) {
    let origin = Origin::echo(codecs.upstream).await;
    let proxy = Proxy::start(&Resources::forward(codecs.upstream, origin.address())).await;
    let client = Client::connect(codecs.downstream, proxy.address().await).await;
    (origin, proxy, client)
}

#[tokio::test]
async fn headers_and_bodies_pass_between_protocols() {
    for codecs in COMBINATIONS {
        let (origin, _proxy, mut client) = echo(codecs).await;
        let body: Bytes = (0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into();
        let request = Request::put("/a/b?c=d").header("x-own", "1").header("content-type", "text/x");
        let response = client.send(request.body(full(body.clone())).unwrap()).await;
        assert_eq!((response.status, response.header("content-type")), (200, Some("text/x")), "{codecs:?}");
        assert!(response.body == body, "{codecs:?}: the body is unchanged");
        let received = origin.last();
        assert_eq!((received.method, received.path.as_str()), (Method::PUT, "/a/b?c=d"));
        assert_eq!(received.headers["x-own"], "1");
        assert_eq!(received.headers["content-length"], body.len().to_string());
        assert_eq!(
            received.version,
            if codecs.upstream == Codec::Http1 { http::Version::HTTP_11 } else { http::Version::HTTP_2 }
        );
    }
}

#[tokio::test]
async fn http2_trailers_pass_to_http2() {
    for codecs in COMBINATIONS {
        let (_origin, _proxy, mut client) = echo(codecs).await;
        let request = Request::post("/").header("te", "trailers").header("trailer", "x-sum");
        let response = client.send(request.body(with_trailers("body", trailers("x-sum", "42"))).unwrap()).await;
        // HTTP/1.1 needs announced trailers (RFC 9110 §6.6.2), and the origin announces none.
        let announced = codecs.downstream == Codec::Http2 && codecs.upstream == Codec::Http2;
        assert_eq!(response.text(), "body", "{codecs:?}");
        assert!(!announced || response.trailer("x-sum") == Some("42"), "{codecs:?}: {:?}", response.trailers);
    }
}

#[tokio::test]
async fn announced_trailers_pass_between_protocols() {
    for codecs in COMBINATIONS {
        let origin = Origin::start(codecs.upstream, |request| async move {
            let whole = request.into_body().collect().await.map_err(|_| harness::BodyError)?;
            let sum = whole.trailers().and_then(|trailers| trailers.get("x-sum")).cloned();
            let sum = sum.unwrap_or(HeaderValue::from_static("none"));
            let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("x-seen"), sum)]);
            let mut response = Response::new(with_trailers("response", trailers));
            response.headers_mut().insert("trailer", HeaderValue::from_static("x-seen"));
            Ok(response)
        })
        .await;
        let proxy = Proxy::start(&Resources::forward(codecs.upstream, origin.address())).await;
        let mut client = Client::connect(codecs.downstream, proxy.address().await).await;
        let request = Request::post("/").header("te", "trailers").header("trailer", "x-sum");
        let response = client.send(request.body(with_trailers("body", trailers("x-sum", "42"))).unwrap()).await;
        assert_eq!((response.text().as_str(), response.trailer("x-seen")), ("response", Some("42")), "{codecs:?}");
    }
}

#[tokio::test]
async fn both_directions_stream_at_once() {
    for codecs in COMBINATIONS {
        let (_origin, _proxy, mut client) = echo(codecs).await;
        let (sender, body) = body_channel();
        assert!(sender.data("first").await);
        // The response starts before the request is complete.
        let response = client.send_head(Request::post("/").body(body).unwrap()).await;
        let mut response = response.into_body();
        let mut next = async || {
            let frame = with_deadline("a frame", response.frame()).await.unwrap().unwrap();
            frame.into_data().unwrap()
        };
        assert_eq!(next().await, "first", "{codecs:?}");
        for step in ["second", "third"] {
            assert!(sender.data(step).await);
            assert_eq!(next().await, step, "{codecs:?}");
        }
        drop(sender);
        let rest = with_deadline("the end", response.collect()).await.unwrap().to_bytes();
        assert!(rest.is_empty(), "{codecs:?}: {rest:?}");
    }
}

#[tokio::test]
async fn responses_without_body_stay_in_step() {
    for codecs in COMBINATIONS {
        let origin = Origin::start(codecs.upstream, |request| async move {
            let status: u16 = request.uri().path()[1..].parse().unwrap_or(200);
            let body = if request.method() == Method::HEAD || status != 200 { empty() } else { full("four") };
            let mut response = Response::builder().status(status);
            if request.method() == Method::HEAD {
                response = response.header("content-length", "4");
            }
            Ok(response.header("etag", "\"1\"").body(body).unwrap())
        })
        .await;
        let proxy = Proxy::start(&Resources::forward(codecs.upstream, origin.address())).await;
        let mut client = Client::connect(codecs.downstream, proxy.address().await).await;
        let head = client.send(Request::head("/").body(empty()).unwrap()).await;
        assert_eq!((head.status, head.header("content-length"), head.text().as_str()), (200, Some("4"), ""));
        for status in [204, 304] {
            let response = client.get(&format!("/{status}")).await;
            assert_eq!((response.status, response.text().as_str()), (status, ""), "{codecs:?}");
            assert_eq!(response.header("etag"), Some("\"1\""));
        }
        // The connection is still usable.
        assert_eq!(client.get("/200").await.text(), "four", "{codecs:?}");
    }
}

#[tokio::test]
async fn upstream_connections_are_pooled() {
    for upstream in [Codec::Http1, Codec::Http2] {
        let (origin, proxy, mut client) = echo(Codecs { downstream: Codec::Http1, upstream }).await;
        for _ in 0..10 {
            assert_eq!(client.post("/", "x").await.text(), "x");
        }
        for _ in 0..10 {
            assert_eq!(proxy.client().await.post("/", "y").await.text(), "y");
        }
        assert_eq!((origin.connections(), origin.count()), (1, 20), "{upstream:?}");
    }
}

#[tokio::test]
async fn http2_streams_share_a_connection() {
    for upstream in [Codec::Http1, Codec::Http2] {
        let (origin, _proxy, client) = echo(Codecs { downstream: Codec::Http2, upstream }).await;
        let mut open = Vec::new();
        for index in 0..20 {
            let (sender, body) = body_channel();
            sender.data(format!("{index}")).await;
            let response =
                with_deadline("a head", client.concurrent(Request::post("/").body(body).unwrap())).await.unwrap();
            open.push((sender, response));
        }
        origin.wait_for(20).await;
        assert_eq!(origin.open_connections(), if upstream == Codec::Http1 { 20 } else { 1 });
        for (index, (sender, response)) in open.into_iter().enumerate() {
            drop(sender);
            assert_eq!(with_deadline("a response", read(response)).await.unwrap().text(), index.to_string());
        }
    }
}

#[tokio::test]
async fn hop_by_hop_headers_are_removed() {
    let origin = Origin::start(Codec::Http1, |_| async {
        let response = Response::builder().header("connection", "x-hop").header("x-hop", "1").header("x-end", "2");
        Ok(response.header("keep-alive", "timeout=5").body(full("ok")).unwrap())
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let request = Request::get("/")
        .header("connection", "keep-alive, x-secret")
        .header("x-secret", "1")
        .header("keep-alive", "5")
        .header("proxy-connection", "keep-alive")
        .header("te", "gzip, trailers")
        .header("x-weir-target", "me")
        .header("x-end", "1");
    let response = proxy.client().await.send(request.body(empty()).unwrap()).await;
    let received = origin.last();
    for name in ["x-secret", "keep-alive", "proxy-connection", "x-weir-target"] {
        assert_eq!(received.header(name), None, "{name}");
    }
    assert_eq!((received.header("connection"), received.header("te")), (Some("te"), Some("trailers")));
    assert_eq!(received.header("x-end"), Some("1"));
    for name in ["x-hop", "keep-alive"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    assert_eq!(response.header("x-end"), Some("2"));
}

#[tokio::test]
async fn forwarding_headers_describe_downstream() {
    let origin = Origin::text("ok").await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut client = proxy.client().await;
    client.get("/").await;
    let first = origin.last();
    assert_eq!(first.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(first.header("x-forwarded-proto"), Some("http"));
    let id = first.header("x-request-id").unwrap().to_owned();
    assert_eq!(id.len(), 36);
    client.get("/again").await;
    assert_ne!(origin.last().header("x-request-id"), Some(id.as_str()), "each request has its own id");

    let request = Request::get("/known").header("x-request-id", "mine-1").header("x-forwarded-for", "203.0.113.9");
    let request = request.header("x-forwarded-proto", "https").body(empty()).unwrap();
    client.send(request).await;
    let known = origin.last();
    assert_eq!(known.header("x-request-id"), Some("mine-1"));
    assert_eq!(known.header("x-forwarded-for"), Some("203.0.113.9, 127.0.0.1"));
    assert_eq!(known.header("x-forwarded-proto"), Some("http"));
    assert_eq!(proxy.access_log_for("/known").await["request_id"], "mine-1");
}

#[tokio::test]
async fn host_reaches_upstream() {
    for codecs in COMBINATIONS {
        let (origin, _proxy, mut client) = echo(codecs).await;
        client.send(Request::get("/").header("host", "shop.example:8080").body(empty()).unwrap()).await;
        assert_eq!(origin.last().authority, "shop.example:8080", "{codecs:?}");
    }
}

#[tokio::test]
async fn headers_preserve_bytes_and_order() {
    let (origin, _proxy, mut client) = echo(Codecs { downstream: Codec::Http1, upstream: Codec::Http1 }).await;
    let odd = HeaderValue::from_bytes(b"caf\xe9 \t;,\"").unwrap();
    let request = Request::get("/").header("x-odd", odd.clone()).header("x-many", "1").header("x-many", "2");
    client.send(request.header("x-empty", "").body(empty()).unwrap()).await;
    let received = origin.last();
    assert_eq!(received.headers["x-odd"], odd);
    assert_eq!(received.headers.get_all("x-many").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(received.headers["x-empty"], "");
}

#[tokio::test]
async fn access_log_line_describes_request() {
    let origin = Origin::text("hello").await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut client = proxy.client().await;
    let response: ClientResponse = client.post("/logged?q=1", "body").await;
    assert_eq!(response.status, 200);
    let line = proxy.access_log_for("/logged?q=1").await;
    for (key, expected) in [
        ("listener", "default/edge/http"),
        ("method", "POST"),
        ("protocol", "HTTP/1.1"),
        ("route", "default/everything/0/0"),
        ("cluster", "default/origin:80"),
        ("outcome", "ok"),
    ] {
        assert_eq!(line[key], expected, "{key} in {line}");
    }
    assert_eq!((&line["status"], &line["bytes_in"], &line["bytes_out"]), (&200.into(), &4.into(), &5.into()));
    assert_eq!(line["endpoint"], origin.address().to_string());
    assert_eq!(line["attempts"], 1);
}
