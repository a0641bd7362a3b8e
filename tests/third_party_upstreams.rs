//! TLS, HTTP/2 and upgrades from a third-party control plane: secrets by ADS, in the fields of Envoy.

use std::net::SocketAddr;

use harness::{
    Authority, Issued, Nginx, Origin, Proxy, ProxyOptions, RawConnection, RawOrigin, ThirdPartyXdsServer, own_address,
    wait_until,
};
use serde_json::{Value, json};

use crate::{cluster, is_nack, listener, routes, socket_address, to};

const ENDPOINTS: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
const HTTP_OPTIONS: &str = "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const SECRET: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const TLS: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
const HOST: &str = "backend.example";

fn endpoint(name: &str, address: SocketAddr) -> Value {
    let endpoint = json!({"endpoint": {"address": socket_address(address)}});
    json!({"@type": ENDPOINTS, "cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]})
}

/// Returns a cluster with TLS: its CA is the secret `ca`, its client certificate the secret `me`.
fn tls_cluster(name: &str, protocol: &Value) -> Value {
    let ads = json!({"ads": {}, "resource_api_version": "V3"});
    let context = json!({
        "@type": TLS,
        "sni": HOST,
        "common_tls_context": {
            "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
            "tls_certificate_sds_secret_configs": [{"name": "me", "sds_config": ads}],
            "combined_validation_context": {
                "default_validation_context": {
                    "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": HOST}}],
                },
                "validation_context_sds_secret_config": {"name": "ca", "sds_config": ads},
            },
        },
    });
    let mut cluster = cluster(name);
    cluster["transport_socket"] = json!({"name": "envoy.transport_sockets.tls", "typed_config": context});
    cluster["typed_extension_protocol_options"] = json!({
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": with_type(protocol, HTTP_OPTIONS),
    });
    cluster
}

fn with_type(message: &Value, kind: &str) -> Value {
    let mut message = message.clone();
    message["@type"] = json!(kind);
    message
}

fn authorities(name: &str, certificates: &str) -> Value {
    json!({"@type": SECRET, "name": name, "validation_context": {"trusted_ca": {"inline_string": certificates}}})
}

fn key_pair(name: &str, issued: &Issued) -> Value {
    json!({"@type": SECRET, "name": name, "tls_certificate": {
        "certificate_chain": {"inline_string": issued.certificate},
        "private_key": {"inline_string": issued.key},
    }})
}

/// Starts an nginx server with HTTP/2 over TLS, which requires a certificate of `ca` and returns the connection's data.
async fn server(address: SocketAddr, certificate: &Issued, ca: &Authority) -> Nginx {
    let text = format!(
        "server {{ listen {address} ssl http2; ssl_certificate {}; ssl_certificate_key {}; ssl_verify_client on; \
         ssl_client_certificate {}; location / {{ return 200 \"$server_protocol $ssl_server_name $ssl_client_s_dn\"; }} \
         }}\n",
        certificate.certificate_file.display(),
        certificate.key_file.display(),
        ca.file().display()
    );
    Nginx::start(&text, &[address]).await
}

async fn follow(server: &ThirdPartyXdsServer) -> Proxy {
    let mut proxy = Proxy::follow(server.port(), &ProxyOptions::default()).await;
    proxy.wait_until_ready().await;
    wait_until("the listener", async || proxy.find_listener("edge").await).await;
    proxy
}

