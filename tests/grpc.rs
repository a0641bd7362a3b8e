//! gRPC clients without a proxy follow the control plane: they balance over a Service of ours, and notice what changes. The
//! clients and servers are grpc-js; see `cargo xtask test`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use harness::{ControlPlane, GrpcClient, GrpcServer, Resources, until};

fn echo(endpoints: &[SocketAddr]) -> Resources {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("{{address: \"{address}\"}}")).collect();
    Resources::nothing().yaml(&format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Service\nmetadata: {{name: echo, namespace: shop}}\nspec: {{ports: [{{name: \
         grpc, port: 80, protocol: HTTP2}}], endpoints: [{}]}}\n",
        endpoints.join(", ")
    ))
}

#[tokio::test]
async fn a_client_without_a_proxy_balances_over_a_service() {
    let control = ControlPlane::start().await;
    let servers = [GrpcServer::start().await, GrpcServer::start().await, GrpcServer::start().await];
    let all: Vec<_> = servers.iter().map(GrpcServer::address).collect();
    control.apply(&echo(&all)).await;
    let mut client = GrpcClient::start(control.xds(), "xds:///echo.shop:80");
    let port = |address: &SocketAddr| address.port().to_string();
    // It begins with those that it is connected to.
    until("all three", async || (client.call(30).await.len() == 3).then_some(())).await;
    let answers = client.call(300).await;
    let shares: Vec<_> = all.iter().map(|address| answers[&port(address)]).collect();
    assert!(shares.iter().all(|share| (95..=105).contains(share)), "one after another: {answers:?}");

    control.apply(&echo(&all[1..])).await;
    until("the first one to be left alone", async || {
        let answers = client.call(20).await;
        assert!(answers.keys().all(|key| !key.starts_with("error")), "{answers:?}");
        (!answers.contains_key(&port(&all[0]))).then_some(())
    })
    .await;
    let proxies = control.get("proxies").await;
    let program = proxies[0]["program"].as_str().unwrap();
    assert!(program.starts_with("gRPC") && proxies[0]["failed"].as_array().unwrap().is_empty(), "{proxies}");
}

#[tokio::test]
async fn a_service_that_is_not_there_fails_and_works_when_it_comes() {
    let control = ControlPlane::start().await;
    let server = GrpcServer::start().await;
    let mut client = GrpcClient::start(control.xds(), "xds:///echo.shop:80");
    let (answers, _) = tokio::join!(client.call(1), async {
        until("the client", async || (!control.get("proxies").await.as_array()?.is_empty()).then_some(())).await;
        control.apply(&echo(&[server.address()])).await;
    });
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), [(server.address().port().to_string(), 1)]);
}
