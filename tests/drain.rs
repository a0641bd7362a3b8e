//! The end of a process: what is in flight ends well, nothing new is taken, and the process ends by itself.

use harness::{Client, Codec, Origin, Proxy, ProxyOptions, Resources, Wire, in_steps, read, until, within};
use http::{Request, Response};
use rustix::process::Signal;

/// Answers with a body that goes on when the test says so.
async fn slow_origin() -> (harness::BodySender, Origin) {
    let (sender, body) = in_steps();
    let body = parking_lot::Mutex::new(Some(body));
    let origin = Origin::start(Codec::Http1, move |_| {
        let body = body.lock().take().unwrap_or_else(|| harness::full("later"));
        std::future::ready(Ok(Response::new(body)))
    })
    .await;
    (sender, origin)
}

#[tokio::test]
async fn requests_in_flight_end_well_and_the_process_with_them() {
    for codec in [Codec::Http1, Codec::Http2] {
        let (sender, origin) = slow_origin().await;
        let mut proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
        let address = proxy.address().await;
        let mut client = Client::speaking(codec, address).await;
        sender.data("begun").await;
        let response = client.begin(Request::get("/").body(harness::empty()).unwrap()).await;
        proxy.signal(Signal::TERM);
        until("the port to be closed", async || tokio::net::TcpStream::connect(address).await.err()).await;
        sender.data(", ended").await;
        drop(sender);
        assert_eq!(within("the answer's end", read(response)).await.unwrap().text(), "begun, ended", "{codec:?}");
        assert_eq!(proxy.ended().await.code(), Some(0), "{codec:?}:\n{}", proxy.log());
        client.closed().await;
        let line = &proxy.access_log()[0];
        assert_eq!((line["outcome"].as_str(), line["status"].as_u64()), (Some("ok"), Some(200)), "{line}");
    }
}

#[tokio::test]
async fn connection_close_is_said_to_requests_that_are_answered_while_draining() {
    let (go, gate) = tokio::sync::watch::channel(false);
    let origin = Origin::start(Codec::Http1, move |_| {
        let mut gate = gate.clone();
        async move {
            gate.wait_for(|open| *open).await.map_err(|_| harness::Broken)?;
            Ok(Response::new(harness::full("late")))
        }
    })
    .await;
    let mut proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut wire = Wire::connect(proxy.address().await).await;
    wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    origin.wait_for(1).await;
    proxy.signal(Signal::TERM);
    proxy.wait_for_log("drain").await;
    go.send_replace(true);
    let answer = wire.rest().await.to_ascii_lowercase();
    assert!(answer.starts_with("http/1.1 200 ") && answer.contains("connection: close"), "{answer}");
    assert_eq!(proxy.ended().await.code(), Some(0));
}

/// A downstream that sends its next request while the process begins to drain is answered, and told to go elsewhere.
#[tokio::test]
async fn a_request_on_its_way_when_draining_begins_is_answered() {
    let origin = Origin::says("hello").await;
    let mut proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut wire = Wire::connect(proxy.address().await).await;
    let unused = Wire::connect(proxy.address().await).await;
    wire.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    origin.wait_for(1).await;
    proxy.signal(Signal::TERM);
    proxy.wait_for_log("drain").await;
    let mut unused = unused;
    for connection in [&mut wire, &mut unused] {
        connection.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n").await;
        let answers = connection.rest().await.to_ascii_lowercase();
        assert!(answers.contains("connection: close") && answers.ends_with("hello"), "{answers}");
    }
    assert_eq!(proxy.ended().await.code(), Some(0));
}

#[tokio::test]
async fn idle_connections_are_closed_after_a_moment() {
    let origin = Origin::says("hello").await;
    let mut proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let address = proxy.address().await;
    let (mut one, mut two) = (Client::http1(address).await, Client::http2(address).await);
    one.get("/").await;
    two.get("/").await;
    let _never_used = Wire::connect(address).await;
    proxy.signal(Signal::TERM);
    one.closed().await;
    two.closed().await;
    assert_eq!(proxy.ended().await.code(), Some(0));
}

#[tokio::test]
async fn what_does_not_end_is_ended_at_the_deadline() {
    let (sender, origin) = slow_origin().await;
    let options = ProxyOptions { arguments: vec!["--drain-timeout".into(), "300ms".into()], ..ProxyOptions::default() };
    let mut proxy = Proxy::start_with(&Resources::forward_to(origin.address()), options).await;
    let mut client = proxy.client().await;
    sender.data("begun").await;
    let response = client.begin(Request::get("/").body(harness::empty()).unwrap()).await;
    proxy.signal(Signal::TERM);
    assert!(within("the end", read(response)).await.is_err(), "what is cut off must not look whole");
    assert_eq!(proxy.ended().await.code(), Some(0), "{}", proxy.log());
}

#[tokio::test]
async fn the_admin_page_drains_too_and_says_so() {
    let (sender, origin) = slow_origin().await;
    let mut proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut client = proxy.client().await;
    sender.data("begun").await;
    let response = client.begin(Request::get("/").body(harness::empty()).unwrap()).await;
    assert_eq!(proxy.command("/drain").await.status, 200);
    until("not to be ready", async || (proxy.page("/ready").await.status == 503).then_some(())).await;
    drop(sender);
    assert_eq!(within("the answer's end", read(response)).await.unwrap().text(), "begun");
    assert_eq!(proxy.ended().await.code(), Some(0));
}

#[tokio::test]
async fn quit_does_not_wait() {
    let (sender, origin) = slow_origin().await;
    let mut proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut client = proxy.client().await;
    sender.data("begun").await;
    let _response = client.begin(Request::get("/").body(harness::empty()).unwrap()).await;
    assert_eq!(proxy.command("/quit").await.status, 200);
    assert_eq!(proxy.ended().await.code(), Some(0));
}

#[tokio::test]
async fn the_access_log_is_whole_when_the_process_has_ended() {
    let origin = Origin::says("hello").await;
    let mut proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut client = proxy.client().await;
    for index in 0..200 {
        assert_eq!(client.get(&format!("/{index}")).await.status, 200);
    }
    proxy.signal(Signal::TERM);
    proxy.ended().await;
    assert_eq!(proxy.access_log().len(), 200);
}
