//! For gRPC clients that have no proxy (gRFC A27): each Service is a target, `xds:///SERVICE.NAMESPACE:PORT`, with a
//! listener, a cluster and endpoints of that name. Which endpoint a call goes to is decided by the client, one after
//! another.

use weir_model::Cluster;

use super::listener::router;
use super::{by_ads, duration, number};
use crate::proto::{cluster as pb, core, endpoint, hcm, listener, pack, route};

/// The target of a cluster; none for one that is a part of a Service. Clients send it as the authority of their requests,
/// in which there is no `/`.
pub(crate) fn target(cluster: &Cluster) -> Option<String> {
    let (namespace, rest) = cluster.name.as_str().split_once('/')?;
    let (service, port) = rest.rsplit_once(':').filter(|(_, port)| !port.contains('@'))?;
    Some(format!("{service}.{namespace}:{port}"))
}

/// What a target leads to: one route, to the cluster of that name.
pub(crate) fn listener(name: &str, cluster: &Cluster) -> listener::Listener {
    let name = name.to_owned();
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
    let table = route::RouteConfiguration { name: name.clone(), virtual_hosts: vec![host], ..Default::default() };
    let manager = hcm::HttpConnectionManager {
        route_specifier: Some(hcm::http_connection_manager::RouteSpecifier::RouteConfig(table)),
        http_filters: vec![router()],
        ..hcm::HttpConnectionManager::default()
    };
    let api_listener = Some(listener::ApiListener { api_listener: Some(pack(&manager)) });
    listener::Listener { name, api_listener, ..listener::Listener::default() }
}

/// The cluster, without what gRPC has no words for.
pub(crate) fn cluster(name: &str) -> pb::Cluster {
    let eds = pb::cluster::EdsClusterConfig { eds_config: Some(by_ads()), service_name: String::new() };
    pb::Cluster {
        name: name.to_owned(),
        eds_cluster_config: Some(eds),
        lb_policy: pb::cluster::LbPolicy::RoundRobin as i32,
        cluster_discovery_type: Some(pb::cluster::ClusterDiscoveryType::Type(pb::cluster::DiscoveryType::Eds as i32)),
        ..pb::Cluster::default()
    }
}

/// Its endpoints, as [`super::endpoints`], in one locality: gRPC looks at no endpoint that is in none.
pub(crate) fn endpoints(name: &str, cluster: &Cluster) -> Option<endpoint::ClusterLoadAssignment> {
    let mut assignment = super::endpoints(cluster)?;
    name.clone_into(&mut assignment.cluster_name);
    for locality in &mut assignment.endpoints {
        locality.locality = Some(core::Locality { region: "mesh".to_owned(), ..core::Locality::default() });
        locality.load_balancing_weight = Some(number(1));
    }
    Some(assignment)
}
