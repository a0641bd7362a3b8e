//! Proxyless gRPC clients follow the control plane: they balance over the endpoints of a ServiceEntry, and apply
//! changes. Clients and servers are grpc-js; see `cargo xtask test`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;

use harness::{ControlPlane, GrpcClient, GrpcServer, Resources, wait_until};

fn echo(endpoints: &[SocketAddr]) -> Resources {
    let endpoints: Vec<_> = endpoints.iter().map(|address| format!("{{address: \"{address}\"}}")).collect();
    Resources::empty().yaml(&format!(
        "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: echo, namespace: shop}}\nspec: {{ports: [{{name: \
         grpc, port: 80, protocol: HTTP2}}], endpoints: [{}]}}\n",
        endpoints.join(", ")
    ))
}

#[tokio::test]
async fn proxyless_client_balances_over_endpoints() {
    let control = ControlPlane::start().await;
    let servers = [GrpcServer::start().await, GrpcServer::start().await, GrpcServer::start().await];
    let all: Vec<_> = servers.iter().map(GrpcServer::address).collect();
    control.apply(&echo(&all)).await;
    let mut client = GrpcClient::start(control.xds(), "xds:///echo.shop:80");
    let port = |address: &SocketAddr| address.port().to_string();
    // The client starts with the endpoints to which it is connected.
    wait_until("all three", async || (client.call(30).await.len() == 3).then_some(())).await;
    let responses = client.call(300).await;
    let shares: Vec<_> = all.iter().map(|address| responses[&port(address)]).collect();
    assert!(shares.iter().all(|share| (95..=105).contains(share)), "round robin: {responses:?}");

    control.apply(&echo(&all[1..])).await;
    wait_until("the removed endpoint to get no calls", async || {
        let responses = client.call(20).await;
        assert!(responses.keys().all(|key| !key.starts_with("error")), "{responses:?}");
        (!responses.contains_key(&port(&all[0]))).then_some(())
    })
    .await;
    let proxies = control.get("proxies").await;
    let program = proxies[0]["program"].as_str().unwrap();
    assert!(program.starts_with("gRPC") && proxies[0]["failed"].as_array().unwrap().is_empty(), "{proxies}");
}

#[tokio::test]
async fn proxyless_client_waits_for_missing_service() {
    let control = ControlPlane::start().await;
    let server = GrpcServer::start().await;
    let mut client = GrpcClient::start(control.xds(), "xds:///echo.shop:80");
    let (responses, _) = tokio::join!(client.call(1), async {
        wait_until("the client", async || (!control.get("proxies").await.as_array()?.is_empty()).then_some(())).await;
        control.apply(&echo(&[server.address()])).await;
    });
    assert_eq!(responses.into_iter().collect::<Vec<_>>(), [(server.address().port().to_string(), 1)]);
}
