//! `Action::PauseFor` of the SDK: messages that wait for a time, beside bodies, callouts and ticks.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use harness::{
    Body, Client, Codec, Filter, Module, Origin, Proxy, RawConnection, Resources, body_channel, empty, full,
    with_deadline,
};
use http::{Request, Response};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Returns the bytes of the module of `tests/pausing`.
fn module() -> Module {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let file = BUILT.get_or_init(|| {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("pausing");
        weir_sdk::testing::build_with_profile(folder, "plugin").unwrap_or_else(|error| panic!("{error}"))
    });
    Module::Bytes("pausing.wasm", std::fs::read(file).unwrap())
}

fn pausing(config: Value) -> Filter {
    Filter { config, ..Filter::new("one", module()) }
}

async fn start(filter: Filter) -> (Origin, Proxy) {
    let origin = Origin::echo(Codec::Http1).await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address()).filter(filter)).await;
    (origin, proxy)
}

fn sample(name: &str) -> String {
    format!("weir_filter_custom_{name}{{filter=\"default/one\"}}")
}

fn marked() -> Request<Body> {
    Request::get("/").header("x-pause", "1").body(empty()).unwrap()
}

/// A callee that responds to a call when the test allows it.
async fn callee() -> (Origin, tokio::sync::watch::Sender<bool>) {
    let (release, released) = tokio::sync::watch::channel(false);
    let callee = Origin::start(Codec::Http1, move |_| {
        let mut released = released.clone();
        async move {
            released.wait_for(|is_released| *is_released).await.ok();
            Ok(Response::new(empty()))
        }
    })
    .await;
    (callee, release)
}

#[tokio::test]
async fn each_message_can_wait_in_each_isolation() {
    for isolation in ["isolation: Worker", "isolation: Stream"] {
        for callback in ["request_headers", "request_body", "response_headers", "response_body"] {
            let config = json!({callback: [{"pause_for_ms": 150}]});
            let (_origin, proxy) = start(pausing(config).with_fields(isolation)).await;
            for codec in [Codec::Http1, Codec::Http2] {
                post_twice(&proxy, codec, Duration::from_millis(150)).await;
            }
            assert_eq!(proxy.metric(&sample("pause_ends")).await, 4.0, "{isolation} {callback}");
        }
    }
}

/// Sends two requests on a connection, each of which takes at least a time.
async fn post_twice(proxy: &Proxy, codec: Codec, least: Duration) {
    let mut client = Client::connect(codec, proxy.address().await).await;
    for _ in 0..2 {
        let sent = Instant::now();
        assert_eq!(client.post("/", "body").await.text(), "body", "{codec:?}");
        assert!(sent.elapsed() >= least, "{codec:?}: {:?}", sent.elapsed());
    }
}

const HOLD_ALL: &str = "headerPause: HoldAll";

#[tokio::test]
async fn body_that_arrives_during_pause_waits_until_its_end() {
    let continues: Vec<Value> =
        std::iter::once(json!({"pause_for_ms": 500})).chain((0..99).map(|_| json!("continue"))).collect();
    let rows = [
        (HOLD_ALL, json!({"request_body": continues})),
        // The headers wait, and the filter continues the body.
        (
            "headerPause: HoldHeaders",
            json!({"request_headers": [{"pause_for_ms": 500}], "request_body": ["continue", "continue"]}),
        ),
    ];
    for (fields, config) in rows {
        let (origin, proxy) = start(pausing(config).with_fields(fields)).await;
        let mut client = proxy.client().await;
        let (sender, body) = body_channel();
        let sent = Instant::now();
        let upload = async {
            for calls in 1..=4 {
                assert!(sender.data("a part, ").await);
                proxy.wait_for_metric(&sample("body_calls"), |count| count >= f64::from(calls)).await;
            }
            let (forwarded, is_early) = (origin.count(), sent.elapsed() < Duration::from_millis(500));
            // A filter that pauses the body has continued the head.
            assert!(fields == HOLD_ALL || !is_early || forwarded == 0, "{fields}: forwarded during the pause");
            drop(sender);
        };
        let (response, ()) = tokio::join!(client.send(Request::post("/").body(body).unwrap()), upload);
        assert_eq!(response.text(), "a part, ".repeat(4), "{fields}");
        assert!(sent.elapsed() >= Duration::from_millis(500), "{fields}: {:?}", sent.elapsed());
        assert_eq!(proxy.metric(&sample("pause_ends")).await, 1.0, "{fields}");
    }
}

