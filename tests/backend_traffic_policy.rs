//! BackendTrafficPolicies: bounds of responses, and the number, the idle time and the age of connections to endpoints.

use std::net::SocketAddr;

use harness::{Client, Codec, Origin, Proxy, RawConnection, RawOrigin, Resources, Silenced, full, wait_until};
use http::Response;
use serde_json::Value;

/// Returns a BackendTrafficPolicy of a Service; `fields` are more fields of its `spec`, as YAML in flow style.
fn policy(service: &str, fields: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: {service}}}\nspec: \
         {{targetRefs: [{{kind: Service, name: {service}}}], {fields}}}\n"
    )
}

/// Starts a proxy that forwards everything to `origin`, with a policy of its Service.
async fn proxy_with(codec: Codec, origin: SocketAddr, fields: &str) -> Proxy {
    Proxy::start(&Resources::forward(codec, origin).yaml(&policy("origin", fields))).await
}

/// Starts an origin whose responses have a header of as many bytes as the path's first number, and as many more headers
/// as its second.
async fn sized_origin() -> RawOrigin {
    RawOrigin::start(|mut wire| async move {
        while let Some(head) = wire.try_head().await {
            let path = head.split(' ').nth(1).unwrap_or_default();
            let numbers: Vec<usize> = path.split('/').filter_map(|part| part.parse().ok()).collect();
            let &[bytes, headers] = &numbers[..] else { return };
            let many: String = (0..headers).map(|index| format!("x-many-{index}: 1\r\n")).collect();
            let response =
                format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-long: {}\r\n{many}\r\nok", "x".repeat(bytes));
            if !wire.try_send(response.as_bytes()).await {
                return;
            }
        }
    })
    .await
}

