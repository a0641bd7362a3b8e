//! What is told now: a snapshot, put up once and read by every stream, each in its own scope. A change replaces the whole;
//! streams that wait are woken and find out by themselves what is new to their proxy.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::watch;
use weir_model::{
    ClusterName, Listener, ModuleHash, ModuleSource, Plugin, Rejection, RemoteModule, ResourceId, ResourceKind, Secret,
    Snapshot,
};
use weir_resources::{ObjectId, object_of};
use weir_xds::{Audience, Offer};

use crate::limits::MAX_SCOPES;
use crate::module_store::{ModuleHashes, ModuleStore};

/// What is told now.
pub struct Board {
    modules: Arc<ModuleStore>,
    /// Where proxies fetch modules.
    module_address: SocketAddr,
    /// The cluster by which an Envoy fetches them.
    module_cluster: ClusterName,
    told: ArcSwap<Told>,
    /// What each scope and program was offered last.
    offers: Mutex<HashMap<(Scope, Program), Arc<ScopedOffer>>>,
    changed: watch::Sender<u64>,
}

/// A snapshot that can be told, with the modules that it needs.
#[derive(Debug)]
pub struct Told {
    /// Later ones have higher numbers.
    pub generation: u64,
    /// Everything.
    pub snapshot: Snapshot,
    hashes: ModuleHashes,
    weir: Offer,
    envoy: Offer,
}

/// Which part of everything a proxy may see. It follows from the Gateway that the proxy serves.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Every Gateway: a proxy that names none.
    Everything,
    /// What this Gateway (`namespace/name`) leads to.
    Gateway(String),
}

impl Told {
    /// The plugins, each with its module.
    pub fn plugins(&self) -> impl Iterator<Item = (&Arc<Plugin>, ModuleHash)> {
        self.snapshot.plugins.values().filter_map(|plugin| Some((plugin, *self.hashes.get(&plugin.module)?)))
    }

    /// The plugins that another does not tell just so, each with its module.
    pub fn plugins_not_in<'a>(&'a self, other: &Self) -> impl Iterator<Item = (&'a Arc<Plugin>, ModuleHash)> {
        let is_new = |plugin: &Arc<Plugin>, hash: ModuleHash| {
            let told = other.snapshot.plugins.get(&plugin.name);
            // A bundle of the same name and version is the same module, whoever else has signed it.
            let is_bundle = matches!(plugin.module, ModuleSource::Bundle(_));
            told != Some(plugin) || (!is_bundle && other.hashes.get(&plugin.module) != Some(&hash))
        };
        self.plugins().filter(move |(plugin, hash)| is_new(plugin, *hash))
    }

    /// The secrets that another does not tell just so.
    pub fn secrets_not_in<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a Arc<Secret>> {
        let secrets = self.snapshot.secrets.values();
        secrets.filter(|secret| other.snapshot.secrets.get(&secret.name) != Some(*secret))
    }

    /// Whether a module is used.
    pub fn uses(&self, module: &ModuleHash) -> bool {
        self.hashes.values().any(|used| used == module)
    }

    /// True when no proxy would notice a difference.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.snapshot.version == other.snapshot.version && self.hashes == other.hashes
    }
}

impl Scope {
    /// The scope of a proxy whose node says this `cluster`: the Gateway that it serves, as `namespace/name`. A text that
    /// names no Gateway (Envoy must always say something) is everything.
    pub fn of(cluster: &str) -> Self {
        if cluster.contains('/') { Self::Gateway(cluster.to_owned()) } else { Self::Everything }
    }

    /// The part of a snapshot that it holds.
    pub fn of_snapshot(&self, snapshot: &Snapshot) -> Snapshot {
        let Self::Gateway(gateway) = self else { return snapshot.clone() };
        let is_of_it = |listener: &Listener| {
            let rest = listener.name.as_str().strip_prefix(gateway.as_str());
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        snapshot.reachable(is_of_it)
    }
}

/// What kind of program a proxy is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Program {
    /// Our own.
    Weir,
    /// Envoy, or what speaks like it.
    Envoy,
    /// A gRPC client that has no proxy.
    Grpc,
}

