//! Filters that edit requests and responses: headers, bodies, trailers, local replies, properties, shared data,
//! metrics.

use harness::{Client, Codec, Filter, Module, Origin, Proxy, Resources, body_channel, empty, full, with_trailers};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use serde_json::{Value, json};

/// Starts an echoing origin, and a proxy with the test filter in front of it.
async fn filtered(config: Value) -> (Origin, Proxy) {
    let origin = Origin::echo(Codec::Http1).await;
    let resources = Resources::forward_to(origin.address()).filter(Filter::test("one", config));
    let proxy = Proxy::start(&resources).await;
    (origin, proxy)
}

#[tokio::test]
async fn auth_filter_denies_and_allows() {
    let origin = Origin::text("inside").await;
    let mut auth = Filter::new("auth", Module::Builtin("auth"));
    auth.config = json!({
        "apiKeys": {"keys": [{"id": "me", "key": "let-me-in"}]},
        "rules": [
            {"name": "no-admin", "action": "deny", "paths": [{"prefix": "/admin"}]},
            {"name": "rest", "action": "allow"}
        ]
    });
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(auth)).await;
    let mut client = proxy.client().await;
    let with_key = |path: &str| Request::get(path).header("x-api-key", "let-me-in").body(empty()).unwrap();

    let unknown = client.get("/").await;
    assert_eq!(unknown.status, 401, "{}", unknown.text());
    assert!(unknown.header("www-authenticate").is_some());
    let denied = client.send(with_key("/admin")).await;
    assert_eq!((denied.status, denied.text().contains("no-admin")), (403, true), "{}", denied.text());
    assert_eq!(origin.count(), 0);
    assert_eq!(client.send(with_key("/shop")).await.text(), "inside");

    let line = proxy.access_log_for("/admin").await;
    assert_eq!((line["status"].as_u64(), line["filter"].as_str()), (Some(403), Some("default/auth")), "{line}");
}

