//! A mesh that is on its way: plain text is answered where mutual TLS is asked for, until its time is over.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use harness::{Answer, Client, ControlPlane, Mesh, Origin, Resources, empty, read, until};
use http::Request;
use serde_json::Value;

/// A Mesh that answers plain text until so many seconds from now.
fn permissive(seconds: u64) -> Resources {
    let end = SystemTime::now() + Duration::from_secs(seconds);
    let end = jiff::Timestamp::try_from(end).unwrap().round(jiff::Unit::Second).unwrap();
    Resources::nothing().yaml(&format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Mesh\nmetadata: {{name: default}}\nspec: {{mtls: {{mode: Permissive, until: \
         \"{end}\"}}}}\n"
    ))
}

#[tokio::test]
async fn plain_text_is_answered_until_its_time_is_over() {
    let origin = Origin::says("here").await;
    let control = ControlPlane::start().await;
    let mesh_of_two = Mesh::start(&control, origin.address()).await;
    let inner = mesh_of_two.inner.listener("default/inner/mesh").await;
    assert!(is_refused(inner).await, "without a Mesh it is strict");

    control.apply(&permissive(3_600)).await;
    let mut http1 = until("plain text to be answered", async || plain(inner).await).await;
    assert_eq!(Client::http2(inner).await.get("/").await.text(), "here");
    assert_eq!(mesh_of_two.edge.get("/who").await.text(), "here", "and whoever proves who he is");
    assert_eq!(mesh_of_two.inner.logged("/who").await["peer_identity"], "spiffe://weir.local/ns/default/sa/edge");
    assert_eq!(http1.get("/plain").await.text(), "here");
    assert_eq!(mesh_of_two.inner.logged("/plain").await["peer_identity"], Value::Null, "he is nobody");

    // The proxy keeps to the end by itself, also on connections that are open.
    control.apply(&permissive(2)).await;
    until("the end of plain text", async || (http1.get("/").await.status == 400).then_some(())).await;
    assert!(is_refused(inner).await);
    assert_eq!(mesh_of_two.edge.get("/").await.text(), "here");
    let none = control.ask("DELETE", "resources/Mesh/-/default", "").await;
    assert_eq!(none.status, 200, "{}", none.text());
    assert!(is_refused(inner).await);
}

#[tokio::test]
async fn who_is_nobody_is_not_let_in_by_a_rule_for_workloads() {
    let origin = Origin::says("here").await;
    let control = ControlPlane::start().await;
    let both = Mesh::start(&control, origin.address()).await;
    let inner = both.inner.listener("default/inner/mesh").await;
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: AccessPolicy\nmetadata: {name: callers}\nspec: {targetRefs: [{kind: \
                  Gateway, name: inner}], rules: [{name: edge, action: Allow, workloads: [{serviceAccount: edge}]}]}\n";
    control.apply(&Resources::nothing().yaml(policy)).await;
    control.apply(&permissive(3_600)).await;
    until("the policy", async || {
        let answer = ask(&mut Client::http1(inner).await).await?;
        (answer.status == 403).then_some(())
    })
    .await;
    assert_eq!(both.edge.get("/").await.text(), "here");
}

/// A connection in plain text that was answered; nothing when it was refused.
async fn plain(address: SocketAddr) -> Option<Client> {
    let mut client = Client::http1(address).await;
    let answer = ask(&mut client).await?;
    (answer.text() == "here").then_some(client)
}

async fn is_refused(address: SocketAddr) -> bool {
    ask(&mut Client::http1(address).await).await.is_none()
}

async fn ask(client: &mut Client) -> Option<Answer> {
    let response = client.attempt(Request::get("/").body(empty()).unwrap()).await.ok()?;
    read(response).await.ok()
}