impl Program {
    /// The program that calls itself this.
    pub fn of(user_agent_name: &str) -> Self {
        match user_agent_name {
            "weir-proxy" => Self::Weir,
            name if name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("grpc")) => Self::Grpc,
            _ => Self::Envoy,
        }
    }
}

/// What a scope is offered.
#[derive(Debug)]
pub struct ScopedOffer {
    /// Of which snapshot.
    pub generation: u64,
    /// The resources.
    pub offer: Offer,
    /// The objects that these were made of.
    pub objects: BTreeSet<ObjectId>,
}

/// What several scopes are offered.
pub type ScopedOffers = HashMap<(Scope, Program), Arc<ScopedOffer>>;

/// Why a snapshot is not told.
#[derive(Debug)]
pub enum NotTold {
    /// A module cannot be read.
    Module(String),
    /// Resources that cannot be said on the wire.
    Rejected(Vec<Rejection>),
    /// More than a proxy takes.
    TooMuch(String),
}

impl fmt::Display for NotTold {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module(reason) | Self::TooMuch(reason) => formatter.write_str(reason),
            Self::Rejected(rejections) => {
                rejections.iter().try_for_each(|rejection| writeln!(formatter, "{rejection}"))
            }
        }
    }
}

impl std::error::Error for NotTold {}

impl Board {
    /// Nothing is told yet.
    pub fn new(modules: Arc<ModuleStore>, module_address: SocketAddr, module_cluster: ClusterName) -> Arc<Self> {
        let (changed, _) = watch::channel(0);
        let told = Told {
            generation: 0,
            snapshot: Snapshot::empty(),
            hashes: ModuleHashes::new(),
            weir: Offer::default(),
            envoy: Offer::default(),
        };
        let (told, offers) = (ArcSwap::from_pointee(told), Mutex::default());
        Arc::new(Self { modules, module_address, module_cluster, told, offers, changed })
    }

    /// The bytes of a module that is told, or was prepared to be.
    pub fn module(&self, hash: &ModuleHash) -> Option<Arc<[u8]>> {
        self.modules.get(hash)
    }

    /// Finds out whether a snapshot can be told. Blocks while modules are read.
    ///
    /// # Errors
    /// What cannot be told.
    pub fn prepare(&self, snapshot: &Snapshot) -> Result<Told, NotTold> {
        let hashes = self.modules.read(snapshot).map_err(NotTold::Module)?;
        let before = self.told.load();
        let offer =
            |program, previous| self.make((program, snapshot), &hashes, Some(previous)).map_err(NotTold::Rejected);
        let (weir, envoy) = (offer(Program::Weir, &before.weir)?, offer(Program::Envoy, &before.envoy)?);
        if let Some(reason) = weir.excess().or_else(|| envoy.excess()) {
            return Err(NotTold::TooMuch(reason));
        }
        Ok(Told { generation: before.generation + 1, snapshot: snapshot.clone(), hashes, weir, envoy })
    }

    /// Forgets modules that were read and are not told.
    pub fn forget_modules(&self, told: &Told) {
        self.modules.retain(&told.hashes);
    }

    /// Tells what was prepared, from now on. Whoever prepares and tells must be one at a time.
    pub fn tell(&self, told: Told) {
        let generation = told.generation;
        self.told.store(Arc::new(told));
        self.changed.send_replace(generation);
    }

    /// Prepares and tells.
    ///
    /// # Errors
    /// What cannot be told; what was told before goes on.
    pub fn put(&self, snapshot: &Snapshot) -> Result<(), NotTold> {
        let told = self.prepare(snapshot)?;
        self.tell(told);
        Ok(())
    }

    /// What is told now.
    pub fn told(&self) -> Arc<Told> {
        self.told.load_full()
    }

