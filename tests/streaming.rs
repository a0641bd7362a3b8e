//! Long bodies: a gibibyte each way in flat memory, with and without a filter that reads it. A slow reader slows a fast
//! writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use harness::{
    Body, BodyError, Client, Codec, Filter, Origin, Proxy, Resources, full, wait_until, with_deadline, zeros,
    zeros_counted_by,
};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;

const GIB: u64 = 1 << 30;

/// The allowed growth of memory during a gibibyte: buffers of one stream, and free memory of the allocator.
const MAX_GROWTH: u64 = 24 << 20;

/// The bytes that may be in flight between a stopped reader and its writer: windows, buffers of four sockets and of the
/// proxy. Most of them are in the kernel's socket buffers.
const MAX_IN_FLIGHT: u64 = 48 << 20;

/// Reads a body to its end, and returns its length.
async fn drain(mut body: Incoming) -> Result<u64, BodyError> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BodyError)?;
        length += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
    }
    Ok(length)
}

/// Starts an origin that responds to a `POST` with the length of its body, and to `GET /N` with N bytes.
async fn bulk_origin(codec: Codec) -> Origin {
    Origin::start(codec, |request| async move {
        let length = request.uri().path()[1..].parse().unwrap_or(0);
        if request.method() == "POST" {
            return Ok(Response::new(full(drain(request.into_body()).await?.to_string())));
        }
        Ok(Response::new(zeros(length).0))
    })
    .await
}

/// Returns resources that forward everything to the origin, without a request timeout.
fn without_timeout(codec: Codec, origin: &Origin) -> Resources {
    let route = "rules: [{timeouts: {request: 0s}, backendRefs: [{name: origin, port: 80}]}]";
    let resources = match codec {
        Codec::Http1 => Resources::new().service("origin", &[origin.address()]),
        Codec::Http2 => Resources::new().http2_service("origin", &[origin.address()]),
    };
    resources.route("everything", route)
}

fn reading_filter() -> Filter {
    let read = json!([{"do": "read_body"}, {"do": "count_size", "metric": "bulk_bytes"}]);
    Filter::test("reader", json!({"request_body": read, "response_body": read}))
}

async fn check_gibibyte_each_way(codec: Codec, filter: Option<Filter>) {
    let origin = bulk_origin(codec).await;
    let resources = without_timeout(codec, &origin);
    let filtered = filter.is_some();
    let resources = filter.into_iter().fold(resources, Resources::filter);
    let proxy = Proxy::start(&resources).await;
    let mut client = Client::connect(codec, proxy.address().await).await;
    // The first request allocates everything that later ones reuse.
    let warm = client.send_head(Request::get("/1048576").body(harness::empty()).unwrap()).await;
    assert_eq!(with_deadline("a mebibyte", drain(warm.into_body())).await.unwrap(), 1 << 20);
    let before = proxy.memory("VmRSS");

    let up = client.send_head(Request::post("/").body(zeros(GIB).0).unwrap());
    let up = with_long_deadline("a gibibyte up", up).await;
    let received = with_deadline("the origin's count", harness::read(up)).await.unwrap().text();
    assert_eq!(received, GIB.to_string());
    let down = client.send_head(Request::get(format!("/{GIB}")).body(harness::empty()).unwrap()).await;
    assert_eq!(with_long_deadline("a gibibyte down", drain(down.into_body())).await.unwrap(), GIB);

    let peak = proxy.memory("VmHWM");
    let growth = peak.saturating_sub(before);
    assert!(growth < MAX_GROWTH, "memory grew by {} KiB, from {} KiB", growth >> 10, before >> 10);
    if filtered {
        let page = proxy.page("/stats/prometheus").await.text();
        let seen = 2 * GIB + (1 << 20) + GIB.to_string().len() as u64;
        assert!(page.lines().any(|line| line.contains("bulk_bytes") && line.ends_with(&format!(" {seen}"))), "{page}");
    }
}

/// Waits as `harness::with_deadline` does, for six times as long: a gibibyte is slow on a busy machine.
async fn with_long_deadline<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(harness::DEADLINE * 6, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("timed out: {what}"),
    }
}

#[tokio::test]
async fn gibibyte_each_way_without_filter_uses_flat_memory() {
    check_gibibyte_each_way(Codec::Http1, None).await;
}

#[tokio::test]
async fn gibibyte_each_way_over_http2_uses_flat_memory() {
    check_gibibyte_each_way(Codec::Http2, None).await;
}

#[tokio::test]
async fn gibibyte_each_way_through_filter_uses_flat_memory() {
    check_gibibyte_each_way(Codec::Http1, Some(reading_filter())).await;
}

/// Waits until a count of bytes stops growing, and returns it.
async fn wait_until_still(number: &AtomicU64) -> u64 {
    let (mut last, mut unchanged) = (0, 0);
    wait_until("the writer to stop", async || {
        let now = number.load(Ordering::Acquire);
        unchanged = if now == last && now > 0 { unchanged + 1 } else { 0 };
        last = now;
        (unchanged >= 60).then_some(now) // 60 checks take 300 ms.
    })
    .await
}

#[tokio::test]
async fn slow_downstream_slows_origin() {
    for (codec, filter) in [(Codec::Http1, None), (Codec::Http2, None), (Codec::Http1, Some(reading_filter()))] {
        let taken = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&taken);
        let origin = Origin::start(codec, move |_| {
            std::future::ready(Ok(Response::new(zeros_counted_by(GIB, Arc::clone(&shared)))))
        })
        .await;
        let resources = without_timeout(codec, &origin);
        let proxy = Proxy::start(&filter.into_iter().fold(resources, Resources::filter)).await;
        let mut client = Client::connect(codec, proxy.address().await).await;
        let response = client.send_head(Request::get("/slow").body(harness::empty()).unwrap()).await;
        let before = wait_until_still(&taken).await;
        assert!(before < MAX_IN_FLIGHT, "{codec:?}: {before} bytes were read from the origin without a reader");
        // The transfer continues with the reader.
        let mut body = response.into_body();
        let mut read = 0;
        while read < before + (8 << 20) {
            let frame = with_deadline("more", body.frame()).await.unwrap().unwrap();
            read += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
        }
    }
}

#[tokio::test]
async fn slow_origin_slows_downstream() {
    for (codec, filter) in [(Codec::Http1, None), (Codec::Http2, None), (Codec::Http1, Some(reading_filter()))] {
        let (sender, gate) = tokio::sync::watch::channel(false);
        let origin = Origin::start(codec, move |request| {
            let mut gate = gate.clone();
            async move {
                gate.wait_for(|open| *open).await.map_err(|_| BodyError)?;
                let length = drain(request.into_body()).await?;
                Ok(Response::<Body>::new(full(length.to_string())))
            }
        })
        .await;
        let resources = without_timeout(codec, &origin);
        let proxy = Proxy::start(&filter.into_iter().fold(resources, Resources::filter)).await;
        let mut client = Client::connect(codec, proxy.address().await).await;
        let (body, taken) = zeros(96 << 20);
        let pending = client.send(Request::post("/slow").body(body).unwrap());
        let (response, ()) = tokio::join!(pending, async {
            let taken_bytes = wait_until_still(&taken).await;
            assert!(taken_bytes < MAX_IN_FLIGHT, "{codec:?}: {taken_bytes} bytes were read without a reader");
            sender.send_replace(true);
        });
        assert_eq!(response.text(), (96 << 20).to_string(), "{codec:?}");
    }
}
