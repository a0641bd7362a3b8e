//! TCP: bytes through the proxy, filters on them, who is told what when a side ends or is not there.

use std::net::SocketAddr;
use std::time::Duration;

use harness::mesh::EDGE;
use harness::{
    ControlPlane, Filter, Module, Proxy, ProxyOptions, Resources, Wire, WireOrigin, module_of_wat, own_address, probe,
    until, within,
};
use rustix::process::Signal;
use serde_json::{Value, json};

/// Says "hello", sends back what it gets, and " end" when that has ended.
async fn talker() -> WireOrigin {
    WireOrigin::start(|mut wire| async move {
        wire.send("hello ").await;
        let rest = wire.rest().await;
        wire.send(format!("{rest} end")).await;
    })
    .await
}

/// The probe, which does what its script says for each connection.
fn scripted(script: &str) -> Filter {
    let module = std::fs::read(probe()).unwrap();
    let filter = Filter { config: json!(script), ..Filter::of("probe", Module::Bytes("probe.wasm", module)) };
    filter.before_tcp("everything").with("rootId: root")
}

async fn connect(proxy: &Proxy) -> Wire {
    Wire::connect(proxy.listener("default/edge/tcp").await).await
}

/// A connection that sends this and ends; what comes back.
async fn say(proxy: &Proxy, text: &str) -> String {
    let mut wire = connect(proxy).await;
    wire.send(text).await;
    wire.finish().await;
    wire.rest().await
}

/// The line of the connection that was logged last but `before`.
async fn logged(proxy: &Proxy, before: usize) -> Value {
    until("a connection's line in the access log", async || proxy.access_log().get(before).cloned()).await
}

