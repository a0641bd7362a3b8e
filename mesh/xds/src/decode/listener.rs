//! Decodes listeners (LDS): filter chains with an HTTP connection manager, whose routes and plugins are inline or come
//! by RDS and ECDS. Network filters and the TCP proxy are in `tcp.rs`.

use std::net::SocketAddr;

use prost::Message;
use weir_model::{
    DownstreamProtocolOptions, DownstreamTls, ListenerName, ListenerProtocol, Plugin, PluginName, Rejection,
    ResourceId, ResourceKind, RouteTableName,
};

use super::chain::{ChainParts, FilterEntry, RouteSource, check_discovery};
use super::decode_resource;
use super::field_cursor::{FieldCursor, unsupported};
use super::metadata::{self, WeirMetadata};
use super::plugin::inline_plugin;
use super::protocol_options::{self, DownstreamFields};
use super::route::inline_route_table;
use super::tls::{ChainTls, downstream};
use super::value::{config_source, socket_address};
use crate::encode;
use crate::proto::cors::Cors;
use crate::proto::tcp::TcpProxy;
use crate::proto::{self, Router, hcm, listener as pb, protobuf};

/// A decoded listener. Its routes and plugins may be other resources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DecodedListener {
    /// The name of the listener.
    pub(crate) name: ListenerName,
    /// The address to listen on.
    pub(crate) address: SocketAddr,
    /// HTTP, or TCP.
    pub(crate) protocol: ListenerProtocol,
    /// TLS of its connections; `None` for plaintext.
    pub(crate) tls: Option<DownstreamTls>,
    /// Bounds and timeouts of its HTTP connections.
    pub(crate) options: DownstreamProtocolOptions,
    /// The filters before the router or TCP proxy, in request order.
    pub(crate) filters: Vec<FilterEntry>,
    /// The name of the CORS filter, which precedes all others.
    pub(crate) cors_filter: Option<String>,
    /// Plugins that are inline in the listener.
    pub(crate) plugins: Vec<Plugin>,
    /// The source of its routes.
    pub(crate) routes: RouteSource,
}

/// Decodes a `Listener`.
pub(crate) fn listener(name: &str, bytes: &[u8]) -> Result<DecodedListener, Vec<Rejection>> {
    decode_resource(&ResourceId { kind: ResourceKind::Listener, name: name.to_owned() }, bytes, decode)
}

#[expect(clippy::too_many_lines, reason = "every field of the message is named once")]
fn decode(message: pb::Listener, cursor: &FieldCursor<'_>) -> Option<DecodedListener> {
    let pb::Listener {
        name,
        address,
        additional_addresses,
        stat_prefix: _, // Metrics have fixed names.
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
        listener_filters_timeout: _, // No listener filter waits for data but the TLS inspector.
        continue_on_listener_filters_timeout: _,
        transparent,
        freebind,
        socket_options,
        tcp_fast_open_queue_length,
        traffic_direction: _, // Not used.
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
        bypass_overload_manager: _, // There is no overload manager.
        tcp_keepalive,
        listener_specifier,
    } = message;
    unsupported!(cursor; additional_addresses, fcds_config, filter_chain_matcher, use_original_dst,
        default_filter_chain, per_connection_buffer_limit_bytes, per_connection_buffer_high_watermark_timeout,
        deprecated_v1, drain_type, transparent, freebind, socket_options, tcp_fast_open_queue_length,
        udp_listener_config, api_listener, connection_balance_config, access_log, tcp_backlog_size, bind_to_port,
        enable_mptcp, ignore_global_conn_limit, tcp_keepalive, listener_specifier);
    let mut own = WeirMetadata::of(metadata, cursor);
    let seconds = |text: String| text.parse::<u64>();
    let Ok(plain_until) = own.text(encode::PLAIN_UNTIL).map(seconds).transpose() else {
        return own.cursor().field(encode::PLAIN_UNTIL).reject_value("is no number of seconds", "");
    };
    let target_bytes = own.text(encode::MAX_TARGET_BYTES);
    let target_bytes = match target_bytes {
        None => DownstreamProtocolOptions::default().target_bytes,
        Some(text) => protocol_options::target_bytes(&text, &own.cursor().field(encode::MAX_TARGET_BYTES))?,
    };
    own.end();
    let name = cursor.field("name").checked(ListenerName::new(&name))?;
    let address = socket_address(address, &cursor.field("address"));
    let (tls, network_chain, chain_cursor) = all_chains(filter_chains, &cursor.field("filter_chains"))?;
    let is_https = matches!(tls, Some(DownstreamTls::Https(_)));
    let expected = if is_https { vec![encode::inspector()] } else { Vec::new() };
    if listener_filters != expected {
        cursor
            .field("listener_filters")
            .reject("is not supported", "give none; with certificates for HTTPS only the TLS inspector");
    }
    let tls = match (tls, plain_until) {
        (Some(DownstreamTls::Mesh { .. }), plain_until) => Some(DownstreamTls::Mesh { plaintext_until: plain_until }),
        (tls, None) => tls,
        (_, Some(_)) => return cursor.reject_value("sets `plainUntil` without mutual TLS", "leave it out"),
    };
    let (protocol, options, ChainParts { filters, cors_filter, plugins, routes }) = match network_chain {
        NetworkChain::Http(manager) => {
            let (parts, options) = connection_manager(*manager, &name, &chain_cursor)?;
            (ListenerProtocol::Http, DownstreamProtocolOptions { target_bytes, ..options }, parts)
        }
        NetworkChain::Tcp { filters, proxy } => {
            let parts = super::tcp::connections(filters, &proxy, &name, &chain_cursor)?;
            (ListenerProtocol::Tcp, DownstreamProtocolOptions::default(), parts)
        }
    };
    Some(DecodedListener { name, address: address?, protocol, tls, options, filters, cors_filter, plugins, routes })
}

