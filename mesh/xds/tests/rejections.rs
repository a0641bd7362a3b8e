//! The decoder rejects every field that is not supported, with its path, and reports all rejections at once.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![expect(deprecated, reason = "deprecated fields are sent too")]

use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::http::router::v3::Router;
use envoy_types::pb::envoy::extensions::filters::http::wasm::v3::Wasm;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as hcm;
use envoy_types::pb::envoy::extensions::http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig;
use envoy_types::pb::envoy::extensions::upstreams::http::v3 as upstream_http;
use envoy_types::pb::envoy::extensions::wasm::v3 as wasm;
use envoy_types::pb::google::protobuf;
use prost::Name;
use weir_xds::proto::Any;
use weir_xds::{ResourceCache, ResourceType};

fn pack<M: Name>(message: &M) -> Any {
    let type_url = format!("type.googleapis.com/{}.{}", M::PACKAGE, M::NAME);
    Any { type_url, value: message.encode_to_vec() }
}

/// Returns the rejections of a resource with the name `x`, as `field: reason`.
fn rejections<M: Name>(resource_type: ResourceType, message: &M) -> Vec<String> {
    match ResourceCache::default().upsert(resource_type, "x", &pack(message)) {
        Ok(()) => Vec::new(),
        Err(rejections) => {
            rejections.iter().map(|rejection| format!("{}: {}", rejection.field, rejection.reason)).collect()
        }
    }
}

fn address(host: &str) -> core::Address {
    let port = core::socket_address::PortSpecifier::PortValue(80);
    let socket =
        core::SocketAddress { address: host.to_owned(), port_specifier: Some(port), ..core::SocketAddress::default() };
    core::Address { address: Some(core::address::Address::SocketAddress(socket)) }
}

fn pipe(path: &str, mode: u32) -> core::Address {
    core::Address { address: Some(core::address::Address::Pipe(core::Pipe { path: path.to_owned(), mode })) }
}

fn load_assignment(host: &str) -> endpoint::ClusterLoadAssignment {
    assignment_of(address(host))
}

fn assignment_of(address: core::Address) -> endpoint::ClusterLoadAssignment {
    let endpoint = endpoint::Endpoint { address: Some(address), ..endpoint::Endpoint::default() };
    let host = endpoint::LbEndpoint {
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..endpoint::LbEndpoint::default()
    };
    let locality =
        endpoint::LocalityLbEndpoints { lb_endpoints: vec![host], ..endpoint::LocalityLbEndpoints::default() };
    endpoint::ClusterLoadAssignment { endpoints: vec![locality], ..endpoint::ClusterLoadAssignment::default() }
}

fn good_cluster() -> cluster::Cluster {
    cluster::Cluster {
        name: "x".to_owned(),
        load_assignment: Some(load_assignment("10.0.0.1")),
        ..cluster::Cluster::default()
    }
}

fn bool_value(value: bool) -> Option<protobuf::BoolValue> {
    Some(protobuf::BoolValue { value })
}

/// A change to a part of a message, and the rejection that it causes.
type Part<M> = (fn(&mut M), &'static str);

/// A change to a message, and the rejections that it causes.
type Row<M> = (fn(&mut M), &'static [&'static str]);

fn check<M: Name + Clone>(resource_type: ResourceType, good: &M, rows: &[Row<M>]) {
    assert_eq!(rejections(resource_type, good), Vec::<String>::new());
    for (change, expected) in rows {
        let mut message = good.clone();
        change(&mut message);
        assert_eq!(rejections(resource_type, &message), *expected);
    }
}

