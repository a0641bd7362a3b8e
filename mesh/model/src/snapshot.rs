//! The immutable set of all resources of a proxy, and the hash that is its version.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::cluster::Cluster;
use crate::hex;
use crate::listener::Listener;
use crate::name::{ClusterName, ListenerName, PluginName, RouteTableName, SecretName};
use crate::plugin::{FailedPlugin, Plugin};
use crate::route::RouteTable;
use crate::secret::Secret;

/// The first 8 bytes of a SHA-256 over hashable content, printed as 16 hexadecimal digits. Equal contents have equal
/// hashes on every replica of one build; another build may hash differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentHash([u8; 8]);

impl fmt::Display for ContentHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex::write(formatter, &self.0)
    }
}

impl Serialize for ContentHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// All resources of a proxy. Only [`SnapshotBuilder::complete`](crate::SnapshotBuilder::complete) creates one with
/// resources, so every name in it resolves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// The hash of all resources below.
    pub version: ContentHash,
    /// Listeners by name.
    pub listeners: BTreeMap<ListenerName, Arc<Listener>>,
    /// Route tables by name.
    pub route_tables: BTreeMap<RouteTableName, Arc<RouteTable>>,
    /// Clusters by name.
    pub clusters: BTreeMap<ClusterName, Arc<Cluster>>,
    /// Plugins by name.
    pub plugins: BTreeMap<PluginName, Arc<Plugin>>,
    /// Secrets by name. Serialization leaves their private keys out.
    pub secrets: BTreeMap<SecretName, Arc<Secret>>,
    /// Plugins whose newest version does not load. If `plugins` has the name, too, that is the last good version.
    /// Otherwise requests skip the plugin in every chain that names it; its failure policy is Open.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub failed_plugins: BTreeMap<PluginName, FailedPlugin>,
}

impl Snapshot {
    /// Returns a snapshot without resources.
    pub fn empty() -> Self {
        let version = ContentHash::of(&());
        let (listeners, route_tables, clusters) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self {
            version,
            listeners,
            route_tables,
            clusters,
            plugins: BTreeMap::new(),
            secrets: BTreeMap::new(),
            failed_plugins: BTreeMap::new(),
        }
    }
}

/// Adapts SHA-256 to [`Hasher`], so that `#[derive(Hash)]` decides the hashed content.
struct ContentHasher(Sha256);

impl Hasher for ContentHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0 // Not used: the digest is read from the field.
    }
}

impl ContentHash {
    /// Returns the hash of `content`.
    pub fn of(content: &impl Hash) -> Self {
        let mut hasher = ContentHasher(Sha256::new());
        content.hash(&mut hasher);
        let digest = hasher.0.finalize();
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&digest[..8]);
        Self(prefix)
    }
}
