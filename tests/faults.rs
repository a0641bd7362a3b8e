//! The `fault` filter: delays that hold requests back, aborts, and requests that end while they are delayed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use harness::{
    Body, Client, ClientResponse, Codec, Filter, GrpcCaller, Module, Origin, Proxy, RawConnection, Resources,
    body_channel, empty, full, grpc_origin, with_deadline,
};
use http::{Request, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::time::Instant;
use tonic::Code;

/// A delay that no test waits for.
const LONG: &str = "1h";

fn fault(config: Value) -> Filter {
    Filter { config, ..Filter::new("fault", Module::Builtin("fault")) }
}

/// A delay of the time in the header `x-fault-delay`.
fn delay_by_header() -> Value {
    json!({"fixedDelay": LONG, "percentage": 100, "header": "x-fault-delay"})
}

async fn start(filter: Filter) -> (Origin, Proxy) {
    let origin = Origin::text("hello").await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
    (origin, proxy)
}

fn request(path: &str, headers: &[(&str, &str)]) -> Request<Body> {
    let request = Request::get(path).header("host", "a.test");
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).body(empty()).unwrap()
}

fn sample(name: &str) -> String {
    format!("weir_filter_custom_fault_{name}{{filter=\"default/fault\"}}")
}

/// Returns the delays, the aborts, the overflows, the ignored headers, and the active delays.
async fn counts(proxy: &Proxy) -> [f64; 5] {
    let mut counts = [0.0; 5];
    let names = ["delays_total", "aborts_total", "overflows_total", "ignored_headers_total", "active"];
    for (count, name) in counts.iter_mut().zip(names) {
        *count = proxy.metric(&sample(name)).await;
    }
    counts
}

async fn wait_for_active(proxy: &Proxy, count: f64) {
    proxy.wait_for_metric(&sample("active"), |active| active == count).await;
}

/// An origin, and the times at which requests arrive at it.
async fn recording_origin() -> (Origin, Arc<Mutex<Vec<(String, Instant)>>>) {
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let recorded = Arc::clone(&arrivals);
    let origin = Origin::start(Codec::Http1, move |request| {
        recorded.lock().push((request.uri().path().to_owned(), Instant::now()));
        async { Ok(Response::new(full("hello"))) }
    })
    .await;
    (origin, arrivals)
}

async fn get(
    address: SocketAddr,
    path: &'static str,
    headers: &'static [(&'static str, &'static str)],
) -> ClientResponse {
    Client::http1(address).await.send(request(path, headers)).await
}

#[tokio::test]
async fn delayed_request_is_not_forwarded_before_its_time() {
    let (origin, arrivals) = recording_origin().await;
    for isolation in ["isolation: Worker", "isolation: Stream"] {
        let filter = fault(json!({"delay": {"fixedDelay": "300ms", "percentage": 100}})).with_fields(isolation);
        let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
        for codec in [Codec::Http1, Codec::Http2] {
            let mut client = Client::connect(codec, proxy.address().await).await;
            let sent = Instant::now();
            let response = client.send(Request::get("/late").body(empty()).unwrap()).await;
            let (_, arrived) = arrivals.lock().pop().unwrap();
            assert_eq!((response.status, response.text().as_str()), (200, "hello"), "{isolation} {codec:?}");
            assert!(arrived - sent >= Duration::from_millis(300), "{isolation} {codec:?}: {:?}", arrived - sent);
        }
        let line = proxy.access_log_for("/late").await;
        assert_eq!(line["fields"]["fault_delay_ms"], "300", "{line}");
        assert_eq!(counts(&proxy).await, [2.0, 0.0, 0.0, 0.0, 0.0], "{isolation}");
    }
}

#[tokio::test]
async fn concurrent_delays_end_at_their_own_times() {
    let (origin, arrivals) = recording_origin().await;
    let filter = fault(json!({"delay": delay_by_header()}));
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
    let address = proxy.address().await;
    let sent = Instant::now();
    let all = async {
        tokio::join!(
            get(address, "/third", &[("x-fault-delay", "2500ms")]),
            get(address, "/first", &[("x-fault-delay", "900")]),
            get(address, "/second", &[("x-fault-delay", "1s700ms")]),
            wait_for_active(&proxy, 3.0),
        )
    };
    let (third, first, second, ()) = with_deadline("all responses", Box::pin(all)).await;
    assert_eq!([first.status, second.status, third.status], [200; 3]);
    let arrivals = arrivals.lock().clone();
    let order: Vec<&str> = arrivals.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(order, ["/first", "/second", "/third"]);
    for ((path, arrived), least_ms) in arrivals.iter().zip([900, 1_700, 2_500]) {
        assert!(*arrived - sent >= Duration::from_millis(least_ms), "{path}: {:?}", *arrived - sent);
    }
}