/// The network filters of a filter chain.
#[derive(Debug, PartialEq)]
enum NetworkChain {
    /// An HTTP connection manager alone.
    Http(Box<hcm::HttpConnectionManager>),
    /// Network filters, and the TCP proxy after them.
    Tcp { filters: Vec<pb::Filter>, proxy: protobuf::Any },
}

/// Decodes all filter chains. Only HTTPS listeners have several. They differ in server name and certificate only.
fn all_chains<'a>(
    chains: Vec<pb::FilterChain>,
    cursor: &FieldCursor<'a>,
) -> Option<(Option<DownstreamTls>, NetworkChain, FieldCursor<'a>)> {
    let mut certificates = Vec::new();
    let mut first = None;
    let count = chains.len();
    for (index, chain) in chains.into_iter().enumerate() {
        let (tls, manager, chain_cursor) = filter_chain(chain, &cursor.entry(index))?;
        match tls {
            ChainTls::Https(certificate) => certificates.push(certificate),
            ChainTls::Plain | ChainTls::Mesh if count > 1 => {
                return cursor
                    .reject_value("is one of several filter chains", "several are for HTTPS by server name alone");
            }
            ChainTls::Plain => return Some((None, manager, chain_cursor)),
            ChainTls::Mesh => {
                return Some((Some(DownstreamTls::Mesh { plaintext_until: None }), manager, chain_cursor));
            }
        }
        match &first {
            None => first = Some((manager, chain_cursor)),
            Some((other, _)) if *other == manager => {}
            Some(_) => {
                return chain_cursor
                    .reject_value("differs from the first", "all chains of an address have the same filters");
            }
        }
    }
    let Some((manager, chain_cursor)) = first else { return cursor.reject_value("has no filter chain", "give one") };
    Some((Some(DownstreamTls::Https(certificates)), manager, chain_cursor))
}

