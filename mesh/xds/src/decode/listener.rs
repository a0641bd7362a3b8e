//! Listeners: one filter chain with one HTTP connection manager, whose routes and plugins come with it or apart from it;
//! or with network filters and a TCP proxy.

use std::net::SocketAddr;

use prost::Message;
use weir_model::{
    DownstreamTls, ListenerName, ListenerProtocol, Plugin, PluginName, Rejection, ResourceId, ResourceKind,
    RouteTableName,
};

use super::fault::{Spot, unsupported};
use super::metadata::{self, Entries};
use super::plugin::inline_plugin;
use super::route::{DecodedRouteTable, inline_route_table};
use super::tls::{ChainTls, downstream};
use super::value::{config_source, socket_address};
use super::whole;
use crate::encode;
use crate::proto::tcp::TcpProxy;
use crate::proto::{self, Router, core, hcm, listener as pb, protobuf};

/// A listener as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodedListener {
    /// Its name.
    pub(crate) name: ListenerName,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// What its connections carry.
    pub(crate) protocol: ListenerProtocol,
    /// Who may connect.
    pub(crate) tls: Option<DownstreamTls>,
    /// Its filters before the router, in request order.
    pub(crate) filters: Vec<FilterEntry>,
    /// Plugins that came with it.
    pub(crate) plugins: Vec<Plugin>,
    /// Its routes.
    pub(crate) routes: RouteSource,
}

/// One filter of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilterEntry {
    /// What routes call it.
    pub(crate) name: String,
    /// Which plugin it is.
    pub(crate) plugin: PluginName,
    /// True when it runs only where a route says so.
    pub(crate) disabled: bool,
}

/// Where the routes of a listener are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RouteSource {
    /// In a resource of their own.
    Named(RouteTableName),
    /// In the listener.
    Inline(DecodedRouteTable),
}

/// Decodes a `Listener`.
pub(crate) fn listener(name: &str, bytes: &[u8]) -> Result<DecodedListener, Vec<Rejection>> {
    whole(&ResourceId { kind: ResourceKind::Listener, name: name.to_owned() }, bytes, decode)
}

fn decode(message: pb::Listener, spot: &Spot<'_>) -> Option<DecodedListener> {
    let pb::Listener {
        name,
        address,
        additional_addresses,
        stat_prefix: _, // Our statistics have names of their own.
        stats_matcher: _,
        filter_chains,
        fcds_config,
        filter_chain_matcher,
        use_original_dst,
        default_filter_chain,
        per_connection_buffer_limit_bytes,
        per_connection_buffer_high_watermark_timeout,
        metadata,
        deprecated_v1,
        drain_type,
        listener_filters,
        listener_filters_timeout: _, // There are no listener filters.
        continue_on_listener_filters_timeout: _,
        transparent,
        freebind,
        socket_options,
        tcp_fast_open_queue_length,
        traffic_direction: _, // A hint for tracing.
        udp_listener_config,
        api_listener,
        connection_balance_config,
        reuse_port: _, // Always.
        enable_reuse_port: _,
        access_log,
        tcp_backlog_size,
        max_connections_to_accept_per_socket_event: _,
        bind_to_port,
        enable_mptcp,
        ignore_global_conn_limit,
        bypass_overload_manager: _, // There is none.
        tcp_keepalive,
        listener_specifier,
    } = message;
    unsupported!(spot; additional_addresses, fcds_config, filter_chain_matcher, use_original_dst, default_filter_chain,
        per_connection_buffer_limit_bytes, per_connection_buffer_high_watermark_timeout, deprecated_v1, drain_type,
        transparent, freebind, socket_options, tcp_fast_open_queue_length, udp_listener_config,
        api_listener, connection_balance_config, access_log, tcp_backlog_size, bind_to_port, enable_mptcp,
        ignore_global_conn_limit, tcp_keepalive, listener_specifier);
    let mut entries = Entries::of(metadata, spot);
    let seconds = |text: String| text.parse::<u64>();
    let Ok(plain_until) = entries.text(encode::PLAIN_UNTIL).map(seconds).transpose() else {
        return entries.spot().field(encode::PLAIN_UNTIL).none("is no number of seconds", "");
    };
    entries.end();
    let name = spot.field("name").checked(ListenerName::new(&name))?;
    let address = socket_address(address, &spot.field("address"));
    let (tls, carried, place) = all_chains(filter_chains, &spot.field("filter_chains"))?;
    let is_https = matches!(tls, Some(DownstreamTls::Https(_)));
    let expected = if is_https { vec![encode::inspector()] } else { Vec::new() };
    if listener_filters != expected {
        spot.field("listener_filters")
            .refuse("is not supported", "give none; with certificates for HTTPS just the TLS inspector");
    }
    let tls = match (tls, plain_until) {
        (Some(DownstreamTls::Mesh { .. }), plain_until) => Some(DownstreamTls::Mesh { plain_until }),
        (tls, None) => tls,
        (_, Some(_)) => return spot.none("says when plain text ends, and has no mutual TLS", "leave it out"),
    };
    let (protocol, (filters, plugins, routes)) = carried.parts(&name, &place)?;
    Some(DecodedListener { name, address: address?, protocol, tls, filters, plugins, routes })
}

