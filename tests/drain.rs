//! Graceful shutdown: requests in flight complete, new connections are not accepted, and the process exits.

use harness::{
    Client, Codec, Origin, Proxy, ProxyOptions, RawConnection, Resources, body_channel, read, wait_until, with_deadline,
};
use http::{Request, Response};
use rustix::process::Signal;

/// Starts an origin whose first response has a body that the test sends.
async fn slow_origin() -> (harness::BodySender, Origin) {
    let (sender, body) = body_channel();
    let body = parking_lot::Mutex::new(Some(body));
    let origin = Origin::start(Codec::Http1, move |_| {
        let body = body.lock().take().unwrap_or_else(|| harness::full("later"));
        std::future::ready(Ok(Response::new(body)))
    })
    .await;
    (sender, origin)
}

#[tokio::test]
async fn drain_completes_requests_in_flight() {
    for codec in [Codec::Http1, Codec::Http2] {
        let (sender, origin) = slow_origin().await;
        let mut proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
        let address = proxy.address().await;
        let mut client = Client::connect(codec, address).await;
        sender.data("begun").await;
        let response = client.send_head(Request::get("/").body(harness::empty()).unwrap()).await;
        proxy.signal(Signal::TERM);
        wait_until("the port to be closed", async || tokio::net::TcpStream::connect(address).await.err()).await;
        sender.data(", ended").await;
        drop(sender);
        assert_eq!(
            with_deadline("the end of the response", read(response)).await.unwrap().text(),
            "begun, ended",
            "{codec:?}"
        );
        assert_eq!(proxy.wait_for_exit().await.code(), Some(0), "{codec:?}:\n{}", proxy.log());
        client.closed().await;
        let line = &proxy.access_log()[0];
        assert_eq!((line["outcome"].as_str(), line["status"].as_u64()), (Some("ok"), Some(200)), "{line}");
    }
}

#[tokio::test]
async fn responses_during_drain_have_connection_close() {
    let (go, gate) = tokio::sync::watch::channel(false);
    let origin = Origin::start(Codec::Http1, move |_| {
        let mut gate = gate.clone();
        async move {
            gate.wait_for(|open| *open).await.map_err(|_| harness::BodyError)?;
            Ok(Response::new(harness::full("late")))
        }
    })
    .await;
    let mut proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    origin.wait_for(1).await;
    proxy.signal(Signal::TERM);
    proxy.wait_for_log("drain").await;
    go.send_replace(true);
    let response = wire.rest().await.to_ascii_lowercase();
    assert!(response.starts_with("http/1.1 200 ") && response.contains("connection: close"), "{response}");
    assert_eq!(proxy.wait_for_exit().await.code(), Some(0));
}

/// A request that is sent as the drain starts gets a response with `connection: close`.
#[tokio::test]
async fn request_sent_as_drain_starts_is_answered() {
    let origin = Origin::text("hello").await;
    let mut proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    let unused = RawConnection::connect(proxy.address().await).await;
    wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    origin.wait_for(1).await;
    proxy.signal(Signal::TERM);
    proxy.wait_for_log("drain").await;
    let mut unused = unused;
    for connection in [&mut wire, &mut unused] {
        connection.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let responses = connection.rest().await.to_ascii_lowercase();
        assert!(responses.contains("connection: close") && responses.ends_with("hello"), "{responses}");
    }
    assert_eq!(proxy.wait_for_exit().await.code(), Some(0));
}

#[tokio::test]
async fn drain_closes_idle_connections() {
    let origin = Origin::text("hello").await;
    let mut proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let address = proxy.address().await;
    let (mut one, mut two) = (Client::http1(address).await, Client::http2(address).await);
    one.get("/").await;
    two.get("/").await;
    let _never_used = RawConnection::connect(address).await;
    proxy.signal(Signal::TERM);
    one.closed().await;
    two.closed().await;
    assert_eq!(proxy.wait_for_exit().await.code(), Some(0));
}

#[tokio::test]
async fn drain_timeout_breaks_off_requests() {
    let (sender, origin) = slow_origin().await;
    let options = ProxyOptions { arguments: vec!["--drain-timeout".into(), "300ms".into()], ..ProxyOptions::default() };
    let mut proxy = Proxy::start_with(&Resources::forward_to(origin.address()), options).await;
    let mut client = proxy.client().await;
    sender.data("begun").await;
    let response = client.send_head(Request::get("/").body(harness::empty()).unwrap()).await;
    proxy.signal(Signal::TERM);
    assert!(with_deadline("the end", read(response)).await.is_err(), "a truncated body must not look complete");
    assert_eq!(proxy.wait_for_exit().await.code(), Some(0), "{}", proxy.log());
}

#[tokio::test]
async fn admin_drain_completes_requests_and_is_not_ready() {
    let (sender, origin) = slow_origin().await;
    let mut proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut client = proxy.client().await;
    sender.data("begun").await;
    let response = client.send_head(Request::get("/").body(harness::empty()).unwrap()).await;
    assert_eq!(proxy.command("/drain").await.status, 200);
    wait_until("not to be ready", async || (proxy.page("/ready").await.status == 503).then_some(())).await;
    drop(sender);
    assert_eq!(with_deadline("the end of the response", read(response)).await.unwrap().text(), "begun");
    assert_eq!(proxy.wait_for_exit().await.code(), Some(0));
}

#[tokio::test]
async fn quit_exits_without_waiting_for_requests() {
    let (sender, origin) = slow_origin().await;
    let mut proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut client = proxy.client().await;
    sender.data("begun").await;
    let _response = client.send_head(Request::get("/").body(harness::empty()).unwrap()).await;
    assert_eq!(proxy.command("/quit").await.status, 200);
    assert_eq!(proxy.wait_for_exit().await.code(), Some(0));
}

#[tokio::test]
async fn access_log_is_complete_after_exit() {
    let origin = Origin::text("hello").await;
    let mut proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut client = proxy.client().await;
    for index in 0..200 {
        assert_eq!(client.get(&format!("/{index}")).await.status, 200);
    }
    proxy.signal(Signal::TERM);
    proxy.wait_for_exit().await;
    assert_eq!(proxy.access_log().len(), 200);
}
