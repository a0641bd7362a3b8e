//! Permissive mode: listeners with mutual TLS accept plaintext until a point in time.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use harness::{Client, ClientResponse, ControlPlane, MeshPair, Origin, Resources, empty, read, wait_until};
use http::Request;
use serde_json::Value;

/// Returns a Mesh that is permissive for `seconds` from now.
fn permissive(seconds: u64) -> Resources {
    let end = SystemTime::now() + Duration::from_secs(seconds);
    let end = jiff::Timestamp::try_from(end).unwrap().round(jiff::Unit::Second).unwrap();
    Resources::empty().yaml(&format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Mesh\nmetadata: {{name: default}}\nspec: {{mtls: {{mode: Permissive, until: \
         \"{end}\"}}}}\n"
    ))
}

#[tokio::test]
async fn plaintext_is_accepted_until_end_of_permissive_mode() {
    let origin = Origin::text("here").await;
    let control = ControlPlane::start().await;
    let mesh_of_two = MeshPair::start(&control, origin.address()).await;
    let inner = mesh_of_two.inner.listener("default/inner/mesh").await;
    assert!(is_refused(inner).await, "the default is strict");

    control.apply(&permissive(3_600)).await;
    let mut http1 = wait_until("plaintext to be accepted", async || connect_plaintext(inner).await).await;
    assert_eq!(Client::http2(inner).await.get("/").await.text(), "here");
    assert_eq!(mesh_of_two.edge.get("/who").await.text(), "here", "mutual TLS is still accepted");
    assert_eq!(
        mesh_of_two.inner.access_log_for("/who").await["peer_identity"],
        "spiffe://weir.local/ns/default/sa/edge"
    );
    assert_eq!(http1.get("/plain").await.text(), "here");
    assert_eq!(
        mesh_of_two.inner.access_log_for("/plain").await["peer_identity"],
        Value::Null,
        "a plaintext peer has no identity"
    );

    // The proxy enforces the end by itself, also on open connections.
    control.apply(&permissive(2)).await;
    wait_until("the end of permissive mode", async || (http1.get("/").await.status == 400).then_some(())).await;
    assert!(is_refused(inner).await);
    assert_eq!(mesh_of_two.edge.get("/").await.text(), "here");
    let deleted = control.request("DELETE", "resources/Mesh/-/default", "").await;
    assert_eq!(deleted.status, 200, "{}", deleted.text());
    assert!(is_refused(inner).await);
}

#[tokio::test]
async fn workload_rule_rejects_unauthenticated_peer() {
    let origin = Origin::text("here").await;
    let control = ControlPlane::start().await;
    let both = MeshPair::start(&control, origin.address()).await;
    let inner = both.inner.listener("default/inner/mesh").await;
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: AuthorizationPolicy\nmetadata: {name: callers}\nspec: {targetRefs: [{kind: \
                  Gateway, name: inner}], rules: [{name: edge, action: Allow, principals: [{serviceAccount: edge}]}]}\n";
    control.apply(&Resources::empty().yaml(policy)).await;
    control.apply(&permissive(3_600)).await;
    wait_until("the policy", async || {
        let response = try_get(&mut Client::http1(inner).await).await?;
        (response.status == 403).then_some(())
    })
    .await;
    assert_eq!(both.edge.get("/").await.text(), "here");
}

/// Opens a plaintext connection. Returns `None` if its request is not answered.
async fn connect_plaintext(address: SocketAddr) -> Option<Client> {
    let mut client = Client::http1(address).await;
    let response = try_get(&mut client).await?;
    (response.text() == "here").then_some(client)
}

async fn is_refused(address: SocketAddr) -> bool {
    try_get(&mut Client::http1(address).await).await.is_none()
}

async fn try_get(client: &mut Client) -> Option<ClientResponse> {
    let response = client.try_send(Request::get("/").body(empty()).unwrap()).await.ok()?;
    read(response).await.ok()
}