#[tokio::test]
async fn bytes_go_both_ways_and_each_side_ends_by_itself() {
    const ODD: [u8; 5] = [0, 255, b'\r', b'\n', 22];
    let origin = WireOrigin::start(|mut wire| async move {
        wire.send("hello ").await;
        let bytes = wire.exactly(ODD.len()).await;
        wire.send(bytes).await;
        assert_eq!(wire.rest().await, "");
        wire.send(" end").await;
    })
    .await;
    let proxy = Proxy::start(&Resources::forward_tcp_to(origin.address())).await;
    let mut wire = connect(&proxy).await;
    assert_eq!(wire.exactly(6).await, b"hello ", "who speaks first does not matter");
    wire.send(ODD).await;
    wire.finish().await;
    assert_eq!(wire.exactly(ODD.len()).await, ODD, "no byte means anything");
    assert_eq!(wire.rest().await, " end", "the other direction goes on after one has ended");
    let line = logged(&proxy, 0).await;
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
async fn endpoints_that_cannot_be_reached_are_passed_over() {
    let (origin, gone) = (talker().await, own_address());
    let route = "rules: [{backendRefs: [{name: origin, port: 80}]}]";
    let resources =
        Resources::nothing().tcp_gateway().tcp_service("origin", &[gone, origin.address()]).tcp_route(route);
    let proxy = Proxy::start(&resources).await;
    for number in 0..6 {
        assert_eq!(say(&proxy, "x").await, "hello x end");
        assert_eq!(logged(&proxy, number).await["endpoint"], origin.address().to_string());
    }
    assert!(proxy.access_log().iter().any(|line| line["attempts"] == 2), "{:?}", proxy.access_log());
}

#[tokio::test]
async fn a_connection_that_goes_nowhere_is_closed_and_the_log_says_why() {
    let gone = own_address();
    let proxy = Proxy::start(&Resources::forward_tcp_to(gone)).await;
    assert_eq!(say(&proxy, "anybody?").await, "");
    let line = logged(&proxy, 0).await;
    assert_eq!((&line["who_failed"], &line["response_flags"]), (&json!("upstream"), &json!("UF")), "{line}");
    assert_eq!(line["details"], "upstream_connect_failed");

    proxy.change(&Resources::forward_tcp_to(gone).service("unused", &[])).await;
    let nobody = Resources::nothing().tcp_gateway().tcp_service("origin", &[]);
    proxy.change(&nobody.tcp_route("rules: [{backendRefs: [{name: origin, port: 80}]}]")).await;
    assert_eq!(say(&proxy, "anybody?").await, "");
    assert_eq!(logged(&proxy, 1).await["details"], "no_healthy_upstream");
}

#[tokio::test]
async fn services_have_their_shares() {
    let says = async |text: &'static str| WireOrigin::start(move |mut wire| async move { wire.send(text).await }).await;
    let (one, other, never) = (says("one").await, says("other").await, says("never").await);
    let resources = Resources::nothing()
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
async fn a_filter_sees_bytes_and_changes_them() {
    let origin = talker().await;
    let script = "*tcp/0 downstream_data proxy_set_buffer_bytes 2 0 100 \"changed\"\n\
                  *tcp/1 downstream_data proxy_set_property \"access_log.seen\" \"yes\"\n";
    let proxy = Proxy::start(&Resources::forward_tcp_to(origin.address()).filter(scripted(script))).await;
    let mut wire = connect(&proxy).await;
    wire.send("as it was").await;
    assert_eq!(wire.exactly(6).await, b"hello ");
    until("the filter to have seen it", async || proxy.log().contains("size=9 end=0").then_some(())).await;
    wire.finish().await;
    assert_eq!(wire.rest().await, "changedchanged end", "once for the bytes and once for the end");
    assert_eq!(say(&proxy, "x").await, "hello x end");
    assert_eq!(logged(&proxy, 1).await["fields"], json!({"seen": "yes"}));
}

#[tokio::test]
async fn a_filter_may_close_a_connection_and_what_was_sent_arrives() {
    let origin = talker().await;
    let script = "*tcp/0 downstream_data proxy_close_stream 2\n";
    let proxy = Proxy::start(&Resources::forward_tcp_to(origin.address()).filter(scripted(script))).await;
    let mut wire = connect(&proxy).await;
    assert_eq!(wire.exactly(6).await, b"hello ");
    wire.send("no").await;
    assert_eq!(wire.rest().await, "");
    let line = logged(&proxy, 0).await;
    assert_eq!(
        (&line["details"], &line["plugin"]),
        (&json!("filter_closed_stream"), &json!("default/probe")),
        "{line}"
    );
    assert_eq!(say(&proxy, "x").await, "hello x end", "others go on");
}

#[tokio::test]
async fn a_filter_that_fails_costs_its_connection_or_is_left_out() {
    let origin = talker().await;
    for (failure, expected) in [("failure: Closed", ""), ("failure: Open", "hello no end")] {
        let filter = scripted("*tcp/0 new_connection trap\n").with(format!("rootId: root, {failure}"));
        let proxy = Proxy::start(&Resources::forward_tcp_to(origin.address()).filter(filter)).await;
        assert_eq!(say(&proxy, "no").await, expected, "{failure}");
        if failure == "failure: Closed" {
            let line = logged(&proxy, 0).await;
            assert_eq!((&line["details"], &line["response_flags"]), (&json!("filter_trap"), &json!("FF")), "{line}");
        }
    }
}

#[tokio::test]
async fn each_connection_may_have_a_vm_of_its_own() {
    let origin = talker().await;
    // Were the VM shared, the second connection would be its second one.
    let filter = scripted("*tcp/0 downstream_data proxy_set_property \"access_log.first\" \"yes\"\n");
    let filter = filter.with("rootId: root, isolation: Stream");
    let proxy = Proxy::start(&Resources::forward_tcp_to(origin.address()).filter(filter)).await;
    for number in 0..3 {
        assert_eq!(say(&proxy, "x").await, "hello x end");
        assert_eq!(logged(&proxy, number).await["fields"], json!({"first": "yes"}), "{number}");
    }
    until("every VM to be gone", async || (proxy.json("/plugins").await[0]["vms"] == 0).then_some(())).await;
}

#[tokio::test]
async fn open_connections_keep_their_configuration() {
    let (old, new) = (talker().await, WireOrigin::start(|mut wire| async move { wire.send("new").await }).await);
    let script = "*tcp/0 downstream_data proxy_set_buffer_bytes 2 0 0 \"filtered \"\n";
    let proxy = Proxy::start(&Resources::forward_tcp_to(old.address()).filter(scripted(script))).await;
    let mut wire = connect(&proxy).await;
    assert_eq!(wire.exactly(6).await, b"hello ");
    proxy.change(&Resources::forward_tcp_to(new.address())).await;
    assert_eq!(connect(&proxy).await.rest().await, "new");
    wire.send("x").await;
    wire.finish().await;
    assert!(wire.rest().await.starts_with("filtered x"), "its filter goes on, too");
}

#[tokio::test]
async fn draining_ends_connections_at_the_deadline() {
    let origin = talker().await;
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
    assert_eq!(ends.rest().await, "x end", "what is under way goes on");
    assert_eq!(stays.rest().await, "");
    assert_eq!(proxy.ended().await.code(), Some(0), "{}", proxy.log());
    let lines = proxy.access_log();
    assert!(lines.iter().any(|line| line["details"] == "drain_deadline"), "{lines:?}");
}

/// How much memory a connection may take, whatever goes through it.
const MAX_GROWTH: u64 = 8 << 20;

async fn much_each_way(filter: Option<Filter>) {
    const BYTES: usize = 256 << 20;
    let origin = WireOrigin::start(|mut wire| async move {
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
async fn a_quarter_of_a_gibibyte_each_way_in_flat_memory() {
    much_each_way(None).await;
    let module = module_of_wat(include_str!("wat/bytes.wat"));
    much_each_way(Some(Filter::of("reads", Module::Bytes("bytes.wasm", module)).before_tcp("everything"))).await;
}

/// What may be on its way between a writer and a reader that has stopped: buffers of four sockets, mostly.
const MAX_IN_FLIGHT: usize = 48 << 20;

#[tokio::test]
async fn a_stopped_reader_holds_its_writer_back() {
    let origin = WireOrigin::start(|wire| async move {
        std::future::pending::<()>().await;
        drop(wire);
    })
    .await;
    let module = module_of_wat(include_str!("wat/bytes.wat"));
    let filter = Filter::of("reads", Module::Bytes("bytes.wasm", module)).before_tcp("everything");
    for resources in
        [Resources::forward_tcp_to(origin.address()), Resources::forward_tcp_to(origin.address()).filter(filter)]
    {
        let proxy = Proxy::start(&resources).await;
        let mut wire = connect(&proxy).await;
        let chunk = vec![0; 1 << 20];
        let before = proxy.memory("VmRSS");
        let (mut sent, mut quiet) = (0, 0);
        until("the writer to be at rest", async || {
            let taken = wire.send_some(&chunk);
            (sent, quiet) = (sent + taken, if taken == 0 { quiet + 1 } else { 0 });
            (quiet == 60 || sent > MAX_IN_FLIGHT).then_some(()) // 60 looks are 300 ms.
        })
        .await;
        assert!(sent < MAX_IN_FLIGHT, "{sent} bytes were taken");
        assert!(proxy.memory("VmRSS").saturating_sub(before) < MAX_GROWTH, "the proxy keeps them");
    }
}

/// Two proxies of one mesh: bytes go between them by mutual TLS.
#[tokio::test]
async fn workloads_of_the_mesh_are_reached_by_mutual_tls() {
    let origin = talker().await;
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
                "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: TCPRoute\nmetadata: {{name: {name}}}\nspec: \
                 {{parentRefs: [{{name: {gateway}}}], rules: [{{backendRefs: [{{name: {service}, port: 80}}]}}]}}\n"
            )
        };
        let service = format!(
            "apiVersion: weir.dev/v1alpha1\nkind: Service\nmetadata: {{name: inner}}\nspec: {{ports: [{{port: 80, protocol: \
             TCP}}], endpoints: [{{address: \"{inner}\"}}], identity: {{serviceAccount: inner}}}}\n"
        );
        Resources::nothing()
            .yaml(&gateway("edge", "{name: http, port: 8000, protocol: TCP}"))
            .yaml(&gateway("inner", "{name: mesh, port: 15008, protocol: weir.dev/MTLS-TCP}"))
            .yaml(&route("edge", "edge", "inner"))
            .yaml(&route("inner", "inner", "origin"))
            .yaml(&service)
            .tcp_service("origin", &[origin.address()])
    };
    control.apply(&all(([127, 0, 0, 1], 1).into())).await;
    let inner = control.mesh_proxy("inner", &harness::mesh::INNER).await;
    let at = until("the listener of inner", async || inner.find_listener("default/inner/mesh").await).await;
    control.apply(&all(at)).await;
    let edge = control.mesh_proxy("edge", &EDGE).await;
    let front = until("the listener of edge", async || edge.find_listener("default/edge/http").await).await;
    let answer = until("bytes through both", async || {
        let mut wire = Wire::connect(front).await;
        wire.send("x").await;
        wire.finish().await;
        Some(wire.rest().await).filter(|answer| !answer.is_empty())
    })
    .await;
    assert_eq!(answer, "hello x end");
    let line = inner.access_log_line(|line| line["outcome"] == "ok").await;
    assert!(line["peer_identity"].as_str().is_some_and(|peer| peer.ends_with("/sa/edge")), "{line}");
    // Nobody who proves nothing is let in.
    let mut stranger = Wire::connect(at).await;
    stranger.send("x").await;
    let answer = within("the end", stranger.rest()).await;
    assert!(!answer.contains("hello"), "{answer}");
}
