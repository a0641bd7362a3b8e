//! ClientTrafficPolicy and BackendTrafficPolicy in a real Envoy beside Weir: both apply the same bounds.

use std::net::SocketAddr;

use harness::{Client, Codec, Origin, RawConnection, RawOrigin, Resources, wait_until};

use crate::{ControlPlane, Proxies};

/// Requests of one downstream connection.
const MAX_REQUESTS: usize = 3;

fn policy(kind: &str, fields: &str) -> String {
    format!("apiVersion: weir.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: bounds}}\nspec: {{{fields}}}\n")
}

fn get(headers: usize) -> String {
    let many: String = (0..headers).map(|index| format!("x-many-{index}: 1\r\n")).collect();
    format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n")
}

/// Sends a request on a new connection, and returns the status of its response.
async fn status(address: SocketAddr, request: &str) -> u16 {
    let mut wire = RawConnection::connect(address).await;
    wire.send(request).await;
    let head = wire.head().await;
    head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("{head:?}"))
}

/// Returns the number of responses on one connection until the one with `connection: close`, which must be its last.
async fn requests_until_close(address: SocketAddr) -> usize {
    let mut wire = RawConnection::connect(address).await;
    for count in 1..=100 {
        wire.send(get(1)).await;
        let (head, body) = wire.response().await;
        assert!(head.starts_with("HTTP/1.1 200 ") && body == "here", "{head}");
        if head.to_ascii_lowercase().contains("connection: close\r\n") {
            assert_eq!(wire.rest().await, "", "the connection closes");
            return count;
        }
    }
    panic!("no response has `connection: close`")
}

#[tokio::test]
async fn both_proxies_apply_client_traffic_policy() {
    let origin = Origin::text("here").await;
    let mut control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(origin.address()));
    let both = Proxies::start(&control, "DELTA_GRPC").await;
    both.wait_for("/", 200, "here").await;
    let bounds = format!("http1: {{maxHeaders: 20, maxHeadBytes: 8Ki, maxRequestsPerConnection: {MAX_REQUESTS}}}");
    let policy = policy("ClientTrafficPolicy", &bounds);
    control.apply(&Resources::forward_to(origin.address()).yaml(&policy));
    for (name, address) in [("weir", both.weir.address().await), ("envoy", both.envoy.address())] {
        wait_until(&format!("431 of {name}; the log of Envoy:\n{}", both.envoy.log()), async || {
            (status(address, &get(40)).await == 431).then_some(())
        })
        .await;
        assert_eq!(status(address, &get(10)).await, 200, "{name}");
        let long = format!("GET / HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "x".repeat(10_000));
        assert_eq!(status(address, &long).await, 431, "{name}");
        assert_eq!(requests_until_close(address).await, MAX_REQUESTS, "{name}");
    }
    both.assert_no_rejection().await;
}

/// Starts an origin whose responses have a header of its own, and the names of the request's headers as their body.
async fn naming_origin() -> RawOrigin {
    RawOrigin::start(|mut wire| async move {
        while let Some(head) = wire.try_head().await {
            let names: Vec<&str> = head.lines().filter_map(|line| Some(line.split_once(':')?.0)).collect();
            let names = names.join(" ");
            wire.send(format!("HTTP/1.1 200 OK\r\nX-Own: 1\r\nContent-LENGTH: {}\r\n\r\n{names}", names.len())).await;
        }
    })
    .await
}

#[tokio::test]
async fn both_proxies_preserve_header_case() {
    let origin = naming_origin().await;
    let of_requests = policy("ClientTrafficPolicy", "http1: {preserveHeaderCase: true}");
    let targets = "targetRefs: [{kind: Service, name: origin}]";
    let of_responses = policy("BackendTrafficPolicy", &format!("{targets}, http1: {{preserveHeaderCase: true}}"));
    let mut control = ControlPlane::start().await;
    control.apply(&Resources::forward_to(origin.address()).yaml(&format!("{of_requests}---\n{of_responses}")));
    let both = Proxies::start(&control, "DELTA_GRPC").await;
    both.wait_for("/", 200, "").await;
    for (name, address) in [("weir", both.weir.address().await), ("envoy", both.envoy.address())] {
        let mut wire = RawConnection::connect(address).await;
        wire.send("GET / HTTP/1.1\r\nX-Mixed-cASE: 1\r\nHost: a\r\nx-lower: 1\r\n\r\n").await;
        let (head, names) = wire.response().await;
        let has = |text: &str, sent: &[&str]| sent.iter().all(|sent| text.split(' ').any(|name| name == *sent));
        assert!(has(&names, &["X-Mixed-cASE", "x-lower"]), "{name}: {names}");
        assert!(head.contains("\r\nX-Own: 1\r\n") && head.contains("\r\nContent-LENGTH: "), "{name}: {head}");
    }
    both.assert_no_rejection().await;
}

#[tokio::test]
async fn both_proxies_apply_backend_traffic_policy() {
    for codec in [Codec::Http1, Codec::Http2] {
        let origin = Origin::echo(codec).await;
        let fields = "targetRefs: [{kind: Service, name: origin}], http1: {maxRequestsPerConnection: 2}";
        let policy = policy("BackendTrafficPolicy", fields);
        let mut control = ControlPlane::start().await;
        control.apply(&Resources::forward(codec, origin.address()).yaml(&policy));
        let both = Proxies::start(&control, "DELTA_GRPC").await;
        both.wait_for("/", 200, "").await;
        for (name, address) in [("weir", both.weir.address().await), ("envoy", both.envoy.address())] {
            let before = origin.connections();
            let mut client = Client::http1(address).await;
            for _ in 0..8 {
                assert_eq!(client.post("/", "body").await.text(), "body", "{name} over {codec:?}");
            }
            // A connection of before may serve one of the eight.
            assert_eq!(origin.connections() - before, 4, "{name} over {codec:?}");
        }
        both.assert_no_rejection().await;
    }
}
