//! Long bodies: a gigabyte each way in flat memory, with and without a filter that reads it; a slow reader holds back a
//! fast writer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use harness::{
    Body, Broken, Client, Codec, Filter, Origin, Proxy, Resources, counted, counted_by, full, until, within,
};
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;

const GIB: u64 = 1 << 30;

/// How much more memory a gigabyte may take: what one stream buffers, and what the allocator keeps.
const MAX_GROWTH: u64 = 24 << 20;

/// What may be on its way between a stopped reader and its writer: windows, buffers of four sockets and of the proxy.
/// The kernel's socket buffers are by far the most of it.
const MAX_IN_FLIGHT: u64 = 48 << 20;

/// Reads a body to its end and counts it.
async fn drain(mut body: Incoming) -> Result<u64, Broken> {
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Broken)?;
        length += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
    }
    Ok(length)
}

/// `POST` is read to its end and counted; `GET /N` is answered with N bytes.
async fn bulk(codec: Codec) -> Origin {
    Origin::start(codec, |request| async move {
        let length = request.uri().path()[1..].parse().unwrap_or(0);
        if request.method() == "POST" {
            return Ok(Response::new(full(drain(request.into_body()).await?.to_string())));
        }
        Ok(Response::new(counted(length).0))
    })
    .await
}

/// Everything goes to the origin, and may take as long as it takes.
fn patient(codec: Codec, origin: &Origin) -> Resources {
    let route = "rules: [{timeouts: {request: 0s}, backendRefs: [{name: origin, port: 80}]}]";
    let resources = match codec {
        Codec::Http1 => Resources::new().service("origin", &[origin.address()]),
        Codec::Http2 => Resources::new().http2_service("origin", &[origin.address()]),
    };
    resources.route("everything", route)
}

fn reading() -> Filter {
    let read = json!([{"do": "read_body"}, {"do": "count_size", "metric": "bulk_bytes"}]);
    Filter::test("reader", json!({"request_body": read, "response_body": read}))
}

async fn a_gibibyte_each_way(codec: Codec, filter: Option<Filter>) {
    let origin = bulk(codec).await;
    let resources = patient(codec, &origin);
    let filtered = filter.is_some();
    let resources = filter.into_iter().fold(resources, Resources::filter);
    let proxy = Proxy::start(&resources).await;
    let mut client = Client::speaking(codec, proxy.address().await).await;
    // The first megabyte brings everything that is made once.
    let warm = client.begin(Request::get("/1048576").body(harness::empty()).unwrap()).await;
    assert_eq!(within("a megabyte", drain(warm.into_body())).await.unwrap(), 1 << 20);
    let before = proxy.memory("VmRSS");

    let up = client.begin(Request::post("/").body(counted(GIB).0).unwrap());
    let up = within_a_while("a gibibyte up", up).await;
    let received = within("the origin's count", harness::read(up)).await.unwrap().text();
    assert_eq!(received, GIB.to_string());
    let down = client.begin(Request::get(format!("/{GIB}")).body(harness::empty()).unwrap()).await;
    assert_eq!(within_a_while("a gibibyte down", drain(down.into_body())).await.unwrap(), GIB);

    let peak = proxy.memory("VmHWM");
    let growth = peak.saturating_sub(before);
    assert!(growth < MAX_GROWTH, "memory grew by {} KiB, from {} KiB", growth >> 10, before >> 10);
    if filtered {
        let page = proxy.page("/stats/prometheus").await.text();
        let seen = 2 * GIB + (1 << 20) + GIB.to_string().len() as u64;
        assert!(page.lines().any(|line| line.contains("bulk_bytes") && line.ends_with(&format!(" {seen}"))), "{page}");
    }
}

/// A gigabyte takes a while on a busy machine.
async fn within_a_while<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(harness::DEADLINE * 6, future).await {
        Ok(outcome) => outcome,
        Err(_) => panic!("waited in vain: {what}"),
    }
}

#[tokio::test]
async fn a_gibibyte_each_way_without_a_filter() {
    a_gibibyte_each_way(Codec::Http1, None).await;
}

#[tokio::test]
async fn a_gibibyte_each_way_over_http2() {
    a_gibibyte_each_way(Codec::Http2, None).await;
}

#[tokio::test]
async fn a_gibibyte_each_way_through_a_filter_that_reads_it() {
    a_gibibyte_each_way(Codec::Http1, Some(reading())).await;
}

/// Waits until a number stands still, which is when nobody takes any more, and returns it.
async fn at_rest(number: &AtomicU64) -> u64 {
    let (mut last, mut looks) = (0, 0);
    until("the writer to be held back", async || {
        let now = number.load(Ordering::Acquire);
        looks = if now == last && now > 0 { looks + 1 } else { 0 };
        last = now;
        (looks >= 60).then_some(now) // 60 looks are 300 ms.
    })
    .await
}

#[tokio::test]
async fn a_slow_downstream_holds_back_a_fast_origin() {
    for (codec, filter) in [(Codec::Http1, None), (Codec::Http2, None), (Codec::Http1, Some(reading()))] {
        let taken = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&taken);
        let origin =
            Origin::start(codec, move |_| std::future::ready(Ok(Response::new(counted_by(GIB, Arc::clone(&shared))))))
                .await;
        let resources = patient(codec, &origin);
        let proxy = Proxy::start(&filter.into_iter().fold(resources, Resources::filter)).await;
        let mut client = Client::speaking(codec, proxy.address().await).await;
        let response = client.begin(Request::get("/slow").body(harness::empty()).unwrap()).await;
        let before = at_rest(&taken).await;
        assert!(before < MAX_IN_FLIGHT, "{codec:?}: {before} bytes were taken from the origin though nobody reads");
        // It goes on when the reader does.
        let mut body = response.into_body();
        let mut read = 0;
        while read < before + (8 << 20) {
            let frame = within("more", body.frame()).await.unwrap().unwrap();
            read += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
        }
    }
}

#[tokio::test]
async fn a_slow_origin_holds_back_a_fast_downstream() {
    for (codec, filter) in [(Codec::Http1, None), (Codec::Http2, None), (Codec::Http1, Some(reading()))] {
        let (sender, gate) = tokio::sync::watch::channel(false);
        let origin = Origin::start(codec, move |request| {
            let mut gate = gate.clone();
            async move {
                gate.wait_for(|open| *open).await.map_err(|_| Broken)?;
                let length = drain(request.into_body()).await?;
                Ok(Response::<Body>::new(full(length.to_string())))
            }
        })
        .await;
        let resources = patient(codec, &origin);
        let proxy = Proxy::start(&filter.into_iter().fold(resources, Resources::filter)).await;
        let mut client = Client::speaking(codec, proxy.address().await).await;
        let (body, taken) = counted(96 << 20);
        let asked = client.send(Request::post("/slow").body(body).unwrap());
        let (answer, ()) = tokio::join!(asked, async {
            let held = at_rest(&taken).await;
            assert!(held < MAX_IN_FLIGHT, "{codec:?}: {held} bytes were taken though nobody reads");
            sender.send_replace(true);
        });
        assert_eq!(answer.text(), (96 << 20).to_string(), "{codec:?}");
    }
}
