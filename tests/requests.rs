//! What a request looks like on the other side: bodies, trailers, headers, connections, in both protocols.

use bytes::Bytes;
use harness::{Answer, Client, Codec, Origin, Proxy, Resources, empty, full, in_steps, read, with_trailers, within};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;

const COMBINATIONS: [(Codec, Codec); 4] = [
    (Codec::Http1, Codec::Http1),
    (Codec::Http1, Codec::Http2),
    (Codec::Http2, Codec::Http1),
    (Codec::Http2, Codec::Http2),
];

fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))])
}

/// A proxy in front of an origin that echoes, and a client.
async fn echo((downstream, upstream): (Codec, Codec)) -> (Origin, Proxy, Client) {
    let origin = Origin::echoes(upstream).await;
    let proxy = Proxy::start(&Resources::forward(upstream, origin.address())).await;
    let client = Client::speaking(downstream, proxy.address().await).await;
    (origin, proxy, client)
}

#[tokio::test]
async fn bodies_and_heads_pass_between_all_protocols() {
    for codecs in COMBINATIONS {
        let (origin, _proxy, mut client) = echo(codecs).await;
        let body: Bytes = (0..300_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>().into();
        let request = Request::put("/a/b?c=d").header("x-own", "1").header("content-type", "text/x");
        let answer = client.send(request.body(full(body.clone())).unwrap()).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/x")), "{codecs:?}");
        assert!(answer.body == body, "{codecs:?}: the body comes back as it was sent");
        let received = origin.last();
        assert_eq!((received.method, received.path.as_str()), (Method::PUT, "/a/b?c=d"));
        assert_eq!(received.headers["x-own"], "1");
        assert_eq!(received.headers["content-length"], body.len().to_string());
        assert_eq!(
            received.version,
            if codecs.1 == Codec::Http1 { http::Version::HTTP_11 } else { http::Version::HTTP_2 }
        );
    }
}

#[tokio::test]
async fn trailers_pass_between_all_protocols() {
    for codecs in COMBINATIONS {
        let (_origin, _proxy, mut client) = echo(codecs).await;
        let request = Request::post("/").header("te", "trailers").header("trailer", "x-sum");
        let answer = client.send(request.body(with_trailers("body", trailers("x-sum", "42"))).unwrap()).await;
        // Towards HTTP/1.1 a sender announces its trailers (RFC 9110 §6.6.2); the origin here announces nothing.
        let announced = codecs.0 == Codec::Http2 && codecs.1 == Codec::Http2;
        assert_eq!(answer.text(), "body", "{codecs:?}");
        assert!(!announced || answer.trailer("x-sum") == Some("42"), "{codecs:?}: {:?}", answer.trailers);
    }
}

#[tokio::test]
async fn announced_trailers_pass_over_http1() {
    for codecs in COMBINATIONS {
        let origin = Origin::start(codecs.1, |request| async move {
            let whole = request.into_body().collect().await.map_err(|_| harness::Broken)?;
            let sum = whole.trailers().and_then(|trailers| trailers.get("x-sum")).cloned();
            let sum = sum.unwrap_or(HeaderValue::from_static("none"));
            let trailers = HeaderMap::from_iter([(http::HeaderName::from_static("x-seen"), sum)]);
            let mut response = Response::new(with_trailers("answer", trailers));
            response.headers_mut().insert("trailer", HeaderValue::from_static("x-seen"));
            Ok(response)
        })
        .await;
        let proxy = Proxy::start(&Resources::forward(codecs.1, origin.address())).await;
        let mut client = Client::speaking(codecs.0, proxy.address().await).await;
        let request = Request::post("/").header("te", "trailers").header("trailer", "x-sum");
        let answer = client.send(request.body(with_trailers("body", trailers("x-sum", "42"))).unwrap()).await;
        assert_eq!((answer.text().as_str(), answer.trailer("x-seen")), ("answer", Some("42")), "{codecs:?}");
    }
}

#[tokio::test]
async fn both_directions_stream_at_once() {
    for codecs in COMBINATIONS {
        let (_origin, _proxy, mut client) = echo(codecs).await;
        let (sender, body) = in_steps();
        assert!(sender.data("first").await);
        // The answer begins while the request goes on.
        let response = client.begin(Request::post("/").body(body).unwrap()).await;
        let mut answer = response.into_body();
        let mut next = async || {
            let frame = within("a frame", answer.frame()).await.unwrap().unwrap();
            frame.into_data().unwrap()
        };
        assert_eq!(next().await, "first", "{codecs:?}");
        for step in ["second", "third"] {
            assert!(sender.data(step).await);
            assert_eq!(next().await, step, "{codecs:?}");
        }
        drop(sender);
        let rest = within("the end", answer.collect()).await.unwrap().to_bytes();
        assert!(rest.is_empty(), "{codecs:?}: {rest:?}");
    }
}

#[tokio::test]
async fn answers_without_a_body_have_none() {
    for codecs in COMBINATIONS {
        let origin = Origin::start(codecs.1, |request| async move {
            let status: u16 = request.uri().path()[1..].parse().unwrap_or(200);
            let body = if request.method() == Method::HEAD || status != 200 { empty() } else { full("four") };
            let mut response = Response::builder().status(status);
            if request.method() == Method::HEAD {
                response = response.header("content-length", "4");
            }
            Ok(response.header("etag", "\"1\"").body(body).unwrap())
        })
        .await;
        let proxy = Proxy::start(&Resources::forward(codecs.1, origin.address())).await;
        let mut client = Client::speaking(codecs.0, proxy.address().await).await;
        let head = client.send(Request::head("/").body(empty()).unwrap()).await;
        assert_eq!((head.status, head.header("content-length"), head.text().as_str()), (200, Some("4"), ""));
        for status in [204, 304] {
            let answer = client.get(&format!("/{status}")).await;
            assert_eq!((answer.status, answer.text().as_str()), (status, ""), "{codecs:?}");
            assert_eq!(answer.header("etag"), Some("\"1\""));
        }
        // The connection is still in step.
        assert_eq!(client.get("/200").await.text(), "four", "{codecs:?}");
    }
}

#[tokio::test]
async fn connections_are_kept_and_pooled() {
    for upstream in [Codec::Http1, Codec::Http2] {
        let (origin, proxy, mut client) = echo((Codec::Http1, upstream)).await;
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
        let (origin, _proxy, client) = echo((Codec::Http2, upstream)).await;
        let mut open = Vec::new();
        for index in 0..20 {
            let (sender, body) = in_steps();
            sender.data(format!("{index}")).await;
            let response = within("a head", client.concurrent(Request::post("/").body(body).unwrap())).await.unwrap();
            open.push((sender, response));
        }
        origin.wait_for(20).await;
        assert_eq!(origin.open_connections(), if upstream == Codec::Http1 { 20 } else { 1 });
        for (index, (sender, response)) in open.into_iter().enumerate() {
            drop(sender);
            assert_eq!(within("an answer", read(response)).await.unwrap().text(), index.to_string());
        }
    }
}

#[tokio::test]
async fn headers_for_one_hop_end_there() {
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
    let answer = proxy.client().await.send(request.body(empty()).unwrap()).await;
    let received = origin.last();
    for name in ["connection", "x-secret", "keep-alive", "proxy-connection", "x-weir-target"] {
        assert_eq!(received.header(name), None, "{name}");
    }
    assert_eq!((received.header("te"), received.header("x-end")), (Some("trailers"), Some("1")));
    for name in ["x-hop", "keep-alive"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    assert_eq!(answer.header("x-end"), Some("2"));
}

#[tokio::test]
async fn the_proxy_vouches_for_who_asked() {
    let origin = Origin::says("ok").await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut client = proxy.client().await;
    client.get("/").await;
    let first = origin.last();
    assert_eq!(first.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(first.header("x-forwarded-proto"), Some("http"));
    let id = first.header("x-request-id").unwrap().to_owned();
    assert_eq!(id.len(), 36);
    client.get("/again").await;
    assert_ne!(origin.last().header("x-request-id"), Some(id.as_str()), "each request has an id of its own");

    let request = Request::get("/known").header("x-request-id", "mine-1").header("x-forwarded-for", "203.0.113.9");
    let request = request.header("x-forwarded-proto", "https").body(empty()).unwrap();
    client.send(request).await;
    let known = origin.last();
    assert_eq!(known.header("x-request-id"), Some("mine-1"));
    assert_eq!(known.header("x-forwarded-for"), Some("203.0.113.9, 127.0.0.1"));
    assert_eq!(known.header("x-forwarded-proto"), Some("http"));
    assert_eq!(proxy.logged("/known").await["request_id"], "mine-1");
}

#[tokio::test]
async fn the_host_reaches_the_origin() {
    for codecs in COMBINATIONS {
        let (origin, _proxy, mut client) = echo(codecs).await;
        client.send(Request::get("/").header("host", "shop.example:8080").body(empty()).unwrap()).await;
        assert_eq!(origin.last().authority, "shop.example:8080", "{codecs:?}");
    }
}

#[tokio::test]
async fn headers_keep_their_bytes_and_their_order() {
    let (origin, _proxy, mut client) = echo((Codec::Http1, Codec::Http1)).await;
    let odd = HeaderValue::from_bytes(b"caf\xe9 \t;,\"").unwrap();
    let request = Request::get("/").header("x-odd", odd.clone()).header("x-many", "1").header("x-many", "2");
    client.send(request.header("x-empty", "").body(empty()).unwrap()).await;
    let received = origin.last();
    assert_eq!(received.headers["x-odd"], odd);
    assert_eq!(received.headers.get_all("x-many").iter().collect::<Vec<_>>(), ["1", "2"]);
    assert_eq!(received.headers["x-empty"], "");
}

#[tokio::test]
async fn the_access_log_tells_what_happened() {
    let origin = Origin::says("hello").await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut client = proxy.client().await;
    let answer: Answer = client.post("/logged?q=1", "body").await;
    assert_eq!(answer.status, 200);
    let line = proxy.logged("/logged?q=1").await;
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
