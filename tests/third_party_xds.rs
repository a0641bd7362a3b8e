//! A third-party control plane configures a proxy: a server in another language, written only from Envoy's
//! documentation. Needs Python; see `cargo xtask test`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod third_party_bounds; // Bounds and timeouts of connections.
mod third_party_upstreams; // TLS, HTTP/2 and upgrades.

use std::net::SocketAddr;

use harness::{Client, Origin, Proxy, ProxyOptions, ThirdPartyXdsServer, wait_until};
use serde_json::{Value, json};

const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
const ROUTES: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
const EXTENSION: &str = "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig";
const WASM: &str = "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm";

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// Returns a cluster whose endpoints come by EDS.
fn cluster(name: &str) -> Value {
    json!({
        "@type": CLUSTER, "name": name, "type": "EDS", "connect_timeout": "1s",
        "eds_cluster_config": {"eds_config": {"ads": {}, "resource_api_version": "V3"}},
    })
}

fn endpoints(name: &str, origins: &[&Origin]) -> Value {
    let endpoint = |origin: &&Origin| json!({"endpoint": {"address": socket_address(origin.address())}});
    let endpoints: Vec<Value> = origins.iter().map(endpoint).collect();
    json!({"@type": ENDPOINTS, "cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]})
}

fn listener(name: &str, filters: &[Value]) -> Value {
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    });
    let filters: Vec<&Value> = filters.iter().chain([&router]).collect();
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "rds": {"config_source": {"ads": {}, "resource_api_version": "V3"}, "route_config_name": name},
        "http_filters": filters,
    });
    let manager = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    let free_port = json!({"socket_address": {"address": "127.0.0.1", "port_value": 0}});
    json!({"@type": LISTENER, "name": name, "address": free_port, "filter_chains": [{"filters": [manager]}]})
}