#[tokio::test]
async fn many_streams_of_one_connection_are_delayed_at_once() {
    let (origin, proxy) = start(fault(json!({"delay": {"fixedDelay": "1s", "percentage": 100}}))).await;
    let client = Client::http2(proxy.address().await).await;
    let mut tasks = tokio::task::JoinSet::new();
    let sent = Instant::now();
    for index in 0..90 {
        let pending = client.concurrent(request(&format!("/{index}"), &[]));
        tasks.spawn(async move { pending.await.unwrap().status().as_u16() });
    }
    let statuses = with_deadline("every response", tasks.join_all()).await;
    assert_eq!((statuses.iter().filter(|status| **status == 200).count(), origin.count()), (90, 90));
    assert!(sent.elapsed() >= Duration::from_secs(1));
    assert_eq!(counts(&proxy).await, [90.0, 0.0, 0.0, 0.0, 0.0]);
}

#[tokio::test]
async fn percentages_of_0_and_100_are_exact() {
    let abort = |percentage: f64| json!({"abort": {"httpStatus": 503, "percentage": percentage}});
    for (percentage, status) in [(0.0, 200), (100.0, 503)] {
        let (origin, proxy) = start(fault(abort(percentage))).await;
        let mut client = proxy.client().await;
        for _ in 0..200 {
            assert_eq!(client.get("/").await.status, status, "{percentage} %");
        }
        assert_eq!(origin.count(), if status == 200 { 200 } else { 0 });
    }
}

#[tokio::test]
async fn percentage_is_a_share_of_many_requests() {
    const REQUESTS: u32 = 2_000;
    let abort = json!({"httpStatus": 503, "percentage": 30});
    let delay = json!({"fixedDelay": "1ms", "percentage": 30});
    let (origin, proxy) = start(fault(json!({"abort": abort, "delay": delay}))).await;
    let mut client = proxy.client().await;
    let mut aborted = 0_u32;
    for _ in 0..REQUESTS {
        aborted += u32::from(client.get("/").await.status == 503);
    }
    let [delays, aborts, ..] = counts(&proxy).await;
    assert_eq!((aborts, origin.count()), (f64::from(aborted), (REQUESTS - aborted) as usize));
    // 600 are expected, with a standard deviation of sqrt(2000 * 0.3 * 0.7) = 20.5. Five of them are exceeded once in
    // 1.7 million runs.
    for count in [delays, aborts] {
        assert!((497.0..=703.0).contains(&count), "{count} of {REQUESTS}");
    }
}

#[tokio::test]
async fn abort_has_status_details_and_no_upstream_request() {
    let config = json!({
        "match": {"methods": ["GET"], "paths": [{"prefix": "/shop"}], "headers": [{"name": "X-User", "exact": "ann"}]},
        "abort": {"httpStatus": 418, "percentage": 100},
    });
    let (origin, proxy) = start(fault(config)).await;
    let mut client = proxy.client().await;
    let response = client.send(request("/shop/cart", &[("x-user", "ann")])).await;
    assert_eq!((response.status, response.text().as_str()), (418, "aborted by the fault filter\n"));
    assert_eq!(origin.count(), 0);
    let line = proxy.access_log_for("/shop/cart").await;
    assert_eq!((&line["response_code_details"], &line["filter"]), (&json!("fault_abort"), &json!("default/fault")));
    let others: [(&str, &[(&str, &str)]); 3] =
        [("/shop", &[]), ("/shop", &[("x-user", "bob")]), ("/", &[("x-user", "ann")])];
    for (path, headers) in others {
        assert_eq!(client.send(request(path, headers)).await.status, 200, "{path} {headers:?}");
    }
    let post = Request::post("/shop").header("x-user", "ann").body(full("body")).unwrap();
    assert_eq!(client.send(post).await.status, 200);
    assert_eq!(counts(&proxy).await, [0.0, 1.0, 0.0, 0.0, 0.0]);
}

