//! Encodes Services for proxyless gRPC clients (gRFC A27). Each Service is a target, `xds:///SERVICE.NAMESPACE:PORT`,
//! with a listener, a cluster and endpoints of that name. The client balances round robin.

use weir_model::Cluster;

use super::listener::router;
use super::{ads_config_source, duration, uint32_value};
use crate::proto::{cluster as pb, core, endpoint, hcm, listener, pack, route};

/// Returns the gRPC target of a cluster; `None` for a subset of a Service. Clients send it as `:authority`, so it
/// contains no `/`.
pub(crate) fn target(cluster: &Cluster) -> Option<String> {
    let (namespace, rest) = cluster.name.as_str().split_once('/')?;
    let (service, port) = rest.rsplit_once(':').filter(|(_, port)| !port.contains('@'))?;
    Some(format!("{service}.{namespace}:{port}"))
}

/// Encodes the listener of a target, with one route to the cluster of the same name.
pub(crate) fn listener(name: &str, cluster: &Cluster) -> listener::Listener {
    let name = name.to_owned();
    let limit = cluster.request_timeout.filter(|timeout| !timeout.is_zero()).map(|timeout| {
        route::route_action::MaxStreamDuration {
            max_stream_duration: Some(duration(timeout)),
            ..route::route_action::MaxStreamDuration::default()
        }
    });
    let action = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::Cluster(name.clone())),
        max_stream_duration: limit,
        ..route::RouteAction::default()
    };
    let every = route::RouteMatch {
        path_specifier: Some(route::route_match::PathSpecifier::Prefix(String::new())),
        ..route::RouteMatch::default()
    };
    let only = route::Route {
        r#match: Some(every),
        action: Some(route::route::Action::Route(action)),
        ..route::Route::default()
    };
    let host = route::VirtualHost {
        name: name.clone(),
        domains: vec!["*".to_owned()],
        routes: vec![only],
        ..route::VirtualHost::default()
    };
    let table = route::RouteConfiguration { name: name.clone(), virtual_hosts: vec![host], ..Default::default() };
    let manager = hcm::HttpConnectionManager {
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(table)),
        http_filters: vec![router()],
        ..hcm::HttpConnectionManager::default()
    };
    let api_listener = Some(listener::ApiListener { api_listener: Some(pack(&manager)) });
    listener::Listener { name, api_listener, ..listener::Listener::default() }
}

/// Encodes a cluster with the fields that gRPC supports.
pub(crate) fn cluster(name: &str) -> pb::Cluster {
    let eds = pb::cluster::EdsClusterConfig { eds_config: Some(ads_config_source()), service_name: String::new() };
    pb::Cluster {
        name: name.to_owned(),
        eds_cluster_config: Some(eds),
        lb_policy: pb::cluster::LbPolicy::RoundRobin as i32,
        cluster_discovery_type: Some(pb::cluster::ClusterDiscoveryType::Type(pb::cluster::DiscoveryType::Eds as i32)),
        ..pb::Cluster::default()
    }
}

/// Encodes endpoints as [`super::endpoints`] does, but in a named locality: gRPC ignores endpoints without one.
pub(crate) fn endpoints(name: &str, cluster: &Cluster) -> Option<endpoint::ClusterLoadAssignment> {
    let mut assignment = super::endpoints(cluster)?;
    name.clone_into(&mut assignment.cluster_name);
    for locality in &mut assignment.endpoints {
        locality.lb_endpoints.retain(|endpoint| !super::cluster::is_pipe(endpoint)); // gRPC rejects them.
        locality.locality = Some(core::Locality { region: "mesh".to_owned(), ..core::Locality::default() });
        locality.load_balancing_weight = Some(uint32_value(1));
    }
    Some(assignment)
}
