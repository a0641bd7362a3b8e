//! What is told now: a snapshot, put up once and read by every stream. A change replaces the whole; streams that wait are
//! woken and find out by themselves what is new to their proxy.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use weir_model::{ClusterName, ModuleSource, Rejection, RemoteModule, Snapshot};
use weir_xds::{Audience, Offer};

use crate::module_store::{ModuleHashes, ModuleStore};

/// What is told now.
pub struct Board {
    modules: Arc<ModuleStore>,
    /// Where proxies fetch modules.
    module_address: SocketAddr,
    /// The cluster by which an Envoy fetches them.
    module_cluster: ClusterName,
    offers: ArcSwap<Offers>,
    changed: watch::Sender<u64>,
}

/// What each audience is told.
#[derive(Debug, Default)]
pub struct Offers {
    /// Proxies of ours.
    pub weir: Offer,
    /// Envoys.
    pub envoy: Offer,
}

/// Why a snapshot is not told.
#[derive(Debug)]
pub enum NotTold {
    /// A module cannot be read.
    Module(PathBuf, std::io::Error),
    /// Resources that cannot be said on the wire.
    Rejected(Vec<Rejection>),
}

impl fmt::Display for NotTold {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Module(path, error) => write!(formatter, "the module {} cannot be read: {error}", path.display()),
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
        Arc::new(Self { modules, module_address, module_cluster, offers: ArcSwap::default(), changed })
    }

    /// Tells a snapshot from now on. Blocks while modules are read.
    ///
    /// # Errors
    /// What cannot be told; what was told before goes on.
    pub fn put(&self, snapshot: &Snapshot) -> Result<(), NotTold> {
        let hashes = self.modules.read(snapshot).map_err(|(path, error)| NotTold::Module(path, error))?;
        let find = |source: &ModuleSource| self.find(source, &hashes);
        let before = self.offers.load_full();
        let envoy = Audience::Envoy { module_cluster: self.module_cluster.clone() };
        let offers = Offers {
            weir: Offer::of(snapshot, &Audience::Weir, &find, Some(&before.weir)).map_err(NotTold::Rejected)?,
            envoy: Offer::of(snapshot, &envoy, &find, Some(&before.envoy)).map_err(NotTold::Rejected)?,
        };
        self.offers.store(Arc::new(offers));
        self.modules.retain(&hashes);
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// What is told now.
    pub fn offers(&self) -> Arc<Offers> {
        self.offers.load_full()
    }

    /// Says when something else is told.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
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
