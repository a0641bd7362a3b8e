//! What filters can do to a request and an answer: heads, bodies, trailers, replies, properties, shared data, metrics.

use harness::{Client, Codec, Filter, Module, Origin, Proxy, Resources, empty, full, in_steps, with_trailers};
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use serde_json::{Value, json};

/// A proxy that sends everything through the test filter, to an origin that echoes.
async fn filtered(config: Value) -> (Origin, Proxy) {
    let origin = Origin::echoes(Codec::Http1).await;
    let resources = Resources::forward_to(origin.address()).filter(Filter::test("one", config));
    let proxy = Proxy::start(&resources).await;
    (origin, proxy)
}

#[tokio::test]
async fn auth_refuses_and_allows() {
    let origin = Origin::says("inside").await;
    let mut auth = Filter::of("auth", Module::Builtin("auth"));
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

    let line = proxy.logged("/admin").await;
    assert_eq!((line["status"].as_u64(), line["plugin"].as_str()), (Some(403), Some("default/auth")), "{line}");
}

#[tokio::test]
async fn heads_are_changed_both_ways() {
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
    let answer = proxy.client().await.send(request.body(empty()).unwrap()).await;
    assert_eq!((answer.status, answer.header("x-seen")), (202, Some("yes")));
    let received = origin.last();
    assert_eq!((received.method.as_str(), received.path.as_str()), ("PUT", "/changed"));
    assert_eq!(received.authority, "changed.example");
    assert_eq!(received.header("x-set"), Some("new"));
    assert_eq!(received.headers.get_all("x-add").iter().collect::<Vec<_>>(), ["one", "two"]);
    assert_eq!(received.header("x-remove"), None);
    assert_eq!(proxy.logged("/sent").await["method"], "POST", "the log tells what was sent");
}

#[tokio::test]
async fn bodies_are_replaced_and_framed_anew() {
    let (origin, proxy) = filtered(json!({
        "request_headers": [{"do": "remove", "name": "content-length"}],
        "request_body": [{"do": "pause_until_end"}, {"do": "replace_body", "text": "a whole other request"}],
        "response_headers": [{"do": "remove", "name": "content-length"}],
        "response_body": [{"do": "append_body", "text": ", and an end"}]
    }))
    .await;
    let mut client = proxy.client().await;
    for _ in 0..2 {
        let answer = client.post("/", "short").await;
        assert_eq!(answer.text(), "a whole other request, and an end");
    }
    assert_ne!(origin.last().header("content-length"), Some("5"));
}

#[tokio::test]
async fn a_length_that_a_filter_made_wrong_is_not_sent() {
    // The filter changes bodies and forgets the length: the proxy frames what there really is.
    let (_origin, proxy) = filtered(json!({
        "request_body": [{"do": "pause_until_end"}, {"do": "replace_body", "text": "longer than it was"}],
        "response_body": [{"do": "append_body", "text": "!"}]
    }))
    .await;
    for codec in [Codec::Http1, Codec::Http2] {
        let mut client = Client::speaking(codec, proxy.address().await).await;
        assert_eq!(client.post("/", "short").await.text(), "longer than it was!", "{codec:?}");
        assert_eq!(client.post("/", "again").await.text(), "longer than it was!", "{codec:?}: still in step");
    }
}

#[tokio::test]
async fn bodies_are_changed_as_they_stream() {
    let (_origin, proxy) = filtered(json!({"response_body": [{"do": "capitalise_body"}]})).await;
    let (sender, body) = in_steps();
    sender.data("one ").await;
    let mut client = proxy.client().await;
    let response = client.begin(Request::post("/").body(body).unwrap()).await;
    sender.data("two ").await;
    sender.data("three").await;
    drop(sender);
    assert_eq!(harness::within("an answer", harness::read(response)).await.unwrap().text(), "ONE TWO THREE");
}