fn routes(name: &str, routes: &[Value]) -> Value {
    json!({"@type": ROUTES, "name": name, "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]})
}

fn to(path: &str, cluster: &str) -> Value {
    json!({"match": {"prefix": path}, "route": {"cluster": cluster}})
}

/// Starts a server with a listener `edge` that forwards everything to the cluster `a` of an origin.
async fn server_with(origin: &Origin) -> ThirdPartyXdsServer {
    let mut server = ThirdPartyXdsServer::start().await;
    let edge = json!([listener("edge", &[]), routes("edge", &[to("/", "a")])]);
    let a = json!([cluster("a"), endpoints("a", &[origin])]);
    server.command(json!({"put": {"edge": edge, "a": a}})).await;
    server
}

async fn get(proxy: &Proxy, path: &str) -> (u16, String) {
    let response = Client::http1(proxy.listener("edge").await).await.get(path).await;
    (response.status, response.text())
}

async fn wait_for(proxy: &Proxy, path: &str, expected: &str) {
    wait_until(&format!("{expected} at {path}"), async || (get(proxy, path).await.1 == expected).then_some(())).await;
}

fn is_nack(request: &Value) -> bool {
    request["error"].as_str().is_some_and(|error| !error.is_empty())
}

#[tokio::test]
async fn resources_are_added_changed_and_removed() {
    let (old, new) = (Origin::text("old").await, Origin::text("new").await);
    let mut server = server_with(&old).await;
    let mut proxy = Proxy::follow(server.port(), &ProxyOptions::default()).await;
    proxy.wait_until_ready().await;
    assert_eq!(get(&proxy, "/").await, (200, "old".to_owned()));

    server.command(json!({"put": {"a": endpoints("a", &[&new])}})).await;
    wait_for(&proxy, "/", "new").await;

    let both = routes("edge", &[to("/b", "b"), to("/", "a")]);
    server.command(json!({"put": {"b": [cluster("b"), endpoints("b", &[&old])], "edge": both}})).await;
    wait_for(&proxy, "/b/1", "old").await;
    assert_eq!(get(&proxy, "/").await.1, "new");

    server.command(json!({"put": {"second": [listener("second", &[]), routes("second", &[to("/", "b")])]}})).await;
    wait_until("the second listener", async || proxy.find_listener("second").await).await;
    server.command(json!({"remove": {LISTENER: ["second"]}})).await;
    wait_until("the end of the second listener", async || proxy.find_listener("second").await.is_none().then_some(()))
        .await;

    // A route to an unknown cluster is 503, as in Envoy.
    let lost = routes("edge", &[to("/lost", "unknown"), to("/", "a")]);
    server.command(json!({"put": {"edge": lost}})).await;
    wait_until("503 for the lost cluster", async || (get(&proxy, "/lost").await.0 == 503).then_some(())).await;
    assert_eq!(get(&proxy, "/").await, (200, "new".to_owned()));
    assert!(!server.requests().iter().any(is_nack), "{:#?}", server.requests());
}

#[tokio::test]
async fn nack_names_fields_and_good_resources_are_applied() {
    let (old, new) = (Origin::text("old").await, Origin::text("new").await);
    let mut server = server_with(&old).await;
    let mut proxy = Proxy::follow(server.port(), &ProxyOptions::default()).await;
    proxy.wait_until_ready().await;

    let mut bad = cluster("bad");
    bad["lb_policy"] = json!("RING_HASH");
    bad["outlier_detection"] = json!({"failure_percentage_threshold": 80});
    let good = json!([cluster("b"), endpoints("b", &[&new])]);
    server.command(json!({"put": {"bad": bad, "b": good, "edge": routes("edge", &[to("/", "b")])}})).await;
    let nack = server.wait_for("a NACK", is_nack).await;
    let error = nack["error"].as_str().unwrap();
    assert_eq!(nack["type"], "Cluster");
    for expected in [
        "cluster bad: outlier_detection.failure_percentage_threshold: is not supported",
        "cluster bad: lb_policy: is not supported",
    ] {
        assert!(error.contains(expected), "{error}");
    }
    wait_for(&proxy, "/", "new").await;
    proxy.wait_for_log("lb_policy").await; // The proxy logs the rejection.

    // The corrected resource is accepted.
    let (requests, right) = (server.requests().len(), json!([cluster("bad"), endpoints("bad", &[&old])]));
    server.command(json!({"put": {"bad": right, "edge": routes("edge", &[to("/", "bad")])}})).await;
    wait_for(&proxy, "/", "old").await;
    assert!(!server.requests()[requests..].iter().any(is_nack));
}

#[tokio::test]
async fn filter_from_ecds_runs_on_enabled_route_only() {
    let origin = Origin::text("origin").await;
    let mut server = server_with(&origin).await;
    let mut proxy = Proxy::follow(server.port(), &ProxyOptions::default()).await;
    proxy.wait_until_ready().await;

    let module = harness::shipped_modules().join("auth.wasm");
    let rules = json!({"rules": [{"name": "all", "action": "deny"}]}).to_string();
    let plugin = json!({"@type": WASM, "config": {
        "name": "guard",
        "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": rules},
        "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": module}}},
    }});
    let discovered = json!({
        "name": "guard", "disabled": true,
        "config_discovery": {
            "config_source": {"ads": {}, "resource_api_version": "V3"},
            "type_urls": [WASM],
        },
    });
    let mut guarded = to("/guarded", "a");
    guarded["typed_per_filter_config"] =
        json!({"guard": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}});
    let extension = json!({"@type": EXTENSION, "name": "guard", "typed_config": plugin});
    let edge = json!([listener("edge", &[discovered]), routes("edge", &[guarded, to("/", "a")])]);
    server.command(json!({"put": {"guard": extension, "edge": edge}})).await;
    wait_until("403 where the filter runs", async || (get(&proxy, "/guarded").await.0 == 403).then_some(())).await;
    assert_eq!(get(&proxy, "/").await, (200, "origin".to_owned()));
    assert!(!server.requests().iter().any(is_nack), "{:#?}", server.requests());
}