#[tokio::test]
async fn tls_and_protocols_of_clusters_take_effect() {
    let (ca, address) = (Authority::new("ca"), own_address());
    let certificate = ca.for_host(HOST);
    let _nginx = server(address, &certificate, &ca).await;
    let protocols = [
        ("one", "HTTP/1.1", json!({"explicit_http_config": {"http_protocol_options": {}}})),
        ("two", "HTTP/2.0", json!({"explicit_http_config": {"http2_protocol_options": {"allow_connect": true}}})),
        ("auto", "HTTP/2.0", json!({"auto_config": {"http_protocol_options": {}, "http2_protocol_options": {}}})),
    ];
    let mut xds = ThirdPartyXdsServer::start().await;
    let mut put = json!({
        "ca": authorities("ca", &ca.certificate),
        "me": key_pair("me", &ca.for_host("client.example")),
    });
    for (name, _, protocol) in &protocols {
        put[name] = json!([tls_cluster(name, protocol), endpoint(name, address)]);
    }
    let all: Vec<Value> = protocols.iter().map(|(name, ..)| to(&format!("/{name}"), name)).collect();
    put["edge"] = json!([listener("edge", &[]), routes("edge", &all)]);
    xds.command(json!({"put": put})).await;
    let proxy = follow(&xds).await;
    for (name, version, _) in &protocols {
        wait_until(&format!("an answer over {version}"), async || {
            let (status, text) = crate::get(&proxy, &format!("/{name}")).await;
            (status == 200 && text.starts_with(&format!("{version} {HOST} "))).then_some(())
        })
        .await;
    }
    // Another CA: new connections are refused, and those that are open are retired.
    xds.command(json!({"put": {"ca": authorities("ca", &Authority::new("other").certificate)}})).await;
    wait_until("a refused server", async || (crate::get(&proxy, "/two").await.0 == 503).then_some(())).await;
    let line = proxy.access_log_for("/two").await;
    assert_eq!(line["status"], 200, "the first request was answered: {line}");
    xds.command(json!({"put": {"ca": authorities("ca", &ca.certificate)}})).await;
    wait_until("the accepted server", async || (crate::get(&proxy, "/two").await.0 == 200).then_some(())).await;
    assert!(!xds.requests().iter().any(is_nack), "{:#?}", xds.requests());
    assert!(!proxy.log().contains("PRIVATE KEY"));
}

#[tokio::test]
async fn upgrades_of_a_listener_take_effect() {
    let origin = RawOrigin::start(|mut wire| async move {
        wire.head().await;
        wire.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello").await;
        let echoed = wire.exactly(4).await;
        wire.send(echoed).await;
    })
    .await;
    let mut xds = ThirdPartyXdsServer::start().await;
    let mut edge = listener("edge", &[]);
    let all = json!([routes("edge", &[to("/", "a")]), cluster("a"), endpoint("a", origin.address())]);
    xds.command(json!({"put": {"edge": [edge.clone(), all[0]], "a": [all[1], all[2]]}})).await;
    let proxy = follow(&xds).await;
    let upgrade = async |proxy: &Proxy| {
        let mut wire = RawConnection::connect(proxy.listener("edge").await).await;
        wire.send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
        let head = wire.head().await;
        (wire, head)
    };
    let (_, head) = upgrade(&proxy).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "without `upgrade_configs`: {head}");
    edge["filter_chains"][0]["filters"][0]["typed_config"]["upgrade_configs"] = json!([{"upgrade_type": "websocket"}]);
    xds.command(json!({"put": {"edge": edge}})).await;
    let mut wire = wait_until("a tunnel", async || {
        let (wire, head) = upgrade(&proxy).await;
        head.starts_with("HTTP/1.1 101 ").then_some(wire)
    })
    .await;
    assert_eq!(wire.exactly(5).await, b"hello");
    wire.send("ping").await;
    assert_eq!(wire.exactly(4).await, b"ping");
    assert!(!xds.requests().iter().any(is_nack), "{:#?}", xds.requests());
}

#[tokio::test]
async fn fields_without_effect_are_rejected_by_name() {
    let origin = Origin::text("ok").await;
    let mut xds = crate::server_with(&origin).await;
    let mut proxy = Proxy::follow(xds.port(), &ProxyOptions::default()).await;
    proxy.wait_until_ready().await;
    let options = json!({"max_concurrent_streams": 10, "connection_keepalive": {"interval": "1s", "timeout": "1s"}});
    let protocol = json!({"explicit_http_config": {"http2_protocol_options": options}});
    let mut bad = tls_cluster("bad", &protocol);
    let context = &mut bad["transport_socket"]["typed_config"];
    context["allow_renegotiation"] = json!(true);
    context["common_tls_context"]["tls_params"]["cipher_suites"] = json!(["AES128-SHA"]);
    let mut plain = cluster("plain");
    plain["typed_extension_protocol_options"] = json!({"o": with_type(&json!({"auto_config": {}}), HTTP_OPTIONS)});
    xds.command(json!({"put": {"bad": bad, "plain": plain}})).await;
    let nack = xds.wait_for("a NACK", is_nack).await;
    let error = nack["error"].as_str().unwrap();
    for expected in [
        "http2_protocol_options.max_concurrent_streams: is not supported",
        "http2_protocol_options.connection_keepalive: is not supported",
        "typed_config.allow_renegotiation: is not supported",
        "tls_params.cipher_suites: is not supported",
        "cluster plain: transport_socket: is missing: `auto_config` selects the protocol by TLS",
    ] {
        assert!(error.contains(expected), "{error} lacks {expected}");
    }
}