#[tokio::test]
async fn a_held_body_is_shown_whole() {
    let (origin, proxy) = filtered(json!({
        "request_body": [{"do": "told", "name": "x-told", "map": "request"}, {"do": "pause_until_end"}]
    }))
    .await;
    let (sender, body) = in_steps();
    let (mut client, asked) = (proxy.client().await, Request::post("/").body(body).unwrap());
    let (answer, ()) = tokio::join!(client.send(asked), async {
        for piece in ["12345", "67890", "abc"] {
            sender.data(piece).await;
        }
        drop(sender);
    });
    assert_eq!(answer.text(), "1234567890abc");
    drop(origin);
}

#[tokio::test]
async fn a_head_can_wait_for_its_body() {
    // Decides by the body, and says so in the head.
    let origin = Origin::echoes(Codec::Http1).await;
    let config = json!({
        "request_headers": [{"do": "pause"}],
        "request_body": [{"do": "pause_until_end"}, {"do": "told", "name": "x-told", "map": "request"}]
    });
    let filter = Filter::test("one", config).with("headerPause: HoldHeaders");
    let resources = Resources::forward_to(origin.address()).filter(filter);
    let proxy = Proxy::start(&resources).await;
    let answer = proxy.client().await.post("/", "twelve bytes").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "twelve bytes"), "{}", proxy.log());
    assert_eq!(origin.last().header("x-told"), Some("size=12 ends=true"));
}

#[tokio::test]
async fn trailers_are_seen_and_changed() {
    let origin = Origin::echoes(Codec::Http2).await;
    let config = json!({
        "request_trailers": [{"do": "set", "name": "x-request-trailer", "value": "filter"}],
        "response_trailers": [{"do": "set", "name": "x-response-trailer", "value": "filter"}]
    });
    let resources = Resources::forward_to_http2(origin.address()).filter(Filter::test("one", config));
    let proxy = Proxy::start(&resources).await;
    let trailers = HeaderMap::from_iter([(HeaderName::from_static("x-own"), HeaderValue::from_static("sent"))]);
    let request = Request::post("/").header("te", "trailers").body(with_trailers("body", trailers)).unwrap();
    let answer = Client::http2(proxy.address().await).await.send(request).await;
    assert_eq!(answer.text(), "body");
    assert_eq!(answer.trailer("x-own"), Some("sent"));
    assert_eq!(answer.trailer("x-request-trailer"), Some("filter"), "the origin echoes what it got");
    assert_eq!(answer.trailer("x-response-trailer"), Some("filter"));
}

#[tokio::test]
async fn a_filter_answers_from_each_callback() {
    let reply = |status: u16| json!([{"do": "reply", "status": status, "body": "by a filter", "headers": [["x-by", "filter"]]}]);
    for (callback, status) in
        [("request_headers", 401), ("request_body", 403), ("response_headers", 502), ("response_body", 500)]
    {
        let (origin, proxy) = filtered(json!({callback: reply(status)})).await;
        let mut client = proxy.client().await;
        let asked = client.attempt(Request::post("/").body(full("body")).unwrap()).await;
        let answer = match asked {
            Ok(response) => harness::within("an answer", harness::read(response)).await,
            Err(error) => Err(error),
        };
        let upstream = if callback.starts_with("request") { 0 } else { 1 };
        match answer {
            Ok(answer) => {
                assert_eq!((answer.status, answer.text().as_str()), (status, "by a filter"), "{callback}");
                assert_eq!(answer.header("x-by"), Some("filter"), "{callback}");
                let line = proxy.logged("/").await;
                assert_eq!(line["plugin"], "default/one", "{callback}: {line}");
            }
            Err(_) => assert_eq!(callback, "response_body", "only an answer that has begun is broken off"),
        }
        if callback == "request_headers" || upstream == 1 {
            assert_eq!(origin.count(), upstream, "{callback}");
        }
    }
}

