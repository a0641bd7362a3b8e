//! A snapshot made ready to serve: routes compiled, clusters resolved to live state, plugins loaded and started.
//! Built by `config`, read by every request; immutable once published (invariants I4 and I5).
//!
//! ```text
//! Snapshot ─► build (synchronous: routes, clusters) ─► warm (modules, plugins, DNS) ─► ActiveConfig
//! ```
//!
//! What is equal in the configuration before is shared with it, so that its state lives on.

mod build;
mod certificates;
mod fetch;
mod modules;
mod warm;

use std::collections::HashMap;
use std::sync::Arc;

use weir_host_abi::ModuleHash;
use weir_identity::ServerConfig;
use weir_model::{ClusterName, ListenerName, PluginName, Snapshot, SnapshotBuilder};

use crate::filter::ActivePlugin;
use crate::hashing::FastMap;
use crate::route::RouteTable;
use crate::upstream::Cluster;

pub(crate) use build::{Prepared, prepare};
pub(crate) use fetch::ControlPlaneLink;
pub(crate) use modules::{Modules, ModulesOptions};
pub(crate) use warm::{Warmer, WarmerOptions};

/// What the data plane serves by: one value, swapped whole.
pub(crate) struct ActiveConfig {
    /// What was asked for.
    pub(crate) snapshot: Arc<Snapshot>,
    /// The routes of each listener.
    pub(crate) route_tables: FastMap<ListenerName, Arc<RouteTable>>,
    /// Live clusters: unchanged ones are shared with the previous configuration.
    pub(crate) clusters: HashMap<ClusterName, Arc<Cluster>>,
    /// Loaded plugins: unchanged ones are shared with the previous configuration.
    pub(crate) plugins: HashMap<PluginName, Arc<ActivePlugin>>,
    /// TLS of the listeners with certificates for the world: unchanged ones are shared with the previous configuration.
    pub(crate) https: FastMap<ListenerName, Arc<ServerConfig>>,
    /// Which code each plugin runs: a module may change under the same path.
    pub(crate) modules: HashMap<PluginName, ModuleHash>,
}

impl ActiveConfig {
    /// What serves before there is a configuration: nothing.
    pub(crate) fn empty() -> Self {
        let snapshot = SnapshotBuilder::default().complete();
        Self {
            snapshot: Arc::new(snapshot.expect("a snapshot without resources has no dangling names")),
            route_tables: FastMap::default(),
            clusters: HashMap::new(),
            plugins: HashMap::new(),
            https: FastMap::default(),
            modules: HashMap::new(),
        }
    }

    /// True when the other one serves the same: equal resources, equal code.
    pub(crate) fn serves_same(&self, other: &Self) -> bool {
        self.snapshot.version == other.snapshot.version && self.modules == other.modules
    }
}
