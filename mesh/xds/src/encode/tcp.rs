//! What a TCP listener does with its connections: its plugins, and Envoy's TCP proxy, which takes them to a cluster.

use weir_model::{Plugin, PluginName, RemoteModule, Route, RouteAction, Weight, WeightedCluster};

use super::by_ads;
use super::plugin::configuration;
use crate::proto::tcp::TcpProxy;
use crate::proto::tcp::tcp_proxy::weighted_cluster::ClusterWeight;
use crate::proto::tcp::tcp_proxy::{ClusterSpecifier, WeightedCluster as WeightedClusters};
use crate::proto::{NetworkWasm, Plugin as OurPlugin, core, listener as pb, pack, type_url};

/// Envoy's name of what every TCP listener ends with.
const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

/// What takes connections to their cluster; `None` for a route that goes nowhere. It bears the route's name.
pub(crate) fn tcp_proxy(route: &Route) -> Option<pb::Filter> {
    let RouteAction::Forward(forward) = &route.action else { return None };
    let proxy = TcpProxy {
        stat_prefix: route.name.to_string(),
        cluster_specifier: Some(targets(&forward.targets)),
        ..TcpProxy::default()
    };
    Some(typed(TCP_PROXY, pack(&proxy)))
}

/// A plugin that comes apart from the listener, as our own proxies get it.
pub(crate) fn network_plugin(name: &PluginName) -> pb::Filter {
    let source = core::ExtensionConfigSource {
        config_source: Some(by_ads()),
        type_urls: vec![type_url::<OurPlugin>()],
        ..core::ExtensionConfigSource::default()
    };
    let config_type = Some(pb::filter::ConfigType::ConfigDiscovery(source));
    pb::Filter { name: name.to_string(), config_type }
}

/// A plugin within the listener, as Envoy gets it: one of HTTP and one of bytes are filters of two types there, so the
/// same plugin cannot come apart for both.
pub(crate) fn network_plugin_within(plugin: &Plugin, module: &RemoteModule, cluster: String) -> pb::Filter {
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
        // One of weight 0 is never chosen, and Envoy does not take it.
        _ => ClusterSpecifier::WeightedClusters(WeightedClusters {
            clusters: targets.iter().filter(|target| target.weight.get() > 0).map(weighted).collect(),
        }),
    }
}
