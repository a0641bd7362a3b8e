//! All resources of a proxy, valid together, immutable.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::cluster::Cluster;
use crate::listener::Listener;
use crate::name::{ClusterName, ListenerName, PluginName, RouteTableName, SecretName};
use crate::plugin::Plugin;
use crate::route::RouteTable;
use crate::secret::Secret;

/// The hash of a snapshot's content: equal contents have equal versions, on every replica of one build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version([u8; 8]);

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl Serialize for Version {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// All resources of a proxy. Made by [`SnapshotBuilder::complete`](crate::SnapshotBuilder::complete) alone, so every
/// name in it is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// Hash of all that follows.
    pub version: Version,
    /// By name.
    pub listeners: BTreeMap<ListenerName, Arc<Listener>>,
    /// By name.
    pub route_tables: BTreeMap<RouteTableName, Arc<RouteTable>>,
    /// By name.
    pub clusters: BTreeMap<ClusterName, Arc<Cluster>>,
    /// By name.
    pub plugins: BTreeMap<PluginName, Arc<Plugin>>,
    /// By name; without their keys where they are shown.
    pub secrets: BTreeMap<SecretName, Arc<Secret>>,
}

impl Snapshot {
    /// Nothing at all.
    pub fn empty() -> Self {
        let version = Version::of(&());
        let (listeners, route_tables, clusters) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        Self { version, listeners, route_tables, clusters, plugins: BTreeMap::new(), secrets: BTreeMap::new() }
    }
}

/// Feeds what `#[derive(Hash)]` writes into SHA-256.
struct ContentHasher(Sha256);

impl Hasher for ContentHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        0 // Never asked for: the digest is taken from the field.
    }
}

impl Version {
    /// The version of this content.
    pub fn of(content: &impl Hash) -> Self {
        let mut hasher = ContentHasher(Sha256::new());
        content.hash(&mut hasher);
        let digest = hasher.0.finalize();
        let mut version = [0; 8];
        version.copy_from_slice(&digest[..8]);
        Self(version)
    }
}