#[tokio::test]
async fn a_reply_passes_the_other_filters_on_its_way_out() {
    let origin = Origin::says("never").await;
    let outer = json!({"response_headers": [{"do": "set", "name": "x-outer", "value": "seen"}]});
    let inner = json!({"request_headers": [{"do": "reply", "status": 429, "body": "slow down"}]});
    let resources = Resources::forward_to(origin.address())
        .filter(Filter::test("outer", outer).with("priority: 1"))
        .filter(Filter::test("inner", inner).with("priority: 2"));
    let proxy = Proxy::start(&resources).await;
    let answer = proxy.get("/").await;
    assert_eq!((answer.status, answer.header("x-outer")), (429, Some("seen")));
    let nowhere = Resources::new().service("origin", &[]).route_everything();
    let seen = json!({"response_headers": [{"do": "set", "name": "x-outer", "value": "seen"}]});
    let proxy = Proxy::start(&nowhere.filter(Filter::test("outer", seen))).await;
    let answer = proxy.get("/").await;
    assert_eq!((answer.status, answer.header("x-outer")), (503, Some("seen")), "the proxy's own replies too");
}

#[tokio::test]
async fn filters_run_in_order_and_back() {
    let origin = Origin::echoes(Codec::Http1).await;
    let marks = |name: &str| {
        json!({
            "request_headers": [{"do": "add", "name": "x-order", "value": name}],
            "response_headers": [{"do": "add", "name": "x-order", "value": name}]
        })
    };
    let resources = Resources::forward_to(origin.address())
        .filter(Filter::test("late", marks("late")).with("phase: Route"))
        .filter(Filter::test("b", marks("b")))
        .filter(Filter::test("a", marks("a")))
        .filter(Filter::test("first", marks("first")).with("phase: Authn, priority: 9"));
    let proxy = Proxy::start(&resources).await;
    let answer = proxy.get("/").await;
    let order = |headers: &HeaderMap| {
        headers.get_all("x-order").iter().map(|value| value.to_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(order(&origin.last().headers), ["first", "a", "b", "late"]);
    assert_eq!(order(&answer.headers), ["late", "b", "a", "first"]);
}

#[tokio::test]
async fn properties_tell_about_the_request() {
    let origin = Origin::says("ok").await;
    let asked = [
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
    let steps: Vec<Value> = asked
        .iter()
        .map(|(name, path, _)| json!({"do": "property", "property": path, "name": name, "map": "response"}))
        .chain([
            json!({"do": "property", "property": ["response", "code"], "name": "x-code", "map": "response"}),
            json!({"do": "property", "property": ["mine"], "name": "x-mine", "map": "response"}),
        ])
        .collect();
    let config = json!({
        "request_headers": [{"do": "set_property", "property": ["mine"], "value": "kept"}],
        "response_headers": steps
    });
    let resources = Resources::forward_to(origin.address()).filter(Filter::test("one", config));
    let proxy = Proxy::start(&resources).await;
    let request = Request::get("/props?a=b").header("host", "shop.example").header("x-mine", "1");
    let answer = proxy.client().await.send(request.body(empty()).unwrap()).await;
    for (name, path, expected) in &asked {
        assert_eq!(answer.header(name), Some(*expected), "{path:?}");
    }
    assert_eq!(answer.header("x-code"), Some("200"));
    assert_eq!(answer.header("x-mine"), Some("kept"));
}

#[tokio::test]
async fn shared_data_is_shared_by_all_workers() {
    let origin = Origin::says("ok").await;
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
async fn metrics_of_filters_are_on_the_page() {
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
    harness::until("ticks", async || {
        let page = proxy.page("/stats/prometheus").await.text();
        let ticks = page.lines().filter(|line| !line.starts_with('#')).find(|line| line.contains("test_ticks"));
        ticks.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).filter(|ticks| *ticks >= 3.0)
    })
    .await;
    let plugins = proxy.json("/plugins").await;
    assert_eq!((&plugins[0]["name"], &plugins[0]["streams"]), (&json!("default/one"), &json!(3)), "{plugins}");
}

#[tokio::test]
async fn a_filter_speaks_in_the_log_under_its_name() {
    let (_origin, proxy) = filtered(json!({"log": [{"do": "say", "text": "all is logged"}]})).await;
    proxy.get("/").await;
    let line = proxy.wait_for_log("all is logged").await;
    assert!(line.contains("default/one"), "{line}");
}

#[tokio::test]
async fn bodies_pass_untouched_when_no_filter_asks() {
    // Exports only what it needs, as `cargo xtask plugins` leaves it: no body callback.
    let module = harness::module_of_wat(include_str!("wat/heads_only.wat"));
    let origin = Origin::echoes(Codec::Http1).await;
    let filter = Filter::of("heads", Module::Bytes("heads.wasm", module));
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
    let answer = proxy.client().await.post("/", "as it was").await;
    assert_eq!(answer.text(), "as it was");
    // The length is known only when nothing was taken apart.
    assert_eq!(origin.last().header("content-length"), Some("9"));
}

#[tokio::test]
async fn of_a_response_that_a_filter_refuses_nothing_is_seen() {
    for (act, status, text) in [("call $refuse", 403, "refused"), ("unreachable", 503, "a filter failed")] {
        // No body callback: the upstream's body would go by untouched.
        let module = harness::module_of_wat(&include_str!("wat/ends_response.wat").replace("ACT", act));
        let origin = Origin::says("a secret, and longer than the answer in its place").await;
        let filter = Filter::of("guard", Module::Bytes("guard.wasm", module));
        let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
        let mut client = proxy.client().await;
        for _ in 0..2 {
            let answer = client.get("/").await;
            assert_eq!(answer.status, status, "{}", answer.text());
            assert!(answer.text().starts_with(text), "{act}: {}", answer.text());
        }
    }
}

#[tokio::test]
async fn a_filter_that_asks_for_much_is_refused_all_the_same() {
    for (act, status) in [("call $refuse", 403), ("call $spoil", 500)] {
        let module = harness::module_of_wat(&include_str!("wat/asks_much.wat").replace("ACT", act));
        let origin = Origin::says("a secret").await;
        let filter = Filter::of("guard", Module::Bytes("guard.wasm", module));
        let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
        let answer = proxy.get("/").await;
        assert_eq!((answer.status, origin.count()), (status, 0), "{act}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_module_that_two_filters_have_is_compiled_once() {
    let module = || harness::module_of_wat(include_str!("wat/heads_only.wat"));
    let origin = Origin::says("ok").await;
    let resources = Resources::forward_to(origin.address())
        .filter(Filter::of("one", Module::Bytes("one.wasm", module())))
        .filter(Filter::of("two", Module::Bytes("two.wasm", module())));
    let options = harness::ProxyOptions { fresh_cache: true, ..harness::ProxyOptions::default() };
    let proxy = Proxy::start_with(&resources, options).await;
    assert_eq!(proxy.get("/").await.status, 200);
    assert!(proxy.metric(r#"modules_loaded_total{from="compiler"}"#).await < 1.5);
}

#[tokio::test]
async fn a_request_head_stays_for_a_filter_that_looks_at_it_in_the_response() {
    let module = harness::module_of_wat(include_str!("wat/request_in_response.wat"));
    let origin = Origin::says("ok").await;
    let filter = Filter::of("late", Module::Bytes("late.wasm", module));
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
    let request = Request::get("/").header("host", "a.test").header("x-name", "ada").body(empty()).unwrap();
    assert_eq!(proxy.client().await.send(request).await.header("x-seen"), Some("ada"));
    assert_eq!(origin.last().header("x-name"), Some("ada"));
}

#[tokio::test]
async fn a_filter_cannot_reach_a_route_with_other_filters() {
    let origin = Origin::says("ok").await;
    let config = json!({"request_headers": [{"do": "set", "name": ":path", "value": "/open/x", "path": "/guarded"}]});
    let resources = Resources::new()
        .service("origin", &[origin.address()])
        .route("guarded", "rules: [{matches: [{path: {value: /guarded}}], backendRefs: [{name: origin, port: 80}]}]")
        .route("open", "rules: [{matches: [{path: {value: /open}}], backendRefs: [{name: origin, port: 80}]}]")
        .filter(Filter::test("one", config).before("guarded"));
    let proxy = Proxy::start(&resources).await;
    let answer = proxy.get("/guarded").await;
    assert_eq!((answer.status, origin.count()), (500, 0), "{}", answer.text());
    assert_eq!(proxy.logged("/guarded").await["details"], "route_changed_chain");
    assert_eq!(proxy.get("/open").await.status, 200);
}
