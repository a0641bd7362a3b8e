//! A listener that is removed by xDS together with its routes. Its open connections drain with the routes that they had:
//! every request gets the right response, and none a 404.

use std::time::Duration;

use harness::{Client, ControlPlane, Origin, Proxy, RawConnection, Resources, wait_until, with_deadline};
use http::Request;
use serde_json::json;
use tokio::time::Instant;

/// Connections that are open when the listener is removed.
const CONNECTIONS: usize = 16;

/// Removals of the listener, since resources could arrive in either order.
const ROUNDS: usize = 4;

/// The time for which connections of a removed listener accept requests: `DRAIN_GRACE` of the proxy.
const DRAIN_GRACE: Duration = Duration::from_secs(1);

const REQUEST: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

/// Starts a control plane, and a proxy that follows it and has no listener.
async fn start() -> (ControlPlane, Proxy) {
    let control = ControlPlane::start().await;
    let proxy = control.proxy("edge", &[]).await;
    (control, proxy)
}

/// Applies a Gateway with a route to the origin, and waits until the listener serves.
async fn add_listener(control: &ControlPlane, proxy: &Proxy, origin: &Origin) {
    control.apply(&Resources::forward_to(origin.address())).await;
    wait_until("the listener to serve", async || {
        let address = proxy.find_listener("default/edge/http").await?;
        let mut wire = RawConnection::connect(address).await;
        wire.send(REQUEST).await;
        wire.try_head().await?.starts_with("HTTP/1.1 200 ").then_some(())
    })
    .await;
}

/// Removes the Gateway, its route and its Service in one revision.
async fn remove_listener(control: &ControlPlane) {
    let object = |kind: &str, name: &str| json!({"kind": kind, "namespace": "default", "name": name});
    let objects =
        json!([object("Gateway", "edge"), object("HTTPRoute", "everything"), object("ServiceEntry", "origin")]);
    let response = control.request("POST", "delete", &objects.to_string()).await;
    assert_eq!(response.status, 200, "{}", response.text());
}

/// Sends a request, and panics unless it gets the right response. Returns true if the response is the connection's last.
async fn exchange(wire: &mut RawConnection) -> bool {
    wire.send(REQUEST).await;
    let (head, body) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 200 ") && body == "here", "{head}{body}");
    head.contains("\r\nconnection: close\r\n")
}

/// Sends requests on every connection, again and again, until each has drained. So none waits for the whole grace.
async fn exchange_until_closed(mut open: Vec<RawConnection>) {
    while !open.is_empty() {
        let mut rest = Vec::new();
        for mut wire in open {
            match exchange(&mut wire).await {
                true => assert_eq!(wire.rest().await, "", "the connection closes"),
                false => rest.push(wire),
            }
        }
        open = rest;
    }
}

#[tokio::test]
async fn removed_listener_serves_open_connections_until_they_close() {
    let origin = Origin::text("here").await;
    let (control, proxy) = start().await;
    for _ in 0..ROUNDS {
        add_listener(&control, &proxy, &origin).await;
        let address = proxy.address().await;
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut wire = RawConnection::connect(address).await;
            assert!(!exchange(&mut wire).await);
            open.push(wire);
        }
        let requests = with_deadline("every connection to drain", exchange_until_closed(open));
        tokio::join!(requests, remove_listener(&control));
        wait_until("the port to close", async || tokio::net::TcpStream::connect(address).await.err()).await;
        assert_eq!(proxy.find_listener("default/edge/http").await, None);
    }
    let wrong = proxy.access_log().into_iter().find(|line| line["status"] == 404);
    assert_eq!(wrong, None);
}

#[tokio::test]
async fn removed_listener_serves_http2_connection_during_grace() {
    let origin = Origin::text("here").await;
    let (control, proxy) = start().await;
    add_listener(&control, &proxy, &origin).await;
    let mut client = Client::http2(proxy.address().await).await;
    assert_eq!(client.get("/").await.text(), "here");
    remove_listener(&control).await;
    wait_until("the listener to be removed", async || {
        proxy.find_listener("default/edge/http").await.is_none().then_some(())
    })
    .await;
    let (start, mut served) = (Instant::now(), 0);
    while start.elapsed() < DRAIN_GRACE * 20 {
        let response = client.try_send(Request::get("/").body(harness::empty()).unwrap()).await;
        let Ok(response) = response else { break };
        let response = with_deadline("a response", harness::read(response)).await.unwrap();
        assert_eq!((response.status, response.text().as_str()), (200, "here"));
        served += 1;
    }
    client.closed().await;
    assert!(served > 0 && start.elapsed() < DRAIN_GRACE * 20, "{served} requests in {:?}", start.elapsed());
    let wrong = proxy.access_log().into_iter().find(|line| line["status"] == 404);
    assert_eq!(wrong, None);
}

#[tokio::test]
async fn request_in_flight_completes_when_listener_is_removed() {
    let (gate, opened) = tokio::sync::watch::channel(false);
    let origin = Origin::start(harness::Codec::Http1, move |request| {
        let mut opened = opened.clone();
        async move {
            if request.uri().path() == "/gated" {
                opened.wait_for(|open| *open).await.map_err(|_| harness::BodyError)?;
            }
            Ok(http::Response::new(harness::full("here")))
        }
    })
    .await;
    let (control, proxy) = start().await;
    add_listener(&control, &proxy, &origin).await;
    let address = proxy.address().await;
    let (mut wire, mut idle) = (RawConnection::connect(address).await, RawConnection::connect(address).await);
    assert!(!exchange(&mut idle).await);
    let before = origin.count();
    wire.send("GET /gated HTTP/1.1\r\nhost: a\r\n\r\n").await;
    origin.wait_for(before + 1).await;
    remove_listener(&control).await;
    assert_eq!(idle.rest().await, "", "an idle connection closes after the grace");
    gate.send_replace(true);
    let (head, body) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("connection: close\r\n"), "{head}");
    assert_eq!((body.as_str(), wire.rest().await.as_str()), ("here", ""));
}
