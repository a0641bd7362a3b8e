//! Which route a request takes, and what the route does to it: first the virtual host by host name, then the first of its
//! routes that matches. Called by `stream::handle` for each request; made by `active` from the model when a
//! configuration is prepared. Finding takes about the same time for one route as for thousands.

mod action; // What a route does: rewrite, redirect, weighted choice.
mod edits; // Changes to headers.
mod hosts; // Virtual hosts by name.
mod matching; // What a route asks of method, headers and query.
mod paths; // Routes by path.

use std::collections::HashMap;
use std::sync::Arc;

use weir_model::{ClusterName, RouteName};

use crate::head::RequestHead;
use crate::upstream::Cluster;

pub(crate) use action::Route;

use hosts::Hosts;
use paths::Paths;

/// The routes of a listener, ready to be searched.
pub(crate) struct RouteTable {
    hosts: Hosts,
    virtual_hosts: Vec<Paths>,
    routes: Vec<Arc<Route>>,
    looks_at_headers: bool,
}

impl RouteTable {
    /// Compiles a table. Routes that are in `previous`, at the same position and with the same clusters, are taken from
    /// there. `clusters` holds every cluster that the table refers to; a target that is not there gets no requests.
    pub(crate) fn build(
        model: &weir_model::RouteTable,
        clusters: &HashMap<ClusterName, Arc<Cluster>>,
        previous: Option<&Self>,
    ) -> Self {
        let known: HashMap<&RouteName, &Arc<Route>> =
            previous.iter().flat_map(|table| &table.routes).map(|route| (&route.model.name, route)).collect();
        let mut routes = Vec::new();
        let mut virtual_hosts = Vec::with_capacity(model.virtual_hosts.len());
        for virtual_host in &model.virtual_hosts {
            let first = routes.len();
            for model in &virtual_host.routes {
                let index = routes.len();
                let same = known.get(&model.name).filter(|route| route.is(model, index, clusters));
                routes.push(same.map_or_else(
                    || Arc::new(Route::new(Arc::clone(model), index, clusters)),
                    |route| Arc::clone(route),
                ));
            }
            virtual_hosts.push(Paths::new(first, &virtual_host.routes));
        }
        let looks_at_headers = routes.iter().any(|route| !route.model.matches.headers.is_empty());
        let hosts = Hosts::new(model.virtual_hosts.iter().map(|it| &it.host));
        Self { hosts, virtual_hosts, routes, looks_at_headers }
    }

    /// False when the route depends on method, authority and path alone.
    pub(crate) fn looks_at_headers(&self) -> bool {
        self.looks_at_headers
    }

    /// The route of a request. The most specific virtual host decides alone: when none of its routes matches, no other
    /// host is asked.
    pub(crate) fn find(&self, request: &RequestHead) -> Option<&Arc<Route>> {
        let virtual_host = self.hosts.find(request.authority.as_bytes())?;
        let index = self.virtual_hosts[virtual_host].find(request)?;
        Some(&self.routes[index])
    }

    /// The route of every connection, in the table of a TCP listener.
    pub(crate) fn only(&self) -> Option<&Arc<Route>> {
        self.routes.first()
    }

    /// All routes; one's `index` is its position.
    #[cfg(test)]
    fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