#[test]
fn unsupported_fields_of_resilience_are_rejected() {
    check(
        ResourceType::Cluster,
        &good_cluster(),
        &[
            (
                |message| {
                    let max_requests = Some(protobuf::UInt32Value { value: 1 });
                    let threshold = cluster::circuit_breakers::Thresholds { max_requests, ..Default::default() };
                    let breakers = cluster::CircuitBreakers { thresholds: vec![threshold], ..Default::default() };
                    message.circuit_breakers = Some(breakers);
                },
                &["circuit_breakers.thresholds[0].max_requests: is not supported"],
            ),
            (
                |message| {
                    let number = |value| Some(protobuf::UInt32Value { value });
                    message.outlier_detection = Some(cluster::OutlierDetection {
                        enforcing_consecutive_5xx: number(50),
                        failure_percentage_threshold: number(80),
                        interval: Some(protobuf::Duration { seconds: 0, nanos: 1 }),
                        success_rate_stdev_factor: number(2_000_000),
                        ..Default::default()
                    });
                },
                &[
                    "outlier_detection.failure_percentage_threshold: is not supported",
                    "outlier_detection.enforcing_consecutive_5xx: is neither 0 nor 100",
                    "outlier_detection.success_rate_stdev_factor: is too large",
                    "outlier_detection.interval: is out of bounds",
                ],
            ),
        ],
    );
}

#[test]
fn unsupported_cluster_fields_are_rejected() {
    check(
        ResourceType::Cluster,
        &good_cluster(),
        &[
            (|message| message.name = "y".to_owned(), &[": has the name `y` in its message"]),
            (|message| message.name.clear(), &["name: a name must not be empty"]),
            (|message| message.lb_policy = cluster::cluster::LbPolicy::Maglev as i32, &["lb_policy: is not supported"]),
            (
                |message| message.transport_socket = Some(core::TransportSocket::default()),
                &["transport_socket.typed_config: is missing"],
            ),
            (
                |message| message.upstream_connection_options = Some(keepalive(0, 32_768)),
                &[
                    "upstream_connection_options.tcp_keepalive.keepalive_time: is out of bounds",
                    "upstream_connection_options.tcp_keepalive.keepalive_probes: is out of bounds",
                ],
            ),
            (
                |message| message.connect_timeout = Some(protobuf::Duration { seconds: -1, nanos: 0 }),
                &["connect_timeout: is no duration"],
            ),
            (
                |message| message.load_assignment = Some(load_assignment("name.example")),
                &["load_assignment.endpoints[0].lb_endpoints[0].endpoint.address: `name.example` is no IP address"],
            ),
            (
                |message| message.load_assignment.as_mut().unwrap().endpoints[0].priority = 1,
                &["load_assignment.endpoints[0].priority: is not supported"],
            ),
            (
                |message| {
                    message.health_checks.push(core::HealthCheck::default());
                    message.use_tcp_for_dns_lookups = true;
                },
                &["health_checks: is not supported", "use_tcp_for_dns_lookups: is not supported"],
            ),
            (
                |message| {
                    let kind = cluster::cluster::DiscoveryType::OriginalDst as i32;
                    message.cluster_discovery_type = Some(cluster::cluster::ClusterDiscoveryType::Type(kind));
                },
                &["type: is not supported"],
            ),
        ],
    );
    let garbage = Any { type_url: ResourceType::Cluster.type_url(), value: vec![0xff] };
    assert!(ResourceCache::default().upsert(ResourceType::Cluster, "x", &garbage).is_err());
    let other = pack(&load_assignment("10.0.0.1"));
    assert!(ResourceCache::default().upsert(ResourceType::Cluster, "x", &other).is_err());
}

#[test]
fn endpoints_that_are_not_supported_are_rejected() {
    check(
        ResourceType::Cluster,
        &good_cluster(),
        &[
            (
                |message| message.dns_lookup_family = cluster::cluster::DnsLookupFamily::V4Only as i32,
                &["dns_lookup_family: is not supported"],
            ),
            (
                |message| message.load_assignment = Some(assignment_of(pipe("run/app.sock", 0))),
                &[
                    "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.pipe.path: `run/app.sock` is not the absolute path of a socket",
                ],
            ),
            (
                |message| message.load_assignment = Some(assignment_of(pipe("@app", 0))),
                &[
                    "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.pipe.path: `@app` names an abstract socket, which is not supported",
                ],
            ),
            (
                |message| message.load_assignment = Some(assignment_of(pipe("/run/app.sock", 0o600))),
                &["load_assignment.endpoints[0].lb_endpoints[0].endpoint.address.pipe.mode: is not supported"],
            ),
        ],
    );
    for change in [
        |message: &mut cluster::Cluster| message.load_assignment = Some(assignment_of(pipe("/run/app.sock", 0))),
        |message: &mut cluster::Cluster| {
            message.respect_dns_ttl = true;
            message.dns_lookup_family = cluster::cluster::DnsLookupFamily::All as i32;
        },
    ] {
        let mut message = good_cluster();
        change(&mut message);
        assert_eq!(rejections(ResourceType::Cluster, &message), Vec::<String>::new());
    }
}

