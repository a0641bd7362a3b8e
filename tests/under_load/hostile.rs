//! Acceptance test of hostile filters. Requests of 32 connections make a filter do harm while 200 long streams pass it.
//! Other routes must stay fast. The proxy has one worker, so that all streams share one thread.

use std::net::SocketAddr;
use std::time::Duration;

use harness::{
    Body, BodySender, Client, Codec, Filter, Origin, Proxy, Resources, body_channel, wait_until, with_deadline,
};
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::latency::{self, LatencySummary, percentile};
use crate::load::Load;
use crate::{lock_machine, number_from_env, path_origin};

/// Long streams through the hostile filter.
const STREAMS: usize = 200;

/// Connections whose requests make the filter do harm.
const HARMFUL_CONNECTIONS: usize = 32;

/// Connections of the other route.
const OTHER_CONNECTIONS: usize = 8;

/// Duration of one measurement in milliseconds. It is long enough that the first failures of a filter, which follow
/// each other closely, delay less than a hundredth of the requests.
const WINDOW_MS: usize = 2_000;

/// Measurements during harm. The filter's breaker is reset before each. The median counts, since other programs on the
/// machine disturb single measurements.
const WINDOWS: usize = 3;

/// Longest duration of a request of the other route.
const LONGEST_STALL: Duration = Duration::from_millis(100);

/// p99 that other programs can cause on a machine of two cores.
const NOISE: Duration = Duration::from_millis(20);

/// Bytes that the VMs and their streams may add to the proxy's memory. There are two VMs of up to 16 MiB.
const MEMORY_CAP: u64 = 96 << 20;

/// Callback in which the filter does harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CallbackKind {
    Headers,
    Body,
}

/// Harm of a filter, and the expected report of its failure.
#[derive(Debug, Clone, Copy)]
struct HarmCase {
    step: &'static str,
    callback: CallbackKind,
    /// `response_code_details` in the access log. `None` if the filter does not fail.
    detail: Option<&'static str>,
    policy: &'static str,
}

#[tokio::test]
async fn endless_loop_does_not_slow_other_routes() {
    run_in_both_callbacks("loop_forever", Some("filter_deadline")).await;
}

#[tokio::test]
async fn endless_allocation_does_not_slow_other_routes() {
    run_in_both_callbacks("allocate_forever", Some("filter_out_of_memory")).await;
}

#[tokio::test]
async fn panic_does_not_slow_other_routes() {
    run_in_both_callbacks("panic", Some("filter_trap")).await;
}

#[tokio::test]
async fn log_flood_does_not_slow_other_routes() {
    run_in_both_callbacks("flood_log", Some("filter_deadline")).await;
}

#[tokio::test]
async fn invalid_pointers_do_not_slow_other_routes() {
    run_in_both_callbacks("invalid_pointers", None).await;
}

#[tokio::test]
async fn fail_open_policy_does_not_break_streams() {
    let _machine = lock_machine().await;
    let harm = HarmCase {
        step: "loop_forever",
        callback: CallbackKind::Headers,
        detail: Some("filter_deadline"),
        policy: "failurePolicy: FailOpen",
    };
    run(harm).await;
}

async fn run_in_both_callbacks(step: &'static str, detail: Option<&'static str>) {
    let _machine = lock_machine().await;
    for callback in [CallbackKind::Headers, CallbackKind::Body] {
        run(HarmCase { step, callback, detail, policy: "failurePolicy: FailClosed" }).await;
    }
}

impl HarmCase {
    fn config(self) -> Value {
        let callback = if self.callback == CallbackKind::Headers { "request_headers" } else { "request_body" };
        let stamp = json!([{"do": "set", "name": "x-filter", "value": "was here"}]);
        json!({callback: [{"do": self.step, "path": "/guarded/harm"}], "response_headers": stamp})
    }

    fn is_open(self) -> bool {
        self.policy.ends_with("Open")
    }

