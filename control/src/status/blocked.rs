//! Routes that a proxy accepts and does not serve: a filter of their chain is not loaded and its failure policy is
//! FailClosed, or a listener is not bound. Such a proxy does not count as one that serves the route.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::{PluginName, Route, Snapshot};
use weir_resources::ObjectId;
use weir_xds::ResourceType;

use crate::snapshot_cache::route_object;
use crate::status::proxies::{BlockingResource, ProxyState};

/// The routes that are not served while a set of resources has failed, each with one of these resources.
pub(crate) type BlockedRoutes = BTreeMap<ObjectId, BlockingResource>;

/// The blocked routes of every proxy. Proxies on which the same resources have failed share them.
#[derive(Default)]
pub(crate) struct BlockedRoutesByFailures(BTreeMap<BTreeSet<BlockingResource>, Arc<BlockedRoutes>>);

impl BlockedRoutesByFailures {
    /// Returns the blocked routes for all proxies.
    pub(crate) fn new(proxies: &[ProxyState], snapshot: &Snapshot) -> Self {
        let mut all = Self::default();
        for proxy in proxies {
            let failed = proxy.blocking_resources();
            if !failed.is_empty() && !all.0.contains_key(&failed) {
                let blocked = Arc::new(blocked_routes(snapshot, &failed));
                all.0.insert(failed, blocked);
            }
        }
        all
    }

    /// Returns the resource for which a proxy does not serve a route; `None` if it does.
    pub(crate) fn find(&self, proxy: &ProxyState, route: &ObjectId) -> Option<&BlockingResource> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&proxy.blocking_resources())?.get(route)
    }
}

fn blocked_routes(snapshot: &Snapshot, failed: &BTreeSet<BlockingResource>) -> BlockedRoutes {
    let mut blocked = BlockedRoutes::new();
    for listener in snapshot.listeners.values() {
        let own = BlockingResource { resource_type: ResourceType::Listener, name: listener.name.to_string() };
        let own = failed.contains(&own).then_some(own);
        let hosts = snapshot.route_tables.get(&listener.route_table).map(|table| &*table.virtual_hosts);
        for route in hosts.into_iter().flatten().flat_map(|host| &host.routes) {
            let Some(cause) = own.clone().or_else(|| failed_filter(route, failed)) else { continue };
            blocked.extend(route_object(route).map(|object| (object, cause)));
        }
    }
    blocked
}

fn failed_filter(route: &Route, failed: &BTreeSet<BlockingResource>) -> Option<BlockingResource> {
    let resource =
        |plugin: &PluginName| BlockingResource { resource_type: ResourceType::Plugin, name: plugin.to_string() };
    route.chain.plugins().iter().map(resource).find(|filter| failed.contains(filter))
}

#[cfg(test)]
mod tests {
    use weir_model::{FilterChain, Listener, ListenerName, ListenerProtocol, Plugin, RouteName};
    use weir_model::{HostMatch, ModuleSource, RouteTable, RouteTableName, SnapshotBuilder, VirtualHost};
    use weir_xds::{ClientType, Report, ReportedFailure};

    use super::*;
    use crate::scope::Scope;

    /// Two routes on one listener; the first has a filter.
    fn snapshot() -> Snapshot {
        let filter = PluginName::new("shop/guard").unwrap();
        let mut builder = SnapshotBuilder::default();
        let module = ModuleSource::Builtin("auth".into());
        builder.put_plugin(Arc::new(Plugin::new(filter.clone(), module, Arc::default())));
        let route = |name: &str, filters| {
            let chain = FilterChain::new(filters).unwrap();
            Arc::new(Route::tcp(RouteName::new(name).unwrap(), chain, Vec::new()))
        };
        let routes = vec![route("shop/guarded/0/0", vec![filter]), route("shop/open/0/0", Vec::new())];
        let route_table = RouteTableName::new("shop/edge/http").unwrap();
        let virtual_hosts = vec![VirtualHost { host: HostMatch::Any, routes }];
        builder.put_route_table(Arc::new(RouteTable { name: route_table.clone(), virtual_hosts }));
        builder.put_listener(Arc::new(Listener {
            name: ListenerName::new("shop/edge/http").unwrap(),
            address: "127.0.0.1:80".parse().unwrap(),
            protocol: ListenerProtocol::Http,
            route_table,
            tls: None,
            options: weir_model::DownstreamProtocolOptions::default(),
        }));
        builder.complete().unwrap()
    }

    fn proxy(resource_type: ResourceType, name: &str, is_blocking: bool) -> ProxyState {
        let (node, program) = ("p1".to_owned(), "weir-proxy".to_owned());
        let mut proxy = ProxyState::new(node, Scope::Everything, ClientType::Weir, program, "delta");
        let (name, reason) = (name.to_owned(), "traps".to_owned());
        let failed = vec![ReportedFailure { resource_type, name, reason, is_blocking }];
        proxy.record_report(Report { nonce: 1, failed, certificate_failure: None }, Some(1));
        proxy
    }

    #[test]
    fn routes_of_failed_filter_or_listener_are_blocked() {
        let routes = ["guarded", "open"].map(|name| ObjectId::new("HTTPRoute", "shop", name).unwrap());
        for (resource_type, name, is_blocking, expected) in [
            (ResourceType::Plugin, "shop/guard", true, [true, false]),
            (ResourceType::Plugin, "shop/guard", false, [false, false]),
            (ResourceType::Plugin, "shop/other", true, [false, false]),
            (ResourceType::Listener, "shop/edge/http", true, [true, true]),
        ] {
            let proxies = [proxy(resource_type, name, is_blocking)];
            let blocked = BlockedRoutesByFailures::new(&proxies, &snapshot());
            let found = routes.each_ref().map(|route| blocked.find(&proxies[0], route));
            assert_eq!(found.map(|cause| cause.is_some()), expected, "{name}");
            if let Some(cause) = found[0] {
                let reason = proxies[0].blocking_reason(cause).unwrap();
                assert!(reason.starts_with("p1: the ") && reason.ends_with(" is not loaded: traps"), "{reason}");
            }
        }
    }
}