fn manager(change: impl FnOnce(&mut hcm::HttpConnectionManager)) -> Any {
    let router = hcm::HttpFilter {
        name: "router".to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack(&Router::default()))),
        ..hcm::HttpFilter::default()
    };
    let mut manager = hcm::HttpConnectionManager {
        http_filters: vec![router],
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(good_routes())),
        ..hcm::HttpConnectionManager::default()
    };
    change(&mut manager);
    pack(&manager)
}

fn listener_with(change: impl FnOnce(&mut hcm::HttpConnectionManager)) -> listener::Listener {
    let filter = listener::Filter {
        name: "hcm".to_owned(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(manager(change))),
    };
    listener::Listener {
        name: "x".to_owned(),
        address: Some(address("127.0.0.1")),
        filter_chains: vec![listener::FilterChain { filters: vec![filter], ..listener::FilterChain::default() }],
        ..listener::Listener::default()
    }
}

#[test]
fn unsupported_listener_fields_are_rejected() {
    check(
        ResourceType::Listener,
        &listener_with(|_| {}),
        &[
            (|message| message.address = None, &["address: is missing"]),
            (|message| message.filter_chains.clear(), &["filter_chains: has no filter chain"]),
            (
                |message| message.filter_chains.push(message.filter_chains[0].clone()),
                &["filter_chains: is one of several filter chains"],
            ),
            (
                |message| message.listener_filters.push(listener::ListenerFilter::default()),
                &["listener_filters: is not supported"],
            ),
            (|message| message.use_original_dst = bool_value(true), &["use_original_dst: is not supported"]),
            (
                |message| message.filter_chains[0].transport_socket = Some(core::TransportSocket::default()),
                &["filter_chains[0].transport_socket: is not supported"],
            ),
            (
                |message| {
                    let chain = listener::FilterChainMatch { server_names: vec!["a".to_owned()], ..Default::default() };
                    message.filter_chains[0].filter_chain_match = Some(chain);
                },
                &["filter_chains[0].filter_chain_match: is not supported"],
            ),
        ],
    );
    let place = "filter_chains[0].filters[0].typed_config";
    let rows: [Part<hcm::HttpConnectionManager>; 5] = [
        (|message| message.http_filters.clear(), "http_filters: has no router"),
        (|message| message.use_remote_address = bool_value(false), "use_remote_address: is not supported"),
        (|message| message.route_specifier = None, "route_specifier: is missing"),
        (
            |message| {
                let config = Any { type_url: "type.googleapis.com/envoy.x.Lua".to_owned(), value: Vec::new() };
                message.http_filters[0].config_type = Some(hcm::http_filter::ConfigType::TypedConfig(config));
            },
            "http_filters[0].typed_config: is a type.googleapis.com/envoy.x.Lua",
        ),
        (|message| message.http_filters.push(message.http_filters[0].clone()), "http_filters[1]: is after the router"),
    ];
    for (change, expected) in rows {
        let rejections = rejections(ResourceType::Listener, &listener_with(change));
        assert!(rejections.contains(&format!("{place}.{expected}")), "{rejections:?}: {expected}");
    }
    let same = listener_with(|message| {
        message.use_remote_address = bool_value(true);
        message.normalize_path = bool_value(true);
    });
    assert_eq!(
        rejections(ResourceType::Listener, &same),
        Vec::<String>::new(),
        "settings that equal the fixed behavior are accepted"
    );
}

/// Returns options whose every bound is at this value, and whose every time is this many seconds.
fn protocol_options(count: u32, seconds: i64) -> core::HttpProtocolOptions {
    core::HttpProtocolOptions {
        idle_timeout: Some(protobuf::Duration { seconds, nanos: 0 }),
        max_connection_duration: Some(protobuf::Duration { seconds, nanos: 0 }),
        max_headers_count: Some(protobuf::UInt32Value { value: count }),
        max_requests_per_connection: Some(protobuf::UInt32Value { value: count }),
        ..core::HttpProtocolOptions::default()
    }
}

