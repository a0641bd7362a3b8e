//! Routes that a proxy accepts and does not serve: a filter of their chain is not loaded and its failure policy is
//! FailClosed, or a listener is not bound. Such a proxy does not count as one that serves the route.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use weir_model::{Route, Snapshot};
use weir_resources::ObjectId;
use weir_xds::ResourceType;

use crate::snapshot_cache::route_object;
use crate::status::proxies::ProxyState;

/// The routes that are not served while a set of resources has failed, each with one of these resources.
pub(crate) type BlockedRoutes = BTreeMap<ObjectId, BlockingResource>;

/// A failed resource without which no request is served.
pub(crate) type BlockingResource = (ResourceType, String);

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
        let own = (ResourceType::Listener, listener.name.to_string());
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
    let filters = route.chain.plugins().iter().map(|plugin| (ResourceType::Plugin, plugin.to_string()));
    filters.into_iter().find(|filter| failed.contains(filter))
}
