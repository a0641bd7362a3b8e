//! Listeners are added, removed and moved. A port in use by another process is rejected.

use std::net::{SocketAddr, TcpListener};

use harness::{Origin, Proxy, ProxyOptions, RawConnection, Resources, wait_until};
use tokio::net::TcpStream;

/// Returns a Gateway with one listener on a port that no `--bind` replaces.
fn on_port(name: &str, port: u16) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  \
         gatewayClassName: weir\n  addresses: [{{type: IPAddress, value: 127.0.0.1}}]\n  listeners:\n    - {{name: \
         http, port: {port}, protocol: HTTP}}\n"
    )
}

fn route(gateway: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {gateway}}}\nspec: {{parentRefs: \
         [{{name: {gateway}}}], rules: [{{backendRefs: [{{name: origin, port: 80}}]}}]}}\n"
    )
}

#[tokio::test]
async fn listener_can_be_added_and_removed() {
    let origin = Origin::text("hello").await;
    let one = || Resources::forward_to(origin.address());
    let two = one().gateway("second", &["http"]).yaml(&route("second"));
    // The second listener gets a free port, too, when it is added.
    let first = one().bind("default/second/http");
    let proxy = Proxy::start_with(&first, ProxyOptions { workers: Some(2), ..ProxyOptions::default() }).await;
    assert_eq!(proxy.find_listener("default/second/http").await, None);
    proxy.apply_and_wait(&two).await;
    let address = proxy.listener("default/second/http").await;
    let mut client = harness::Client::http1(address).await;
    assert_eq!(client.get("/").await.text(), "hello");
    proxy.apply_and_wait(&one()).await;
    client.closed().await;
    wait_until("the port to be closed", async || TcpStream::connect(address).await.err()).await;
    assert_eq!(proxy.get("/").await.text(), "hello", "the other listener is unaffected");
    assert_eq!(proxy.find_listener("default/second/http").await, None);
}

#[tokio::test]
async fn removed_listener_completes_request_in_flight() {
    let (sender, body) = harness::body_channel();
    let body = parking_lot::Mutex::new(Some(body));
    let origin = Origin::start(harness::Codec::Http1, move |_| {
        let body = body.lock().take().unwrap_or_else(harness::empty);
        std::future::ready(Ok(http::Response::new(body)))
    })
    .await;
    let one = || Resources::forward_to(origin.address());
    let two = one().gateway("second", &["http"]).yaml(&route("second"));
    let proxy = Proxy::start(&two).await;
    let mut client = harness::Client::http1(proxy.listener("default/second/http").await).await;
    sender.data("begun").await;
    let response = client.send_head(http::Request::get("/").body(harness::empty()).unwrap()).await;
    proxy.apply_and_wait(&one()).await;
    sender.data(", ended").await;
    drop(sender);
    let response = harness::with_deadline("the end of the response", harness::read(response)).await.unwrap();
    assert_eq!(response.text(), "begun, ended");
    client.closed().await;
}

#[tokio::test]
async fn listener_can_move_to_another_port() {
    let origin = Origin::text("hello").await;
    let at = |port: u16| {
        Resources::empty().service("origin", &[origin.address()]).yaml(&on_port("edge", port)).yaml(&route("edge"))
    };
    // If another process takes a port meanwhile, the proxy rejects the change.
    let (first, second) = (harness::free_address(), harness::free_address());
    let proxy = Proxy::start(&at(first.port())).await;
    assert_eq!(proxy.address().await, first);
    proxy.apply_and_wait(&at(second.port())).await;
    assert_eq!(proxy.address().await, second);
    assert_eq!(proxy.get("/").await.text(), "hello");
    wait_until("the old port to be closed", async || TcpStream::connect(first).await.err()).await;
    proxy.apply_and_wait(&at(first.port())).await;
    assert_eq!(proxy.get("/").await.text(), "hello", "and back");
}

#[tokio::test]
async fn port_in_use_is_rejected() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken: SocketAddr = holder.local_addr().unwrap();
    let origin = Origin::text("hello").await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let version = proxy.version().await;
    proxy.write("more.yaml", on_port("more", taken.port()));
    let line = proxy.wait_for_log("configuration rejected").await;
    let expected =
        format!("more.yaml:8:20: Gateway default/more: spec.listeners[0].port: {taken} is in use by another process");
    assert!(line.contains(&expected), "{line}\ninstead of\n{expected}");
    assert_eq!(proxy.version().await, version);
    // The port is free again: the change is accepted.
    drop(holder);
    proxy.write("more.yaml", on_port("more", taken.port()) + "# tried again\n");
    wait_until("the listener", async || proxy.find_listener("default/more/http").await).await;
}

#[tokio::test]
async fn port_in_use_at_start_fails_with_reason() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = holder.local_addr().unwrap();
    let resources = Resources::empty().yaml(&on_port("edge", taken.port()));
    let (status, log) = Proxy::fail_to_start(&resources, ProxyOptions::default()).await;
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains(&format!("{taken} is in use by another process")), "{log}");
}

#[tokio::test]
async fn workers_share_a_port() {
    let origin = Origin::text("hello").await;
    let options = ProxyOptions { workers: Some(3), ..ProxyOptions::default() };
    let proxy = Proxy::start_with(&Resources::forward_to(origin.address()), options).await;
    let address = proxy.address().await;
    let mut open = Vec::new();
    for _ in 0..24 {
        let mut wire = RawConnection::connect(address).await;
        wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        assert!(wire.response().await.0.starts_with("HTTP/1.1 200 "));
        open.push(wire);
    }
    assert_eq!(proxy.metric("weir_downstream_connections{listener=\"default/edge/http\"}").await, 24.0);
    // Each worker has its own pool.
    assert!(origin.connections() > 1, "{} connections upstream", origin.connections());
}
