//! Acceptance test of hot swaps. A filter's module and configuration are replaced repeatedly while `wrk` sends requests
//! through it. Every request must be served, and neither VMs nor memory may leak.
//!
//! The acceptance run was `WEIR_SWAPS=1000`; the suite makes 60 swaps.

use harness::{Filter, Module, Proxy, ProxyOptions, Resources, test_filter, wait_until};
use serde_json::json;

use crate::load::Load;
use crate::{lock_machine, number_from_env, path_origin};

/// Swaps by default.
const SWAPS: usize = 60;

/// Swaps after which everything that is allocated once has been allocated.
const WARMUP_SWAPS: usize = 20;

/// Bytes by which the proxy's memory may grow after the warmup. The allocator retains some freed memory.
const MAX_GROWTH: u64 = 24 << 20;

const WORKERS: usize = 2;

const SCRIPT: &str = r#"
local text
function request() text = text or wrk.format("GET", "/swapped") return text end
function is_right(status, headers, body)
    return status == 200 and body == "/swapped" and headers["x-version"] ~= nil
end
"#;

/// Returns the test filter, and a copy with a custom section, which makes it another module.
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
    let filter = Filter { config, ..Filter::new("swapped", Module::Bytes(file, bytes)) };
    Resources::forward_to(origin).filter(filter)
}

#[tokio::test]
async fn hot_swaps_fail_no_request_and_leak_nothing() {
    let _machine = lock_machine().await;
    let swaps = number_from_env("WEIR_SWAPS", SWAPS);
    let origin = path_origin::start();
    let options = ProxyOptions { workers: Some(WORKERS), ..ProxyOptions::default() };
    let proxy = Proxy::start_with(&resources(0, origin), options).await;
    let load = Load::start(proxy.address().await, 32, SCRIPT);
    let mut client = proxy.client().await;
    let mut memory_after_warmup = 0;
    for version in 1..=swaps {
        proxy.apply_and_wait(&resources(version, origin)).await;
        // A new connection may be of another worker than `client`.
        wait_until("the new version to serve", async || {
            let response = proxy.client().await.get("/swapped").await;
            (response.header("x-version") == Some(&version.to_string())).then_some(())
        })
        .await;
        assert_eq!(client.get("/swapped").await.status, 200);
        if version == WARMUP_SWAPS.min(swaps) {
            memory_after_warmup = proxy.memory("VmRSS");
        }
    }
    let stats = load.stop().await;
    assert_eq!((stats.wrong, stats.broken), (0, 0), "{stats:?}");
    // An old VM is dropped when its last stream ends.
    proxy.wait_for_metric("weir_filter_vms", |vms| vms == WORKERS as f64).await;
    let started = proxy.metric("weir_filter_vms_started_total{filter=\"default/swapped\"}").await;
    assert!(started >= swaps as f64, "{started} VMs were started");
    let growth = proxy.memory("VmRSS").saturating_sub(memory_after_warmup);
    println!(
        "{swaps} swaps, {} requests, 0 failed; memory grew by {} KiB after {WARMUP_SWAPS}",
        stats.requests,
        growth >> 10
    );
    assert!(growth <= MAX_GROWTH, "memory grew by {growth} bytes");
}
