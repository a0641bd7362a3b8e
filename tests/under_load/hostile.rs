//! Acceptance of hostile filters: 32 connections make a filter do harm while 200 long streams go through it, and the
//! other routes of the same worker go on. One worker, so that everything meets on one thread.

use std::net::SocketAddr;
use std::time::Duration;

use harness::{Body, BodySender, Client, Codec, Filter, Origin, Proxy, Resources, in_steps, until, within};
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::load::Load;
use crate::waits::{self, Waits, percentile};
use crate::{machine, path_origin, setting};

/// Long streams through the hostile filter.
const STREAMS: usize = 200;

/// Connections that make it do harm.
const HAMMERS: usize = 32;

/// Connections on the other route.
const OTHERS: usize = 8;

/// For how long each load is looked at at a time, in milliseconds: long enough that the first failures of a filter, which
/// come close together, are no more than what a hundredth of the requests meets.
const LOOK_MS: usize = 2_000;

/// How often harm is looked at, with its breaker reset each time. The other programs of a machine make one of the looks
/// worse than the filter does, but not most of them: their median counts.
const LOOKS: usize = 3;

/// The longest that one request of another route may take.
const LONGEST_STALL: Duration = Duration::from_millis(100);

/// Up to here a machine of two cores makes a hundredth of the requests wait when something else runs on it.
const NOISE: Duration = Duration::from_millis(20);

/// What a VM and its streams may add to the proxy's memory; a VM's own cap is 16 MiB and there are two.
const MEMORY_CAP: u64 = 96 << 20;

/// In which callback the filter does harm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Headers,
    Body,
}

/// What a filter does, and how that shows.
#[derive(Debug, Clone, Copy)]
struct Harm {
    step: &'static str,
    place: Place,
    /// The access log's detail; `None` when it harms nobody but itself and lives on.
    detail: Option<&'static str>,
    policy: &'static str,
}

#[tokio::test]
async fn endless_loops() {
    suffer("spin", Some("filter_deadline")).await;
}

#[tokio::test]
async fn endless_allocations() {
    suffer("hoard", Some("filter_out_of_memory")).await;
}

#[tokio::test]
async fn panics() {
    suffer("panic", Some("filter_trap")).await;
}

#[tokio::test]
async fn floods_of_log_lines() {
    suffer("flood", Some("filter_deadline")).await;
}

#[tokio::test]
async fn pointers_to_nowhere() {
    suffer("garbage", None).await;
}

#[tokio::test]
async fn open_policy_lets_the_streams_go_on() {
    let _machine = machine().await;
    let harm = Harm { step: "spin", place: Place::Headers, detail: Some("filter_deadline"), policy: "failure: Open" };
    run(harm).await;
}

async fn suffer(step: &'static str, detail: Option<&'static str>) {
    let _machine = machine().await;
    for place in [Place::Headers, Place::Body] {
        run(Harm { step, place, detail, policy: "failure: Closed" }).await;
    }
}

impl Harm {
    fn config(self) -> Value {
        let callback = if self.place == Place::Headers { "request_headers" } else { "request_body" };
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
            .filter(Filter::test("hostile", self.config()).with(self.policy).before("guarded"))
    }
}

async fn run(harm: Harm) {
    let echo = Origin::echoes(Codec::Http1).await;
    let proxy = Proxy::start(&harm.resources(echo.address(), path_origin::start())).await;
    let address = proxy.address().await;
    let streams = open_streams(address).await;
    let before = proxy.memory("VmRSS");

    let alone = look(address).await;
    let hammers = Load::start(address, HAMMERS, &script("/guarded/fine"));
    let harmless = look(address).await;
    hammers.stop().await;
    let since = Instant::now();
    let hammers = Load::start(address, HAMMERS, &script("/guarded/harm"));
    let mut looks = vec![look(address).await];
    while looks.len() < LOOKS {
        proxy.command("/plugins/reset?name=default/hostile").await;
        looks.push(look(address).await);
    }
    let hammers = hammers.stop().await;
    println!("\n{harm:?}");
    print_waits("alone", &alone);
    print_waits("beside harmless requests", &harmless);
    looks.iter().for_each(|harmed| print_waits("beside harm", harmed));
    println!("  hammers: {hammers:?}");

    let ended = end_of_streams(harm, streams).await;
    println!("  {STREAMS} long streams: {ended} ended by the filter");
    assert_others_go_on(&alone, &harmless, &looks);
    assert_named(&proxy, harm, ended).await;
    assert_works_again(&proxy).await;
    let grown = proxy.memory("VmHWM").saturating_sub(before);
    println!("  memory grew by {} KiB at most; works again after {:?}", grown >> 10, since.elapsed());
    assert!(grown < MEMORY_CAP, "memory grew by {grown} bytes");
}

