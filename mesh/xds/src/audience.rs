//! Who is told: proxies of ours understand more than Envoy does.

use weir_model::ClusterName;

/// Who is told.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Audience {
    /// A proxy of ours.
    Weir,
    /// An Envoy, which fetches modules through a cluster.
    Envoy {
        /// That cluster.
        module_cluster: ClusterName,
    },
}
