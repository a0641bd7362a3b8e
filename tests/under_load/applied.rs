//! How long an apply takes until it serves: from the first byte sent to the API to the first answer of the proxy that shows
//! it. Reported, beside what a request takes alone; `WEIR_APPLIES=1000` measures as many.

use harness::{Client, ControlPlane, Origin, Resources, until, within};
use tokio::time::Instant;

use crate::{machine, percentile, setting};

/// Changes when nobody asks for more.
const APPLIES: usize = 100;

#[tokio::test]
async fn an_apply_serves_soon() {
    let _machine = machine().await;
    let origin = Origin::says("here").await;
    let control = ControlPlane::start().await;
    let base = Resources::forward_to(origin.address());
    control.apply(&base).await;
    let proxy = control.proxy("p1", &[]).await;
    until("an answer", async || {
        proxy.find_listener("default/edge/http").await?;
        (proxy.get("/").await.status == 200).then_some(())
    })
    .await;
    let mut client = Client::http1(proxy.address().await).await;
    let (mut acknowledged, mut served, mut alone) = (Vec::new(), Vec::new(), Vec::new());
    for version in 0..setting("WEIR_APPLIES", APPLIES) {
        let rule = format!(
            "rules: [{{matches: [{{path: {{type: Exact, value: /v}}}}], filters: [{{type: ResponseHeaderModifier, \
             responseHeaderModifier: {{set: [{{name: x-version, value: v{version}}}]}}}}], \
             backendRefs: [{{name: origin, port: 80}}]}}]"
        );
        let resources = base.clone().route("versioned", &rule);
        let began = Instant::now();
        control.apply(&resources).await;
        acknowledged.push(began.elapsed().as_micros());
        let expected = format!("v{version}");
        within("the change to serve", async {
            while client.get("/v").await.header("x-version") != Some(expected.as_str()) {}
        })
        .await;
        served.push(began.elapsed().as_micros());
        let began = Instant::now();
        client.get("/v").await;
        alone.push(began.elapsed().as_micros());
    }
    let print = |what: &str, times: &[u128]| {
        let [half, most] = [50, 99].map(|percent| percentile(times, percent));
        println!("{what}: p50 {:.1} ms, p99 {:.1} ms", half as f64 / 1e3, most as f64 / 1e3);
    };
    print("acknowledged, which is on disk", &acknowledged);
    print("serves", &served);
    print("a request alone", &alone);
}
