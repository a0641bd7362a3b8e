//! What a TCP listener does with its connections: Wasm filters, and the TCP proxy at their end.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use weir_model::limits::MAX_TARGETS;
use weir_model::{
    ClusterName, FilterChain, HostMatch, ListenerName, Plugin, PluginName, Route, RouteName, RouteTableName, Weight,
    WeightedCluster,
};

use super::fault::{Spot, unsupported};
use super::listener::{FilterEntry, Parts, RouteSource, discovered};
use super::plugin::inline_plugin;
use super::route::{DecodedHost, DecodedRoute, DecodedRouteTable};
use crate::proto::tcp::{TcpProxy, tcp_proxy};
use crate::proto::{listener as pb, protobuf};

/// The filters before the TCP proxy, and where it takes connections.
pub(super) fn connections(
    filters: Vec<pb::Filter>,
    config: &protobuf::Any,
    name: &ListenerName,
    spot: &Spot<'_>,
) -> Option<Parts> {
    let last = spot.entry(filters.len()).field("typed_config");
    let route = proxy(last.checked(TcpProxy::decode(&*config.value))?, name, &last)?;
    let (mut entries, mut plugins): (Vec<FilterEntry>, Vec<Plugin>) = (Vec::new(), Vec::new());
    for (index, filter) in filters.into_iter().enumerate() {
        let spot = spot.entry(index);
        let pb::Filter { name: filter_name, config_type } = filter;
        if entries.iter().any(|entry| entry.name == filter_name) {
            spot.field("name").refuse(&format!("`{filter_name}` is there twice"), "give each filter a name of its own");
        }
        let plugin = match spot.field("typed_config").required(config_type)? {
            pb::filter::ConfigType::ConfigDiscovery(source) => {
                discovered(source, &spot.field("config_discovery"));
                spot.field("name").checked(PluginName::new(&filter_name))?
            }
            pb::filter::ConfigType::TypedConfig(config) => {
                // Two listeners may have filters of the same name.
                let own = spot.field("name").checked(PluginName::new(&format!("{name}/{filter_name}")))?;
                let plugin = inline_plugin(own.clone(), &config, &spot.field("typed_config"))?;
                plugins.push(plugin);
                own
            }
        };
        entries.push(FilterEntry { name: filter_name, plugin, disabled: false });
    }
    let routes: Arc<[DecodedRoute]> = [DecodedRoute { route, filters: BTreeMap::new() }].into();
    let table = RouteTableName::new(name.as_str()).ok()?; // The same rules for every name.
    let hosts = vec![DecodedHost { host: HostMatch::Any, routes }];
    Some((entries, plugins, RouteSource::Inline(DecodedRouteTable { name: table, hosts })))
}

fn proxy(proxy: TcpProxy, listener: &ListenerName, spot: &Spot<'_>) -> Option<Route> {
    let TcpProxy {
        stat_prefix, // The route's name, if it can be one.
        on_demand,
        metadata_match,
        idle_timeout,
        downstream_idle_timeout,
        upstream_idle_timeout,
        access_log: _,           // The access log is the proxy's own: `--access-log`.
        max_connect_attempts: _, // Endpoints that cannot be reached are passed over in any case.
        backoff_options: _,
        hash_policy,
        tunneling_config,
        max_downstream_connection_duration,
        max_downstream_connection_duration_jitter_percentage,
        access_log_flush_interval: _,
        flush_access_log_on_connected: _,
        access_log_options: _,
        proxy_protocol_tlvs,
        proxy_protocol_tlv_merge_policy,
        upstream_connect_mode,
        max_early_data_bytes,
        check_drain_close,
        cluster_specifier,
    } = proxy;
    unsupported!(spot; on_demand, metadata_match, idle_timeout, downstream_idle_timeout, upstream_idle_timeout,
        hash_policy, tunneling_config, max_downstream_connection_duration,
        max_downstream_connection_duration_jitter_percentage, proxy_protocol_tlvs, proxy_protocol_tlv_merge_policy,
        upstream_connect_mode, max_early_data_bytes, check_drain_close);
    let targets = match spot.field("cluster_specifier").required(cluster_specifier)? {
        tcp_proxy::ClusterSpecifier::Cluster(name) => {
            let cluster = spot.field("cluster").checked(ClusterName::new(&name))?;
            vec![WeightedCluster { cluster, weight: Weight::ONE }]
        }
        tcp_proxy::ClusterSpecifier::WeightedClusters(clusters) => {
            weighted(clusters, &spot.field("weighted_clusters").field("clusters"))?
        }
    };
    let name = RouteName::new(&stat_prefix).or_else(|_| RouteName::new(listener.as_str())).ok()?;
    Some(Route::of_connections(name, FilterChain::default(), targets))
}

fn weighted(clusters: tcp_proxy::WeightedCluster, spot: &Spot<'_>) -> Option<Vec<WeightedCluster>> {
    let tcp_proxy::WeightedCluster { clusters } = clusters;
    let mut targets = Vec::with_capacity(clusters.len());
    for (index, target) in clusters.into_iter().enumerate() {
        let spot = spot.entry(index);
        let tcp_proxy::weighted_cluster::ClusterWeight { name, weight, metadata_match } = target;
        unsupported!(spot; metadata_match);
        let cluster = spot.field("name").checked(ClusterName::new(&name))?;
        match Weight::new(weight).filter(|weight| weight.get() > 0) {
            Some(weight) => targets.push(WeightedCluster { cluster, weight }),
            None => spot.field("weight").refuse("is out of bounds", "from 1 to 1000000"),
        }
    }
    if targets.is_empty() || targets.len() > MAX_TARGETS {
        return spot.none("are none, or too many", &format!("give 1 to {MAX_TARGETS}"));
    }
    Some(targets)
}
