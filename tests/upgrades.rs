//! Requests that switch to another protocol: WebSockets of HTTP/1.1 and HTTP/2 (RFC 8441), and any other `Upgrade`.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use harness::{Filter, Proxy, ProxyOptions, RawConnection, RawOrigin, Resources, with_deadline};
use http::Request;
use rustix::process::Signal;
use serde_json::json;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{accept_async, client_async};

const UPGRADE: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A WebSocket server that echoes each message. Dropping it closes its connections.
struct WebSocketOrigin {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl WebSocketOrigin {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                connections.spawn(echo(socket));
            }
        });
        Self { address, _tasks: tasks }
    }
}

async fn echo(socket: TcpStream) {
    let mut peer = accept_async(socket).await.unwrap();
    while let Some(Ok(message)) = peer.next().await {
        if message.is_text() || message.is_binary() {
            peer.send(message).await.ok();
        }
    }
}

/// Exchanges messages over a WebSocket of HTTP/1.1, and closes it.
async fn exchange_over_http1(address: SocketAddr) {
    let socket = TcpStream::connect(address).await.unwrap();
    // The client checks `sec-websocket-accept`.
    let handshake = client_async(format!("ws://{address}/chat"), socket);
    let (mut peer, response) = with_deadline("the handshake", handshake).await.unwrap();
    assert_eq!(response.status(), 101);
    for length in [1, 60_000, 300_000] {
        let text = "x".repeat(length);
        peer.send(Message::text(text.clone())).await.unwrap();
        let echoed = with_deadline("an echo", peer.next()).await.unwrap().unwrap();
        assert_eq!(echoed.into_text().unwrap().as_str(), text);
    }
    peer.close(None).await.unwrap();
    while with_deadline("the close frame", peer.next()).await.is_some_and(|message| message.is_ok()) {}
}

/// Sends an extended CONNECT, and returns its stream and the response. The connection is in `tasks`.
async fn connect_over_http2(
    address: SocketAddr,
    tasks: &mut JoinSet<()>,
) -> Result<(h2::SendStream<Bytes>, http::Response<h2::RecvStream>), h2::Error> {
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut sender, mut connection) = h2::client::handshake(socket).await.unwrap();
    // The settings with ENABLE_CONNECT_PROTOCOL arrive with the connection's first frames.
    while !sender.is_extended_connect_protocol_enabled() {
        let polled = std::future::poll_fn(|context| {
            let _pending = Future::poll(std::pin::Pin::new(&mut connection), context);
            std::task::Poll::Ready(())
        });
        polled.await;
        tokio::task::yield_now().await;
    }
    tasks.spawn(async move { drop(connection.await) });
    let mut request = Request::connect(format!("http://{address}/chat")).body(()).unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    request.headers_mut().insert("sec-websocket-version", "13".parse().unwrap());
    let (response, stream) = sender.send_request(request, false).unwrap();
    with_deadline("the response", response).await.map(|response| (stream, response))
}

/// Exchanges a message over a WebSocket of HTTP/2, and ends the stream.
async fn exchange_over_http2(address: SocketAddr) {
    let mut tasks = JoinSet::new();
    let (mut stream, response) = connect_over_http2(address, &mut tasks).await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(!response.headers().contains_key("sec-websocket-accept") && !response.headers().contains_key("upgrade"));
    let mut body = response.into_body();
    // A text frame of two bytes; a client masks them (RFC 6455 §5.3).
    stream.send_data(Bytes::from_static(b"\x81\x82\x01\x01\x01\x01ih"), false).unwrap();
    let mut echoed = Vec::new();
    while echoed.len() < 4 {
        let data = with_deadline("an echo", body.data()).await.unwrap().unwrap();
        echoed.extend_from_slice(&data);
    }
    assert_eq!(echoed, b"\x81\x02hi");
    stream.send_data(Bytes::new(), true).unwrap();
    while with_deadline("the end", body.data()).await.is_some_and(|data| data.is_ok()) {}
}

#[tokio::test]
async fn websocket_is_served_in_all_protocol_pairs() {
    let origin = WebSocketOrigin::start().await;
    // The second proxy is the HTTP/2 endpoint of the first.
    let inner = Proxy::start(&Resources::forward_to(origin.address)).await;
    let inner_address = inner.address().await;
    let resources = Resources::new().http2_service("origin", &[inner_address]).route_everything();
    let outer = Proxy::start(&resources).await;
    for address in [inner_address, outer.address().await] {
        exchange_over_http1(address).await;
        exchange_over_http2(address).await;
    }
    let line = outer.access_log_for("/chat").await;
    assert_eq!((&line["status"], &line["method"]), (&101.into(), &"GET".into()));
    assert!(line["bytes_in"].as_u64().unwrap() > 360_000 && line["bytes_out"].as_u64().unwrap() > 360_000, "{line}");
}

