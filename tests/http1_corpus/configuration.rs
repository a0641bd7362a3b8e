//! The configurations of Envoy and nginx, with the settings that the heads of the corpus files list. Where a proxy has
//! a choice, it has the choice and the bound of Weir.

use std::net::SocketAddr;

use serde_json::{Value, json};

/// Returns the bootstrap of an Envoy with one listener for each origin.
pub(crate) fn envoy_bootstrap(origins: &[SocketAddr]) -> Value {
    let listeners: Vec<Value> = (0..origins.len()).map(envoy_listener).collect();
    let clusters: Vec<Value> = origins.iter().enumerate().map(|(lane, origin)| envoy_cluster(lane, *origin)).collect();
    json!({
        "admin": {"address": socket_address(free_port())},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
}

fn envoy_listener(lane: usize) -> Value {
    let route = json!({"match": {"prefix": "/"}, "route": {"cluster": format!("origin{lane}"), "timeout": "5s"}});
    let router = typed("envoy.extensions.filters.http.router.v3.Router", json!({}));
    let manager = typed(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        json!({
            "stat_prefix": "edge",
            "use_remote_address": true,
            "normalize_path": true,
            "merge_slashes": false,
            "path_with_escaped_slashes_action": "REJECT_REQUEST",
            "max_request_headers_kb": 64,
            "stream_idle_timeout": "5s",
            "delayed_close_timeout": "0.1s",
            "common_http_protocol_options": {"headers_with_underscores_action": "ALLOW", "max_headers_count": 100},
            "http_protocol_options": {
                "enable_trailers": true, "accept_http_10": true, "default_host_for_http_10": "default",
            },
            "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
            "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        }),
    );
    let filter = json!({"name": "envoy.filters.network.http_connection_manager", "typed_config": manager});
    json!({
        "name": format!("h{lane}"), "address": socket_address(free_port()), "filter_chains": [{"filters": [filter]}],
    })
}

fn envoy_cluster(lane: usize, origin: SocketAddr) -> Value {
    let name = format!("origin{lane}");
    let endpoints = json!([{"lb_endpoints": [{"endpoint": {"address": socket_address(origin)}}]}]);
    let kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
    let options = json!({
        "common_http_protocol_options": {"max_headers_count": 100},
        "explicit_http_config": {"http_protocol_options": {"enable_trailers": true}},
    });
    json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": endpoints},
        "typed_extension_protocol_options": {kind: typed(kind, options)},
    })
}

fn free_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn socket_address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}})
}

/// Returns a message of type `kind` in an `Any`, in protobuf's JSON form.
fn typed(kind: &str, mut value: Value) -> Value {
    value["@type"] = json!(format!("type.googleapis.com/{kind}"));
    value
}

/// Returns the directives of the `http` block of an nginx, with one server for each origin.
pub(crate) fn nginx_directives(listeners: &[SocketAddr], origins: &[SocketAddr]) -> String {
    let server = |(lane, (listener, origin)): (usize, (&SocketAddr, &SocketAddr))| {
        format!(
            "    upstream origin{lane} {{ server {origin} max_fails=0; keepalive 16; }}\n    \
             server {{ listen {listener}; location / {{ proxy_pass http://origin{lane}; }} }}\n"
        )
    };
    let servers: String = listeners.iter().zip(origins).enumerate().map(server).collect();
    format!("{NGINX_SETTINGS}{servers}")
}

const NGINX_SETTINGS: &str = r#"    large_client_header_buffers 4 32k;
    client_max_body_size 0;
    underscores_in_headers on;
    proxy_http_version 1.1;
    proxy_request_buffering off;
    proxy_buffer_size 64k;
    proxy_buffers 8 64k;
    proxy_busy_buffers_size 128k;
    proxy_read_timeout 5s;
    proxy_set_header Connection "";
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
"#;
