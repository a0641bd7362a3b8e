//! What was built before: parts of the next snapshot that are equal are the same allocation, so that the proxy sees by
//! a pointer that nothing has changed. Holds what the last snapshot holds, no more.

use std::collections::HashMap;
use std::sync::Arc;

use weir_model::{Cluster, Listener, Plugin, Route, RouteTable, Secret, Snapshot, TargetVersion};

use crate::compile::chain::RuleChains;
use crate::resource::Document;

/// The parts of the last snapshot.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    last: Option<Snapshot>,
    routes: RouteMemory,
    used: RouteMemory,
}

/// The routes of each HTTPRoute document, for all chains and versions that they were built with. The document is held,
/// so that its address stays its own.
type RouteMemory = HashMap<usize, (Arc<Document>, Vec<(RuleChains, Vec<TargetVersion>, Routes)>)>;

/// The routes of one document: one for each match of each rule, in order.
pub(crate) type Routes = Arc<[Arc<Route>]>;

macro_rules! share {
    ($($(#[$doc:meta])* $name:ident, $collection:ident, $part:ty;)*) => {$(
        $(#[$doc])*
        pub(crate) fn $name(&self, part: $part) -> Arc<$part> {
            let known = self.last.as_ref().and_then(|last| last.$collection.get(&part.name));
            known.filter(|known| ***known == part).cloned().unwrap_or_else(|| Arc::new(part))
        }
    )*};
}

impl Memory {
    share! {
        /// The cluster of before, when it is equal.
        cluster, clusters, Cluster;
        /// The plugin of before, when it is equal.
        plugin, plugins, Plugin;
        /// The listener of before, when it is equal.
        listener, listeners, Listener;
        /// The secret of before, when it is equal.
        secret, secrets, Secret;
        /// The route table of before, when it is equal.
        route_table, route_tables, RouteTable;
    }

    /// The routes of a document with its chains and the versions of what it forwards to: those of before, or what `build`
    /// makes.
    pub(crate) fn routes(
        &mut self,
        document: &Arc<Document>,
        (chain, versions): (&RuleChains, &[TargetVersion]),
        build: impl FnOnce() -> Vec<Arc<Route>>,
    ) -> Routes {
        let address = Arc::as_ptr(document) as usize;
        let of = |memory: &RouteMemory| {
            let (_, chains) = memory.get(&address)?;
            let is_same = |(other, of, _): &&(RuleChains, Vec<_>, Routes)| other == chain && of == versions;
            chains.iter().find(is_same).map(|(_, _, routes)| routes.clone())
        };
        if let Some(routes) = of(&self.used) {
            return routes;
        }
        let routes = of(&self.routes).unwrap_or_else(|| Arc::from(build()));
        let (_, chains) = self.used.entry(address).or_insert_with(|| (document.clone(), Vec::new()));
        chains.push((chain.clone(), versions.to_vec(), routes.clone()));
        routes
    }

    /// Remembers a snapshot for the next one, and forgets what it does not hold.
    pub(crate) fn remember(&mut self, snapshot: &Snapshot) {
        self.last = Some(snapshot.clone());
        self.routes = std::mem::take(&mut self.used);
    }
}
