//! The routes of a listener: those of its route table, each with the filters that are enabled on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::{
    ClusterName, DirectResponse, FilterChain, PluginName, Rejection, ResourceId, Route, RouteAction, RouteTable,
    RouteTableName, VirtualHost,
};

use crate::decode::{DecodedHost, DecodedListener, DecodedRoute, DecodedRouteTable, FilterEntry, RouteSource};
use crate::resource_type::ResourceType;

/// Builds the route table of a listener. It has the listener's name, because equal routes under other filters differ.
/// Routes through a plugin of `blocking_plugins` answer 503.
pub(crate) fn build_route_table(
    listener: &DecodedListener,
    tables: &BTreeMap<String, DecodedRouteTable>,
    blocking_plugins: &BTreeSet<PluginName>,
) -> Result<RouteTable, Vec<Rejection>> {
    let decoded = match &listener.routes {
        RouteSource::Inline(table) => Some(table),
        RouteSource::Named(name) => tables.get(name.as_str()),
    };
    let name = match &listener.routes {
        RouteSource::Named(name) if name.as_str() == listener.name.as_str() => Ok(name.clone()),
        RouteSource::Named(_) | RouteSource::Inline(_) => RouteTableName::new(listener.name.as_str()),
    };
    let name =
        name.map_err(|error| vec![rejection(ResourceType::Listener, listener.name.as_str(), &error.to_string())])?;
    let mut shared: Vec<(*const DecodedRoute, Vec<Arc<Route>>)> = Vec::new();
    let mut virtual_hosts = Vec::new();
    for DecodedHost { host, routes } in decoded.iter().flat_map(|table| &table.hosts) {
        let address = routes.as_ptr();
        let known = shared.iter().find(|(known, _)| std::ptr::eq(*known, address)).map(|(_, routes)| routes.clone());
        let routes = match known.filter(|known| known.len() == routes.len()) {
            Some(known) => known,
            None => routes
                .iter()
                .map(|route| with_filter_chain(route, listener, blocking_plugins))
                .collect::<Result<_, _>>()?,
        };
        shared.push((address, routes.clone()));
        virtual_hosts.push(VirtualHost { host: host.clone(), routes });
    }
    Ok(RouteTable { name, virtual_hosts })
}

/// Returns the route with the filters that are enabled on it, in the listener's order.
fn with_filter_chain(
    decoded: &DecodedRoute,
    listener: &DecodedListener,
    blocking_plugins: &BTreeSet<PluginName>,
) -> Result<Arc<Route>, Vec<Rejection>> {
    let unknown = decoded.filters.keys().find(|name| !listener.filters.iter().any(|entry| entry.name == **name));
    let name = decoded.route.name.as_str();
    if let Some(unknown) = unknown {
        let reason =
            format!("route {name} enables or disables the filter `{unknown}`, which the listener does not have");
        return Err(vec![rejection(ResourceType::Listener, listener.name.as_str(), &reason)]);
    }
    if decoded.cors_filter.is_some() && decoded.cors_filter != listener.cors_filter {
        let reason = format!("route {name} has a CORS policy, and the listener has no CORS filter of its name");
        return Err(vec![rejection(ResourceType::Listener, listener.name.as_str(), &reason)]);
    }
    let runs = |entry: &&FilterEntry| decoded.filters.get(&entry.name).copied().unwrap_or(!entry.disabled);
    let plugins = listener.filters.iter().filter(runs).map(|entry| entry.plugin.clone());
    let (blocking, plugins): (Vec<_>, Vec<_>) = plugins.partition(|plugin| blocking_plugins.contains(plugin));
    let chain = FilterChain::new(plugins).map_err(|count| {
        let reason = format!("route {name} has {count} filters, which are too many");
        vec![rejection(ResourceType::Listener, listener.name.as_str(), &reason)]
    })?;
    let mut route = Route { chain, ..decoded.route.clone() };
    if !blocking.is_empty() {
        // A request never bypasses a failed filter (I9). The other filters still see it.
        route.action = RouteAction::Respond(DirectResponse { status: 503, detail: "filter_not_loaded".into() });
    }
    Ok(Arc::new(route))
}

/// Returns the clusters that a route forwards to, mirrors and versions included.
pub(crate) fn referenced_clusters(route: &Route) -> Vec<ClusterName> {
    let RouteAction::Forward(forward) = &route.action else { return Vec::new() };
    let targets = forward.targets.iter().map(|target| &target.cluster);
    let versions = forward.versions.iter().map(|version| &version.cluster);
    targets.chain(versions).chain(forward.mirrors.iter().map(|mirror| &mirror.cluster)).cloned().collect()
}

/// Returns a rejection of a resource as a whole.
pub(crate) fn rejection(resource_type: ResourceType, name: &str, reason: &str) -> Rejection {
    let resource = ResourceId { kind: resource_type.resource_kind(), name: name.to_owned() };
    Rejection { resource, field: String::new(), reason: reason.to_owned(), hint: String::new() }
}
