//! Results of the previous compilation. Equal parts of the next snapshot share the previous allocation, so that the
//! proxy detects an unchanged part by pointer comparison. Bounded by the content of the last snapshot.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use weir_model::{Cluster, Listener, Plugin, Route, RouteTable, Secret, Snapshot, TargetVersion};

use crate::compile::chain::RuleChains;
use crate::source::DocumentKey;

/// The parts of the last snapshot.
#[derive(Debug, Default)]
pub(crate) struct BuildCache {
    last: Option<Arc<Snapshot>>,
    routes: RouteCache,
    /// Entries that the current compilation used or added.
    used: RouteCache,
}

/// Routes by HTTPRoute document. A document has an entry for each combination of chains and versions.
type RouteCache = HashMap<DocumentKey, Vec<CachedRoutes>>;

/// The routes of one document, with the inputs that they were built from.
#[derive(Debug)]
struct CachedRoutes {
    chains: RuleChains,
    versions: Vec<TargetVersion>,
    routes: Routes,
}

/// The routes of one document: one per match of each rule, in document order.
pub(crate) type Routes = Arc<[Arc<Route>]>;

impl BuildCache {
    /// Returns the previous cluster if it is equal, else the new one.
    pub(crate) fn cluster(&self, cluster: Cluster) -> Arc<Cluster> {
        let previous = self.previous(|last| &last.clusters, &cluster.name);
        reuse_if_equal(previous, cluster)
    }

    /// Returns the previous plugin if it is equal, else the new one.
    pub(crate) fn plugin(&self, plugin: Plugin) -> Arc<Plugin> {
        let previous = self.previous(|last| &last.plugins, &plugin.name);
        reuse_if_equal(previous, plugin)
    }

    /// Returns the previous listener if it is equal, else the new one.
    pub(crate) fn listener(&self, listener: Listener) -> Arc<Listener> {
        let previous = self.previous(|last| &last.listeners, &listener.name);
        reuse_if_equal(previous, listener)
    }

    /// Returns the previous secret if it is equal, else the new one.
    pub(crate) fn secret(&self, secret: Secret) -> Arc<Secret> {
        let previous = self.previous(|last| &last.secrets, &secret.name);
        reuse_if_equal(previous, secret)
    }

    /// Returns the previous route table if it is equal, else the new one.
    pub(crate) fn route_table(&self, table: RouteTable) -> Arc<RouteTable> {
        let previous = self.previous(|last| &last.route_tables, &table.name);
        reuse_if_equal(previous, table)
    }

    fn previous<N: Ord + 'static, T>(
        &self,
        collection: impl Fn(&Snapshot) -> &BTreeMap<N, Arc<T>>,
        name: &N,
    ) -> Option<&Arc<T>> {
        self.last.as_deref().and_then(|last| collection(last).get(name))
    }

    /// Returns the routes of a document for these chains and target versions. Calls `build` if they are not cached.
    pub(crate) fn routes(
        &mut self,
        document: DocumentKey,
        chains: &RuleChains,
        versions: &[TargetVersion],
        build: impl FnOnce() -> Vec<Arc<Route>>,
    ) -> Routes {
        let cached = |cache: &RouteCache| {
            let is_same = |cached: &&CachedRoutes| cached.chains == *chains && cached.versions == versions;
            cache.get(&document)?.iter().find(is_same).map(|cached| cached.routes.clone())
        };
        if let Some(routes) = cached(&self.used) {
            return routes;
        }
        let routes = cached(&self.routes).unwrap_or_else(|| Arc::from(build()));
        let entry = CachedRoutes { chains: chains.clone(), versions: versions.to_vec(), routes: routes.clone() };
        // Most documents have one entry; `push` alone would make room for four.
        self.used.entry(document).or_insert_with(|| Vec::with_capacity(1)).push(entry);
        routes
    }

    /// Stores a snapshot for the next compilation and evicts routes that it does not contain.
    pub(crate) fn store(&mut self, snapshot: &Arc<Snapshot>) {
        self.last = Some(Arc::clone(snapshot));
        self.routes = std::mem::take(&mut self.used);
    }
}

fn reuse_if_equal<T: PartialEq>(previous: Option<&Arc<T>>, part: T) -> Arc<T> {
    previous.filter(|previous| ***previous == part).cloned().unwrap_or_else(|| Arc::new(part))
}