    fn resources(self, echo: SocketAddr, plain: SocketAddr) -> Resources {
        let rules = |path: &str, service: &str| {
            format!(
                "rules: [{{matches: [{{path: {{type: PathPrefix, value: /{path}}}}}], backendRefs: [{{name: {service}, port: 80}}]}}]"
            )
        };
        Resources::new()
            .service("echo", &[echo])
            .service("plain", &[plain])
            .route("guarded", &rules("guarded", "echo"))
            .route("other", &rules("other", "plain"))
            .filter(Filter::test("hostile", self.config()).with_fields(self.policy).targeting("guarded"))
    }
}

async fn run(harm: HarmCase) {
    let echo = Origin::echo(Codec::Http1).await;
    let proxy = Proxy::start(&harm.resources(echo.address(), path_origin::start())).await;
    let address = proxy.address().await;
    let streams = open_streams(address).await;
    let before = proxy.memory("VmRSS");

    let idle = measure(address).await;
    let load = Load::start(address, HARMFUL_CONNECTIONS, &script("/guarded/fine"));
    let harmless = measure(address).await;
    load.stop().await;
    let start = Instant::now();
    let load = Load::start(address, HARMFUL_CONNECTIONS, &script("/guarded/harm"));
    let mut windows = vec![measure(address).await];
    while windows.len() < WINDOWS {
        proxy.command("/plugins/reset?name=default/hostile").await;
        windows.push(measure(address).await);
    }
    let load = load.stop().await;
    println!("\n{harm:?}");
    print_latency("without load", &idle);
    print_latency("beside harmless requests", &harmless);
    windows.iter().for_each(|harmed| print_latency("beside harm", harmed));
    println!("  harmful requests: {load:?}");

    let broken = count_broken_streams(harm, streams).await;
    println!("  {STREAMS} long streams: {broken} ended by the filter");
    assert_other_route_unharmed(&idle, &harmless, &windows);
    assert_failure_reported(&proxy, harm, broken).await;
    wait_until_recovered(&proxy).await;
    let grown = proxy.memory("VmHWM").saturating_sub(before);
    println!("  memory grew by {} KiB at most; works again after {:?}", grown >> 10, start.elapsed());
    assert!(grown < MEMORY_CAP, "memory grew by {grown} bytes");
}

/// Measures the latency of the other route.
async fn measure(address: SocketAddr) -> LatencySummary {
    let duration = Duration::from_millis(number_from_env("WEIR_WINDOW_MS", WINDOW_MS) as u64);
    latency::measure(address, OTHER_CONNECTIONS, duration).await
}

fn print_latency(what: &str, latency: &LatencySummary) {
    println!("  other route {what:<26} p99 {:?} max {:?} of {}", latency.p99, latency.max, latency.requests);
}

/// Returns a script of wrk: requests with a body, for which every response is right.
fn script(path: &str) -> String {
    format!(
        "wrk.method = \"POST\" wrk.body = \"harm\"\nlocal text\nfunction request()\n    text = text or wrk.format(nil, \
         \"{path}\")\n    return text\nend\nfunction is_right() return true end"
    )
}

/// A stream whose request body has not ended.
struct LongStream {
    sender: BodySender,
    body: Incoming,
    _client: Client,
}

/// Opens streams whose request bodies do not end. The origin echoes, so each has an unfinished response, too.
async fn open_streams(address: SocketAddr) -> Vec<LongStream> {
    let mut streams = Vec::new();
    for number in 0..STREAMS {
        let mut client = Client::http1(address).await;
        let (sender, body) = body_channel();
        let request: Request<Body> = Request::post(format!("/guarded/long/{number}")).body(body).unwrap();
        let response = client.send_head(request).await;
        assert_eq!((response.status(), response.headers().contains_key("x-filter")), (http::StatusCode::OK, true));
        streams.push(LongStream { sender, body: response.into_body(), _client: client });
    }
    streams
}

