//! The active configuration: one immutable value that every request reads.

use std::collections::HashMap;
use std::sync::Arc;

use weir_host_abi::ModuleHash;
use weir_identity::ServerConfig;
use weir_model::{ClusterName, ListenerName, PluginName, Snapshot, SnapshotBuilder};

use crate::fast_hash::FastMap;
use crate::filter::ActivePlugin;
use crate::route::RouteTable;
use crate::upstream::Cluster;

/// The configuration that the data plane serves. Replaced as a whole by one atomic swap.
pub(crate) struct ActiveConfig {
    /// The snapshot that this configuration was built from.
    pub(crate) snapshot: Arc<Snapshot>,
    /// The route table of each listener.
    pub(crate) route_tables: FastMap<ListenerName, Arc<RouteTable>>,
    /// The live clusters; unchanged ones are shared with the previous configuration.
    pub(crate) clusters: HashMap<ClusterName, Arc<Cluster>>,
    /// The started plugins; unchanged ones are shared with the previous configuration.
    pub(crate) plugins: HashMap<PluginName, ActivePlugin>,
    /// The TLS settings of HTTPS listeners; unchanged ones are shared with the previous configuration.
    pub(crate) https: FastMap<ListenerName, Arc<ServerConfig>>,
    /// The module of each plugin: the content of a module file may change under the same path.
    pub(crate) modules: HashMap<PluginName, ModuleHash>,
}

impl ActiveConfig {
    /// Returns the configuration of a proxy that has not received one: without listeners.
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

    /// Returns true if both have equal resources and equal module code.
    pub(crate) fn serves_same(&self, other: &Self) -> bool {
        self.snapshot.version == other.snapshot.version && self.modules == other.modules
    }
}