#[tokio::test]
async fn broken_resources_do_not_block_other_changes() {
    let (old, new) = (Origin::text("old").await, Origin::text("new").await);
    let mut server = server_with(&old).await;
    let mut proxy = Proxy::follow(server.port(), &ProxyOptions::default()).await;
    proxy.wait_until_ready().await;

    // A missing module: its route is 503, and other routes still change.
    let plugin = json!({"@type": WASM, "config": {
        "vm_config": {"runtime": "envoy.wasm.runtime.v8", "code": {"local": {"filename": "/nowhere/lost.wasm"}}},
    }});
    let discovered = json!({
        "name": "lost", "disabled": true,
        "config_discovery": {"config_source": {"ads": {}, "resource_api_version": "V3"}, "type_urls": [WASM]},
    });
    let mut guarded = to("/guarded", "a");
    guarded["typed_per_filter_config"] =
        json!({"lost": {"@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig", "config": {}}});
    let extension = json!({"@type": EXTENSION, "name": "lost", "typed_config": plugin});
    let edge = json!([listener("edge", &[discovered]), routes("edge", &[guarded, to("/", "a")])]);
    server.command(json!({"put": {"lost": extension, "edge": edge}})).await;
    wait_until("503 where the filter should run", async || (get(&proxy, "/guarded").await.0 == 503).then_some(()))
        .await;
    server.command(json!({"put": {"a": endpoints("a", &[&new])}})).await;
    wait_for(&proxy, "/", "new").await;
    assert_eq!(get(&proxy, "/guarded").await.0, 503, "no request bypasses a filter that does not run");

    // A listener at an address in use is left out, and other resources still change.
    let mut taken = listener("taken", &[]);
    taken["address"] = socket_address(new.address());
    server.command(json!({"put": {"taken": [taken, routes("taken", &[to("/", "a")])]}})).await;
    proxy.wait_for_log("left out until it changes").await;
    server.command(json!({"put": {"a": endpoints("a", &[&old])}})).await;
    wait_for(&proxy, "/", "old").await;
    assert_eq!(proxy.find_listener("taken").await, None);
}

#[tokio::test]
async fn reopened_stream_sends_only_changed_resources() {
    let (old, new) = (Origin::text("old").await, Origin::text("new").await);
    let mut server = server_with(&old).await;
    let options = ProxyOptions { arguments: vec!["--node".into(), "reopened".into()], ..ProxyOptions::default() };
    let mut proxy = Proxy::follow(server.port(), &options).await;
    proxy.wait_until_ready().await;
    server.command(json!({"close": true})).await;
    let is_reconnect = |request: &Value| request["type"] == "Cluster" && request["initial"]["a"].is_string();
    let reconnect = server.wait_for("a new stream", is_reconnect).await;
    assert_eq!(reconnect["node"], "reopened");
    server.command(json!({"put": {"a": endpoints("a", &[&new])}})).await;
    wait_for(&proxy, "/", "new").await;
    let is_ack = |request: &Value| request["type"] == "ClusterLoadAssignment" && request["nonce"] == "1";
    let requests = server.requests();
    let since = requests.iter().position(is_reconnect).unwrap();
    wait_until("the ACK of the endpoints", async || server.requests()[since..].iter().any(is_ack).then_some(())).await;
    let requests = server.requests();
    let acks: Vec<&Value> = requests[since..].iter().filter(|request| request["nonce"] != "").collect();
    assert_eq!(acks.len(), 1, "only the changed endpoints were sent: {acks:#?}");
}

#[tokio::test]
async fn proxy_starts_from_cache_without_control_plane() {
    let origin = Origin::text("cached").await;
    let server = server_with(&origin).await;
    let port = server.port();
    let cache = tempfile::tempdir().unwrap();
    let options = ProxyOptions { cache: Some(cache.path().to_owned()), ..ProxyOptions::default() };
    let mut proxy = Proxy::follow(port, &options).await;
    proxy.wait_until_ready().await;
    wait_until("a cached configuration", async || cache.path().join("xds").read_dir().ok()?.next().map(drop)).await;
    server.stop().await;
    proxy.wait_for_log("no stream to the control plane").await;
    assert_eq!(get(&proxy, "/").await, (200, "cached".to_owned()), "the active configuration stays");
    drop(proxy);

    let mut proxy = Proxy::follow(port, &options).await;
    proxy.wait_until_ready().await;
    assert_eq!(get(&proxy, "/").await, (200, "cached".to_owned()));
    proxy.wait_for_log("starting with the last known good configuration").await;
}
