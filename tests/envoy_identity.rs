//! A real Envoy in the mesh: an agent serves its certificates by SDS, and it authenticates to `weir-proxy` as
//! downstream and as upstream. Needs Envoy; see `cargo xtask test`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use harness::mesh::{EDGE_ARGS, INNER_ARGS, resources};
use harness::{Agent, Client, ControlOptions, ControlPlane, Envoy, Origin, Resources, empty, free_address, wait_until};
use http::Request;

/// Returns the resources of `edge` and `inner`, which listen on the ports of these addresses.
fn mesh(origin: SocketAddr, edge: SocketAddr, inner: SocketAddr, account: &str) -> Resources {
    let text = resources(origin, inner, account).text().replace("15008", &inner.port().to_string());
    Resources::empty().yaml(&text.replace("port: 8000", &format!("port: {}", edge.port())))
}

async fn wait_for_response(address: SocketAddr, status: u16, text: &str, envoy: &Envoy) {
    wait_until(&format!("{status} {text:?} at {address}; the log of Envoy:\n{}", envoy.log()), async || {
        let response = Client::http1(address).await.get("/").await;
        (response.status == status && response.text().contains(text)).then_some(())
    })
    .await;
}

async fn assert_no_rejection(envoy: &Envoy) {
    let stats = envoy.page("/stats?filter=update_rejected").await;
    let rejected = stats.lines().find(|line| line.contains("rejected: ") && !line.ends_with(": 0"));
    assert_eq!(rejected, None, "Envoy rejected a resource:\n{}", envoy.log());
}

#[tokio::test]
async fn envoy_with_agent_rejects_plaintext_and_renews_certificate() {
    let (origin, edge, inner) = (Origin::text("here").await, free_address(), free_address());
    // A short lifetime: the certificate is renewed during the test.
    let arguments = ["--certificate-lifetime", "4s"].map(str::to_owned).to_vec();
    let control = ControlPlane::start_with(ControlOptions { arguments, ..ControlOptions::default() }).await;
    control.apply(&mesh(origin.address(), edge, inner, "inner")).await;
    let agent = Agent::start(&control, "default/inner").await;
    let mode = std::fs::metadata(agent.socket()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let envoy = Envoy::follow_as(control.xds(), "default/inner", &agent).await;
    let proxy = control.mesh_proxy("edge", &EDGE_ARGS).await;
    wait_until("the listener", async || proxy.find_listener("default/edge/http").await).await;
    let address = proxy.address().await;
    wait_for_response(address, 200, "here", &envoy).await;
    let plaintext = Client::http1(inner).await.try_send(Request::get("/").body(empty()).unwrap()).await;
    assert!(plaintext.is_err(), "plaintext is rejected");

    let renewals = || agent.log().matches("identity sent to the Envoy").count();
    let before = renewals();
    wait_until("another certificate", async || {
        assert_eq!(Client::http1(address).await.get("/").await.status, 200);
        (renewals() >= before + 2).then_some(())
    })
    .await;
    assert_eq!(Client::http1(address).await.get("/").await.status, 200);
    let log = agent.log();
    assert!(!log.contains("PRIVATE"), "{log}");
    assert_no_rejection(&envoy).await;
}

#[tokio::test]
async fn envoy_with_agent_authenticates_and_verifies_upstream() {
    let (origin, edge) = (Origin::text("here").await, free_address());
    let control = ControlPlane::start().await;
    control.apply(&mesh(origin.address(), edge, free_address(), "inner")).await;
    let inner = control.mesh_proxy("inner", &INNER_ARGS).await;
    let at = wait_until("the listener of inner", async || inner.find_listener("default/inner/mesh").await).await;
    control.apply(&mesh(origin.address(), edge, at, "inner")).await;
    let agent = Agent::start(&control, "default/edge").await;
    let envoy = Envoy::follow_as(control.xds(), "default/edge", &agent).await;
    wait_for_response(edge, 200, "here", &envoy).await;
    let line = inner.access_log_for("/").await;
    assert_eq!(line["peer_identity"], "spiffe://weir.local/ns/default/sa/edge");
    // The object's status names the field that Envoy cannot apply.
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: BackendTrafficPolicy\nmetadata: {name: patience}\nspec: {targetRefs: [{kind: \
                  Service, name: inner}], timeouts: {request: 5s}}\n";
    control.apply(&Resources::empty().yaml(policy)).await;
    let status = control.get("resources/BackendTrafficPolicy/default/patience").await["status"].clone();
    let note = status["notes"][0].as_str().unwrap_or_default();
    assert!(note.starts_with("envoy is an Envoy, which applies `timeouts.request` of routes alone"), "{status}");
    // The upstream has another identity than the ServiceEntry's.
    control.apply(&mesh(origin.address(), edge, at, "other")).await;
    wait_for_response(edge, 503, "", &envoy).await;
    assert_no_rejection(&envoy).await;
}