#[tokio::test]
async fn bytes_of_other_protocol_follow_response_of_endpoint() {
    let (seen, mut heads) = tokio::sync::mpsc::channel(1);
    let (answer, answers) = tokio::sync::watch::channel(false);
    let origin = RawOrigin::start(move |mut wire| {
        let (seen, mut answers) = (seen.clone(), answers.clone());
        async move {
            let head = wire.head().await;
            seen.send(head).await.unwrap();
            answers.wait_for(|answer| *answer).await.unwrap();
            wire.send(SWITCHED).await;
            wire.send("welcome").await;
            let early = wire.exactly(5).await;
            wire.send(early).await;
            // The downstream ends its side; the endpoint still sends.
            assert_eq!(wire.rest().await, "");
            wire.send("bye").await;
        }
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send(format!("{UPGRADE}early")).await;
    let head = heads.recv().await.unwrap();
    assert!(head.contains("\r\nupgrade: websocket\r\n") && head.contains("\r\nconnection: upgrade\r\n"), "{head}");
    assert!(!head.contains("transfer-encoding") && !head.contains("content-length"), "{head}");
    answer.send(true).unwrap();
    let head = wire.head().await;
    assert!(head.starts_with("HTTP/1.1 101 ") && head.contains("upgrade: websocket\r\n"), "{head}");
    assert_eq!(wire.exactly(12).await, b"welcomeearly");
    wire.finish().await;
    assert_eq!(wire.rest().await, "bye");
}

#[tokio::test]
async fn refused_upgrade_is_answered_and_its_bytes_are_no_request() {
    let origin = RawOrigin::start(|mut wire| async move {
        while let Some(head) = wire.try_head().await {
            assert!(head.starts_with("GET /chat "), "{head}");
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno").await;
        }
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send(format!("{UPGRADE}GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")).await;
    let (head, body) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("connection: close\r\n"), "{head}");
    assert_eq!((body.as_str(), wire.rest().await.as_str()), ("no", ""));
}

/// To a client of HTTP/2 each 2xx is the tunnel (RFC 8441 §5), so it must not see that of an endpoint without one.
#[tokio::test]
async fn answer_without_switch_is_no_tunnel_for_http2() {
    let origin = RawOrigin::responding(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut tasks = JoinSet::new();
    let (_stream, response) = connect_over_http2(proxy.address().await, &mut tasks).await.unwrap();
    assert_eq!(response.status(), 502);
    let line = proxy.access_log_for("/chat").await;
    assert_eq!(line["response_code_details"], "upstream_protocol_error", "{line}");
    let mut wire = RawConnection::connect(proxy.address().await).await;
    wire.send(UPGRADE).await;
    let (head, body) = wire.response().await;
    assert!(head.starts_with("HTTP/1.1 200 ") && body == "ok", "{head}");
}

#[tokio::test]
async fn reply_of_a_filter_is_no_tunnel_for_http2() {
    let origin = RawOrigin::responding(SWITCHED.as_bytes()).await;
    let reply = |status: u16| {
        let steps = json!({"request_headers": [{"do": "reply", "status": status, "body": "no"}]});
        Resources::forward_to(origin.address()).filter(Filter::test("replies", steps))
    };
    let proxy = Proxy::start(&reply(200)).await;
    let address = proxy.address().await;
    let mut tasks = JoinSet::new();
    let reset = connect_over_http2(address, &mut tasks).await.unwrap_err();
    assert_eq!(reset.reason(), Some(h2::Reason::CONNECT_ERROR), "{reset}");
    proxy.apply_and_wait(&reply(403)).await;
    let (_stream, response) = connect_over_http2(address, &mut tasks).await.unwrap();
    assert_eq!(response.status(), 403);
}

#[tokio::test]
async fn endpoint_that_switches_to_other_protocol_is_protocol_error() {
    let origin = RawOrigin::responding(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: other\r\n\r\nbytes",
    )
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    for request in [UPGRADE, "GET /chat HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let mut wire = RawConnection::connect(proxy.address().await).await;
        wire.send(request).await;
        let (head, _) = wire.response().await;
        assert!(head.starts_with("HTTP/1.1 502 "), "{head}");
    }
}

#[tokio::test]
async fn protocol_is_allowed_by_client_traffic_policy() {
    let policy = |upgrades: &str| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {{name: upgrades}}\n\
             spec: {{upgrades: {upgrades}}}\n"
        )
    };
    let origin = RawOrigin::start(|mut wire| async move {
        while let Some(head) = wire.try_head().await {
            let protocol = head.lines().find_map(|line| line.strip_prefix("upgrade: ")).unwrap().to_owned();
            let head = format!("HTTP/1.1 101 Fine\r\nConnection: upgrade\r\nUpgrade: {protocol}\r\n\r\nhello");
            wire.send(head).await;
        }
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_to(origin.address())).await;
    let mut applied = "";
    for (upgrades, protocol, status) in [
        (None, "websocket", 101),
        (None, "WebSocket", 101),
        (None, "custom/1", 403),
        (Some("[custom/1]"), "custom/1", 101),
        (Some("[custom/1]"), "websocket", 403),
        (Some("[]"), "websocket", 403),
    ] {
        if let Some(upgrades) = upgrades.filter(|upgrades| *upgrades != applied) {
            proxy.apply_and_wait(&Resources::forward_to(origin.address()).yaml(&policy(upgrades))).await;
            applied = upgrades;
        }
        let mut wire = RawConnection::connect(proxy.address().await).await;
        wire.send(UPGRADE.replace("websocket", protocol)).await;
        let head = wire.head().await;
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{upgrades:?} {protocol}: {head}");
    }
    let line = proxy.access_log_line(|line| line["status"] == 403).await;
    assert_eq!(line["response_code_details"], "upgrade_not_allowed", "{line}");
    for (upgrades, hint) in [("[h2c]", "`h2c` is no protocol"), ("['a b']", "`a b` is no protocol")] {
        proxy.apply(&Resources::forward_to(origin.address()).yaml(&policy(upgrades)));
        proxy.wait_for_log(hint).await;
    }
}

#[tokio::test]
async fn idle_tunnel_is_closed_and_request_timeout_does_not_end_it() {
    let policy = "apiVersion: weir.dev/v1alpha1\nkind: ClientTrafficPolicy\nmetadata: {name: idle}\n\
                  spec: {timeouts: {streamIdle: 600ms}}\n";
    let origin = WebSocketOrigin::start().await;
    let resources = Resources::new()
        .service("origin", &[origin.address])
        .route("everything", "rules: [{backendRefs: [{name: origin, port: 80}], timeouts: {request: 300ms}}]")
        .yaml(policy);
    let proxy = Proxy::start(&resources).await;
    let address = proxy.address().await;
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut peer, _) = client_async(format!("ws://{address}/chat"), socket).await.unwrap();
    let started = tokio::time::Instant::now();
    // Longer than the request timeout, and never idle.
    while started.elapsed() < Duration::from_millis(1_200) {
        peer.send(Message::text("still here")).await.unwrap();
        with_deadline("an echo", peer.next()).await.unwrap().unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ended = with_deadline("the end of an idle tunnel", peer.next()).await;
    assert!(!matches!(ended, Some(Ok(Message::Text(_)))), "{ended:?}");
    assert_eq!(proxy.access_log_for("/chat").await["response_code_details"], "stream_idle_timeout");
}

#[tokio::test]
async fn tunnel_goes_on_until_drain_deadline() {
    let origin = WebSocketOrigin::start().await;
    let options = ProxyOptions { arguments: vec!["--drain-timeout".into(), "2s".into()], ..ProxyOptions::default() };
    let mut proxy = Proxy::start_with(&Resources::forward_to(origin.address), options).await;
    let address = proxy.address().await;
    let socket = TcpStream::connect(address).await.unwrap();
    let (mut peer, _) = client_async(format!("ws://{address}/chat"), socket).await.unwrap();
    proxy.signal(Signal::TERM);
    proxy.wait_for_log("drain").await;
    peer.send(Message::text("still here")).await.unwrap();
    let echoed = with_deadline("an echo", peer.next()).await.unwrap().unwrap();
    assert_eq!(echoed.into_text().unwrap().as_str(), "still here");
    while with_deadline("the deadline", peer.next()).await.is_some_and(|message| message.is_ok()) {}
    assert!(proxy.wait_for_exit().await.success());
}