#[test]
fn protocol_options_out_of_bounds_are_rejected() {
    let unknown = |options: core::HttpProtocolOptions| core::HttpProtocolOptions {
        max_stream_duration: Some(protobuf::Duration { seconds: 1, nanos: 0 }),
        headers_with_underscores_action: 1,
        ..options
    };
    let with_common = |common| listener_with(|message| message.common_http_protocol_options = Some(common));
    let place = "filter_chains[0].filters[0].typed_config";
    let found = |message: &listener::Listener| rejections(ResourceType::Listener, message);
    assert_eq!(found(&with_common(protocol_options(1, 0))), Vec::<String>::new(), "0 disables a timeout");
    let common = format!("{place}.common_http_protocol_options");
    let expected = [
        format!("{common}.max_stream_duration: is not supported"),
        format!("{common}.headers_with_underscores_action: is not supported"),
        format!("{common}.max_headers_count: is no number of headers"),
    ];
    assert_eq!(found(&with_common(unknown(protocol_options(1_001, 1)))), expected);
    assert_eq!(
        found(&listener_with(|message| message.request_headers_timeout = Some(protobuf::Duration::default()))),
        [format!("{place}.request_headers_timeout: has no limit")]
    );
    let head =
        |value| found(&listener_with(|message| message.max_request_headers_kb = Some(protobuf::UInt32Value { value })));
    assert_eq!(head(1_024), Vec::<String>::new());
    for value in [0, 1_025] {
        assert_eq!(head(value), [format!("{place}.max_request_headers_kb: is no size of a head")]);
    }
    let cluster = |common| {
        let options = upstream_http::HttpProtocolOptions {
            common_http_protocol_options: Some(common),
            upstream_protocol_options: Some(
                upstream_http::http_protocol_options::UpstreamProtocolOptions::ExplicitHttpConfig(
                    upstream_http::http_protocol_options::ExplicitHttpConfig {
                        protocol_config: Some(
                            upstream_http::http_protocol_options::explicit_http_config::ProtocolConfig::HttpProtocolOptions(
                                core::Http1ProtocolOptions::default(),
                            ),
                        ),
                    },
                ),
            ),
            ..upstream_http::HttpProtocolOptions::default()
        };
        let typed_extension_protocol_options = [("o".to_owned(), pack(&options))].into();
        rejections(ResourceType::Cluster, &cluster::Cluster { typed_extension_protocol_options, ..good_cluster() })
    };
    assert_eq!(cluster(protocol_options(1_000, 0)), Vec::<String>::new());
    let place = "typed_extension_protocol_options[o].common_http_protocol_options";
    let expected = ["max_stream_duration: is not supported", "headers_with_underscores_action: is not supported"];
    let expected = expected.map(|rejection| format!("{place}.{rejection}"));
    assert_eq!(cluster(unknown(protocol_options(1, 1))), expected);
}

#[test]
fn options_of_http1_codec_other_than_header_case_are_rejected() {
    use core::http1_protocol_options::{
        HeaderKeyFormat, header_key_format::HeaderFormat, header_key_format::ProperCaseWords,
    };
    let place = "filter_chains[0].filters[0].typed_config.http_protocol_options";
    let found = |options: core::Http1ProtocolOptions| {
        let listener = listener_with(|message| message.http_protocol_options = Some(options));
        rejections(ResourceType::Listener, &listener)
    };
    let with_format = |header_format| core::Http1ProtocolOptions {
        header_key_format: Some(HeaderKeyFormat { header_format }),
        ..core::Http1ProtocolOptions::default()
    };
    let formatter = |config: Any| {
        let formatter = core::TypedExtensionConfig { name: "f".to_owned(), typed_config: Some(config) };
        found(with_format(Some(HeaderFormat::StatefulFormatter(formatter))))
    };
    let preserve = |config: PreserveCaseFormatterConfig| formatter(pack(&config));
    let none = Vec::<String>::new();
    assert_eq!(found(core::Http1ProtocolOptions::default()), none);
    assert_eq!(preserve(PreserveCaseFormatterConfig::default()), none);
    assert_eq!(
        preserve(PreserveCaseFormatterConfig { formatter_type_on_envoy_headers: 1, ..Default::default() }),
        [format!("{place}.header_key_format.stateful_formatter.formatter_type_on_envoy_headers: is not supported")]
    );
    assert_eq!(
        formatter(pack(&core::Http1ProtocolOptions::default())),
        [format!("{place}.header_key_format.stateful_formatter: is not supported")]
    );
    assert_eq!(
        found(with_format(Some(HeaderFormat::ProperCaseWords(ProperCaseWords {})))),
        [format!("{place}.header_key_format.proper_case_words: is not supported")]
    );
    let trailers = core::Http1ProtocolOptions { enable_trailers: true, ..core::Http1ProtocolOptions::default() };
    assert_eq!(found(trailers), [format!("{place}.enable_trailers: is not supported")]);
}