/// Decodes one filter chain.
fn filter_chain<'a>(
    chain: pb::FilterChain,
    cursor: &FieldCursor<'a>,
) -> Option<(ChainTls, NetworkChain, FieldCursor<'a>)> {
    let pb::FilterChain {
        filter_chain_match,
        mut filters,
        use_proxy_proto,
        metadata,
        transport_socket,
        transport_socket_connect_timeout: _, // The timeout for the request head applies.
        name: _,
    } = chain;
    unsupported!(cursor; use_proxy_proto);
    let tls = downstream(filter_chain_match, transport_socket, cursor)?;
    metadata::reject_own(metadata, cursor);
    let cursor = cursor.field("filters");
    let Some(pb::Filter { name: _, config_type }) = filters.pop() else {
        return cursor.reject_value("is not one filter", "give one HTTP connection manager");
    };
    let last = cursor.entry(filters.len()).field("typed_config");
    let Some(pb::filter::ConfigType::TypedConfig(config)) = config_type else {
        return last.reject_value("is missing", "give an HTTP connection manager");
    };
    if config.type_url == proto::type_url::<TcpProxy>() {
        return Some((tls, NetworkChain::Tcp { filters, proxy: config }, cursor));
    }
    if !filters.is_empty() {
        return cursor.reject_value("is not one filter", "give one HTTP connection manager");
    }
    if config.type_url != proto::type_url::<hcm::HttpConnectionManager>() {
        let hint = "only the HTTP connection manager and the TCP proxy are supported";
        return last.reject_value(&format!("is a {}", config.type_url), hint);
    }
    let manager = last.checked(hcm::HttpConnectionManager::decode(&*config.value))?;
    Some((tls, NetworkChain::Http(Box::new(manager)), last))
}