#[tokio::test]
async fn delay_comes_before_abort() {
    let config = json!({
        "delay": {"fixedDelay": "200ms", "percentage": 100}, "abort": {"httpStatus": 500, "percentage": 100},
    });
    for isolation in ["isolation: Worker", "isolation: Stream"] {
        let (origin, proxy) = start(fault(config.clone()).with_fields(isolation)).await;
        let sent = Instant::now();
        let response = proxy.client().await.post("/both", vec![b'x'; 100_000]).await;
        assert!(sent.elapsed() >= Duration::from_millis(200));
        assert_eq!((response.status, origin.count()), (500, 0), "{isolation}");
        assert_eq!(proxy.access_log_for("/both").await["response_code_details"], "fault_abort");
        assert_eq!(counts(&proxy).await, [1.0, 1.0, 0.0, 0.0, 0.0], "{isolation}");
    }
}

#[tokio::test]
async fn headers_control_faults_only_if_configured() {
    let by_header = json!({
        "delay": {"fixedDelay": "50ms", "percentage": 100, "header": "x-fault-delay"},
        "abort": {"percentage": 100, "header": "x-fault-status"},
    });
    let (_origin, proxy) = start(fault(by_header)).await;
    let mut client = proxy.client().await;
    let rows: [(&[(&str, &str)], u16); 9] = [
        (&[], 200),
        (&[("x-fault-status", "404")], 404),
        (&[("x-fault-status", "599")], 599),
        (&[("x-fault-delay", "9h")], 200), // At most `fixedDelay`.
        (&[("x-fault-delay", "10ms"), ("x-fault-status", "429")], 429),
        (&[("x-fault-status", "199")], 200),
        (&[("x-fault-status", "teapot")], 200),
        (&[("x-fault-delay", "soon")], 200),
        (&[("x-fault-delay", "0")], 200),
    ];
    for (headers, status) in rows {
        assert_eq!(client.send(request("/", headers)).await.status, status, "{headers:?}");
    }
    assert_eq!(counts(&proxy).await, [2.0, 3.0, 0.0, 4.0, 0.0]);

    let (_origin, proxy) = start(fault(json!({"abort": {"httpStatus": 503, "percentage": 0}}))).await;
    let headers = [("x-fault-status", "404"), ("x-fault-delay", "9h"), ("x-envoy-fault-abort-request", "404")];
    assert_eq!(proxy.client().await.send(request("/", &headers)).await.status, 200);
}

#[tokio::test]
async fn grpc_request_gets_grpc_status() {
    let origin = grpc_origin("hello").await;
    let with = |abort: Value| Resources::forward_to_http2(origin.address()).filter(fault(json!({"abort": abort})));
    let own = json!({"httpStatus": 503, "grpcStatus": "RESOURCE_EXHAUSTED", "percentage": 100});
    let only = json!({"grpcStatus": "DATA_LOSS", "percentage": 100});
    let mapped = json!({"httpStatus": 403, "percentage": 100});
    let rows = [
        (own, Code::ResourceExhausted, 503),
        (only, Code::DataLoss, 200), // The origin responds to the request that is not gRPC.
        (mapped, Code::PermissionDenied, 403),
    ];
    for (abort, code, http_status) in rows {
        let proxy = Proxy::start(&with(abort.clone())).await;
        let mut caller = GrpcCaller::connect(proxy.address().await, "shop.example").await;
        let status = caller.call("/shop.Cart/Get").await.unwrap_err();
        assert_eq!((status.code(), status.message()), (code, "aborted by the fault filter"), "{abort}");
        assert_eq!(proxy.access_log_for("/shop.Cart/Get").await["response_code_details"], "fault_abort");
        assert_eq!(proxy.get("/").await.status, http_status, "{abort}");
    }
}

#[tokio::test]
async fn downstream_that_goes_away_leaves_no_delay_behind() {
    let config = json!({"delay": delay_by_header(), "maxActiveFaults": 1});
    for isolation in ["isolation: Worker", "isolation: Stream"] {
        let (origin, proxy) = start(fault(config.clone()).with_fields(isolation)).await;
        for index in 1..=3_u8 {
            let mut wire = RawConnection::connect(proxy.address().await).await;
            wire.send(format!("GET /left-{index} HTTP/1.1\r\nhost: a\r\nx-fault-delay: 1h\r\n\r\n")).await;
            wait_for_active(&proxy, 1.0).await;
            // Beyond `maxActiveFaults` a request is not delayed.
            let other = proxy.client().await.send(request("/other", &[("x-fault-delay", "1h")])).await;
            assert_eq!(other.status, 200);
            wire.reset();
            let line = proxy.access_log_for(&format!("/left-{index}")).await;
            assert_eq!(line["response_code_details"], "downstream_gone", "{line}");
            wait_for_active(&proxy, 0.0).await;
            let count = f64::from(index);
            assert_eq!(counts(&proxy).await, [count, 0.0, count, 0.0, 0.0], "{isolation}");
        }
        assert_eq!(origin.count(), 3);
    }
}