/// Returns a TCP keepalive with these probes and this time.
fn keepalive(probes: u32, time: u32) -> cluster::UpstreamConnectionOptions {
    let number = |value| Some(protobuf::UInt32Value { value });
    cluster::UpstreamConnectionOptions {
        tcp_keepalive: Some(core::TcpKeepalive {
            keepalive_probes: number(probes),
            keepalive_time: number(time),
            keepalive_interval: None,
        }),
        ..cluster::UpstreamConnectionOptions::default()
    }
}

fn good_routes() -> route::RouteConfiguration {
    let cluster = route::route_action::ClusterSpecifier::Cluster("a".to_owned());
    let action = route::RouteAction { cluster_specifier: Some(cluster), ..route::RouteAction::default() };
    let path = route::route_match::PathSpecifier::Prefix("/".to_owned());
    let one = route::Route {
        r#match: Some(route::RouteMatch { path_specifier: Some(path), ..route::RouteMatch::default() }),
        action: Some(route::route::Action::Route(action)),
        ..route::Route::default()
    };
    let host = route::VirtualHost {
        name: "h".to_owned(),
        domains: vec!["*".to_owned()],
        routes: vec![one],
        ..route::VirtualHost::default()
    };
    route::RouteConfiguration { name: "x".to_owned(), virtual_hosts: vec![host], ..Default::default() }
}

fn first_route(table: &mut route::RouteConfiguration) -> &mut route::Route {
    &mut table.virtual_hosts[0].routes[0]
}

fn first_match(table: &mut route::RouteConfiguration) -> &mut route::RouteMatch {
    first_route(table).r#match.as_mut().unwrap()
}

