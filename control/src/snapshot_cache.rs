//! The snapshot cache. Holds the current configuration, encoded once per client type, and returns to each ADS stream
//! the part that its scope may see. `publish` swaps the snapshot atomically and wakes all streams; each computes its
//! own delta.
//!
//! ```text
//! Snapshot ─► encode ─► EncodedSnapshot ─► publish ─► current ─► for_client(scope, type) ─► ScopedSnapshot
//! ```

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;
use weir_model::{
    ClusterName, ModuleHash, ModuleSource, Plugin, Rejection, RemoteModule, ResourceId, ResourceKind, Route, Secret,
    Snapshot,
};
use weir_resources::{ObjectId, source_object};
use weir_xds::{ClientType, EncodeOptions, ResourceSet};

use crate::limits::MAX_SCOPES;
use crate::module_store::{ModuleHashes, ModuleStore};
use crate::scope::Scope;

/// The current snapshot and its encoded forms.
pub struct SnapshotCache {
    modules: Arc<ModuleStore>,
    /// The address that clients fetch modules from.
    module_address: SocketAddr,
    /// The cluster through which an Envoy reaches `module_address`.
    module_cluster: ClusterName,
    current: ArcSwap<EncodedSnapshot>,
    /// The last result of `for_client` for each scope and client type.
    scoped: Mutex<ScopedSnapshots>,
    /// The generation of `current`.
    generation: watch::Sender<u64>,
}

/// A snapshot with the hashes of its modules, encoded for Weir and Envoy clients.
#[derive(Debug)]
pub struct EncodedSnapshot {
    /// Ordinal of the snapshot in this process; 0 before the first `publish`.
    pub generation: u64,
    /// All resources.
    pub snapshot: Snapshot,
    hashes: ModuleHashes,
    weir: ResourceSet,
    envoy: ResourceSet,
}

impl EncodedSnapshot {
    /// Returns the plugins, each with the hash of its module.
    pub fn plugins(&self) -> impl Iterator<Item = (&Arc<Plugin>, ModuleHash)> {
        self.snapshot.plugins.values().filter_map(|plugin| Some((plugin, *self.hashes.get(&plugin.module)?)))
    }

    /// Returns the plugins that are new or changed compared to `previous`, each with the hash of its module.
    pub fn changed_plugins<'a>(&'a self, previous: &Self) -> impl Iterator<Item = (&'a Arc<Plugin>, ModuleHash)> {
        let is_changed = |plugin: &Arc<Plugin>, hash: ModuleHash| {
            let before = previous.snapshot.plugins.get(&plugin.name);
            // A bundle of the same name and version is the same module, even if its signatures and so its hash differ.
            let is_bundle = matches!(plugin.module, ModuleSource::Bundle(_));
            before != Some(plugin) || (!is_bundle && previous.hashes.get(&plugin.module) != Some(&hash))
        };
        self.plugins().filter(move |(plugin, hash)| is_changed(plugin, *hash))
    }

    /// Returns the secrets that are new or changed compared to `previous`.
    pub fn changed_secrets<'a>(&'a self, previous: &'a Self) -> impl Iterator<Item = &'a Arc<Secret>> {
        let secrets = self.snapshot.secrets.values();
        secrets.filter(|secret| previous.snapshot.secrets.get(&secret.name) != Some(*secret))
    }

    /// Returns whether a plugin of this snapshot runs the module.
    pub fn uses_module(&self, module: &ModuleHash) -> bool {
        self.hashes.values().any(|used| used == module)
    }

    /// Returns whether both snapshots have the same resources and modules, so that no client would see a difference.
    pub fn is_equivalent(&self, other: &Self) -> bool {
        self.snapshot.version == other.snapshot.version && self.hashes == other.hashes
    }
}

/// The part of the current snapshot for one scope and client type.
#[derive(Debug)]
pub struct ScopedSnapshot {
    /// The generation of the snapshot.
    pub generation: u64,
    /// The encoded resources.
    pub resources: ResourceSet,
    /// The objects that the resources were compiled from.
    pub objects: BTreeSet<ObjectId>,
}