/// What a filter chain does with connections.
#[derive(Debug, PartialEq)]
enum Carried {
    Http(Box<hcm::HttpConnectionManager>),
    /// Filters, and a TCP proxy behind them.
    Tcp {
        filters: Vec<pb::Filter>,
        proxy: protobuf::Any,
    },
}

impl Carried {
    fn parts(self, name: &ListenerName, place: &Spot<'_>) -> Option<(ListenerProtocol, Parts)> {
        Some(match self {
            Self::Http(manager) => (ListenerProtocol::Http, connection_manager(*manager, name, place)?),
            Self::Tcp { filters, proxy } => {
                (ListenerProtocol::Tcp, super::tcp::connections(filters, &proxy, name, place)?)
            }
        })
    }
}

/// What all filter chains say together: they differ in the names and certificates of HTTPS, and in nothing else.
fn all_chains<'a>(chains: Vec<pb::FilterChain>, spot: &Spot<'a>) -> Option<(Option<DownstreamTls>, Carried, Spot<'a>)> {
    let mut certificates = Vec::new();
    let mut first = None;
    let count = chains.len();
    for (index, chain) in chains.into_iter().enumerate() {
        let (tls, manager, place) = filter_chain(chain, &spot.entry(index))?;
        match tls {
            ChainTls::Https(certificate) => certificates.push(certificate),
            ChainTls::Plain | ChainTls::Mesh if count > 1 => {
                return spot.none("is one of several filter chains", "several are for HTTPS by server name alone");
            }
            ChainTls::Plain => return Some((None, manager, place)),
            ChainTls::Mesh => return Some((Some(DownstreamTls::Mesh { plain_until: None }), manager, place)),
        }
        match &first {
            None => first = Some((manager, place)),
            Some((other, _)) if *other == manager => {}
            Some(_) => return place.none("differs from the first", "all chains of an address have the same filters"),
        }
    }
    let Some((manager, place)) = first else { return spot.none("has no filter chain", "give one") };
    Some((Some(DownstreamTls::Https(certificates)), manager, place))
}

/// What one filter chain does.
fn filter_chain<'a>(chain: pb::FilterChain, spot: &Spot<'a>) -> Option<(ChainTls, Carried, Spot<'a>)> {
    let pb::FilterChain {
        filter_chain_match,
        mut filters,
        use_proxy_proto,
        metadata,
        transport_socket,
        transport_socket_connect_timeout: _, // As long as a request head may take.
        name: _,
    } = chain;
    unsupported!(spot; use_proxy_proto);
    let tls = downstream(filter_chain_match, transport_socket, spot)?;
    metadata::nothing(metadata, spot);
    let spot = spot.field("filters");
    let Some(pb::Filter { name: _, config_type }) = filters.pop() else {
        return spot.none("is not one filter", "give one HTTP connection manager");
    };
    let last = spot.entry(filters.len()).field("typed_config");
    let Some(pb::filter::ConfigType::TypedConfig(config)) = config_type else {
        return last.none("is missing", "give an HTTP connection manager");
    };
    if config.type_url == proto::type_url::<TcpProxy>() {
        return Some((tls, Carried::Tcp { filters, proxy: config }, spot));
    }
    if !filters.is_empty() {
        return spot.none("is not one filter", "give one HTTP connection manager");
    }
    if config.type_url != proto::type_url::<hcm::HttpConnectionManager>() {
        let hint = "only the HTTP connection manager and the TCP proxy are supported";
        return last.none(&format!("is a {}", config.type_url), hint);
    }
    let manager = last.checked(hcm::HttpConnectionManager::decode(&*config.value))?;
    Some((tls, Carried::Http(Box::new(manager)), last))
}

