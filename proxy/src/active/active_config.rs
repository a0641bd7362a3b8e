//! The active configuration: one immutable value that every request reads.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use weir_host_abi::ModuleHash;
use weir_identity::ServerConfig;
use weir_model::{ClusterName, FailedPlugin, FailurePolicy, ListenerName, PluginName, Snapshot, SnapshotBuilder};

use crate::fast_hash::FastMap;
use crate::filter::ActivePlugin;
use crate::route::RouteTable;
use crate::tls::ClientTls;
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
    /// Plugins whose newest version does not load. If `plugins` has the name, too, an earlier version serves. Otherwise
    /// requests skip the plugin if its failure policy is Open; no chain names a plugin that is Closed.
    pub(crate) failed_plugins: BTreeMap<PluginName, FailedPlugin>,
    /// The TLS settings of HTTPS listeners; unchanged ones are shared with the previous configuration.
    pub(crate) https: FastMap<ListenerName, Arc<ServerConfig>>,
    /// The settings of TLS with servers, of each cluster that uses it; unchanged ones are shared with the previous
    /// configuration. A cluster receives them when the configuration is published.
    pub(crate) upstream_tls: FastMap<ClusterName, Arc<ClientTls>>,
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
            failed_plugins: BTreeMap::new(),
            https: FastMap::default(),
            upstream_tls: FastMap::default(),
            modules: HashMap::new(),
        }
    }

    /// Returns true if both have equal resources and equal module code, and the same plugins have failed.
    pub(crate) fn serves_same(&self, other: &Self) -> bool {
        self.snapshot.version == other.snapshot.version
            && self.modules == other.modules
            && self.failed_plugins == other.failed_plugins
    }

    /// Returns true if requests skip a plugin that a chain names.
    pub(crate) fn skips(&self, plugin: &PluginName) -> bool {
        let is_open = |failed: &FailedPlugin| failed.failure == FailurePolicy::Open;
        !self.plugins.contains_key(plugin) && self.failed_plugins.get(plugin).is_some_and(is_open)
    }
}