/// Scoped snapshots by scope and client type.
pub type ScopedSnapshots = HashMap<(Scope, ClientType), Arc<ScopedSnapshot>>;

/// The reason that a snapshot cannot be published.
#[derive(Debug)]
pub enum EncodeError {
    /// A module cannot be read.
    ModuleUnreadable(String),
    /// Resources that have no valid xDS encoding or that proxies would reject.
    Rejected(Vec<Rejection>),
    /// The snapshot exceeds a limit of the clients, or validation of it exceeds its time limit.
    TooLarge(String),
}

impl fmt::Display for EncodeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ModuleUnreadable(reason) | Self::TooLarge(reason) => formatter.write_str(reason),
            Self::Rejected(rejections) => {
                rejections.iter().try_for_each(|rejection| writeln!(formatter, "{rejection}"))
            }
        }
    }
}

impl std::error::Error for EncodeError {}

impl SnapshotCache {
    /// Returns a cache with an empty snapshot of generation 0.
    pub fn new(modules: Arc<ModuleStore>, module_address: SocketAddr, module_cluster: ClusterName) -> Arc<Self> {
        let (generation, _) = watch::channel(0);
        let empty = EncodedSnapshot {
            generation: 0,
            snapshot: Snapshot::empty(),
            hashes: ModuleHashes::new(),
            weir: ResourceSet::default(),
            envoy: ResourceSet::default(),
        };
        let (current, scoped) = (ArcSwap::from_pointee(empty), Mutex::default());
        Arc::new(Self { modules, module_address, module_cluster, current, scoped, generation })
    }

    /// Returns the bytes of a module of the current snapshot, or of one that was encoded last. `None` if unknown.
    pub fn module(&self, hash: &ModuleHash) -> Option<Arc<[u8]>> {
        self.modules.get(hash)
    }

    /// Encodes a snapshot for Weir and Envoy clients. Does not publish it. Blocks while modules are read.
    ///
    /// # Errors
    /// A module is unreadable, a resource cannot be encoded, or the result exceeds a limit.
    pub fn encode(&self, snapshot: &Snapshot) -> Result<EncodedSnapshot, EncodeError> {
        let hashes = self.modules.read(snapshot).map_err(EncodeError::ModuleUnreadable)?;
        let before = self.current.load();
        let encode = |client_type, previous| {
            self.encode_for(client_type, snapshot, &hashes, Some(previous)).map_err(EncodeError::Rejected)
        };
        let (weir, envoy) = (encode(ClientType::Weir, &before.weir)?, encode(ClientType::Envoy, &before.envoy)?);
        if let Some(reason) = weir.exceeds_limit().or_else(|| envoy.exceeds_limit()) {
            return Err(EncodeError::TooLarge(reason));
        }
        Ok(EncodedSnapshot { generation: before.generation + 1, snapshot: snapshot.clone(), hashes, weir, envoy })
    }

    /// Removes from the module store every module that `snapshot` does not use.
    pub fn evict_modules(&self, snapshot: &EncodedSnapshot) {
        self.modules.retain(&snapshot.hashes);
    }

    /// Makes a snapshot current and wakes all streams. One caller at a time may call `encode` and then `publish`.
    pub fn publish(&self, snapshot: EncodedSnapshot) {
        let generation = snapshot.generation;
        self.current.store(Arc::new(snapshot));
        self.generation.send_replace(generation);
    }

    /// Returns the current snapshot.
    pub fn current(&self) -> Arc<EncodedSnapshot> {
        self.current.load_full()
    }

