//! Route tables: virtual hosts by host name, then the first matching route of a virtual host, and the route's action.
//!
//! `stream` looks up a route for each request. `active` compiles the table from the model when it prepares a
//! configuration. A lookup takes about the same time for one route as for thousands.

mod action; // Actions of a route: weighted targets, rewrites, redirects.
mod cors; // Cross-origin policies.
mod header_modifier; // Changes of headers.
mod hosts; // Virtual hosts by host name.
mod paths; // Routes by path.
mod matching; // Conditions on method, headers and query.

use std::collections::HashMap;
use std::sync::Arc;

use weir_model::{ClusterName, RouteName};

use crate::head::RequestHead;
use crate::upstream::Cluster;

pub(crate) use action::{ChosenTarget, Route, TargetEdits};

use hosts::HostIndex;
use paths::PathIndex;

/// The compiled routes of a listener.
pub(crate) struct RouteTable {
    hosts: HostIndex,
    virtual_hosts: Vec<PathIndex>,
    routes: Vec<Arc<Route>>,
    looks_at_headers: bool,
}

impl RouteTable {
    /// Compiles a table. `clusters` has every cluster that the table refers to; an unknown target gets no requests.
    ///
    /// Routes of `previous` with the same content, position and clusters are reused.
    pub(crate) fn build(
        model: &weir_model::RouteTable,
        clusters: &HashMap<ClusterName, Arc<Cluster>>,
        previous: Option<&Self>,
    ) -> Self {
        let reusable: HashMap<&RouteName, &Arc<Route>> =
            previous.iter().flat_map(|table| &table.routes).map(|route| (&route.model.name, route)).collect();
        let mut routes = Vec::new();
        let mut virtual_hosts = Vec::with_capacity(model.virtual_hosts.len());
        for virtual_host in &model.virtual_hosts {
            let first = routes.len();
            for model in &virtual_host.routes {
                let index = routes.len();
                let unchanged = reusable.get(&model.name).filter(|route| route.is_unchanged(model, index, clusters));
                routes.push(unchanged.map_or_else(
                    || Arc::new(Route::new(Arc::clone(model), index, clusters)),
                    |route| Arc::clone(route),
                ));
            }
            virtual_hosts.push(PathIndex::new(first, &virtual_host.routes));
        }
        let looks_at_headers = routes.iter().any(|route| !route.model.matches.headers.is_empty());
        let hosts = HostIndex::new(model.virtual_hosts.iter().map(|virtual_host| &virtual_host.host));
        Self { hosts, virtual_hosts, routes, looks_at_headers }
    }

    /// Returns false if the route of a request depends on its method, authority and path only.
    pub(crate) fn matches_headers(&self) -> bool {
        self.looks_at_headers
    }

    /// Returns the route of a request.
    ///
    /// The most specific virtual host decides alone: if none of its routes matches, no other virtual host is tried.
    pub(crate) fn find(&self, request: &RequestHead) -> Option<&Arc<Route>> {
        let virtual_host = self.hosts.find(request.authority.as_bytes())?;
        let index = self.virtual_hosts[virtual_host].find(request)?;
        Some(&self.routes[index])
    }

    /// Returns the route of a name, by linear search.
    pub(crate) fn named(&self, name: &RouteName) -> Option<&Arc<Route>> {
        self.routes.iter().find(|route| route.model.name == *name)
    }

    /// Returns the only route of a TCP listener's table.
    pub(crate) fn tcp_route(&self) -> Option<&Arc<Route>> {
        self.routes.first()
    }

    /// Returns all routes. The `index` of a route is its position.
    #[cfg(test)]
    fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
