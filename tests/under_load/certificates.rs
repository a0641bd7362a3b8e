//! Certificates that live for a short time, under load between two proxies that use mutual TLS: each renewal makes new
//! certificates, each round of the test makes the connections anew, and in the middle the root is rotated. No request
//! fails.
//!
//! `WEIR_CERTIFICATE_SECONDS=60 WEIR_SECONDS=900` is what was accepted; the suite takes less.

use std::time::Duration;

use harness::{ControlOptions, ControlPlane, Mesh, Resources};
use serde_json::Value;
use tokio::time::Instant;

use crate::load::Load;
use crate::{machine, path_origin, setting};

/// Life of a certificate when nobody asks for more, in seconds.
const LIFETIME: usize = 5;

/// How long the load goes on, in seconds.
const DURATION: usize = 24;

/// Asks again and again; anything but the path is wrong.
const SCRIPT: &str = r#"
function request() return wrk.format("GET", "/") end
function is_right(status, headers, body) return status == 200 and body == "/" end
"#;

#[tokio::test]
async fn certificates_change_and_the_root_rotates_and_no_request_fails() {
    let _machine = machine().await;
    let lifetime = setting("WEIR_CERTIFICATE_SECONDS", LIFETIME);
    let seconds = setting("WEIR_SECONDS", DURATION);
    let duration = Duration::from_secs(seconds as u64);
    let origin = path_origin::start(); // Remembers nothing: there are millions of requests.
    let arguments = vec!["--certificate-lifetime".to_owned(), format!("{lifetime}s")];
    let control = ControlPlane::start_with(ControlOptions { arguments, ..ControlOptions::default() }).await;
    let mesh = Mesh::start(&control, origin).await;
    let first = control.get("authority").await["roots"][0]["sha256"].clone();
    let load = Load::start(mesh.edge.address().await, 8, SCRIPT);

    let (began, mut rotated, mut rounds) = (Instant::now(), false, 0);
    let mut seen: Vec<usize> = Vec::new();
    while began.elapsed() < duration {
        rounds += 1;
        if !rotated && began.elapsed() > duration / 3 {
            let answer = control.ask("POST", "authority/rotation", "").await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            rotated = true;
        }
        // A cluster that is another opens connections of its own, with the certificates of now.
        control.apply(&policy(rounds)).await;
        seen.push(control.get("authority").await["roots"].as_array().unwrap().len());
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let figures = load.stop().await;
    let handshakes = mesh.inner.metric("downstream_connections_total{listener=\"default/inner/mesh\"}").await;

    let renewals = [&mesh.edge, &mesh.inner].map(|proxy| proxy.log().matches("has signed our certificate").count());
    println!(
        "{} requests in {} s, {} wrong, {} broken; certificates of {lifetime} s: {renewals:?} signed, {rounds} rounds, \
         {handshakes} handshakes between the proxies; p99 {:?}, slowest {:?}",
        figures.requests,
        duration.as_secs(),
        figures.wrong,
        figures.broken,
        figures.p99,
        figures.max
    );
    assert_eq!((figures.wrong, figures.broken), (0, 0));
    assert!(handshakes >= rounds as f64, "{handshakes} handshakes in {rounds} rounds");
    let least = seconds * 3 / 2 / lifetime; // Each at half of its life: twice, without those at both ends.
    assert!(renewals.iter().all(|count| *count > least), "{renewals:?}, at least {least} were due");
    seen.dedup();
    assert_eq!(seen, [1, 2, 1], "one root, both, one root");
    let roots = control.get("authority").await["roots"].clone();
    assert_ne!(roots[0]["sha256"], first, "the new one is left");
    assert_eq!(roots[0].get("ends"), None::<&Value>);
}

/// Another setting of how `inner` is reached in each round.
fn policy(round: usize) -> Resources {
    let milliseconds = 2_000 + round;
    Resources::nothing().yaml(&format!(
        "apiVersion: weir.dev/v1alpha1\nkind: BackendPolicy\nmetadata: {{name: anew}}\nspec: {{targetRefs: [{{group: \
         weir.dev, kind: Service, name: inner}}], timeouts: {{connect: {milliseconds}ms}}}}\n"
    ))
}