fn first_action(table: &mut route::RouteConfiguration) -> &mut route::RouteAction {
    match first_route(table).action.as_mut().unwrap() {
        route::route::Action::Route(action) => action,
        other => panic!("{other:?}"),
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table with one row for each field")]
fn unsupported_route_fields_are_rejected() {
    check(
        ResourceType::RouteTable,
        &good_routes(),
        &[
            (|message| message.vhds = Some(route::Vhds::default()), &["vhds: is not supported"]),
            (
                |message| message.virtual_hosts[0].domains = vec!["a.*".to_owned(), "b".to_owned(), "b".to_owned()],
                &[
                    "virtual_hosts[0].domains[0]: `a.*` is no domain that is supported",
                    "virtual_hosts[0].domains[2]: `b` is there twice",
                ],
            ),
            (
                |message| first_match(message).case_sensitive = bool_value(false),
                &["virtual_hosts[0].routes[0].match.case_sensitive: is not supported"],
            ),
            (|message| first_route(message).action = None, &["virtual_hosts[0].routes[0].action: is missing"]),
            (
                |message| first_action(message).cluster_specifier = None,
                &["virtual_hosts[0].routes[0].route.cluster_specifier: is missing"],
            ),
            (
                |message| {
                    let action = first_action(message);
                    action.timeout = Some(protobuf::Duration { seconds: 5, nanos: 0 });
                    action.max_grpc_timeout = Some(protobuf::Duration { seconds: 6, nanos: 0 });
                },
                &["virtual_hosts[0].routes[0].route.max_grpc_timeout: is not the route's `timeout`"],
            ),
            (
                |message| first_action(message).max_grpc_timeout = Some(protobuf::Duration { seconds: 15, nanos: 0 }),
                &[],
            ),
            (
                |message| first_action(message).prefix_rewrite = "/b".to_owned(),
                &["virtual_hosts[0].routes[0].route.prefix_rewrite: does not end with `/`"],
            ),
            (
                |message| {
                    let policy = route::RetryPolicy {
                        retry_on: "5xx,retriable-headers".to_owned(),
                        ..route::RetryPolicy::default()
                    };
                    first_action(message).retry_policy = Some(policy);
                },
                &["virtual_hosts[0].routes[0].route.retry_policy.retry_on: `5xx,retriable-headers` is not supported"],
            ),
            (
                |message| {
                    let header =
                        core::HeaderValue { key: ":path".to_owned(), value: "%X%".to_owned(), ..Default::default() };
                    let option = core::HeaderValueOption { header: Some(header), ..Default::default() };
                    first_route(message).request_headers_to_add.push(option);
                },
                &["virtual_hosts[0].routes[0].request_headers_to_add[0].header.key: `:path` is no header name"],
            ),
            (
                |message| {
                    let header =
                        core::HeaderValue { key: "a".to_owned(), value: "%X%".to_owned(), ..Default::default() };
                    let option = core::HeaderValueOption { header: Some(header), ..Default::default() };
                    first_route(message).response_headers_to_add.push(option);
                },
                &["virtual_hosts[0].routes[0].response_headers_to_add[0].header.value: has a variable"],
            ),
            (
                |message| {
                    first_route(message).typed_per_filter_config.insert("f".to_owned(), pack(&Router::default()));
                },
                &["virtual_hosts[0].routes[0].typed_per_filter_config[f]: is a \
                     type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"],
            ),
        ],
    );
}

fn plugin() -> wasm::PluginConfig {
    let source = core::DataSource {
        specifier: Some(core::data_source::Specifier::Filename("/f.wasm".to_owned())),
        ..core::DataSource::default()
    };
    let code = core::AsyncDataSource { specifier: Some(core::async_data_source::Specifier::Local(source)) };
    let vm = wasm::VmConfig { code: Some(code), ..wasm::VmConfig::default() };
    wasm::PluginConfig { vm: Some(wasm::plugin_config::Vm::VmConfig(vm)), ..wasm::PluginConfig::default() }
}

#[test]
fn unsupported_plugin_fields_are_rejected() {
    let extension = |change: fn(&mut wasm::PluginConfig)| {
        let mut config = plugin();
        change(&mut config);
        let typed = pack(&Wasm { config: Some(config) });
        core::TypedExtensionConfig { name: "x".to_owned(), typed_config: Some(typed) }
    };
    assert_eq!(rejections(ResourceType::Plugin, &extension(|_| {})), Vec::<String>::new());
    let rows: [Part<wasm::PluginConfig>; 4] = [
        (
            |message| {
                let Some(wasm::plugin_config::Vm::VmConfig(vm)) = &mut message.vm else {
                    panic!("the plugin has a VM")
                };
                let host_env_keys = vec!["HOME".to_owned()];
                let variables = wasm::EnvironmentVariables { host_env_keys, ..wasm::EnvironmentVariables::default() };
                vm.environment_variables = Some(variables);
            },
            "vm_config.environment_variables.host_env_keys: is not supported",
        ),
        (|message| message.vm = None, "vm_config: is missing"),
        (
            |message| message.configuration = Some(pack(&protobuf::Struct::default())),
            "configuration: is a type.googleapis.com/google.protobuf.Struct",
        ),
        (
            |message| {
                let Some(wasm::plugin_config::Vm::VmConfig(vm)) = &mut message.vm else {
                    panic!("the plugin has a VM")
                };
                let uri = core::HttpUri { uri: "https://a/b".to_owned(), ..core::HttpUri::default() };
                let remote = core::RemoteDataSource { http_uri: Some(uri), ..core::RemoteDataSource::default() };
                let specifier = Some(core::async_data_source::Specifier::Remote(remote));
                vm.code = Some(core::AsyncDataSource { specifier });
            },
            "vm_config.code.remote.sha256: `` is not a SHA-256",
        ),
    ];
    for (change, expected) in rows {
        let rejections = rejections(ResourceType::Plugin, &extension(change));
        assert!(rejections.contains(&format!("typed_config.config.{expected}")), "{rejections:?}: {expected}");
    }
}
