//! A listener: for HTTP one filter chain (with HTTPS, one for each certificate, all alike) with an HTTP connection manager, whose
//! routes come apart from it. Every plugin that any
//! of its routes uses stands in its list of filters, disabled; a route enables those of its own chain. So all routes of a
//! listener share the order of filters, which is the same for every chain in any case.

use std::collections::{BTreeMap, BTreeSet};

use weir_model::{DownstreamTls, HostCertificate, Listener, PluginName, RouteTable};

use super::metadata::{metadata, text};
use super::{by_ads, socket_address, tls, truth};
use crate::audience::Audience;
use crate::proto::{Plugin, Router, Wasm, core, hcm, listener as pb, pack, type_url};

/// Envoy's names of what every listener has.
const CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
const ROUTER: &str = "envoy.filters.http.router";
/// Our name of when plain text ends.
pub(crate) const PLAIN_UNTIL: &str = "plainUntil";

/// The listener; `filters` are the plugins of all its routes in order, who is told says as what they are sent.
pub(crate) fn listener(listener: &Listener, filters: &[PluginName], audience: &Audience) -> pb::Listener {
    let manager = connection_manager(listener, filters, &plugin_url(audience));
    let filter = pb::Filter {
        name: CONNECTION_MANAGER.to_owned(),
        config_type: Some(pb::filter::ConfigType::TypedConfig(pack(&manager))),
    };
    with_filters(listener, &[filter], audience)
}

/// A listener for bytes, with its network filters; the last takes them to their cluster.
pub(crate) fn tcp_listener(listener: &Listener, filters: &[pb::Filter], audience: &Audience) -> pb::Listener {
    with_filters(listener, filters, audience)
}

fn with_filters(listener: &Listener, filters: &[pb::Filter], audience: &Audience) -> pb::Listener {
    let chain = |filter_chain_match, transport_socket| pb::FilterChain {
        filter_chain_match,
        filters: filters.to_vec(),
        transport_socket,
        ..pb::FilterChain::default()
    };
    let (filter_chains, listener_filters) = match &listener.tls {
        None => (vec![chain(None, None)], Vec::new()),
        Some(DownstreamTls::Mesh { .. }) => {
            (vec![chain(None, Some(tls::mesh(&tls::identity_of(audience))))], Vec::new())
        }
        Some(DownstreamTls::Https(certificates)) => {
            let of = |it: &HostCertificate| chain(tls::server_name(&it.host), Some(tls::https(it)));
            (certificates.iter().map(of).collect(), vec![tls::inspector()])
        }
    };
    let plain_until = match &listener.tls {
        Some(DownstreamTls::Mesh { plain_until }) => *plain_until,
        _ => None,
    };
    pb::Listener {
        name: listener.name.to_string(),
        address: Some(socket_address(&listener.address.ip().to_string(), listener.address.port())),
        filter_chains,
        listener_filters,
        // Envoy does not look there: it stays strict.
        metadata: plain_until.map(|until| (PLAIN_UNTIL, text(&until.to_string()))).and_then(|entry| metadata([entry])),
        ..pb::Listener::default()
    }
}

/// What plugins are sent as.
fn plugin_url(audience: &Audience) -> String {
    match audience {
        Audience::Weir => type_url::<Plugin>(),
        Audience::Envoy { .. } => type_url::<Wasm>(),
    }
}

/// The last filter, which follows the route.
pub(super) fn router() -> hcm::HttpFilter {
    hcm::HttpFilter {
        name: ROUTER.to_owned(),
        config_type: Some(hcm::http_filter::ConfigType::TypedConfig(pack(&Router::default()))),
        ..hcm::HttpFilter::default()
    }
}

fn connection_manager(listener: &Listener, filters: &[PluginName], plugin_url: &str) -> hcm::HttpConnectionManager {
    let plugins = filters.iter().map(|name| {
        let source = core::ExtensionConfigSource {
            config_source: Some(by_ads()),
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
    let routes = hcm::Rds { config_source: Some(by_ads()), route_config_name: listener.route_table.to_string() };
    hcm::HttpConnectionManager {
        stat_prefix: listener.name.to_string(),
        http_filters: plugins.chain([router()]).collect(),
        // What our own proxy does in any case.
        use_remote_address: Some(truth(true)),
        normalize_path: Some(truth(true)),
        merge_slashes: true,
        strip_trailing_host_dot: true,
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::Rds(routes)),
        ..hcm::HttpConnectionManager::default()
    }
}

/// The plugins of all routes, in an order that every route's chain agrees with.
///
/// # Errors
/// Two plugins that stand in one order in one chain and in the other order in another.
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
            // Each that is left waits for another one that is left.
            let left = before.into_iter().find_map(|(plugin, others)| Some((plugin, others.into_iter().next()?)));
            return left.map_or(Ok(order), |(plugin, other)| Err((plugin.clone(), other.clone())));
        };
        before.remove(first);
        order.push(first.clone());
    }
    Ok(order)
}