#[tokio::test]
async fn pause_by_another_callback_outlasts_the_deadline() {
    let (callee, release) = callee().await;
    let origin = Origin::echo(Codec::Http1).await;
    let filter = pausing(json!({
        "request_headers": [{"pause_for_ms": 100}], "request_body": [{"call": "default/verdicts:80"}],
    }));
    let later = pausing(json!({"only_marked": true, "request_headers": [{"pause_for_ms": 300}]}));
    let later = Filter { name: "later", ..later };
    let resources = Resources::forward_to(origin.address())
        .service("verdicts", &[callee.address()])
        .filter(filter.with_fields("headerPause: HoldHeaders"));
    let proxy = Proxy::start(&resources).await;
    let clock = Proxy::start(&Resources::forward_to(origin.address()).filter(later)).await;
    let mut client = proxy.client().await;
    let (response, ()) = tokio::join!(client.post("/", "body"), async {
        callee.wait_for(1).await;
        // A request that is sent now and waits for three times as long has passed, so the deadline has, too.
        assert_eq!(clock.client().await.send(marked()).await.status, 200);
        assert_eq!(origin.count(), 1, "only the other request");
        release.send(true).ok();
    });
    assert_eq!((response.text().as_str(), origin.count()), ("body", 2));
    assert_eq!(proxy.metric(&sample("pause_ends")).await, 0.0);
}

#[tokio::test]
async fn response_to_callout_does_not_shorten_pause() {
    let (callee, release) = callee().await;
    release.send(true).ok();
    let origin = Origin::echo(Codec::Http1).await;
    let filter = pausing(json!({"request_headers": [{"call_and_pause_for_ms": ["default/verdicts:80", 300]}]}));
    let resources = Resources::forward_to(origin.address()).service("verdicts", &[callee.address()]).filter(filter);
    let proxy = Proxy::start(&resources).await;
    let sent = Instant::now();
    assert_eq!(proxy.client().await.post("/", "body").await.text(), "body");
    assert!(sent.elapsed() >= Duration::from_millis(300), "{:?}", sent.elapsed());
    assert_eq!(callee.count(), 1);
}

#[tokio::test]
async fn end_of_pause_can_reply_pause_again_or_call() {
    let (callee, release) = callee().await;
    release.send(true).ok();
    let origin = Origin::echo(Codec::Http1).await;
    let headers = json!([{"pause_for_ms": 100}]);
    let rows = [
        (json!([{"reply": 418}]), 418, 100),
        (json!([{"pause_for_ms": 100}, {"pause_for_ms": 100}]), 200, 300),
        (json!([{"call": "default/verdicts:80"}]), 200, 100),
        (json!([{"call": "default/unknown:80"}]), 502, 100),
    ];
    for (end, status, least_ms) in rows {
        for isolation in ["isolation: Worker", "isolation: Stream"] {
            let filter = pausing(json!({"request_headers": headers, "pause_end": end})).with_fields(isolation);
            let resources =
                Resources::forward_to(origin.address()).service("verdicts", &[callee.address()]).filter(filter);
            let proxy = Proxy::start(&resources).await;
            let before = origin.count();
            let sent = Instant::now();
            let response = proxy.client().await.post("/", "body").await;
            assert_eq!(response.status, status, "{end}: {}", response.text());
            assert!(sent.elapsed() >= Duration::from_millis(least_ms), "{end}: {:?}", sent.elapsed());
            assert_eq!(origin.count() - before, usize::from(status == 200), "{end}");
        }
    }
    assert_eq!(callee.count(), 2);
}