/// Returns the number of broken streams. Panics if a stream hangs, or ends otherwise than its failure policy demands.
async fn count_broken_streams(harm: HarmCase, streams: Vec<LongStream>) -> usize {
    let mut broken = 0;
    for (number, stream) in streams.into_iter().enumerate() {
        let LongStream { sender, body, _client } = stream;
        let survives = harm.detail.is_none() || harm.is_open();
        let what = format!("the end of stream {number}");
        let end = with_deadline(&what, finish(survives, sender, body)).await;
        broken += usize::from(end.is_err());
        match end {
            Ok(bytes) => assert!(survives && bytes == b"the end", "stream {number} ended as if complete: {bytes:?}"),
            Err(error) => assert!(!survives, "stream {number} was broken: {error}"),
        }
    }
    broken
}

/// Ends a surviving stream from the downstream and returns its response body. Waits for the end of another stream, after
/// more data.
async fn finish(survives: bool, sender: BodySender, body: Incoming) -> hyper::Result<Vec<u8>> {
    let mut open_sender = Some(sender);
    if survives && let Some(sender) = open_sender.take() {
        sender.data("the end").await;
    } else if let Some(sender) = &open_sender {
        // The proxy waits for a downstream that sends nothing; the next event meets the failed filter.
        sender.data("more").await;
    }
    let end = body.collect().await.map(|whole| whole.to_bytes().to_vec());
    drop(open_sender);
    end
}

/// Panics if the other route is slow during harm. Delays that also occur without harm are subtracted.
fn assert_other_route_unharmed(idle: &LatencySummary, harmless: &LatencySummary, windows: &[LatencySummary]) {
    let p99 = median(windows, |window| window.p99);
    let stall = median(windows, |window| window.max);
    let undisturbed = harmless.p99.max(idle.p99);
    let ratio = p99.as_secs_f64() / undisturbed.as_secs_f64();
    println!("  p99 beside harm is {ratio:.2} of undisturbed, the longest stall {stall:?}");
    assert!(p99 <= (undisturbed * 2).max(NOISE), "p99 of the other route: {windows:?}, {harmless:?} without");
    let allowed = LONGEST_STALL + harmless.max.max(idle.max);
    assert!(stall <= allowed, "stalls of more than {allowed:?}: {windows:?}");
}

fn median(windows: &[LatencySummary], figure: impl Fn(&LatencySummary) -> Duration) -> Duration {
    percentile(&windows.iter().map(figure).collect::<Vec<_>>(), 50)
}

/// Panics unless metric, log and access log name the failed filter.
async fn assert_failure_reported(proxy: &Proxy, harm: HarmCase, broken: usize) {
    let Some(detail) = harm.detail else {
        assert_eq!(broken, 0);
        return;
    };
    let expected = if harm.is_open() { 0 } else { STREAMS };
    assert_eq!(broken, expected);
    let line = proxy.wait_for_log("filter failed too often").await;
    assert!(line.contains("default/hostile"), "{line}");
    let line = proxy.wait_for_log("filter failed; its VM is replaced").await;
    assert!(line.contains("default/hostile"), "{line}");
    let page = proxy.page("/stats/prometheus").await.text();
    let opened = page.lines().find(|line| line.contains("breaker") && line.contains("default/hostile"));
    let opened = opened.unwrap_or_else(|| panic!("no breaker of the filter in {page}"));
    println!("  {opened}");
    assert!(!opened.ends_with(" 0"), "{opened}");
    if !harm.is_open() {
        proxy
            .access_log_line(|line| line["response_code_details"] == detail && line["filter"] == "default/hostile")
            .await;
    }
}

/// Blocks until the filter is called again, after the back-off of its breaker.
async fn wait_until_recovered(proxy: &Proxy) {
    let mut client = proxy.client().await;
    wait_until("the filter to work again", async || {
        let answer = client.post("/guarded/fine", "fine").await;
        (answer.status == 200 && answer.header("x-filter") == Some("was here")).then_some(())
    })
    .await;
}
