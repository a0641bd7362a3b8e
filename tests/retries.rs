//! Retries of HTTPRoutes, and retry budgets of BackendTrafficPolicies.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use harness::{Body, BodyError, Client, Codec, Origin, Proxy, RawOrigin, Resources, full, own_address};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::Instant;

async fn read_whole(request: Request<Incoming>) -> Result<Bytes, BodyError> {
    Ok(request.into_body().collect().await.map_err(|_| BodyError)?.to_bytes())
}

/// Starts an origin that never responds.
async fn hanging_origin() -> Origin {
    Origin::start(Codec::Http1, |_| std::future::pending::<Result<Response<Body>, BodyError>>()).await
}

/// Starts an origin that reads each request and responds with a status, and with the bytes of its body.
async fn origin(codec: Codec, status: StatusCode) -> Origin {
    Origin::start(codec, move |request| async move {
        let body = read_whole(request).await?;
        let mut response = Response::new(full(body));
        *response.status_mut() = status;
        Ok(response)
    })
    .await
}

/// Starts an origin that responds with 503 and `retry-after` to its first request, then with 200.
async fn busy_once(retry_after: &'static str) -> Origin {
    let count = Arc::new(AtomicUsize::new(0));
    Origin::start(Codec::Http1, move |request| {
        let is_first = count.fetch_add(1, Ordering::AcqRel) == 0;
        async move {
            read_whole(request).await?;
            let mut response = Response::new(full("done"));
            if is_first {
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                response.headers_mut().insert("retry-after", http::HeaderValue::from_static(retry_after));
            }
            Ok(response)
        }
    })
    .await
}

/// Starts a proxy with a route of these fields to a Service with these endpoints, one worker, and more resources.
async fn proxy_with(codec: Codec, endpoints: &[SocketAddr], fields: &str, more: &str) -> Proxy {
    let resources = match codec {
        Codec::Http1 => Resources::new().service("web", endpoints),
        Codec::Http2 => Resources::new().http2_service("web", endpoints),
    };
    let rule = format!("rules: [{{{fields}, backendRefs: [{{name: web, port: 80}}]}}]");
    Proxy::start(&resources.route("web", &rule).yaml(more)).await
}

async fn send(proxy: &Proxy, method: Method, path: &str, body: impl Into<Bytes>) -> harness::ClientResponse {
    let request = Request::builder().method(method).uri(path).header("host", "a").body(full(body)).unwrap();
    Client::http1(proxy.address().await).await.send(request).await
}

#[tokio::test]
async fn status_is_retried_at_another_endpoint() {
    for codec in [Codec::Http1, Codec::Http2] {
        let (bad, good) = (origin(codec, StatusCode::SERVICE_UNAVAILABLE).await, origin(codec, StatusCode::OK).await);
        let endpoints = [bad.address(), good.address()];
        let proxy = proxy_with(codec, &endpoints, "retry: {attempts: 1, codes: [502, 503]}", "").await;
        for index in 0..8 {
            let response = send(&proxy, Method::PUT, &format!("/{index}"), format!("body {index}")).await;
            assert_eq!((response.status, response.text()), (200, format!("body {index}")), "{codec:?}");
        }
        assert_eq!(good.count(), 8, "{codec:?}");
        let tried = bad.received();
        assert!(!tried.is_empty(), "no request went to the failing endpoint first");
        let line = proxy.access_log_for(&tried[0].path).await;
        let failed = json!([{"endpoint": bad.address().to_string(), "status": 503}]);
        assert_eq!((&line["attempts"], &line["failed_attempts"]), (&json!(2), &failed), "{line}");
        assert_eq!(line["endpoint"], good.address().to_string(), "{line}");
        let name = "weir_upstream_retries_total{cluster=\"default/web:80\"}";
        assert_eq!(proxy.metric(name).await, f64::from(u32::try_from(tried.len()).unwrap()));
        assert!(
            bad.connections() <= 2,
            "a response that is not used leaves its connection in use: {}",
            bad.connections()
        );
    }
}

#[tokio::test]
async fn post_is_sent_once_unless_its_match_names_the_method() {
    let (bad, good) = (origin(Codec::Http1, StatusCode::BAD_GATEWAY).await, origin(Codec::Http1, StatusCode::OK).await);
    let endpoints = [bad.address(), good.address()];
    let fields = "retry: {attempts: 3, codes: [502]}";
    let proxy = proxy_with(Codec::Http1, &endpoints, fields, "").await;
    let mut failed = 0;
    for index in 0..8 {
        let response = send(&proxy, Method::POST, &format!("/{index}"), "pay").await;
        failed += usize::from(response.status == 502);
    }
    assert_eq!((bad.count(), good.count()), (failed, 8 - failed), "each request reaches one endpoint");
    assert!(failed > 0);
    let named = format!("matches: [{{path: {{value: /}}, method: POST}}], {fields}");
    let proxy = proxy_with(Codec::Http1, &endpoints, &named, "").await;
    let before = bad.count();
    for index in 0..8 {
        let response = send(&proxy, Method::POST, &format!("/{index}"), format!("pay {index}")).await;
        assert_eq!((response.status, response.text()), (200, format!("pay {index}")));
    }
    assert!(bad.count() > before);
}