/// The filters, the plugins that came along, and the routes.
pub(super) type Parts = (Vec<FilterEntry>, Vec<Plugin>, RouteSource);

#[expect(clippy::too_many_lines, reason = "every field of the message is named once")]
fn connection_manager(manager: hcm::HttpConnectionManager, name: &ListenerName, spot: &Spot<'_>) -> Option<Parts> {
    let hcm::HttpConnectionManager {
        codec_type,
        stat_prefix: _, // Our statistics have names of their own.
        http_filters,
        add_user_agent,
        tracing,
        common_http_protocol_options,
        http1_safe_max_connection_duration,
        http_protocol_options,
        http2_protocol_options,
        http3_protocol_options,
        server_name,
        server_header_transformation,
        scheme_header_transformation,
        max_request_headers_kb,
        stream_idle_timeout,
        stream_flush_timeout,
        request_timeout,
        request_headers_timeout,
        drain_timeout,
        drain_timeout_jitter,
        delayed_close_timeout: _, // Of a way to close that only Envoy has.
        access_log: _,            // The access log is the proxy's own: `--access-log`.
        access_log_flush_interval: _,
        flush_access_log_on_new_request: _,
        access_log_options: _,
        use_remote_address,
        xff_num_trusted_hops,
        original_ip_detection_extensions,
        early_header_mutation_extensions,
        internal_address_config,
        skip_xff_append,
        via,
        generate_request_id,
        preserve_external_request_id,
        always_set_request_id_in_response,
        forward_client_cert_details,
        set_current_client_cert_details,
        forward_client_cert_matcher,
        proxy_100_continue,
        represent_ipv4_remote_address_as_ipv4_mapped_ipv6,
        upgrade_configs,
        normalize_path,
        merge_slashes: _, // Always merged: a path has one spelling.
        path_with_escaped_slashes_action,
        request_id_extension,
        local_reply_config,
        strip_matching_host_port,
        stream_error_on_invalid_http_message: _, // Every error ends what it must.
        path_normalization_options,
        strip_trailing_host_dot: _, // Always ignored.
        proxy_status_config,
        typed_header_validation_config,
        append_x_forwarded_port,
        append_local_overload,
        add_proxy_protocol_connection_state,
        forward_proto_config,
        route_specifier,
        strip_port_mode,
    } = manager;
    let is_auto = codec_type == hcm::http_connection_manager::CodecType::Auto as i32;
    let codec_type = !is_auto;
    // What the proxy does in any case may be asked for.
    let use_remote_address = asks_otherwise(use_remote_address, true);
    let normalize_path = asks_otherwise(normalize_path, true);
    let generate_request_id = asks_otherwise(generate_request_id, true);
    unsupported!(spot; codec_type, add_user_agent, tracing, common_http_protocol_options,
        http1_safe_max_connection_duration, http_protocol_options, http2_protocol_options, http3_protocol_options,
        server_name, server_header_transformation, scheme_header_transformation, max_request_headers_kb,
        stream_idle_timeout, stream_flush_timeout, request_timeout, request_headers_timeout, drain_timeout,
        drain_timeout_jitter, use_remote_address, xff_num_trusted_hops, original_ip_detection_extensions,
        early_header_mutation_extensions, internal_address_config, skip_xff_append, via, generate_request_id,
        preserve_external_request_id, always_set_request_id_in_response, forward_client_cert_details,
        set_current_client_cert_details, forward_client_cert_matcher, proxy_100_continue,
        represent_ipv4_remote_address_as_ipv4_mapped_ipv6, upgrade_configs, normalize_path,
        path_with_escaped_slashes_action, request_id_extension, local_reply_config, strip_matching_host_port,
        path_normalization_options, proxy_status_config, typed_header_validation_config, append_x_forwarded_port,
        append_local_overload, add_proxy_protocol_connection_state, forward_proto_config, strip_port_mode);
    let (filters, plugins) = filters(http_filters, name, &spot.field("http_filters"))?;
    let routes = routes(spot.field("route_specifier").required(route_specifier)?, name, spot)?;
    Some((filters, plugins, routes))
}