    /// Returns a receiver of the current generation. It is notified at each `publish`.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Returns the part of the current snapshot for a scope and client type. Encodes it once per generation.
    pub fn for_client(&self, scope: &Scope, client_type: ClientType) -> Arc<ScopedSnapshot> {
        let current = self.current.load_full();
        let mut scoped = self.scoped.lock();
        let key = (scope.clone(), client_type);
        let before = scoped.get(&key).cloned();
        if let Some(known) = before.as_ref().filter(|known| known.generation == current.generation) {
            return Arc::clone(known);
        }
        let whole = match client_type {
            ClientType::Weir => Some(&current.weir),
            ClientType::Envoy => Some(&current.envoy),
            ClientType::Grpc => None, // Rare, so `encode` does not encode for gRPC in advance.
        };
        let snapshot = scope.restrict(&current.snapshot);
        let previous = before.as_ref().map(|before| &before.resources);
        let resources = match (scope, whole) {
            (Scope::Everything, Some(whole)) => whole.clone(),
            // Cannot fail: the whole snapshot was encoded, and this is a part of it.
            _ => self.encode_for(client_type, &snapshot, &current.hashes, previous.or(whole)).unwrap_or_default(),
        };
        let objects = source_objects(&snapshot);
        let result = Arc::new(ScopedSnapshot { generation: current.generation, resources, objects });
        if scoped.len() >= MAX_SCOPES && !scoped.contains_key(&key) {
            scoped.retain(|_, known| known.generation == current.generation);
        }
        if scoped.len() < MAX_SCOPES || scoped.contains_key(&key) {
            scoped.insert(key, Arc::clone(&result));
        }
        result
    }

    /// Returns the scoped snapshots of several clients, one for each distinct scope and client type.
    pub fn for_clients<'a>(&self, clients: impl Iterator<Item = (&'a Scope, ClientType)>) -> ScopedSnapshots {
        let mut scoped = ScopedSnapshots::new();
        for (scope, client_type) in clients {
            let key = (scope.clone(), client_type);
            scoped.entry(key).or_insert_with(|| self.for_client(scope, client_type));
        }
        scoped
    }

    fn encode_for(
        &self,
        client_type: ClientType,
        snapshot: &Snapshot,
        hashes: &ModuleHashes,
        previous: Option<&ResourceSet>,
    ) -> Result<ResourceSet, Vec<Rejection>> {
        let resolve = |source: &ModuleSource| self.resolve_module(source, hashes);
        let module_cluster = &self.module_cluster;
        ResourceSet::encode(
            snapshot,
            &EncodeOptions { client_type, module_cluster, resolve_module: &resolve },
            previous,
        )
    }

    fn resolve_module(&self, source: &ModuleSource, hashes: &ModuleHashes) -> Option<RemoteModule> {
        if let ModuleSource::Remote(module) = source {
            return Some(module.clone());
        }
        let sha256 = *hashes.get(source)?;
        let url = format!("http://{}/modules/{sha256}.wasm", self.module_address);
        Some(RemoteModule { url: url.into(), sha256 })
    }
}

/// Returns the object that a route was compiled from.
pub(crate) fn route_object(route: &Route) -> Option<ObjectId> {
    let parts: Vec<&str> = route.name.as_str().split('/').collect();
    match parts[..] {
        [namespace, name, _rule, _match] => ObjectId::new("HTTPRoute", namespace, name),
        [namespace, name, _rule, _match, "grpc"] => ObjectId::new("GRPCRoute", namespace, name),
        [namespace, name, _rule] => ObjectId::new("TCPRoute", namespace, name),
        _ => None,
    }
}

/// Returns the objects that the resources of a snapshot were compiled from.
fn source_objects(snapshot: &Snapshot) -> BTreeSet<ObjectId> {
    let id = |kind: ResourceKind, name: &str| source_object(&ResourceId { kind, name: name.to_owned() });
    let listeners = snapshot.listeners.keys().filter_map(|name| id(ResourceKind::Listener, name.as_str()));
    let clusters = snapshot.clusters.keys().filter_map(|name| id(ResourceKind::Cluster, name.as_str()));
    let plugins = snapshot.plugins.keys().filter_map(|name| id(ResourceKind::Plugin, name.as_str()));
    let secrets = snapshot.secrets.keys().filter_map(|name| id(ResourceKind::Secret, name.as_str()));
    let routes = snapshot.route_tables.values().flat_map(|table| &table.virtual_hosts).flat_map(|host| &host.routes);
    let routes = routes.filter_map(|route| route_object(route));
    listeners.chain(clusters).chain(plugins).chain(secrets).chain(routes).collect()
}