#[expect(clippy::too_many_lines, reason = "every field of the message is named once")]
fn connection_manager(
    manager: hcm::HttpConnectionManager,
    name: &ListenerName,
    cursor: &FieldCursor<'_>,
) -> Option<(ChainParts, DownstreamProtocolOptions)> {
    let hcm::HttpConnectionManager {
        codec_type,
        stat_prefix: _, // Metrics have fixed names.
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
        delayed_close_timeout: _, // Envoy's delayed close does not exist here.
        access_log: _,            // `--access-log` sets the access log.
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
        merge_slashes: _, // Slashes are always merged.
        path_with_escaped_slashes_action,
        request_id_extension,
        local_reply_config,
        strip_matching_host_port,
        stream_error_on_invalid_http_message: _, // Every error closes the connection or the stream, as its RFC demands.
        path_normalization_options,
        strip_trailing_host_dot: _, // The trailing dot is always stripped.
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
    // Settings that equal the proxy's fixed behavior are accepted.
    let use_remote_address = differs_from(use_remote_address, true);
    let normalize_path = differs_from(normalize_path, true);
    let generate_request_id = differs_from(generate_request_id, true);
    unsupported!(cursor; codec_type, add_user_agent, tracing, http1_safe_max_connection_duration,
        http3_protocol_options, server_name,
        server_header_transformation, scheme_header_transformation, stream_flush_timeout, request_timeout, drain_timeout,
        drain_timeout_jitter, use_remote_address, xff_num_trusted_hops, original_ip_detection_extensions,
        early_header_mutation_extensions, internal_address_config, skip_xff_append, via, generate_request_id,
        preserve_external_request_id, always_set_request_id_in_response, forward_client_cert_details,
        set_current_client_cert_details, forward_client_cert_matcher, proxy_100_continue,
        represent_ipv4_remote_address_as_ipv4_mapped_ipv6, normalize_path,
        path_with_escaped_slashes_action, request_id_extension, local_reply_config, strip_matching_host_port,
        path_normalization_options, proxy_status_config, typed_header_validation_config, append_x_forwarded_port,
        append_local_overload, add_proxy_protocol_connection_state, forward_proto_config, strip_port_mode);
    let HttpFilters { filters, cors_filter, plugins } = filters(http_filters, name, &cursor.field("http_filters"))?;
    let routes = routes(cursor.field("route_specifier").required(route_specifier)?, name, cursor)?;
    let options = DownstreamFields {
        common: common_http_protocol_options,
        http1: http_protocol_options,
        http2: http2_protocol_options,
        upgrade_configs,
        max_request_headers_kb,
        request_headers_timeout,
        stream_idle_timeout,
    };
    let options = protocol_options::downstream(options, cursor)?;
    Some((ChainParts { filters, cors_filter, plugins, routes }, options))
}

fn differs_from(value: Option<protobuf::BoolValue>, fixed: bool) -> bool {
    value.is_some_and(|value| value.value != fixed)
}

/// The decoded HTTP filters of a listener.
struct HttpFilters {
    filters: Vec<FilterEntry>,
    cors_filter: Option<String>,
    plugins: Vec<Plugin>,
}

fn filters(filters: Vec<hcm::HttpFilter>, listener: &ListenerName, cursor: &FieldCursor<'_>) -> Option<HttpFilters> {
    let mut cors_filter = None;
    let mut entries: Vec<FilterEntry> = Vec::new();
    let mut plugins = Vec::new();
    let mut has_router = false;
    for (index, filter) in filters.into_iter().enumerate() {
        let cursor = cursor.entry(index);
        let hcm::HttpFilter { name, is_optional, disabled, config_type } = filter;
        unsupported!(cursor; is_optional);
        if has_router {
            cursor.reject("is after the router", "the router is the last filter");
        }
        if entries.iter().any(|entry| entry.name == name) {
            cursor.field("name").reject(&format!("`{name}` is there twice"), "give each filter a name of its own");
        }
        match cursor.field("typed_config").required(config_type) {
            None => {}
            Some(hcm::http_filter::ConfigType::ConfigDiscovery(source)) => {
                check_discovery(source, &cursor.field("config_discovery"));
                if let Some(plugin) = cursor.field("name").checked(PluginName::new(&name)) {
                    entries.push(FilterEntry { name, plugin, disabled });
                }
            }
            Some(hcm::http_filter::ConfigType::TypedConfig(config))
                if config.type_url == proto::type_url::<Router>() =>
            {
                router(&config, &cursor.field("typed_config"));
                has_router = true;
            }
            Some(hcm::http_filter::ConfigType::TypedConfig(config)) if config.type_url == proto::type_url::<Cors>() => {
                if index > 0 || disabled {
                    cursor.reject("is a CORS filter after others, or disabled", "make it the first, and enabled");
                }
                cors_filter = Some(name);
            }
            Some(hcm::http_filter::ConfigType::TypedConfig(config)) => {
                // Filters of two listeners may have the same name.
                let plugin = cursor.field("name").checked(PluginName::new(&format!("{listener}/{name}")));
                let cursor = cursor.field("typed_config");
                if let Some(plugin) = plugin.and_then(|plugin| inline_plugin(plugin, &config, &cursor)) {
                    entries.push(FilterEntry { name, plugin: plugin.name.clone(), disabled });
                    plugins.push(plugin);
                }
            }
        }
    }
    if !has_router {
        cursor.reject("has no router", "end it with `envoy.filters.http.router`");
    }
    Some(HttpFilters { filters: entries, cors_filter, plugins })
}

/// Accepts a router without options.
fn router(config: &protobuf::Any, cursor: &FieldCursor<'_>) {
    let Some(router) = cursor.checked(Router::decode(&*config.value)) else { return };
    let Router {
        dynamic_stats: _,
        start_child_span,
        upstream_log,
        upstream_log_options,
        suppress_envoy_headers: _, // The proxy sets no `x-envoy-` headers.
        strict_check_headers,
        respect_expected_rq_timeout,
        suppress_grpc_request_failure_code_stats: _,
        upstream_http_filters,
        reject_connect_request_early_data,
    } = router;
    unsupported!(cursor; start_child_span, upstream_log, upstream_log_options, strict_check_headers,
        respect_expected_rq_timeout, upstream_http_filters, reject_connect_request_early_data);
}

fn routes(
    source: hcm::http_connection_manager::RouteSpecifier,
    listener: &ListenerName,
    cursor: &FieldCursor<'_>,
) -> Option<RouteSource> {
    match source {
        hcm::http_connection_manager::RouteSpecifier::Rds(hcm::Rds { config_source: source, route_config_name }) => {
            let cursor = cursor.field("rds");
            config_source(source, &cursor.field("config_source"))?;
            let name = cursor.field("route_config_name").checked(RouteTableName::new(&route_config_name))?;
            Some(RouteSource::Named(name))
        }
        hcm::http_connection_manager::RouteSpecifier::RouteConfig(table) => {
            let name = RouteTableName::new(listener.as_str()).ok()?; // Valid: the rules for names are the same.
            Some(RouteSource::Inline(inline_route_table(table, name, &cursor.field("route_config"))?))
        }
        hcm::http_connection_manager::RouteSpecifier::ScopedRoutes(_) => {
            cursor.field("scoped_routes").reject_value("is not supported", "use `rds`")
        }
    }
}