fn asks_otherwise(asked: Option<protobuf::BoolValue>, always: bool) -> bool {
    asked.is_some_and(|asked| asked.value != always)
}

fn filters(
    filters: Vec<hcm::HttpFilter>,
    listener: &ListenerName,
    spot: &Spot<'_>,
) -> Option<(Vec<FilterEntry>, Vec<Plugin>)> {
    let mut entries: Vec<FilterEntry> = Vec::new();
    let mut plugins = Vec::new();
    let mut routed = false;
    for (index, filter) in filters.into_iter().enumerate() {
        let spot = spot.entry(index);
        let hcm::HttpFilter { name, is_optional, disabled, config_type } = filter;
        unsupported!(spot; is_optional);
        if routed {
            spot.refuse("stands behind the router", "the router is the last filter");
        }
        if entries.iter().any(|entry| entry.name == name) {
            spot.field("name").refuse(&format!("`{name}` is there twice"), "give each filter a name of its own");
        }
        match spot.field("typed_config").required(config_type) {
            None => {}
            Some(hcm::http_filter::ConfigType::ConfigDiscovery(source)) => {
                discovered(source, &spot.field("config_discovery"));
                if let Some(plugin) = spot.field("name").checked(PluginName::new(&name)) {
                    entries.push(FilterEntry { name, plugin, disabled });
                }
            }
            Some(hcm::http_filter::ConfigType::TypedConfig(config))
                if config.type_url == proto::type_url::<Router>() =>
            {
                router(&config, &spot.field("typed_config"));
                routed = true;
            }
            Some(hcm::http_filter::ConfigType::TypedConfig(config)) => {
                // Two listeners may have filters of the same name.
                let plugin = spot.field("name").checked(PluginName::new(&format!("{listener}/{name}")));
                let spot = spot.field("typed_config");
                if let Some(plugin) = plugin.and_then(|plugin| inline_plugin(plugin, &config, &spot)) {
                    entries.push(FilterEntry { name, plugin: plugin.name.clone(), disabled });
                    plugins.push(plugin);
                }
            }
        }
    }
    if !routed {
        spot.refuse("has no router", "end it with `envoy.filters.http.router`");
    }
    Some((entries, plugins))
}

pub(super) fn discovered(source: core::ExtensionConfigSource, spot: &Spot<'_>) {
    let core::ExtensionConfigSource {
        config_source: source,
        default_config,
        apply_default_config_without_warming: _, // There is no default.
        type_urls: _,                            // Checked when the plugin comes.
    } = source;
    unsupported!(spot; default_config);
    config_source(source, &spot.field("config_source"));
}

/// The router has no option that we have.
fn router(config: &protobuf::Any, spot: &Spot<'_>) {
    let Some(router) = spot.checked(Router::decode(&*config.value)) else { return };
    let Router {
        dynamic_stats: _,
        start_child_span,
        upstream_log,
        upstream_log_options,
        suppress_envoy_headers: _, // There are none.
        strict_check_headers,
        respect_expected_rq_timeout,
        suppress_grpc_request_failure_code_stats: _,
        upstream_http_filters,
        reject_connect_request_early_data,
    } = router;
    unsupported!(spot; start_child_span, upstream_log, upstream_log_options, strict_check_headers,
        respect_expected_rq_timeout, upstream_http_filters, reject_connect_request_early_data);
}

fn routes(
    source: hcm::http_connection_manager::RouteSpecifier,
    listener: &ListenerName,
    spot: &Spot<'_>,
) -> Option<RouteSource> {
    match source {
        hcm::http_connection_manager::RouteSpecifier::Rds(hcm::Rds { config_source: source, route_config_name }) => {
            let spot = spot.field("rds");
            config_source(source, &spot.field("config_source"))?;
            let name = spot.field("route_config_name").checked(RouteTableName::new(&route_config_name))?;
            Some(RouteSource::Named(name))
        }
        hcm::http_connection_manager::RouteSpecifier::RouteConfig(table) => {
            let name = RouteTableName::new(listener.as_str()).ok()?; // The same rules for every name.
            Some(RouteSource::Inline(inline_route_table(table, name, &spot.field("route_config"))?))
        }
        hcm::http_connection_manager::RouteSpecifier::ScopedRoutes(_) => {
            spot.field("scoped_routes").none("is not supported", "use `rds`")
        }
    }
}