#[tokio::test]
async fn local_reply_ends_pause_at_once() {
    let config = json!({"request_headers": [{"pause_for_ms": 3_600_000}], "request_body": [{"reply": 403}]});
    let (origin, proxy) = start(pausing(config).with_fields("headerPause: HoldHeaders")).await;
    let response = proxy.client().await.post("/", "body").await;
    assert_eq!((response.status, origin.count()), (403, 0));
}

#[tokio::test]
async fn own_ticks_go_on_beside_pauses() {
    let config = json!({"own_tick_ms": 200, "request_headers": [{"pause_for_ms": 30}]});
    let (_origin, proxy) = start(pausing(config)).await;
    let ticks = sample("own_ticks");
    proxy.wait_for_metric(&ticks, |count| count >= 1.0).await;
    let (before, started) = (proxy.metric(&ticks).await, Instant::now());
    let mut client = proxy.client().await;
    while started.elapsed() < Duration::from_secs(1) {
        assert_eq!(client.get("/").await.status, 200);
    }
    let (count, elapsed) = (proxy.metric(&ticks).await - before, started.elapsed());
    // Each worker has a VM, and each VM at most one tick per period.
    let most = 2.0 * (elapsed.as_secs_f64() / 0.2 + 1.0);
    assert!((2.0..=most).contains(&count), "{count} ticks in {elapsed:?}");
    proxy.wait_for_metric(&ticks, |count| count >= before + most).await;
}

#[tokio::test]
async fn ended_streams_do_not_delay_those_that_wait() {
    let (origin, proxy) = start(pausing(json!({"request_headers": [{"pause_for_ms": 1_500}]}))).await;
    let address = proxy.address().await;
    let sent = Instant::now();
    let mut gone = Vec::new();
    for _ in 0..20 {
        let mut wire = RawConnection::connect(address).await;
        wire.send("GET /gone HTTP/1.1\r\nhost: a\r\n\r\n").await;
        gone.push(wire);
    }
    let mut client = proxy.client().await;
    let (response, ()) = tokio::join!(client.post("/", "body"), async {
        proxy.wait_for_metric("weir_filter_streams_total{filter=\"default/one\"}", |count| count >= 21.0).await;
        gone.into_iter().for_each(RawConnection::reset);
        proxy.wait_for_metric(&sample("ends"), |count| count >= 20.0).await;
    });
    assert_eq!((response.text().as_str(), origin.count()), ("body", 1));
    assert!(sent.elapsed() >= Duration::from_millis(1_500));
    assert_eq!(proxy.metric(&sample("pause_ends")).await, 1.0);
}

#[tokio::test]
async fn filters_in_one_vm_pause_and_tick_apart() {
    let origin = Origin::echo(Codec::Http1).await;
    let filter = |name: &'static str, config: Value| Filter { name, ..pausing(config) }.with_fields("vm: {id: shared}");
    let resources = Resources::forward_to(origin.address())
        .filter(filter("one", json!({"request_headers": [{"pause_for_ms": 200}]})))
        .filter(filter("two", json!({"own_tick_ms": 100, "request_headers": [{"pause_for_ms": 300}]})))
        .filter(filter("three", json!({})));
    let proxy = Proxy::start(&resources).await;
    let sent = Instant::now();
    let all = async {
        let address = proxy.address().await;
        let post = async || Client::http1(address).await.send(Request::post("/").body(full("body")).unwrap()).await;
        tokio::join!(post(), post(), post())
    };
    let (first, second, third) = with_deadline("all responses", Box::pin(all)).await;
    assert_eq!([first.text(), second.text(), third.text()], ["body"; 3]);
    assert!(sent.elapsed() >= Duration::from_millis(500), "{:?}", sent.elapsed());
    // The filters of a VM share their metrics: two pauses of each request, and the ticks of one filter.
    let count = async |name: &str| {
        let page = proxy.page("/stats/prometheus").await.text();
        let samples = page.lines().filter(|line| line.starts_with(&format!("weir_filter_custom_{name}{{")));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>()
    };
    assert_eq!(count("pause_ends").await, 6.0);
    harness::wait_until("own ticks", async || (count("own_ticks").await >= 3.0).then_some(())).await;
    assert_eq!(proxy.metric("weir_filter_vms").await, 1.0);
}