/// A retry policy in Envoy's fields.
fn retry_policy() -> Value {
    json!({
        "retry_on": "5xx, reset",
        "num_retries": 1,
        "per_try_timeout": "5s",
        "retry_host_predicate": [{"name": "envoy.retry_host_predicates.previous_hosts"}],
        "host_selection_retry_max_attempts": "3",
        "retry_back_off": {"base_interval": "0.002s"},
        "rate_limited_retry_back_off": {"reset_headers": [{"name": "Retry-After", "format": "SECONDS"}]},
    })
}

#[tokio::test]
async fn retry_policy_and_budget_take_effect() {
    let bad = Origin::start(harness::Codec::Http1, |_| async {
        let mut response = http::Response::new(harness::full("busy"));
        *response.status_mut() = http::StatusCode::BAD_GATEWAY;
        Ok(response)
    })
    .await;
    let good = Origin::text("good").await;
    let budget = json!({"budget_percent": {"value": 0.0}, "min_retry_concurrency": 1, "budget_interval": "1s"});
    let mut limited = cluster("limited");
    limited["circuit_breakers"] = json!({"thresholds": [{"retry_budget": budget}]});
    let both = |name: &str| crate::endpoints(name, &[&bad, &good]);
    let mut all = [to("/a", "a"), to("/limited", "limited")];
    for route in &mut all {
        route["route"]["retry_policy"] = retry_policy();
    }
    let mut xds = ThirdPartyXdsServer::start().await;
    let clusters = json!([cluster("a"), both("a"), limited, both("limited")]);
    xds.command(json!({"put": {"edge": [listener("edge", &[]), routes("edge", &all)], "clusters": clusters}})).await;
    let proxy = follow(&xds).await;
    for index in 0..8 {
        let mut client = harness::Client::http1(proxy.listener("edge").await).await;
        let response = client.post(&format!("/a/{index}"), "x").await;
        assert_eq!((response.status, response.text()), (200, "good".to_owned()), "any method, as in Envoy");
    }
    assert!(bad.count() > 0);
    let mut failed = 0;
    for index in 0..40 {
        failed += usize::from(crate::get(&proxy, &format!("/limited/{index}")).await.0 == 502);
    }
    assert!(failed > 5, "one retry a second is allowed, and {failed} of about 20 failed");
    assert!(!xds.requests().iter().any(is_nack), "{:#?}", xds.requests());
}

#[tokio::test]
async fn fields_of_retries_without_effect_are_rejected_by_name() {
    let origin = Origin::text("ok").await;
    let mut xds = crate::server_with(&origin).await;
    let mut proxy = Proxy::follow(xds.port(), &ProxyOptions::default()).await;
    proxy.wait_until_ready().await;
    let mut route = to("/", "a");
    let mut policy = retry_policy();
    policy["retry_on"] = json!("5xx,envoy-ratelimited");
    policy["num_retries"] = json!(11);
    policy["per_try_idle_timeout"] = json!("1s");
    policy["retriable_headers"] = json!([{"name": "x", "present_match": true}]);
    policy["retriable_request_headers"] = json!([{"name": "x", "present_match": true}]);
    policy["retry_host_predicate"] = json!([{"name": "envoy.retry_host_predicates.omit_canary_hosts"}]);
    route["route"]["retry_policy"] = policy;
    let mut cluster = cluster("other");
    cluster["circuit_breakers"] = json!({"thresholds": [
        {"max_connections": 5, "max_retries": 2, "retry_budget": {"budget_percent": {"value": 12.5}}},
        {"priority": "HIGH"},
    ]});
    let put = json!({"edge": [listener("edge", &[]), routes("edge", &[route])], "other": [cluster]});
    xds.command(json!({"put": put})).await;
    let what = "a rejection of each field";
    let found = async || {
        let requests = xds.requests();
        let errors: String = requests.iter().filter_map(|request| request["error"].as_str()).collect();
        let fields = [
            "retry_policy.retry_on",
            "retry_policy.num_retries",
            "retry_policy.per_try_idle_timeout",
            "retry_policy.retriable_headers",
            "retry_policy.retriable_request_headers",
            "retry_policy.retry_host_predicate",
            "circuit_breakers.thresholds[0].max_connections",
            "circuit_breakers.thresholds[0].max_retries",
            "circuit_breakers.thresholds[0].retry_budget.budget_percent",
            "circuit_breakers.thresholds[1].priority",
        ];
        fields.iter().all(|field| errors.contains(field)).then_some(())
    };
    wait_until(what, found).await;
    assert_eq!(crate::get(&proxy, "/").await, (200, "ok".to_owned()), "the last good configuration serves");
}