/// Looks at the other route for a while.
async fn look(address: SocketAddr) -> Waits {
    let length = Duration::from_millis(setting("WEIR_LOOK_MS", LOOK_MS) as u64);
    waits::look(address, OTHERS, length).await
}

fn print_waits(what: &str, waits: &Waits) {
    println!("  other route {what:<26} p99 {:?} max {:?} of {}", waits.p99, waits.max, waits.requests);
}

/// Requests with a body, whatever becomes of them.
fn script(path: &str) -> String {
    format!(
        "wrk.method = \"POST\" wrk.body = \"harm\"\nlocal text\nfunction request()\n    text = text or wrk.format(nil, \
         \"{path}\")\n    return text\nend\nfunction is_right() return true end"
    )
}

struct LongStream {
    sender: BodySender,
    body: Incoming,
    _client: Client,
}

/// Requests whose bodies go on; the origin echoes, so that each has a response under way, too.
async fn open_streams(address: SocketAddr) -> Vec<LongStream> {
    let mut streams = Vec::new();
    for number in 0..STREAMS {
        let mut client = Client::http1(address).await;
        let (sender, body) = in_steps();
        let request: Request<Body> = Request::post(format!("/guarded/long/{number}")).body(body).unwrap();
        let response = client.begin(request).await;
        assert_eq!((response.status(), response.headers().contains_key("x-filter")), (http::StatusCode::OK, true));
        streams.push(LongStream { sender, body: response.into_body(), _client: client });
    }
    streams
}

/// How many have ended as the failure policy says. None may hang, none may look whole.
async fn end_of_streams(harm: Harm, streams: Vec<LongStream>) -> usize {
    let mut broken = 0;
    for (number, stream) in streams.into_iter().enumerate() {
        let LongStream { sender, body, _client } = stream;
        let lives_on = harm.detail.is_none() || harm.is_open();
        let what = format!("the end of stream {number}");
        let end = within(&what, finish(lives_on, sender, body)).await;
        broken += usize::from(end.is_err());
        match end {
            Ok(bytes) => assert!(lives_on && bytes == b"the end", "stream {number} ended as if whole: {bytes:?}"),
            Err(error) => assert!(!lives_on, "stream {number} was broken off: {error}"),
        }
    }
    broken
}

/// A stream that lives on is ended by its downstream; another one ends without that.
async fn finish(lives_on: bool, sender: BodySender, body: Incoming) -> hyper::Result<Vec<u8>> {
    let mut kept = Some(sender);
    if lives_on && let Some(sender) = kept.take() {
        sender.data("the end").await;
    }
    let end = body.collect().await.map(|whole| whole.to_bytes().to_vec());
    drop(kept);
    end
}

/// Other programs on the machine make requests wait, too: what they do to undisturbed requests is let pass.
fn assert_others_go_on(alone: &Waits, harmless: &Waits, looks: &[Waits]) {
    let p99 = median(looks, |look| look.p99);
    let stall = median(looks, |look| look.max);
    let undisturbed = harmless.p99.max(alone.p99);
    let ratio = p99.as_secs_f64() / undisturbed.as_secs_f64();
    println!("  p99 beside harm is {ratio:.2} of undisturbed, the longest stall {stall:?}");
    assert!(p99 <= (undisturbed * 2).max(NOISE), "p99 of the other route: {looks:?}, {harmless:?} without");
    let allowed = LONGEST_STALL + harmless.max.max(alone.max);
    assert!(stall <= allowed, "stalls of more than {allowed:?}: {looks:?}");
}

fn median(looks: &[Waits], figure: impl Fn(&Waits) -> Duration) -> Duration {
    percentile(&looks.iter().map(figure).collect::<Vec<_>>(), 50)
}

/// Metric, log and access log say which filter it was.
async fn assert_named(proxy: &Proxy, harm: Harm, ended: usize) {
    let Some(detail) = harm.detail else {
        assert_eq!(ended, 0);
        return;
    };
    let expected = if harm.is_open() { 0 } else { STREAMS };
    assert_eq!(ended, expected);
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
        proxy.access_log_line(|line| line["details"] == detail && line["plugin"] == "default/hostile").await;
    }
}

/// After its back-off the filter is called again.
async fn assert_works_again(proxy: &Proxy) {
    let mut client = proxy.client().await;
    until("the filter to work again", async || {
        let answer = client.post("/guarded/fine", "fine").await;
        (answer.status == 200 && answer.header("x-filter") == Some("was here")).then_some(())
    })
    .await;
}
