//! A real Envoy in the mesh: an agent beside it gets its identity, and it proves by that who it is, to our proxies and as
//! one of them. Needs Envoy; see `cargo xtask test`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use harness::mesh::{EDGE, INNER, resources};
use harness::{Agent, Client, ControlOptions, ControlPlane, Envoy, Origin, Resources, empty, free_address, until};
use http::Request;

/// What both serve, where `edge` and `inner` listen at these ports.
fn mesh(origin: SocketAddr, edge: SocketAddr, inner: SocketAddr, account: &str) -> Resources {
    let text = resources(origin, inner, account).text().replace("15008", &inner.port().to_string());
    Resources::nothing().yaml(&text.replace("port: 8000", &format!("port: {}", edge.port())))
}

async fn says(address: SocketAddr, expected: (u16, &str), envoy: &Envoy) {
    until(&format!("{expected:?} at {address}; the log of Envoy:\n{}", envoy.log()), async || {
        let answer = Client::http1(address).await.get("/").await;
        (answer.status == expected.0 && answer.text().contains(expected.1)).then_some(())
    })
    .await;
}

async fn assert_no_refusal(envoy: &Envoy) {
    let stats = envoy.page("/stats?filter=update_rejected").await;
    let refused = stats.lines().find(|line| line.contains("rejected: ") && !line.ends_with(": 0"));
    assert_eq!(refused, None, "Envoy refuses what it is told:\n{}", envoy.log());
}

#[tokio::test]
async fn an_envoy_answers_workloads_of_the_mesh_alone() {
    let (origin, edge, inner) = (Origin::says("here").await, free_address(), free_address());
    // Short lives: it gets another certificate while it serves.
    let arguments = ["--certificate-lifetime", "4s"].map(str::to_owned).to_vec();
    let control = ControlPlane::start_with(ControlOptions { arguments, ..ControlOptions::default() }).await;
    control.apply(&mesh(origin.address(), edge, inner, "inner")).await;
    let agent = Agent::start(&control, "default/inner").await;
    let mode = std::fs::metadata(agent.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let envoy = Envoy::follow_as(control.xds(), "default/inner", &agent).await;
    let proxy = control.mesh_proxy("edge", &EDGE).await;
    until("the listener", async || proxy.find_listener("default/edge/http").await).await;
    let address = proxy.address().await;
    says(address, (200, "here"), &envoy).await;
    let stranger = Client::http1(inner).await.attempt(Request::get("/").body(empty()).unwrap()).await;
    assert!(stranger.is_err(), "plain text is not answered");

    let given = || agent.log().matches("the Envoy gets its identity").count();
    let before = given();
    until("another certificate", async || {
        assert_eq!(Client::http1(address).await.get("/").await.status, 200);
        (given() >= before + 2).then_some(())
    })
    .await;
    assert_eq!(Client::http1(address).await.get("/").await.status, 200);
    let key = agent.log();
    assert!(!key.contains("PRIVATE"), "{key}");
    assert_no_refusal(&envoy).await;
}

#[tokio::test]
async fn an_envoy_proves_who_it_is_and_asks_who_is_there() {
    let (origin, edge) = (Origin::says("here").await, free_address());
    let control = ControlPlane::start().await;
    control.apply(&mesh(origin.address(), edge, free_address(), "inner")).await;
    let inner = control.mesh_proxy("inner", &INNER).await;
    let at = until("the listener of inner", async || inner.find_listener("default/inner/mesh").await).await;
    control.apply(&mesh(origin.address(), edge, at, "inner")).await;
    let agent = Agent::start(&control, "default/edge").await;
    let envoy = Envoy::follow_as(control.xds(), "default/edge", &agent).await;
    says(edge, (200, "here"), &envoy).await;
    let line = inner.logged("/").await;
    assert_eq!(line["peer_identity"], "spiffe://weir.local/ns/default/sa/edge");
    // What it cannot do is said where it was asked for.
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: BackendPolicy\nmetadata: {name: patience}\nspec: {targetRefs: [{kind: \
                  Service, name: inner}], timeouts: {request: 5s}}\n";
    control.apply(&Resources::nothing().yaml(policy)).await;
    let status = control.get("resources/BackendPolicy/default/patience").await["status"].clone();
    let note = status["notes"][0].as_str().unwrap_or_default();
    assert!(note.starts_with("envoy is an Envoy, which applies `timeouts.request` of routes alone"), "{status}");
    // Somebody else is there than should be.
    control.apply(&mesh(origin.address(), edge, at, "somebody")).await;
    says(edge, (503, ""), &envoy).await;
    assert_no_refusal(&envoy).await;
}
