//! Scopes: the part of a snapshot that one proxy may see. The Gateway that the proxy serves decides it.

use weir_model::{Listener, Snapshot};

/// The resources that a proxy may see.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The whole snapshot, for a proxy that names no Gateway.
    Everything,
    /// The listeners of one Gateway (`namespace/name`) and every resource that they reach.
    Gateway(String),
}

impl Scope {
    /// Returns the scope for `cluster` of an xDS `Node`: a Gateway as `namespace/name`.
    ///
    /// A text without `/` means [`Scope::Everything`], because Envoy requires a non-empty `cluster`.
    pub fn from_node_cluster(cluster: &str) -> Self {
        if cluster.contains('/') { Self::Gateway(cluster.to_owned()) } else { Self::Everything }
    }

    /// Returns the part of a snapshot that is in this scope.
    pub fn restrict(&self, snapshot: &Snapshot) -> Snapshot {
        let Self::Gateway(gateway) = self else { return snapshot.clone() };
        let is_in_gateway = |listener: &Listener| {
            let rest = listener.name.as_str().strip_prefix(gateway.as_str());
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        snapshot.reachable(is_in_gateway)
    }
}
