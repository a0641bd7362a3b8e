//! Acceptance of hot swaps: a filter's module and its configuration are exchanged again and again while `wrk` runs through
//! it. Every request is served, by the version that was there when it came; no VM is left behind, and no memory.
//!
//! `WEIR_SWAPS=1000` is what was accepted; the suite takes fewer.

use harness::{Filter, Module, Proxy, ProxyOptions, Resources, test_filter, until};
use serde_json::json;

use crate::load::Load;
use crate::{machine, path_origin, setting};

/// Swaps when nobody asks for more.
const SWAPS: usize = 60;

/// After so many swaps everything that is made once has been made.
const WARM: usize = 20;

/// What the proxy's memory may gain between then and the end, in bytes: what an allocator keeps.
const MAX_GAIN: u64 = 24 << 20;

const WORKERS: usize = 2;

const SCRIPT: &str = r#"
local text
function request() text = text or wrk.format("GET", "/swapped") return text end
function is_right(status, headers, body)
    return status == 200 and body == "/swapped" and headers["x-version"] ~= nil
end
"#;

/// The test filter, and the same with a section that nobody reads: another module to whoever loads it.
fn modules() -> [(&'static str, Vec<u8>); 2] {
    let bytes = std::fs::read(test_filter()).unwrap();
    let other = [&bytes[..], &[0, 3, 1, b'v', b'2']].concat();
    [("even.wasm", bytes), ("odd.wasm", other)]
}

fn resources(version: usize, origin: std::net::SocketAddr) -> Resources {
    let [even, odd] = modules();
    let (file, bytes) = if version.is_multiple_of(2) { even } else { odd };
    let config = json!({
        "tick_ms": 10,
        "request_headers": [{"do": "shared_count", "key": "requests", "name": "x-count", "map": "request"}],
        "response_headers": [{"do": "set", "name": "x-version", "value": version.to_string()}]
    });
    let filter = Filter { config, ..Filter::of("swapped", Module::Bytes(file, bytes)) };
    Resources::forward_to(origin).filter(filter)
}

#[tokio::test]
async fn hot_swaps_fail_nobody_and_leave_nothing() {
    let _machine = machine().await;
    let swaps = setting("WEIR_SWAPS", SWAPS);
    let origin = path_origin::start();
    let options = ProxyOptions { workers: Some(WORKERS), ..ProxyOptions::default() };
    let proxy = Proxy::start_with(&resources(0, origin), options).await;
    let load = Load::start(proxy.address().await, 32, SCRIPT);
    let mut client = proxy.client().await;
    let mut warm = 0;
    for version in 1..=swaps {
        proxy.change(&resources(version, origin)).await;
        // A connection is a worker's: this one sees the change as soon as its worker has it.
        until("the new version to serve", async || {
            let answer = proxy.client().await.get("/swapped").await;
            (answer.header("x-version") == Some(&version.to_string())).then_some(())
        })
        .await;
        assert_eq!(client.get("/swapped").await.status, 200);
        if version == WARM.min(swaps) {
            warm = proxy.memory("VmRSS");
        }
    }
    let figures = load.stop().await;
    assert_eq!((figures.wrong, figures.broken), (0, 0), "{figures:?}");
    // Old VMs are done with once their last stream has ended.
    proxy.wait_for_metric("filter_vms", |vms| vms == WORKERS as f64).await;
    let started = proxy.metric("filter_vms_started_total{plugin=\"default/swapped\"}").await;
    assert!(started >= swaps as f64, "{started} VMs were started");
    let gain = proxy.memory("VmRSS").saturating_sub(warm);
    println!("{swaps} swaps, {} requests, 0 failed; memory grew by {} KiB after {WARM}", figures.requests, gain >> 10);
    assert!(gain <= MAX_GAIN, "memory grew by {gain} bytes");
}
