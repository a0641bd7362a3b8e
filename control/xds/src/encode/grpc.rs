//! For gRPC clients that have no proxy (gRFC A27): each cluster is a target, `xds:///NAMESPACE/SERVICE:PORT`, with a
//! listener and endpoints of its own. Which endpoint a call goes to is decided by the client, one after another.

use weir_model::Cluster;

use super::listener::router;
use super::{by_ads, duration, number};
use crate::proto::{cluster as pb, core, endpoint, hcm, listener, pack, route};

/// What the name of a target leads to: one route, to the cluster of that name.
pub(crate) fn target(cluster: &Cluster) -> listener::Listener {
    let name = cluster.name.to_string();
    let limit = cluster.request_timeout.map(|timeout| route::route_action::MaxStreamDuration {
        max_stream_duration: Some(duration(timeout)),
        ..route::route_action::MaxStreamDuration::default()
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
    let table =
        route::RouteConfiguration { name: name.clone(), virtual_hosts: vec![host], ..Default::default() };
    let manager = hcm::HttpConnectionManager {
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(table)),
        http_filters: vec![router()],
        ..hcm::HttpConnectionManager::default()
    };
    let api_listener = Some(listener::ApiListener { api_listener: Some(pack(&manager)) });
    listener::Listener { name, api_listener, ..listener::Listener::default() }
}

/// The cluster, without what gRPC has no words for.
pub(crate) fn cluster(cluster: &Cluster) -> pb::Cluster {
    let eds = pb::cluster::EdsClusterConfig { eds_config: Some(by_ads()), service_name: String::new() };
    pb::Cluster {
        name: cluster.name.to_string(),
        eds_cluster_config: Some(eds),
        lb_policy: pb::cluster::LbPolicy::RoundRobin as i32,
        cluster_discovery_type: Some(pb::cluster::ClusterDiscoveryType::Type(pb::cluster::DiscoveryType::Eds as i32)),
        ..pb::Cluster::default()
    }
}

/// Its endpoints, as [`super::endpoints`], in one locality: gRPC looks at no endpoint that is in none.
pub(crate) fn endpoints(cluster: &Cluster) -> Option<endpoint::ClusterLoadAssignment> {
    let mut assignment = super::endpoints(cluster)?;
    for locality in &mut assignment.endpoints {
        locality.locality = Some(core::Locality { region: "mesh".to_owned(), ..core::Locality::default() });
        locality.load_balancing_weight = Some(number(1));
    }
    Some(assignment)
}