#[tokio::test]
async fn request_timeout_ends_delay() {
    let origin = Origin::text("hello").await;
    let rules = "rules: [{timeouts: {request: 300ms}, backendRefs: [{name: origin, port: 80}]}]";
    let resources = Resources::new().service("origin", &[origin.address()]).route("everything", rules);
    let filter = fault(json!({"delay": {"fixedDelay": LONG, "percentage": 100}}));
    let proxy = Proxy::start(&resources.filter(filter)).await;
    let response = proxy.get("/late").await;
    assert_eq!((response.status, origin.count()), (504, 0));
    wait_for_active(&proxy, 0.0).await;
}

#[tokio::test]
async fn delayed_upload_arrives_complete() {
    for header_pause in ["headerPause: HoldAll", "headerPause: HoldHeaders"] {
        let origin = Origin::echo(Codec::Http1).await;
        let filter = fault(json!({"delay": {"fixedDelay": "300ms", "percentage": 100}})).with_fields(header_pause);
        let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
        let mut client = proxy.client().await;
        let sent = Instant::now();
        let (sender, body) = body_channel();
        let upload = async {
            for _ in 0..10 {
                assert!(sender.data(vec![b'x'; 30_000]).await);
            }
            drop(sender);
        };
        let request = Request::post("/upload").body(body).unwrap();
        let (response, ()) = tokio::join!(client.send(request), upload);
        assert_eq!((response.status, response.body.len()), (200, 300_000), "{header_pause}");
        assert!(sent.elapsed() >= Duration::from_millis(300), "{header_pause}");
    }
}

#[tokio::test]
async fn filters_in_one_vm_have_delays_of_their_own() {
    let origin = Origin::text("hello").await;
    let filter = |name: &'static str, header: &str| {
        let delay = json!({"fixedDelay": LONG, "percentage": 100, "header": header});
        let config = json!({"delay": delay, "maxActiveFaults": 1});
        Filter { config, ..Filter::new(name, Module::Builtin("fault")) }.with_fields("vm: {id: shared}")
    };
    let resources = Resources::forward_to(origin.address()).filter(filter("a", "x-a")).filter(filter("b", "x-b"));
    let proxy = Proxy::start(&resources).await;
    let mut waits = RawConnection::connect(proxy.address().await).await;
    waits.send("GET /waits HTTP/1.1\r\nhost: a\r\nx-a: 1h\r\n\r\n").await;
    wait_until_active(&proxy).await;
    let mut client = proxy.client().await;
    for _ in 0..3 {
        let sent = Instant::now();
        assert_eq!(client.send(request("/b", &[("x-b", "100ms")])).await.status, 200);
        assert!(sent.elapsed() >= Duration::from_millis(100), "the limit of `a` is not that of `b`");
    }
    assert_eq!(client.send(request("/a", &[("x-a", "1h")])).await.status, 200, "beyond the limit of `a`");
    assert_eq!(proxy.metric("weir_filter_vms").await, 1.0, "there is one VM");
    drop(waits);
}

async fn wait_until_active(proxy: &Proxy) {
    harness::wait_until("an active delay", async || {
        let page = proxy.page("/stats/prometheus").await.text();
        page.lines()
            .any(|line| line.starts_with("weir_filter_custom_fault_active") && line.ends_with(" 1"))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn delay_goes_on_after_a_configuration_change() {
    let (origin, proxy) = start(fault(json!({"delay": delay_by_header()}))).await;
    let mut client = proxy.client().await;
    let sent = Instant::now();
    let (response, ()) = tokio::join!(client.send(request("/slow", &[("x-fault-delay", "1500ms")])), async {
        wait_for_active(&proxy, 1.0).await;
        let changed = fault(json!({"abort": {"httpStatus": 503, "percentage": 100}}));
        proxy.apply_and_wait(&Resources::forward_to(origin.address()).filter(changed)).await;
        assert_eq!(proxy.get("/").await.status, 503);
    });
    assert_eq!((response.status, origin.count()), (200, 1));
    assert!(sent.elapsed() >= Duration::from_millis(1_500));
}