#[tokio::test]
async fn filter_edits_headers_both_ways() {
    let (origin, proxy) = filtered(json!({
        "request_headers": [
            {"do": "set", "name": "x-set", "value": "new"},
            {"do": "add", "name": "x-add", "value": "two"},
            {"do": "remove", "name": "x-remove"},
            {"do": "set", "name": ":path", "value": "/changed"},
            {"do": "set", "name": ":authority", "value": "changed.example"},
            {"do": "set", "name": ":method", "value": "PUT"}
        ],
        "response_headers": [
            {"do": "set", "name": ":status", "value": "202"},
            {"do": "set", "name": "x-seen", "value": "yes"}
        ]
    }))
    .await;
    let request = Request::post("/sent").header("x-set", "old").header("x-add", "one").header("x-remove", "1");
    let response = proxy.client().await.send(request.body(empty()).unwrap()).await;
    assert_eq!((response.status, response.header("x-seen")), (202, Some("yes")));
    let received = origin.last();
    assert_eq!((received.method.as_str(), received.path.as_str()), ("PUT", "/changed"));
    assert_eq!(received.authority, "changed.example");
    assert_eq!(received.header("x-set"), Some("new"));
    assert_eq!(received.headers.get_all("x-add").iter().collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(received.header("x-remove"), None);
    assert_eq!(
        proxy.access_log_for("/sent").await["method"],
        "POST",
        "the access log has the method of the downstream"
    );
}

#[tokio::test]
async fn replaced_bodies_are_framed_again() {
    let (origin, proxy) = filtered(json!({
        "request_headers": [{"do": "remove", "name": "content-length"}],
        "request_body": [{"do": "pause_until_end"}, {"do": "replace_body", "text": "a whole other request"}],
        "response_headers": [{"do": "remove", "name": "content-length"}],
        "response_body": [{"do": "append_body", "text": ", and an end"}]
    }))
    .await;
    let mut client = proxy.client().await;
    for _ in 0..2 {
        let response = client.post("/", "short").await;
        assert_eq!(response.text(), "a whole other request, and an end");
    }
    assert_ne!(origin.last().header("content-length"), Some("5"));
}

#[tokio::test]
async fn stale_content_length_is_not_sent() {
    // The filter changes bodies but not `content-length`, so the proxy frames them by their real length.
    let (_origin, proxy) = filtered(json!({
        "request_body": [{"do": "pause_until_end"}, {"do": "replace_body", "text": "longer than it was"}],
        "response_body": [{"do": "append_body", "text": "!"}]
    }))
    .await;
    for codec in [Codec::Http1, Codec::Http2] {
        let mut client = Client::connect(codec, proxy.address().await).await;
        assert_eq!(client.post("/", "short").await.text(), "longer than it was!", "{codec:?}");
        assert_eq!(client.post("/", "again").await.text(), "longer than it was!", "{codec:?}: still in step");
    }
}

#[tokio::test]
async fn filter_edits_streaming_body() {
    let (_origin, proxy) = filtered(json!({"response_body": [{"do": "uppercase_body"}]})).await;
    let (sender, body) = body_channel();
    sender.data("one ").await;
    let mut client = proxy.client().await;
    let response = client.send_head(Request::post("/").body(body).unwrap()).await;
    sender.data("two ").await;
    sender.data("three").await;
    drop(sender);
    assert_eq!(harness::with_deadline("a response", harness::read(response)).await.unwrap().text(), "ONE TWO THREE");
}

#[tokio::test]
async fn buffered_body_is_delivered_whole() {
    let (origin, proxy) = filtered(json!({
        "request_body": [{"do": "callback_arguments", "name": "x-seen", "map": "request"}, {"do": "pause_until_end"}]
    }))
    .await;
    let (sender, body) = body_channel();
    let (mut client, request) = (proxy.client().await, Request::post("/").body(body).unwrap());
    let (response, ()) = tokio::join!(client.send(request), async {
        for piece in ["12345", "67890", "abc"] {
            sender.data(piece).await;
        }
        drop(sender);
    });
    assert_eq!(response.text(), "1234567890abc");
    drop(origin);
}

#[tokio::test]
async fn headers_can_wait_for_body() {
    // The filter edits the headers when the body has arrived.
    let origin = Origin::echo(Codec::Http1).await;
    let config = json!({
        "request_headers": [{"do": "pause"}],
        "request_body": [{"do": "pause_until_end"}, {"do": "callback_arguments", "name": "x-seen", "map": "request"}]
    });
    let filter = Filter::test("one", config).with_fields("headerPause: HoldHeaders");
    let resources = Resources::forward_to(origin.address()).filter(filter);
    let proxy = Proxy::start(&resources).await;
    let response = proxy.client().await.post("/", "twelve bytes").await;
    assert_eq!((response.status, response.text().as_str()), (200, "twelve bytes"), "{}", proxy.log());
    assert_eq!(origin.last().header("x-seen"), Some("size=12 ends=true"));
}

#[tokio::test]
async fn headers_without_body_wait_for_filter() {
    // The end of an empty body must not resume a filter that waits, for example, for the response of an authorization.
    let origin = Origin::text("ok").await;
    let config = json!({
        "tick_ms": 50,
        "request_headers": [{"do": "pause_until_tick"}],
        "request_body": [{"do": "callback_arguments", "name": "x-seen", "map": "request"}]
    });
    let filter = Filter::test("one", config).with_fields("headerPause: HoldHeaders");
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
    for codec in [Codec::Http1, Codec::Http2] {
        let mut client = Client::connect(codec, proxy.address().await).await;
        assert_eq!(client.get("/").await.status, 200, "{codec:?}");
        let received = origin.last();
        assert_eq!(received.header("x-seen"), None, "no body, no callback about it");
        assert_eq!(received.header("transfer-encoding"), None, "the request still ends with its headers");
    }
}

#[tokio::test]
async fn filter_edits_trailers() {
    let origin = Origin::echo(Codec::Http2).await;
    let config = json!({
        "request_trailers": [{"do": "set", "name": "x-request-trailer", "value": "filter"}],
        "response_trailers": [{"do": "set", "name": "x-response-trailer", "value": "filter"}]
    });
    let resources = Resources::forward_to_http2(origin.address()).filter(Filter::test("one", config));
    let proxy = Proxy::start(&resources).await;
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-own"), HeaderValue::from_static("sent"))]);
    let request = Request::post("/").header("te", "trailers").body(with_trailers("body", trailers)).unwrap();
    let response = Client::http2(proxy.address().await).await.send(request).await;
    assert_eq!(response.text(), "body");
    assert_eq!(response.trailer("x-own"), Some("sent"));
    assert_eq!(response.trailer("x-request-trailer"), Some("filter"), "the origin echoes the trailers");
    assert_eq!(response.trailer("x-response-trailer"), Some("filter"));
}

#[tokio::test]
async fn filter_sends_local_reply_from_each_callback() {
    let reply = |status: u16| json!([{"do": "reply", "status": status, "body": "by a filter", "headers": [["x-by", "filter"]]}]);
    for (callback, status) in
        [("request_headers", 401), ("request_body", 403), ("response_headers", 502), ("response_body", 500)]
    {
        let (origin, proxy) = filtered(json!({callback: reply(status)})).await;
        let mut client = proxy.client().await;
        let sent = client.try_send(Request::post("/").body(full("body")).unwrap()).await;
        let response = match sent {
            Ok(response) => harness::with_deadline("a response", harness::read(response)).await,
            Err(error) => Err(error),
        };
        let upstream = if callback.starts_with("request") { 0 } else { 1 };
        match response {
            Ok(response) => {
                assert_eq!((response.status, response.text().as_str()), (status, "by a filter"), "{callback}");
                assert_eq!(response.header("x-by"), Some("filter"), "{callback}");
                let line = proxy.access_log_for("/").await;
                assert_eq!(line["filter"], "default/one", "{callback}: {line}");
            }
            Err(_) => assert_eq!(callback, "response_body", "only a response that has started is broken off"),
        }
        if callback == "request_headers" || upstream == 1 {
            assert_eq!(origin.count(), upstream, "{callback}");
        }
    }
}

#[tokio::test]
async fn local_reply_passes_outer_filters() {
    let origin = Origin::text("never").await;
    let outer = json!({"response_headers": [{"do": "set", "name": "x-outer", "value": "seen"}]});
    let inner = json!({"request_headers": [{"do": "reply", "status": 429, "body": "slow down"}]});
    let resources = Resources::forward_to(origin.address())
        .filter(Filter::test("outer", outer).with_fields("priority: 1"))
        .filter(Filter::test("inner", inner).with_fields("priority: 2"));
    let proxy = Proxy::start(&resources).await;
    let response = proxy.get("/").await;
    assert_eq!((response.status, response.header("x-outer")), (429, Some("seen")));
    let nowhere = Resources::new().service("origin", &[]).route_everything();
    let seen = json!({"response_headers": [{"do": "set", "name": "x-outer", "value": "seen"}]});
    let proxy = Proxy::start(&nowhere.filter(Filter::test("outer", seen))).await;
    let response = proxy.get("/").await;
    assert_eq!((response.status, response.header("x-outer")), (503, Some("seen")), "the proxy's own replies too");
}

#[tokio::test]
async fn filters_run_in_order_and_in_reverse() {
    let origin = Origin::echo(Codec::Http1).await;
    let marks = |name: &str| {
        json!({
            "request_headers": [{"do": "add", "name": "x-order", "value": name}],
            "response_headers": [{"do": "add", "name": "x-order", "value": name}]
        })
    };
    let resources = Resources::forward_to(origin.address())
        .filter(Filter::test("late", marks("late")).with_fields("phase: Route"))
        .filter(Filter::test("b", marks("b")))
        .filter(Filter::test("a", marks("a")))
        .filter(Filter::test("first", marks("first")).with_fields("phase: Authn, priority: 9"));
    let proxy = Proxy::start(&resources).await;
    let response = proxy.get("/").await;
    let order = |headers: &HeaderMap| {
        headers.get_all("x-order").iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(order(&origin.last().headers), ["first", "a", "b", "late"]);
    assert_eq!(order(&response.headers), ["late", "b", "a", "first"]);
}

#[tokio::test]
async fn properties_describe_request() {
    let origin = Origin::text("ok").await;
    let properties = [
        ("x-method", vec!["request", "method"], "GET"),
        ("x-path", vec!["request", "path"], "/props?a=b"),
        ("x-url-path", vec!["request", "url_path"], "/props"),
        ("x-host", vec!["request", "host"], "shop.example"),
        ("x-scheme", vec!["request", "scheme"], "http"),
        ("x-protocol", vec!["request", "protocol"], "HTTP/1.1"),
        ("x-header", vec!["request", "headers", "x-mine"], "1"),
        ("x-plugin", vec!["plugin_name"], "default/one"),
        ("x-cluster", vec!["xds", "cluster_name"], "default/origin:80"),
        ("x-nothing", vec!["no", "such", "thing"], "-"),
    ];
    let steps: Vec<Value> = properties
        .iter()
        .map(|(name, path, _)| json!({"do": "property", "property": path, "name": name, "map": "response"}))
        .chain([
            json!({"do": "property", "property": ["response", "code"], "name": "x-code", "map": "response"}),
            json!({"do": "property", "property": ["mine"], "name": "x-mine", "map": "response"}),
        ])
        .collect();
    let config = json!({
        "request_headers": [{"do": "set_property", "property": ["mine"], "value": "stored"}],
        "response_headers": steps
    });
    let resources = Resources::forward_to(origin.address()).filter(Filter::test("one", config));
    let proxy = Proxy::start(&resources).await;
    let request = Request::get("/props?a=b").header("host", "shop.example").header("x-mine", "1");
    let response = proxy.client().await.send(request.body(empty()).unwrap()).await;
    for (name, path, expected) in &properties {
        assert_eq!(response.header(name), Some(*expected), "{path:?}");
    }
    assert_eq!(response.header("x-code"), Some("200"));
    assert_eq!(response.header("x-mine"), Some("stored"));
}

#[tokio::test]
async fn shared_data_is_common_to_workers() {
    let origin = Origin::text("ok").await;
    let config = json!({"request_headers": [{"do": "shared_count", "key": "n", "name": "x-count", "map": "request"}]});
    let resources = Resources::forward_to(origin.address()).filter(Filter::test("one", config));
    let options = harness::ProxyOptions { workers: Some(3), ..Default::default() };
    let proxy = Proxy::start_with(&resources, options).await;
    let address = proxy.address().await;
    for _ in 0..30 {
        assert_eq!(Client::http1(address).await.get("/").await.status, 200);
    }
    let mut counts: Vec<u32> =
        origin.received().iter().map(|request| request.header("x-count").unwrap().parse().unwrap()).collect();
    counts.sort_unstable();
    assert_eq!(counts, (1..=30).collect::<Vec<_>>());
}

#[tokio::test]
async fn filter_metrics_are_exported() {
    let (_origin, proxy) = filtered(json!({
        "request_headers": [{"do": "count", "metric": "test_requests"}, {"do": "record", "metric": "test_size", "value": 7}],
        "tick_ms": 10,
        "tick": [{"do": "count", "metric": "test_ticks"}]
    }))
    .await;
    for _ in 0..3 {
        proxy.get("/").await;
    }
    let page = proxy.page("/stats/prometheus").await.text();
    let sample = page.lines().find(|line| line.starts_with("test_requests") || line.contains("test_requests"));
    assert!(page.lines().any(|line| line.contains("test_requests") && line.ends_with(" 3")), "{sample:?}");
    assert!(page.contains("test_size"), "{page}");
    harness::wait_until("ticks", async || {
        let page = proxy.page("/stats/prometheus").await.text();
        let ticks = page.lines().filter(|line| !line.starts_with('#')).find(|line| line.contains("test_ticks"));
        ticks.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).filter(|ticks| *ticks >= 3.0)
    })
    .await;
    let plugins = proxy.json("/plugins").await;
    assert_eq!((&plugins[0]["name"], &plugins[0]["streams"]), (&json!("default/one"), &json!(3)), "{plugins}");
}

#[tokio::test]
async fn filter_log_lines_have_filter_name() {
    let (_origin, proxy) = filtered(json!({"log": [{"do": "log", "text": "all is logged"}]})).await;
    proxy.get("/").await;
    let line = proxy.wait_for_log("all is logged").await;
    assert!(line.contains("default/one"), "{line}");
}

#[tokio::test]
async fn bodies_bypass_filters_without_body_callback() {
    // The module exports no body callback, as `cargo xtask plugins` removes unused ones.
    let module = harness::wasm_from_wat(include_str!("wat/request_headers_only.wat"));
    let origin = Origin::echo(Codec::Http1).await;
    let filter = Filter::new("heads", Module::Bytes("heads.wasm", module));
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
    let response = proxy.client().await.post("/", "as it was").await;
    assert_eq!(response.text(), "as it was");
    // The length is preserved only if the body bypasses the filters.
    assert_eq!(origin.last().header("content-length"), Some("9"));
}

#[tokio::test]
async fn response_denied_by_filter_is_not_forwarded() {
    for (act, status, text) in [("call $refuse", 403, "refused"), ("unreachable", 503, "a filter failed")] {
        // The module exports no body callback, so the upstream's body bypasses the filter.
        let module = harness::wasm_from_wat(&include_str!("wat/replies_in_response.wat").replace("ACT", act));
        let origin = Origin::text("a secret that is longer than the local reply in its place").await;
        let filter = Filter::new("guard", Module::Bytes("guard.wasm", module));
        let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
        let mut client = proxy.client().await;
        for _ in 0..2 {
            let response = client.get("/").await;
            assert_eq!(response.status, status, "{}", response.text());
            assert!(response.text().starts_with(text), "{act}: {}", response.text());
        }
    }
}

#[tokio::test]
async fn denial_after_large_allocation_is_enforced() {
    for (act, status) in [("call $refuse", 403), ("call $spoil", 500)] {
        let module = harness::wasm_from_wat(&include_str!("wat/continues_often.wat").replace("ACT", act));
        let origin = Origin::text("a secret").await;
        let filter = Filter::new("guard", Module::Bytes("guard.wasm", module));
        let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
        let response = proxy.get("/").await;
        assert_eq!((response.status, origin.count()), (status, 0), "{act}: {}", response.text());
    }
}

#[tokio::test]
async fn module_of_two_filters_is_compiled_once() {
    let module = || harness::wasm_from_wat(include_str!("wat/request_headers_only.wat"));
    let origin = Origin::text("ok").await;
    let resources = Resources::forward_to(origin.address())
        .filter(Filter::new("one", Module::Bytes("one.wasm", module())))
        .filter(Filter::new("two", Module::Bytes("two.wasm", module())));
    let options = harness::ProxyOptions { fresh_cache: true, ..harness::ProxyOptions::default() };
    let proxy = Proxy::start_with(&resources, options).await;
    assert_eq!(proxy.get("/").await.status, 200);
    assert!(proxy.metric(r#"weir_modules_loaded_total{from="compiler"}"#).await < 1.5);
}

#[tokio::test]
async fn request_headers_are_readable_in_response_callback() {
    let module = harness::wasm_from_wat(include_str!("wat/request_in_response.wat"));
    let origin = Origin::text("ok").await;
    let filter = Filter::new("late", Module::Bytes("late.wasm", module));
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
    let request = Request::get("/").header("host", "a.test").header("x-name", "ada").body(empty()).unwrap();
    assert_eq!(proxy.client().await.send(request).await.header("x-seen"), Some("ada"));
    assert_eq!(origin.last().header("x-name"), Some("ada"));
}

#[tokio::test]
async fn filter_cannot_reroute_to_other_filter_chain() {
    let origin = Origin::text("ok").await;
    let config = json!({"request_headers": [{"do": "set", "name": ":path", "value": "/open/x", "path": "/guarded"}]});
    let resources = Resources::new()
        .service("origin", &[origin.address()])
        .route("guarded", "rules: [{matches: [{path: {value: /guarded}}], backendRefs: [{name: origin, port: 80}]}]")
        .route("open", "rules: [{matches: [{path: {value: /open}}], backendRefs: [{name: origin, port: 80}]}]")
        .filter(Filter::test("one", config).targeting("guarded"));
    let proxy = Proxy::start(&resources).await;
    let response = proxy.get("/guarded").await;
    assert_eq!((response.status, origin.count()), (500, 0), "{}", response.text());
    assert_eq!(proxy.access_log_for("/guarded").await["response_code_details"], "route_changed_chain");
    assert_eq!(proxy.get("/open").await.status, 200);
}