#[tokio::test]
async fn body_beyond_the_bound_is_not_sent_again() {
    for codec in [Codec::Http1, Codec::Http2] {
        let bad = origin(codec, StatusCode::SERVICE_UNAVAILABLE).await;
        let proxy = proxy_with(codec, &[bad.address()], "retry: {attempts: 2, codes: [503]}", "").await;
        for (length, attempts) in [(60 << 10, 3), (200 << 10, 1)] {
            let before = bad.count();
            let response = send(&proxy, Method::PUT, "/", vec![b'x'; length]).await;
            assert_eq!((response.status, response.body.len()), (503, length), "{codec:?}");
            assert_eq!(bad.count() - before, attempts, "{codec:?}, {length} bytes");
        }
    }
}

#[tokio::test]
async fn attempt_without_response_is_retried() {
    let closing = RawOrigin::start(|mut wire| async move {
        drop(wire.try_head().await); // Closes after the request.
    })
    .await;
    let hanging = hanging_origin().await;
    let good = origin(Codec::Http1, StatusCode::OK).await;
    let timeout = "timeouts: {request: 10s, backendRequest: 300ms}, retry: {attempts: 1}";
    for (endpoint, error) in [(closing.address(), "upstream_reset"), (hanging.address(), "attempt_timeout")] {
        let proxy = proxy_with(Codec::Http1, &[endpoint, good.address()], timeout, "").await;
        let mut retried = 0;
        for index in 0..4 {
            let path = format!("/{index}");
            assert_eq!(send(&proxy, Method::GET, &path, "").await.status, 200, "{error}");
            let line = proxy.access_log_for(&path).await;
            if line["attempts"] == 2 {
                retried += 1;
                assert_eq!(line["failed_attempts"], json!([{"endpoint": endpoint.to_string(), "error": error}]));
            }
        }
        assert!(retried > 0, "{error}");
        // A request on which the endpoint may have acted.
        let mut statuses = Vec::new();
        for index in 0..4 {
            statuses.push(send(&proxy, Method::POST, &format!("/post/{index}"), "x").await.status);
        }
        assert!(statuses.iter().any(|status| *status >= 500), "{error}: {statuses:?}");
    }
}

#[tokio::test]
async fn response_that_has_begun_is_not_retried() {
    let breaking = RawOrigin::start(|mut wire| async move {
        if wire.try_head().await.is_some() {
            wire.try_send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart").await;
        }
    })
    .await;
    let good = origin(Codec::Http1, StatusCode::OK).await;
    let endpoints = [breaking.address(), good.address()];
    let proxy = proxy_with(Codec::Http1, &endpoints, "retry: {attempts: 3, codes: [503]}", "").await;
    let mut broken = 0;
    for index in 0..4 {
        let request = Request::get(format!("/{index}")).header("host", "a").body(harness::empty()).unwrap();
        let mut client = Client::http1(proxy.address().await).await;
        let response = client.try_send(request).await.unwrap();
        assert_eq!(response.status(), 200);
        broken += usize::from(harness::read(response).await.is_err());
        let line = proxy.access_log_for(&format!("/{index}")).await;
        assert_eq!((&line["attempts"], &line["failed_attempts"]), (&json!(1), &Value::Null), "{line}");
    }
    assert_eq!((broken, good.count()), (2, 2), "round robin");
}

#[tokio::test]
async fn backoff_and_retry_after_delay_a_retry() {
    let fields = "retry: {attempts: 1, backoff: 400ms, codes: [503]}";
    for (retry_after, status, shortest) in [("x", 200, 400), ("2", 200, 2_000), ("60", 503, 0)] {
        let origin = busy_once(retry_after).await;
        let proxy = proxy_with(Codec::Http1, &[origin.address()], fields, "").await;
        let started = Instant::now();
        assert_eq!(send(&proxy, Method::GET, "/", "").await.status, status, "retry-after: {retry_after}");
        let elapsed = started.elapsed();
        assert!(elapsed >= Duration::from_millis(shortest), "{retry_after}: {elapsed:?}");
        assert_eq!(origin.count(), if status == 200 { 2 } else { 1 });
    }
}

