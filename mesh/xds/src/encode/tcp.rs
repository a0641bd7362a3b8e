//! Encodes the network filters of a TCP listener: its plugins, and Envoy's TCP proxy.

use weir_model::{Plugin, PluginName, RemoteModule, Route, RouteAction, Weight, WeightedCluster};

use super::ads_config_source;
use super::plugin::configuration;
use crate::proto::tcp::TcpProxy;
use crate::proto::tcp::tcp_proxy::weighted_cluster::ClusterWeight;
use crate::proto::tcp::tcp_proxy::{ClusterSpecifier, WeightedCluster as WeightedClusters};
use crate::proto::{NetworkWasm, Plugin as OurPlugin, core, listener as pb, pack, type_url};

/// Envoy's name of the TCP proxy, the last filter of every TCP listener.
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

/// Encodes the TCP proxy; `None` for a route that does not forward. The route's name is its `stat_prefix`.
pub(crate) fn tcp_proxy(route: &Route) -> Option<pb::Filter> {
    let RouteAction::Forward(forward) = &route.action else { return None };
    let proxy = TcpProxy {
        stat_prefix: route.name.to_string(),
        cluster_specifier: Some(targets(&forward.targets)),
        ..TcpProxy::default()
    };
    Some(typed(TCP_PROXY, pack(&proxy)))
}

/// Encodes a plugin for `weir-proxy`: a reference to the plugin's own resource (ECDS).
pub(crate) fn network_plugin(name: &PluginName) -> pb::Filter {
    let source = core::ExtensionConfigSource {
        config_source: Some(ads_config_source()),
        type_urls: vec![type_url::<OurPlugin>()],
        ..core::ExtensionConfigSource::default()
    };
    let config_type = Some(pb::filter::ConfigType::ConfigDiscovery(source));
    pb::Filter { name: name.to_string(), config_type }
}

/// Encodes a plugin for Envoy, inline. HTTP and network filters have different types in Envoy, so one ECDS resource
/// cannot serve both.
pub(crate) fn inline_network_plugin(plugin: &Plugin, module: &RemoteModule, cluster: String) -> pb::Filter {
    let filter = NetworkWasm { config: Some(configuration(plugin, module, cluster)) };
    typed(plugin.name.as_str(), pack(&filter))
}

fn typed(name: &str, config: crate::proto::Any) -> pb::Filter {
    pb::Filter { name: name.to_owned(), config_type: Some(pb::filter::ConfigType::TypedConfig(config)) }
}

fn targets(targets: &[WeightedCluster]) -> ClusterSpecifier {
    let weighted = |target: &WeightedCluster| ClusterWeight {
        name: target.cluster.to_string(),
        weight: target.weight.get(),
        ..ClusterWeight::default()
    };
    match targets {
        [target] if target.weight == Weight::ONE => ClusterSpecifier::Cluster(target.cluster.to_string()),
        // Envoy rejects a weight of 0. Such a target is never chosen, so it is left out.
        _ => ClusterSpecifier::WeightedClusters(WeightedClusters {
            clusters: targets.iter().filter(|target| target.weight.get() > 0).map(weighted).collect(),
        }),
    }
}