    /// Says when something else is told: the generation of what is told.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// What a proxy of this scope and program is told now.
    pub fn offer(&self, scope: &Scope, program: Program) -> Arc<ScopedOffer> {
        let told = self.told.load_full();
        let mut offers = self.offers.lock();
        let key = (scope.clone(), program);
        let before = offers.get(&key).cloned();
        if let Some(known) = before.as_ref().filter(|known| known.generation == told.generation) {
            return Arc::clone(known);
        }
        let whole = match program {
            Program::Weir => Some(&told.weir),
            Program::Envoy => Some(&told.envoy),
            Program::Grpc => None, // Few are told of it, so that it is made when one is.
        };
        let snapshot = scope.of_snapshot(&told.snapshot);
        let previous = before.as_ref().map(|before| &before.offer);
        let offer = match (scope, whole) {
            (Scope::Everything, Some(whole)) => whole.clone(),
            // All of it could be told, so that a part of it can.
            _ => self.make((program, &snapshot), &told.hashes, previous.or(whole)).unwrap_or_default(),
        };
        let objects = objects_of(&snapshot);
        let scoped = Arc::new(ScopedOffer { generation: told.generation, offer, objects });
        if offers.len() >= MAX_SCOPES && !offers.contains_key(&key) {
            offers.retain(|_, known| known.generation == told.generation);
        }
        if offers.len() < MAX_SCOPES || offers.contains_key(&key) {
            offers.insert(key, Arc::clone(&scoped));
        }
        scoped
    }

    /// What each of these proxies is told now.
    pub fn offers<'a>(&self, proxies: impl Iterator<Item = (&'a Scope, Program)>) -> ScopedOffers {
        let mut offers = ScopedOffers::new();
        for (scope, program) in proxies {
            let key = (scope.clone(), program);
            offers.entry(key).or_insert_with(|| self.offer(scope, program));
        }
        offers
    }

    /// What programs of a kind are told of a snapshot.
    fn make(
        &self,
        (program, snapshot): (Program, &Snapshot),
        hashes: &ModuleHashes,
        previous: Option<&Offer>,
    ) -> Result<Offer, Vec<Rejection>> {
        let find = |source: &ModuleSource| self.find(source, hashes);
        let audience = match program {
            Program::Weir => Audience::Weir,
            Program::Envoy => Audience::Envoy { module_cluster: self.module_cluster.clone() },
            Program::Grpc => return Ok(Offer::for_grpc(snapshot, previous)),
        };
        Offer::of(snapshot, &audience, &find, previous)
    }

    fn find(&self, source: &ModuleSource, hashes: &ModuleHashes) -> Option<RemoteModule> {
        if let ModuleSource::Remote(module) = source {
            return Some(module.clone());
        }
        let sha256 = *hashes.get(source)?;
        let url = format!("http://{}/modules/{sha256}.wasm", self.module_address);
        Some(RemoteModule { url: url.into(), sha256 })
    }
}

/// The objects that the resources of a snapshot were made of.
fn objects_of(snapshot: &Snapshot) -> BTreeSet<ObjectId> {
    let id = |kind: ResourceKind, name: &str| object_of(&ResourceId { kind, name: name.to_owned() });
    let listeners = snapshot.listeners.keys().filter_map(|name| id(ResourceKind::Listener, name.as_str()));
    let clusters = snapshot.clusters.keys().filter_map(|name| id(ResourceKind::Cluster, name.as_str()));
    let plugins = snapshot.plugins.keys().filter_map(|name| id(ResourceKind::Plugin, name.as_str()));
    let secrets = snapshot.secrets.keys().filter_map(|name| id(ResourceKind::Secret, name.as_str()));
    let routes = snapshot.route_tables.values().flat_map(|table| &table.virtual_hosts).flat_map(|host| &host.routes);
    let routes = routes.filter_map(|route| {
        let parts: Vec<&str> = route.name.as_str().split('/').collect();
        match parts[..] {
            [namespace, name, _rule, _match] => ObjectId::new("HTTPRoute", namespace, name),
            [namespace, name, _rule] => ObjectId::new("TCPRoute", namespace, name),
            _ => None,
        }
    });
    listeners.chain(clusters).chain(plugins).chain(secrets).chain(routes).collect()
}