#[tokio::test]
async fn request_timeout_bounds_all_attempts() {
    let hanging = hanging_origin().await;
    let fields = "timeouts: {request: 1s, backendRequest: 300ms}, retry: {attempts: 10}";
    let proxy = proxy_with(Codec::Http1, &[hanging.address()], fields, "").await;
    assert_eq!(send(&proxy, Method::GET, "/late", "").await.status, 504);
    let line = proxy.access_log_for("/late").await;
    assert_eq!(line["response_code_details"], "request_timeout", "{line}");
    assert!((2..=4).contains(&hanging.count()), "{}", hanging.count());
    let name = "weir_upstream_retries_total{cluster=\"default/web:80\"}";
    let retries = u32::try_from(hanging.count()).unwrap() - 1;
    assert!(proxy.metric(name).await >= f64::from(retries), "retries of a request that was canceled");
}

#[tokio::test]
async fn budget_bounds_retries_of_failing_endpoints() {
    let bad = origin(Codec::Http1, StatusCode::SERVICE_UNAVAILABLE).await;
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: web}\nspec: {targetRefs: \
                  [{kind: Service, name: web}], retryConstraint: {budget: {percent: 20, interval: 1h}, minRetryRate: \
                  {count: 0}}}\n";
    let fields = "retry: {attempts: 3, backoff: 1ms, codes: [503]}";
    let proxy = proxy_with(Codec::Http1, &[bad.address()], fields, policy).await;
    let mut client = proxy.client().await;
    for _ in 0..200 {
        assert_eq!(client.get("/").await.status, 503);
    }
    assert_eq!(bad.count(), 240, "200 requests and 20 of 100 retries");
    let name = "weir_upstream_retries_over_budget_total{cluster=\"default/web:80\"}";
    assert!(proxy.metric(name).await > 100.0);
}

#[tokio::test]
async fn unreachable_endpoint_is_tried_again_after_the_backoff_within_the_budget() {
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: web}\nspec: {targetRefs: \
                  [{kind: Service, name: web}], retryConstraint: {budget: {percent: 100, interval: 1h}, minRetryRate: \
                  {count: 0}}}\n";
    let fields = "retry: {attempts: 5, backoff: 300ms}";
    let proxy = proxy_with(Codec::Http1, &[own_address()], fields, policy).await;
    let started = Instant::now();
    assert_eq!(send(&proxy, Method::GET, "/get", "").await.status, 503);
    assert!(started.elapsed() >= Duration::from_millis(300), "{:?}", started.elapsed());
    let line = proxy.access_log_for("/get").await;
    assert_eq!((&line["attempts"], line["failed_attempts"].as_array().map(Vec::len)), (&json!(2), Some(1)), "{line}");
    assert_eq!(send(&proxy, Method::POST, "/post", "x").await.status, 503);
    let line = proxy.access_log_for("/post").await;
    assert_eq!((&line["attempts"], &line["failed_attempts"]), (&json!(1), &Value::Null), "{line}");
}

#[tokio::test]
async fn mirror_gets_one_copy_of_a_retried_request() {
    let (bad, good) =
        (origin(Codec::Http1, StatusCode::SERVICE_UNAVAILABLE).await, origin(Codec::Http1, StatusCode::OK).await);
    let copies = origin(Codec::Http1, StatusCode::OK).await;
    let service = format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: copies}}\nspec: {{ports: [{{port: 80}}], \
         endpoints: [{{address: \"{}\"}}]}}\n",
        copies.address()
    );
    let fields = "filters: [{type: RequestMirror, requestMirror: {backendRef: {name: copies, port: 80}}}], retry: \
                  {attempts: 2, codes: [503]}";
    let proxy = proxy_with(Codec::Http1, &[bad.address(), good.address()], fields, &service).await;
    for index in 0..6 {
        let response = send(&proxy, Method::PUT, &format!("/{index}"), "body").await;
        assert_eq!((response.status, response.text()), (200, "body".to_owned()));
    }
    copies.wait_for(6).await;
    assert_eq!((good.count(), copies.count()), (6, 6));
    assert!(bad.count() > 0);
}

#[tokio::test]
async fn upgrade_is_retried_until_an_endpoint_switches() {
    const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                          sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
    let bad = origin(Codec::Http1, StatusCode::SERVICE_UNAVAILABLE).await;
    let echo = RawOrigin::start(|mut wire| async move {
        if wire.try_head().await.is_some() && wire.try_send(SWITCH.as_bytes()).await {
            let Some(bytes) = wire.try_exactly(200_000).await else { return };
            wire.try_send(&bytes).await;
        }
    })
    .await;
    let fields = "retry: {attempts: 1, codes: [503]}";
    let proxy = proxy_with(Codec::Http1, &[bad.address(), echo.address()], fields, "").await;
    for _ in 0..4 {
        let mut wire = harness::RawConnection::connect(proxy.address().await).await;
        wire.send(
            "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: \
             13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .await;
        let head = wire.head().await;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let bytes = vec![7; 200_000]; // More than is retained for a retry.
        wire.send(&bytes).await;
        assert_eq!(wire.exactly(bytes.len()).await, bytes);
    }
    assert!(bad.count() > 0);
}
