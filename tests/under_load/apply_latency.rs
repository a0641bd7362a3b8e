//! Report of the latency of an apply: from the first byte sent to the API to the first response of the proxy that shows
//! the change. The duration of a request without a change is printed for comparison. `WEIR_APPLIES=1000` measures 1,000
//! applies.

use harness::{Client, ControlPlane, Origin, Resources, wait_until, with_deadline};
use tokio::time::Instant;

use crate::{lock_machine, number_from_env, percentile};

/// Applies by default.
const APPLIES: usize = 100;

#[tokio::test]
async fn apply_latency_is_reported() {
    let _machine = lock_machine().await;
    let origin = Origin::text("here").await;
    let control = ControlPlane::start().await;
    let base = Resources::forward_to(origin.address());
    control.apply(&base).await;
    let proxy = control.proxy("p1", &[]).await;
    wait_until("a response", async || {
        proxy.find_listener("default/edge/http").await?;
        (proxy.get("/").await.status == 200).then_some(())
    })
    .await;
    let mut client = Client::http1(proxy.address().await).await;
    let (mut acknowledged, mut served, mut unchanged) = (Vec::new(), Vec::new(), Vec::new());
    for version in 0..number_from_env("WEIR_APPLIES", APPLIES) {
        let rule = format!(
            "rules: [{{matches: [{{path: {{type: Exact, value: /v}}}}], filters: [{{type: ResponseHeaderModifier, \
             responseHeaderModifier: {{set: [{{name: x-version, value: v{version}}}]}}}}], \
             backendRefs: [{{name: origin, port: 80}}]}}]"
        );
        let resources = base.clone().route("versioned", &rule);
        let start = Instant::now();
        control.apply(&resources).await;
        acknowledged.push(start.elapsed().as_micros());
        let expected = format!("v{version}");
        with_deadline("the change to serve", async {
            while client.get("/v").await.header("x-version") != Some(expected.as_str()) {}
        })
        .await;
        served.push(start.elapsed().as_micros());
        let start = Instant::now();
        client.get("/v").await;
        unchanged.push(start.elapsed().as_micros());
    }
    let print = |label: &str, times: &[u128]| {
        let [p50, p99] = [50, 99].map(|percent| percentile(times, percent));
        println!("{label}: p50 {:.1} ms, p99 {:.1} ms", p50 as f64 / 1e3, p99 as f64 / 1e3);
    };
    print("acknowledged, and stored on disk", &acknowledged);
    print("served", &served);
    print("a request without a change", &unchanged);
}
