//! Decodes the network filters of a TCP listener: Wasm filters, and the TCP proxy after them.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost::Message;
use weir_model::limits::MAX_TARGETS;
use weir_model::{
    ClusterName, FilterChain, HostMatch, ListenerName, Plugin, PluginName, Route, RouteName, RouteTableName, Weight,
    WeightedCluster,
};

use super::chain::{ChainParts, FilterEntry, RouteSource, check_discovery};
use super::field_cursor::{FieldCursor, unsupported};
use super::plugin::inline_plugin;
use super::route::{DecodedHost, DecodedRoute, DecodedRouteTable};
use crate::proto::tcp::{TcpProxy, tcp_proxy};
use crate::proto::{listener as pb, protobuf};

/// Decodes the filters, and the TCP proxy's targets as the only route.
pub(super) fn connections(
    filters: Vec<pb::Filter>,
    config: &protobuf::Any,
    name: &ListenerName,
    cursor: &FieldCursor<'_>,
) -> Option<ChainParts> {
    let last = cursor.entry(filters.len()).field("typed_config");
    let route = proxy(last.checked(TcpProxy::decode(&*config.value))?, name, &last)?;
    let (mut entries, mut plugins): (Vec<FilterEntry>, Vec<Plugin>) = (Vec::new(), Vec::new());
    for (index, filter) in filters.into_iter().enumerate() {
        let cursor = cursor.entry(index);
        let pb::Filter { name: filter_name, config_type } = filter;
        if entries.iter().any(|entry| entry.name == filter_name) {
            cursor
                .field("name")
                .reject(&format!("`{filter_name}` is there twice"), "give each filter a name of its own");
        }
        let plugin = match cursor.field("typed_config").required(config_type)? {
            pb::filter::ConfigType::ConfigDiscovery(source) => {
                check_discovery(source, &cursor.field("config_discovery"));
                cursor.field("name").checked(PluginName::new(&filter_name))?
            }
            pb::filter::ConfigType::TypedConfig(config) => {
                // Filters of two listeners may have the same name.
                let own = cursor.field("name").checked(PluginName::new(&format!("{name}/{filter_name}")))?;
                let plugin = inline_plugin(own.clone(), &config, &cursor.field("typed_config"))?;
                plugins.push(plugin);
                own
            }
        };
        entries.push(FilterEntry { name: filter_name, plugin, disabled: false });
    }
    let routes: Arc<[DecodedRoute]> = [DecodedRoute { route, filters: BTreeMap::new(), cors_filter: None }].into();
    let table = RouteTableName::new(name.as_str()).ok()?; // Valid: the rules for names are the same.
    let hosts = vec![DecodedHost { host: HostMatch::Any, routes }];
    let routes = RouteSource::Inline(DecodedRouteTable { name: table, hosts });
    Some(ChainParts { filters: entries, cors_filter: None, plugins, routes })
}

fn proxy(proxy: TcpProxy, listener: &ListenerName, cursor: &FieldCursor<'_>) -> Option<Route> {
    let TcpProxy {
        stat_prefix, // The route's name, if it is a valid one.
        on_demand,
        metadata_match,
        idle_timeout,
        downstream_idle_timeout,
        upstream_idle_timeout,
        access_log: _,           // `--access-log` sets the access log.
        max_connect_attempts: _, // Unreachable endpoints are always skipped.
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
    unsupported!(cursor; on_demand, metadata_match, idle_timeout, downstream_idle_timeout, upstream_idle_timeout,
        hash_policy, tunneling_config, max_downstream_connection_duration,
        max_downstream_connection_duration_jitter_percentage, proxy_protocol_tlvs, proxy_protocol_tlv_merge_policy,
        upstream_connect_mode, max_early_data_bytes, check_drain_close);
    let targets = match cursor.field("cluster_specifier").required(cluster_specifier)? {
        tcp_proxy::ClusterSpecifier::Cluster(name) => {
            let cluster = cursor.field("cluster").checked(ClusterName::new(&name))?;
            vec![WeightedCluster::new(cluster, Weight::ONE)]
        }
        tcp_proxy::ClusterSpecifier::WeightedClusters(clusters) => {
            weighted(clusters, &cursor.field("weighted_clusters").field("clusters"))?
        }
    };
    let name = RouteName::new(&stat_prefix).or_else(|_| RouteName::new(listener.as_str())).ok()?;
    Some(Route::tcp(name, FilterChain::default(), targets))
}

fn weighted(clusters: tcp_proxy::WeightedCluster, cursor: &FieldCursor<'_>) -> Option<Vec<WeightedCluster>> {
    let tcp_proxy::WeightedCluster { clusters } = clusters;
    let mut targets = Vec::with_capacity(clusters.len());
    for (index, target) in clusters.into_iter().enumerate() {
        let cursor = cursor.entry(index);
        let tcp_proxy::weighted_cluster::ClusterWeight { name, weight, metadata_match } = target;
        unsupported!(cursor; metadata_match);
        let cluster = cursor.field("name").checked(ClusterName::new(&name))?;
        match Weight::new(weight).filter(|weight| weight.get() > 0) {
            Some(weight) => targets.push(WeightedCluster::new(cluster, weight)),
            None => cursor.field("weight").reject("is out of bounds", "from 1 to 1000000"),
        }
    }
    if targets.is_empty() || targets.len() > MAX_TARGETS {
        return cursor.reject_value("are none, or too many", &format!("give 1 to {MAX_TARGETS}"));
    }
    Some(targets)
}
