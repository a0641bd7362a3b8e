//! Acceptance test of short certificate lifetimes, under load between two proxies with mutual TLS. Certificates are
//! renewed, each round of the test opens new connections, and the root is rotated once. No request may fail.
//!
//! The acceptance run was `WEIR_CERTIFICATE_SECONDS=60 WEIR_SECONDS=900`; the suite runs 24 s.

use std::time::Duration;

use harness::{ControlOptions, ControlPlane, MeshPair, Resources};
use serde_json::Value;
use tokio::time::Instant;

use crate::load::Load;
use crate::{lock_machine, number_from_env, path_origin};

/// Lifetime of a certificate by default, in seconds.
const LIFETIME: usize = 5;

/// Duration of the load by default, in seconds.
const DURATION: usize = 24;

/// Script of wrk: requests `/`. The response must be the path.
const SCRIPT: &str = r#"
function request() return wrk.format("GET", "/") end
function is_right(status, headers, body) return status == 200 and body == "/" end
"#;

#[tokio::test]
async fn certificate_renewal_and_root_rotation_fail_no_request() {
    let _machine = lock_machine().await;
    let lifetime = number_from_env("WEIR_CERTIFICATE_SECONDS", LIFETIME);
    let seconds = number_from_env("WEIR_SECONDS", DURATION);
    let duration = Duration::from_secs(seconds as u64);
    let origin = path_origin::start(); // Stores no requests: there are millions.
    let arguments = vec!["--certificate-lifetime".to_owned(), format!("{lifetime}s")];
    let control = ControlPlane::start_with(ControlOptions { arguments, ..ControlOptions::default() }).await;
    let mesh = MeshPair::start(&control, origin).await;
    let first = control.get("authority").await["roots"][0]["sha256"].clone();
    let load = Load::start(mesh.edge.address().await, 8, SCRIPT);

    let (start, mut is_rotated, mut rounds) = (Instant::now(), false, 0);
    let mut root_counts: Vec<usize> = Vec::new();
    while start.elapsed() < duration {
        rounds += 1;
        if !is_rotated && start.elapsed() > duration / 3 {
            let response = control.request("POST", "authority/rotation", "").await;
            assert_eq!(response.status, 200, "{}", response.text());
            is_rotated = true;
        }
        // A changed cluster opens new connections, with the current certificates.
        control.apply(&policy(rounds)).await;
        root_counts.push(control.get("authority").await["roots"].as_array().unwrap().len());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let stats = load.stop().await;
    let handshakes = mesh.inner.metric("weir_downstream_connections_total{listener=\"default/inner/mesh\"}").await;

    let renewals =
        [&mesh.edge, &mesh.inner].map(|proxy| proxy.log().matches("certificate issued by the control plane").count());
    println!(
        "{} requests in {} s, {} wrong, {} broken; certificates of {lifetime} s: {renewals:?} signed, {rounds} rounds, \
         {handshakes} handshakes between the proxies; p99 {:?}, slowest {:?}",
        stats.requests,
        duration.as_secs(),
        stats.wrong,
        stats.broken,
        stats.p99,
        stats.max
    );
    assert_eq!((stats.wrong, stats.broken), (0, 0));
    assert!(handshakes >= rounds as f64, "{handshakes} handshakes in {rounds} rounds");
    // Each proxy renews at half of the lifetime. The factor of 3/2 in place of 2 leaves out the beginning and the end.
    let min_renewals = seconds * 3 / 2 / lifetime;
    assert!(renewals.iter().all(|count| *count > min_renewals), "{renewals:?}, more than {min_renewals} were due");
    root_counts.dedup();
    assert_eq!(root_counts, [1, 2, 1], "one root, both, one root");
    let roots = control.get("authority").await["roots"].clone();
    assert_ne!(roots[0]["sha256"], first, "the new root remains");
    assert_eq!(roots[0].get("ends"), None::<&Value>);
}

/// Returns a policy for `inner` with another connect timeout in each round.
fn policy(round: usize) -> Resources {
    let milliseconds = 2_000 + round;
    Resources::empty().yaml(&format!(
        "apiVersion: weir.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {{name: anew}}\nspec: {{targetRefs: [{{group: \
         weir.dev, kind: ServiceEntry, name: inner}}], timeouts: {{connect: {milliseconds}ms}}}}\n"
    ))
}
