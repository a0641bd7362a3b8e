//! Request heads and models for the tests of this folder.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Version};
use weir_model::{
    ClusterName, FilterChain, Forward, HeaderModifier, HostMatch, PathMatch, Rewrite, Route, RouteAction, RouteMatch,
    RouteName, RouteTable, RouteTableName, Timeouts, VirtualHost, Weight, WeightedCluster,
};

use crate::head::RequestHead;

pub(crate) fn header(name: &str) -> HeaderName {
    HeaderName::from_bytes(name.as_bytes()).unwrap()
}

pub(crate) fn request(method: &str, authority: &str, path: &str, headers: &[(&str, &str)]) -> RequestHead {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(header(name), HeaderValue::from_str(value).unwrap());
    }
    RequestHead {
        upgrade: None,
        method: Method::from_bytes(method.as_bytes()).unwrap(),
        scheme: "http",
        authority: HeaderValue::from_str(authority).unwrap(),
        path: path.parse().unwrap(),
        headers: map,
        sent_names: None,
        version: Version::HTTP_11,
    }
}

pub(crate) fn matching(path: PathMatch) -> RouteMatch {
    RouteMatch { path, method: None, headers: Vec::new(), query: Vec::new() }
}

pub(crate) fn route(name: &str, matches: RouteMatch, action: RouteAction) -> Arc<Route> {
    Arc::new(Route {
        name: RouteName::new(name).unwrap(),
        matches,
        chain: FilterChain::default(),
        request_headers: HeaderModifier::default(),
        response_headers: HeaderModifier::default(),
        cors: None,
        action,
        metadata: weir_model::Metadata::default(),
    })
}

pub(crate) fn forward(targets: &[(&str, u32)]) -> Forward {
    Forward {
        targets: targets
            .iter()
            .map(|(name, weight)| WeightedCluster::new(ClusterName::new(name).unwrap(), Weight::new(*weight).unwrap()))
            .collect(),
        versions: Vec::new(),
        rewrite: Rewrite::default(),
        mirrors: Vec::new(),
        timeouts: Timeouts::default(),
        retry: None,
    }
}

pub(crate) fn table(hosts: Vec<(HostMatch, Vec<Arc<Route>>)>) -> RouteTable {
    RouteTable {
        name: RouteTableName::new("table").unwrap(),
        virtual_hosts: hosts.into_iter().map(|(host, routes)| VirtualHost { host, routes }).collect(),
    }
}