/// Sends a request on a new connection, and returns the head of its response.
async fn response_head(proxy: &Proxy, path: &str) -> String {
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send(format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n")).await;
    wire.response().await.0
}

async fn assert_protocol_error(proxy: &Proxy, path: &str) {
    let head = response_head(proxy, path).await;
    assert!(head.starts_with("HTTP/1.1 502 "), "{path}: {}", &head[..head.len().min(200)]);
    let line = proxy.access_log_for(path).await;
    let logged = (&line["response_code_details"], &line["who_failed"]);
    assert_eq!(logged, (&Value::from("upstream_protocol_error"), &Value::from("Upstream")), "{line}");
}

async fn assert_passes(proxy: &Proxy, path: &str) {
    let head = response_head(proxy, path).await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{path}: {}", &head[..head.len().min(200)]);
    let numbers: Vec<usize> = path.split('/').filter_map(|part| part.parse().ok()).collect();
    let count = head.lines().filter(|line| line.starts_with("x-many-")).count();
    let long = head.lines().find_map(|line| line.strip_prefix("x-long: ")).map(str::len);
    assert_eq!((long, count), (Some(numbers[0]), numbers[1]), "{path}");
}

#[tokio::test]
async fn response_head_above_max_head_bytes_is_502() {
    let origin = sized_origin().await;
    let proxy = proxy_with(Codec::Http1, origin.address(), "http1: {maxHeadBytes: 4Ki}").await;
    assert_passes(&proxy, "/3500/0").await;
    assert_protocol_error(&proxy, "/5000/0").await;
    assert_passes(&proxy, "/3500/0").await;
}

#[tokio::test]
async fn response_head_below_larger_max_head_bytes_passes() {
    let origin = sized_origin().await;
    let proxy = proxy_with(Codec::Http1, origin.address(), "http1: {maxHeadBytes: 128Ki}").await;
    assert_passes(&proxy, "/100000/0").await; // Above the default bound.
    assert_protocol_error(&proxy, "/140000/0").await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    assert_protocol_error(&proxy, "/100000/0").await;
}

#[tokio::test]
async fn response_headers_above_max_headers_are_502() {
    let origin = sized_origin().await;
    let proxy = proxy_with(Codec::Http1, origin.address(), "http1: {maxHeaders: 10}").await;
    assert_passes(&proxy, "/1/8").await; // `content-length` and `x-long` are two of ten.
    assert_protocol_error(&proxy, "/1/9").await;
    let proxy = proxy_with(Codec::Http1, origin.address(), "http1: {maxHeaders: 200}").await;
    assert_passes(&proxy, "/1/150").await; // Above the default bound.
    assert_protocol_error(&proxy, "/1/199").await;
}

#[tokio::test]
async fn response_of_http2_endpoint_has_same_bounds() {
    let origin = Origin::start(Codec::Http2, |request| async move {
        let numbers: Vec<usize> = request.uri().path().split('/').filter_map(|part| part.parse().ok()).collect();
        let mut response = Response::builder().header("x-long", "x".repeat(numbers[0]));
        for index in 0..numbers[1] {
            response = response.header(format!("x-many-{index}"), "1");
        }
        Ok(response.body(full("ok")).unwrap())
    })
    .await;
    let bounds = "http1: {maxHeadBytes: 4Ki, maxHeaders: 10}";
    let proxy = proxy_with(Codec::Http2, origin.address(), bounds).await;
    assert_passes(&proxy, "/3000/0").await;
    assert_protocol_error(&proxy, "/1/20").await;
    // The HTTP/2 codec resets a stream whose headers are too large.
    let head = response_head(&proxy, "/5000/0").await;
    assert!(head.starts_with("HTTP/1.1 502 ") || head.starts_with("HTTP/1.1 503 "), "{head}");
    assert_eq!(proxy.access_log_for("/5000/0").await["who_failed"], "Upstream");
    assert_passes(&proxy, "/1/5").await;
}

#[tokio::test]
async fn connection_to_endpoint_serves_max_requests() {
    for codec in [Codec::Http1, Codec::Http2] {
        let origin = Origin::echo(codec).await;
        let proxy = proxy_with(codec, origin.address(), "http1: {maxRequestsPerConnection: 3}").await;
        let mut client = proxy.client().await;
        for _ in 0..9 {
            assert_eq!(client.post("/", "body").await.text(), "body", "{codec:?}");
        }
        assert_eq!((origin.connections(), origin.count()), (3, 9), "{codec:?}");
        let closed = async || (origin.open_connections() <= 1).then_some(());
        wait_until(&format!("{codec:?} connections with their last request to close"), closed).await;
    }
}

#[tokio::test]
async fn connection_to_endpoint_closes_after_connection_idle_timeout() {
    for codec in [Codec::Http1, Codec::Http2] {
        let (short, default) = (Origin::echo(codec).await, Origin::echo(codec).await);
        let service = |resources: Resources, name: &str, origin: &Origin| match codec {
            Codec::Http1 => resources.service(name, &[origin.address()]),
            Codec::Http2 => resources.http2_service(name, &[origin.address()]),
        };
        let route = "rules: [{matches: [{path: {value: /short}}], backendRefs: [{name: short, port: 80}]}, \
                     {backendRefs: [{name: default, port: 80}]}]";
        let resources = service(service(Resources::new(), "short", &short), "default", &default);
        let policy = policy("short", "timeouts: {connectionIdle: 500ms}");
        let proxy = Proxy::start(&resources.route("both", route).yaml(&policy)).await;
        let mut client = proxy.client().await;
        for path in ["/short", "/default"] {
            assert_eq!(client.post(path, "body").await.text(), "body");
        }
        assert_eq!((short.open_connections(), default.open_connections()), (1, 1), "{codec:?}");
        wait_until("the idle connection to close", async || (short.open_connections() == 0).then_some(())).await;
        assert_eq!(default.open_connections(), 1, "{codec:?}: the default is longer");
        assert_eq!(client.post("/short", "again").await.text(), "again", "{codec:?}");
    }
}

#[tokio::test]
async fn connection_to_endpoint_is_replaced_at_connection_age() {
    for codec in [Codec::Http1, Codec::Http2] {
        let origin = Origin::echo(codec).await;
        let proxy = proxy_with(codec, origin.address(), "timeouts: {connectionAge: 500ms}").await;
        let mut client = Client::http1(proxy.address().await).await;
        // Never idle: only its age ends a connection.
        wait_until("two more connections", async || {
            assert_eq!(client.post("/", "body").await.text(), "body", "{codec:?}");
            (origin.connections() >= 3).then_some(())
        })
        .await;
        wait_until("the old ones to close", async || (origin.open_connections() <= 1).then_some(())).await;
        let failed = proxy.access_log().into_iter().find(|line| line["outcome"] != "ok");
        assert_eq!(failed, None, "{codec:?}");
    }
}

/// Without a timeout of requests only the kernel's probes notice that an endpoint has vanished.
#[cfg_attr(not(feature = "tools"), ignore = "needs iptables")]
#[tokio::test]
async fn vanished_endpoint_is_noticed_by_tcp_keepalive() {
    let (arrived, mut arrivals) = tokio::sync::mpsc::channel(1);
    let origin = RawOrigin::start(move |mut wire| {
        let arrived = arrived.clone();
        async move {
            wire.head().await;
            arrived.send(()).await.unwrap();
            std::future::pending::<()>().await;
        }
    })
    .await;
    let policy = policy("origin", "tcpKeepalive: {idleTime: 1s, interval: 1s, probes: 2}, timeouts: {request: 0s}");
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).yaml(&policy)).await;
    let vanishing = async {
        arrivals.recv().await.unwrap();
        Silenced::new(origin.address())
    };
    let (response, _silenced) = tokio::join!(proxy.get("/"), vanishing);
    assert_eq!(response.status, 503, "{}", response.text());
    let line = proxy.access_log_for("/").await;
    assert_eq!(line["response_code_details"], "upstream_reset", "{line}");
}
