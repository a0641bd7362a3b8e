//! TCP listeners: forwarding, network filters, half-closed connections and unreachable endpoints.

use std::net::SocketAddr;
use std::time::Duration;

use harness::mesh::EDGE_ARGS;
use harness::{
    ControlPlane, Filter, Module, Proxy, ProxyOptions, RawConnection, RawOrigin, Resources, own_address, probe,
    wait_until, wasm_from_wat, with_deadline,
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Starts an origin that sends "hello ", and at the end of the input sends it back with " end".
async fn greeting_origin() -> RawOrigin {
    RawOrigin::start(|mut wire| async move {
        wire.send("hello ").await;
        let rest = wire.rest().await;
        wire.send(format!("{rest} end")).await;
    })
    .await
}

/// Returns the filter `tests/probe`, which runs a script for each connection.
fn scripted(script: &str) -> Filter {
    let module = std::fs::read(probe()).unwrap();
    let filter = Filter { config: json!(script), ..Filter::new("probe", Module::Bytes("probe.wasm", module)) };
    filter.targeting_tcp("everything").with_fields("rootId: root")
}

async fn connect(proxy: &Proxy) -> RawConnection {
    RawConnection::connect(proxy.listener("default/edge/tcp").await).await
}

/// Sends a text on a new connection, closes the sending direction, and returns the bytes received.
async fn exchange(proxy: &Proxy, text: &str) -> String {
    let mut wire = connect(proxy).await;
    wire.send(text).await;
    wire.finish().await;
    wire.rest().await
}

/// Waits for the access log's line after the first `before` lines.
async fn connection_log_line(proxy: &Proxy, before: usize) -> Value {
    wait_until("a connection's line in the access log", async || proxy.access_log().get(before).cloned()).await
}

#[tokio::test]
async fn tcp_directions_close_independently() {
    const ODD: [u8; 5] = [0, 255, b'\r', b'\n', 22];
    let origin = RawOrigin::start(|mut wire| async move {
        wire.send("hello ").await;
        let bytes = wire.exactly(ODD.len()).await;
        wire.send(bytes).await;
        assert_eq!(wire.rest().await, "");
        wire.send(" end").await;
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_tcp_to(origin.address())).await;
    let mut wire = connect(&proxy).await;
    assert_eq!(wire.exactly(6).await, b"hello ", "the server may send first");
    wire.send(ODD).await;
    wire.finish().await;
    assert_eq!(wire.exactly(ODD.len()).await, ODD, "bytes are not interpreted");
    assert_eq!(wire.rest().await, " end", "the other direction stays open");
    let line = connection_log_line(&proxy, 0).await;
    let expected = json!({
        "protocol": "TCP", "listener": "default/edge/tcp", "route": "default/everything/0",
        "cluster": "default/origin:80", "endpoint": origin.address().to_string(), "attempts": 1,
        "bytes_in": 5, "bytes_out": 15, "outcome": "ok",
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(line[field], *value, "{field} of {line}");
    }
    assert!(line.get("status").is_none() && line.get("method").is_none(), "{line}");
}

#[tokio::test]
async fn unreachable_tcp_endpoints_are_skipped() {
    let (origin, gone) = (greeting_origin().await, own_address());
    let route = "rules: [{backendRefs: [{name: origin, port: 80}]}]";
    let resources = Resources::empty().tcp_gateway().tcp_service("origin", &[gone, origin.address()]).tcp_route(route);
    let proxy = Proxy::start(&resources).await;
    for number in 0..6 {
        assert_eq!(exchange(&proxy, "x").await, "hello x end");
        assert_eq!(connection_log_line(&proxy, number).await["endpoint"], origin.address().to_string());
    }
    assert!(proxy.access_log().iter().any(|line| line["attempts"] == 2), "{:?}", proxy.access_log());
}

#[tokio::test]
async fn connection_without_endpoint_is_closed_and_logged() {
    let gone = own_address();
    let proxy = Proxy::start(&Resources::forward_tcp_to(gone)).await;
    assert_eq!(exchange(&proxy, "anyone?").await, "");
    let line = connection_log_line(&proxy, 0).await;
    assert_eq!((&line["who_failed"], &line["response_flags"]), (&json!("Upstream"), &json!("UF")), "{line}");
    assert_eq!(line["response_code_details"], "upstream_connect_failed");

    proxy.apply_and_wait(&Resources::forward_tcp_to(gone).service("unused", &[])).await;
    let without_endpoints = Resources::empty().tcp_gateway().tcp_service("origin", &[]);
    proxy.apply_and_wait(&without_endpoints.tcp_route("rules: [{backendRefs: [{name: origin, port: 80}]}]")).await;
    assert_eq!(exchange(&proxy, "anyone?").await, "");
    assert_eq!(connection_log_line(&proxy, 1).await["response_code_details"], "no_healthy_upstream");
}

#[tokio::test]
async fn tcp_backend_weights_are_shares() {
    let origin_with_text =
        async |text: &'static str| RawOrigin::start(move |mut wire| async move { wire.send(text).await }).await;
    let (one, other, never) =
        (origin_with_text("one").await, origin_with_text("other").await, origin_with_text("never").await);
    let resources = Resources::empty()
        .tcp_gateway()
        .tcp_service("one", &[one.address()])
        .tcp_service("other", &[other.address()])
        .tcp_service("never", &[never.address()])
        .tcp_route(
            "rules: [{backendRefs: [{name: one, port: 80, weight: 3}, {name: other, port: 80}, {name: never, port: 80, \
             weight: 0}]}]",
        );
    let proxy = Proxy::start(&resources).await;
    let mut ones = 0;
    for _ in 0..400 {
        match connect(&proxy).await.rest().await.as_str() {
            "one" => ones += 1,
            "other" => {}
            unexpected => panic!("{unexpected}"),
        }
    }
    assert!((250..350).contains(&ones), "three quarters of 400 are {ones}");
}

#[tokio::test]
async fn network_filter_edits_bytes() {
    let origin = greeting_origin().await;
    let script = "*tcp/0 downstream_data proxy_set_buffer_bytes 2 0 100 \"changed\"\n\
                  *tcp/1 downstream_data proxy_set_property \"access_log.seen\" \"yes\"\n";
    let proxy = Proxy::start(&Resources::forward_tcp_to(origin.address()).filter(scripted(script))).await;
    let mut wire = connect(&proxy).await;
    wire.send("as it was").await;
    assert_eq!(wire.exactly(6).await, b"hello ");
    wait_until("the filter to have seen it", async || proxy.log().contains("size=9 end=0").then_some(())).await;
    wire.finish().await;
    assert_eq!(wire.rest().await, "changedchanged end", "once for the bytes and once for the end");
    assert_eq!(exchange(&proxy, "x").await, "hello x end");
    assert_eq!(connection_log_line(&proxy, 1).await["fields"], json!({"seen": "yes"}));
}

#[tokio::test]
async fn network_filter_can_close_connection() {
    let origin = greeting_origin().await;
    let script = "*tcp/0 downstream_data proxy_close_stream 2\n";
    let proxy = Proxy::start(&Resources::forward_tcp_to(origin.address()).filter(scripted(script))).await;
    let mut wire = connect(&proxy).await;
    assert_eq!(wire.exactly(6).await, b"hello ");
    wire.send("no").await;
    assert_eq!(wire.rest().await, "");
    let line = connection_log_line(&proxy, 0).await;
    assert_eq!(
        (&line["response_code_details"], &line["filter"]),
        (&json!("filter_closed_stream"), &json!("default/probe")),
        "{line}"
    );
    assert_eq!(exchange(&proxy, "x").await, "hello x end", "other connections are unaffected");
}

#[tokio::test]
async fn failed_network_filter_follows_failure_policy() {
    let origin = greeting_origin().await;
    for (failure, expected) in [("failurePolicy: FailClosed", ""), ("failurePolicy: FailOpen", "hello no end")] {
        let filter = scripted("*tcp/0 new_connection trap\n").with_fields(format!("rootId: root, {failure}"));
        let proxy = Proxy::start(&Resources::forward_tcp_to(origin.address()).filter(filter)).await;
        assert_eq!(exchange(&proxy, "no").await, expected, "{failure}");
        if failure == "failurePolicy: FailClosed" {
            let line = connection_log_line(&proxy, 0).await;
            assert_eq!(
                (&line["response_code_details"], &line["response_flags"]),
                (&json!("filter_trap"), &json!("FF")),
                "{line}"
            );
        }
    }
}

#[tokio::test]
async fn stream_isolation_starts_vm_per_connection() {
    let origin = greeting_origin().await;
    // `tcp/0` is the first connection of a VM.
    let filter = scripted("*tcp/0 downstream_data proxy_set_property \"access_log.first\" \"yes\"\n");
    let filter = filter.with_fields("rootId: root, isolation: Stream");
    let proxy = Proxy::start(&Resources::forward_tcp_to(origin.address()).filter(filter)).await;
    for number in 0..3 {
        assert_eq!(exchange(&proxy, "x").await, "hello x end");
        assert_eq!(connection_log_line(&proxy, number).await["fields"], json!({"first": "yes"}), "{number}");
    }
    wait_until("every VM to be gone", async || (proxy.json("/plugins").await[0]["vms"] == 0).then_some(())).await;
}

#[tokio::test]
async fn open_connections_preserve_config() {
    let (old, new) =
        (greeting_origin().await, RawOrigin::start(|mut wire| async move { wire.send("new").await }).await);
    let script = "*tcp/0 downstream_data proxy_set_buffer_bytes 2 0 0 \"filtered \"\n";
    let proxy = Proxy::start(&Resources::forward_tcp_to(old.address()).filter(scripted(script))).await;
    let mut wire = connect(&proxy).await;
    assert_eq!(wire.exactly(6).await, b"hello ");
    proxy.apply_and_wait(&Resources::forward_tcp_to(new.address())).await;
    assert_eq!(connect(&proxy).await.rest().await, "new");
    wire.send("x").await;
    wire.finish().await;
    assert!(wire.rest().await.starts_with("filtered x"), "the filter still runs");
}

#[tokio::test]
async fn drain_timeout_closes_connections() {
    let origin = greeting_origin().await;
    let options = ProxyOptions { arguments: vec!["--drain-timeout".into(), "300ms".into()], ..ProxyOptions::default() };
    let mut proxy = Proxy::start_with(&Resources::forward_tcp_to(origin.address()), options).await;
    let (mut ends, mut stays) = (connect(&proxy).await, connect(&proxy).await);
    for wire in [&mut ends, &mut stays] {
        assert_eq!(wire.exactly(6).await, b"hello ");
    }
    proxy.signal(Signal::TERM);
    proxy.wait_for_log("drain").await;
    ends.send("x").await;
    ends.finish().await;
    assert_eq!(ends.rest().await, "x end", "open connections stay");
    assert_eq!(stays.rest().await, "");
    assert_eq!(proxy.wait_for_exit().await.code(), Some(0), "{}", proxy.log());
    let lines = proxy.access_log();
    assert!(lines.iter().any(|line| line["response_code_details"] == "drain_deadline"), "{lines:?}");
}

/// The allowed growth of memory per connection, whatever it transfers.
const MAX_GROWTH: u64 = 8 << 20;

async fn check_large_transfer(filter: Option<Filter>) {
    const BYTES: usize = 256 << 20;
    let origin = RawOrigin::start(|mut wire| async move {
        let chunk = vec![7; 1 << 16];
        for _ in 0..BYTES >> 16 {
            wire.exactly(1 << 16).await;
        }
        for _ in 0..BYTES >> 16 {
            wire.send(&chunk).await;
        }
    })
    .await;
    let resources = filter.into_iter().fold(Resources::forward_tcp_to(origin.address()), Resources::filter);
    let proxy = Proxy::start(&resources).await;
    let mut wire = connect(&proxy).await;
    let chunk = vec![7; 1 << 16];
    let before = proxy.memory("VmRSS");
    let both = async {
        for _ in 0..BYTES >> 16 {
            wire.send(&chunk).await;
        }
        for _ in 0..BYTES >> 16 {
            wire.exactly(1 << 16).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(120), both).await.expect("bytes to come through");
    let grown = proxy.memory("VmHWM").saturating_sub(before);
    assert!(grown < MAX_GROWTH, "memory has grown by {grown} bytes");
}

#[tokio::test]
async fn large_tcp_transfers_use_flat_memory() {
    check_large_transfer(None).await;
    let module = wasm_from_wat(include_str!("wat/tcp_pass_through.wat"));
    check_large_transfer(Some(Filter::new("reads", Module::Bytes("bytes.wasm", module)).targeting_tcp("everything")))
        .await;
}

/// The bytes that may be in flight between a writer and a stopped reader. Most are in the buffers of four sockets.
const MAX_IN_FLIGHT: usize = 48 << 20;

#[tokio::test]
async fn stopped_reader_stops_writer() {
    let origin = RawOrigin::start(|wire| async move {
        std::future::pending::<()>().await;
        drop(wire);
    })
    .await;
    let module = wasm_from_wat(include_str!("wat/tcp_pass_through.wat"));
    let filter = Filter::new("reads", Module::Bytes("bytes.wasm", module)).targeting_tcp("everything");
    for resources in
        [Resources::forward_tcp_to(origin.address()), Resources::forward_tcp_to(origin.address()).filter(filter)]
    {
        let proxy = Proxy::start(&resources).await;
        let mut wire = connect(&proxy).await;
        let chunk = vec![0; 1 << 20];
        let before = proxy.memory("VmRSS");
        let (mut sent, mut quiet) = (0, 0);
        wait_until("the writer to stop", async || {
            let taken = wire.send_some(&chunk);
            (sent, quiet) = (sent + taken, if taken == 0 { quiet + 1 } else { 0 });
            (quiet == 60 || sent > MAX_IN_FLIGHT).then_some(()) // 60 checks take 300 ms.
        })
        .await;
        assert!(sent < MAX_IN_FLIGHT, "{sent} bytes were accepted");
        assert!(proxy.memory("VmRSS").saturating_sub(before) < MAX_GROWTH, "the proxy buffers the bytes");
    }
}

/// Two proxies of one mesh forward a TCP connection by mutual TLS.
#[tokio::test]
async fn tcp_between_workloads_uses_mutual_tls() {
    let origin = greeting_origin().await;
    let control = ControlPlane::start().await;
    let all = |inner: SocketAddr| {
        let gateway = |name: &str, listener: &str| {
            format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec: \
                 {{gatewayClassName: weir, listeners: [{listener}]}}\n"
            )
        };
        let route = |name: &str, gateway: &str, service: &str| {
            format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {{name: {name}}}\nspec: \
                 {{parentRefs: [{{name: {gateway}}}], rules: [{{backendRefs: [{{name: {service}, port: 80}}]}}]}}\n"
            )
        };
        let service = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {{name: inner}}\nspec: {{ports: [{{port: 80, protocol: \
             TCP}}], endpoints: [{{address: \"{inner}\"}}], identity: {{serviceAccount: inner}}}}\n"
        );
        Resources::empty()
            .yaml(&gateway("edge", "{name: http, port: 8000, protocol: TCP}"))
            .yaml(&gateway("inner", "{name: mesh, port: 15008, protocol: weir.dev/MTLS-TCP}"))
            .yaml(&route("edge", "edge", "inner"))
            .yaml(&route("inner", "inner", "origin"))
            .yaml(&service)
            .tcp_service("origin", &[origin.address()])
    };
    control.apply(&all(([127, 0, 0, 1], 1).into())).await;
    let inner = control.mesh_proxy("inner", &harness::mesh::INNER_ARGS).await;
    let at = wait_until("the listener of inner", async || inner.find_listener("default/inner/mesh").await).await;
    control.apply(&all(at)).await;
    let edge = control.mesh_proxy("edge", &EDGE_ARGS).await;
    let front = wait_until("the listener of edge", async || edge.find_listener("default/edge/http").await).await;
    let response = wait_until("bytes through both", async || {
        let mut wire = RawConnection::connect(front).await;
        wire.send("x").await;
        wire.finish().await;
        Some(wire.rest().await).filter(|response| !response.is_empty())
    })
    .await;
    assert_eq!(response, "hello x end");
    let line = inner.access_log_line(|line| line["outcome"] == "ok").await;
    assert!(line["peer_identity"].as_str().is_some_and(|peer| peer.ends_with("/sa/edge")), "{line}");
    // A peer without a certificate is rejected.
    let mut unauthenticated = RawConnection::connect(at).await;
    unauthenticated.send("x").await;
    let response = with_deadline("the end", unauthenticated.rest()).await;
    assert!(!response.contains("hello"), "{response}");
}
