//! Encodes a listener. An HTTP listener has a filter chain with an HTTP connection manager, whose routes come by RDS.
//! An HTTPS listener repeats that chain for each certificate.
//!
//! The connection manager lists the plugins of all routes, disabled; each route enables those of its own chain. So the
//! filters of all routes have one order.

use std::collections::{BTreeMap, BTreeSet};

use weir_model::{DownstreamProtocolOptions, DownstreamTls, HostCertificate, Listener, PluginName, RouteTable};

use super::metadata::{metadata, text};
use super::protocol_options::{self, MAX_TARGET_BYTES};
use super::{ads_config_source, bool_value, socket_address, tls};
use crate::client_type::ClientType;
use crate::proto::{Plugin, Router, Wasm, core, cors, hcm, listener as pb, pack, type_url};

/// Envoy's names of the filters in every HTTP listener.
const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
const ROUTER: &str = "envoy.filters.http.router";
/// Envoy's name of the CORS filter, and of its settings in routes.
pub(crate) const CORS: &str = "envoy.filters.http.cors";
/// Metadata field: when a mesh listener stops accepting plaintext, in seconds since the Unix epoch.
pub(crate) const PLAIN_UNTIL: &str = "plainUntil";

/// The HTTP filters of a listener, before the router.
#[derive(Debug, Hash)]
pub(crate) struct HttpFilters {
    /// The plugins of all its routes, in order.
    pub(crate) plugins: Vec<PluginName>,
    /// True if a route has a CORS policy. Its filter is the first, so that no plugin sees a preflight request.
    pub(crate) has_cors: bool,
}

/// Encodes an HTTP listener.
pub(crate) fn listener(listener: &Listener, filters: &HttpFilters, client_type: ClientType) -> pb::Listener {
    let manager = connection_manager(listener, filters, &plugin_url(client_type));
    let filter = pb::Filter {
        name: CONNECTION_MANAGER.to_owned(),
        config_type: Some(pb::filter::ConfigType::TypedConfig(pack(&manager))),
    };
    with_filters(listener, &[filter], client_type)
}

/// Encodes a TCP listener with its network filters, of which the last is the TCP proxy.
pub(crate) fn tcp_listener(listener: &Listener, filters: &[pb::Filter], client_type: ClientType) -> pb::Listener {
    with_filters(listener, filters, client_type)
}

fn with_filters(listener: &Listener, filters: &[pb::Filter], client_type: ClientType) -> pb::Listener {
    let chain = |filter_chain_match, transport_socket| pb::FilterChain {
        filter_chain_match,
        filters: filters.to_vec(),
        transport_socket,
        ..pb::FilterChain::default()
    };
    let (filter_chains, listener_filters) = match &listener.tls {
        None => (vec![chain(None, None)], Vec::new()),
        Some(DownstreamTls::Mesh { .. }) => {
            (vec![chain(None, Some(tls::mesh(&tls::identity_source(client_type))))], Vec::new())
        }
        Some(DownstreamTls::Https(certificates)) => {
            let host_chain = |host: &HostCertificate| chain(tls::server_name(&host.host), Some(tls::https(host)));
            (certificates.iter().map(host_chain).collect(), vec![tls::inspector()])
        }
    };
    let plain_until = match &listener.tls {
        Some(DownstreamTls::Mesh { plaintext_until: plain_until }) => *plain_until,
        _ => None,
    };
    let target_bytes =
        Some(listener.options.target_bytes).filter(|bytes| *bytes != DownstreamProtocolOptions::default().target_bytes);
    // Envoy ignores both: it never accepts plaintext, and bounds the head alone.
    let own = [
        plain_until.map(|until| (PLAIN_UNTIL, text(&until.to_string()))),
        target_bytes.map(|bytes| (MAX_TARGET_BYTES, text(&bytes.to_string()))),
    ];
    pb::Listener {
        name: listener.name.to_string(),
        address: Some(socket_address(&listener.address.ip().to_string(), listener.address.port())),
        filter_chains,
        listener_filters,
        metadata: metadata(own.into_iter().flatten()),
        ..pb::Listener::default()
    }
}

/// The type URL of plugins for a client type.
fn plugin_url(client_type: ClientType) -> String {
    match client_type {
        ClientType::Weir => type_url::<Plugin>(),
        ClientType::Envoy | ClientType::Grpc => type_url::<Wasm>(),
    }
}

/// The router, which is the last HTTP filter and forwards to the cluster of the route.
pub(super) fn router() -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: ROUTER.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack(&Router::default()))),
        ..hcm::HttpFilter::default()
    }
}

fn connection_manager(listener: &Listener, filters: &HttpFilters, plugin_url: &str) -> hcm::HttpConnectionManager {
    let cors = filters.has_cors.then(|| hcm::HttpFilter {
        name: CORS.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack(&cors::Cors::default()))),
        ..hcm::HttpFilter::default()
    });
    let plugins = filters.plugins.iter().map(|name| {
        let source = core::ExtensionConfigSource {
            config_source: Some(ads_config_source()),
            type_urls: vec![plugin_url.to_owned()],
            ..core::ExtensionConfigSource::default()
        };
        hcm::HttpFilter {
            name: name.to_string(),
            disabled: true,
            config_type: Some(hcm::http_filter::ConfigType::ConfigDiscovery(source)),
            ..hcm::HttpFilter::default()
        }
    });
    let routes =
        hcm::Rds { config_source: Some(ads_config_source()), route_config_name: listener.route_table.to_string() };
    let manager = hcm::HttpConnectionManager {
        stat_prefix: listener.name.to_string(),
        http_filters: cors.into_iter().chain(plugins).chain([router()]).collect(),
        // `weir-proxy` always does these.
        use_remote_address: Some(bool_value(true)),
        normalize_path: Some(bool_value(true)),
        merge_slashes: true,
        strip_trailing_host_dot: true,
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::Rds(routes)),
        ..hcm::HttpConnectionManager::default()
    };
    protocol_options::downstream(manager, &listener.options)
}

/// Returns true if a route of the table has a CORS policy.
pub(crate) fn has_cors(table: &RouteTable) -> bool {
    table.virtual_hosts.iter().flat_map(|host| &host.routes).any(|route| route.cors.is_some())
}

/// Returns the plugins of all routes in an order that is compatible with the chain of every route.
///
/// # Errors
/// Returns two plugins that one route has in one order, and another route in the other.
pub(crate) fn filter_order(table: &RouteTable) -> Result<Vec<PluginName>, (PluginName, PluginName)> {
    let routes = table.virtual_hosts.iter().flat_map(|host| &host.routes);
    let mut before: BTreeMap<&PluginName, BTreeSet<&PluginName>> = BTreeMap::new();
    for route in routes {
        let plugins = route.chain.plugins();
        for (index, plugin) in plugins.iter().enumerate() {
            before.entry(plugin).or_default().extend(&plugins[..index]);
        }
    }
    let mut order: Vec<PluginName> = Vec::with_capacity(before.len());
    while !before.is_empty() {
        let first = before.iter().find(|(_, others)| others.iter().all(|other| !before.contains_key(*other)));
        let Some(first) = first.map(|(first, _)| *first) else {
            // Every remaining plugin must come after another remaining one.
            let left = before.into_iter().find_map(|(plugin, others)| Some((plugin, others.into_iter().next()?)));
            return left.map_or(Ok(order), |(plugin, other)| Err((plugin.clone(), other.clone())));
        };
        before.remove(first);
        order.push(first.clone());
    }
    Ok(order)
}
