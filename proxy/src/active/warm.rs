//! The slow half of making a configuration ready: modules loaded, plugins started, first DNS answers. Runs beside what
//! serves; called by `config`, which gives up a warming that a newer change has overtaken.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tracing::{info, warn};
use weir_host_abi::{Module, ModuleHash};
use weir_loader::ModuleRefusal;
use weir_model::{ModuleSource, Plugin, PluginName, Rejection, ResourceId, ResourceKind};

use crate::active::modules::Modules;
use crate::active::{ActiveConfig, Prepared, certificates};
use crate::filter::{ActivePlugin, PluginStart, PluginState, VmRequest};
use crate::limits::{FIRST_RESOLVE_TIMEOUT, MAX_CONCURRENT_STARTS};
use crate::task::{self, TaskSet};
use crate::upstream::{Cluster, resolve_once};

/// What a warmer is made from.
pub(crate) struct WarmerOptions {
    /// Where modules come from.
    pub(crate) modules: Arc<Modules>,
    /// What plugins share.
    pub(crate) state: Arc<PluginState>,
    /// Where workers ask for VMs.
    pub(crate) restarts: mpsc::Sender<VmRequest>,
    /// How many workers there are.
    pub(crate) workers: usize,
}

/// Makes prepared configurations ready.
pub(crate) struct Warmer {
    options: WarmerOptions,
    starts: Semaphore,
}

/// A plugin that is ready, and the code that it runs.
type Ready = (Arc<ActivePlugin>, ModuleHash);

impl Warmer {
    /// A warmer.
    pub(crate) fn new(options: WarmerOptions) -> Arc<Self> {
        Arc::new(Self { options, starts: Semaphore::new(MAX_CONCURRENT_STARTS) })
    }

    /// The modules it takes plugins from.
    pub(crate) fn modules(&self) -> &Arc<Modules> {
        &self.options.modules
    }

    /// Makes a prepared configuration ready. Plugins that are the same in `previous`, code included, go on as they are.
    ///
    /// # Errors
    /// Every plugin that does not load or start; every listener whose certificates are none.
    pub(crate) async fn warm(
        self: Arc<Self>,
        prepared: Prepared,
        previous: Arc<ActiveConfig>,
    ) -> Result<ActiveConfig, Vec<Rejection>> {
        let modules = self.load_modules(&prepared).await;
        let started = self.start_plugins(&prepared, &modules, &previous).await;
        let mut rejections = Vec::new();
        let (mut plugins, mut hashes) = (HashMap::new(), HashMap::new());
        for (name, outcome) in started {
            match outcome {
                Ok((plugin, hash)) => {
                    plugins.insert(name.clone(), plugin);
                    hashes.insert(name, hash);
                }
                Err(rejection) => rejections.push(rejection),
            }
        }
        let https = certificates::https(&prepared.snapshot, &previous, &mut rejections);
        if !rejections.is_empty() {
            rejections.sort_by(|one, other| one.resource.cmp(&other.resource));
            return Err(rejections);
        }
        resolve_new(&prepared.new_clusters).await;
        let Prepared { snapshot, route_tables, clusters, .. } = prepared;
        Ok(ActiveConfig { snapshot, route_tables, clusters, plugins, https, modules: hashes })
    }

    /// Each module once, however many plugins run it.
    async fn load_modules(&self, prepared: &Prepared) -> HashMap<ModuleSource, Result<Module, ModuleRefusal>> {
        let mut loads = TaskSet::new("module load");
        let mut modules = HashMap::new();
        for plugin in prepared.snapshot.plugins.values() {
            if modules.contains_key(&plugin.module) {
                continue;
            }
            let lost = ModuleRefusal::new("loading it failed by a bug of the proxy", "the log says where");
            modules.insert(plugin.module.clone(), Err(lost));
            let (loader, source) = (Arc::clone(&self.options.modules), plugin.module.clone());
            loads.spawn(async move {
                let loaded = loader.load(&source).await;
                (source, loaded)
            });
        }
        while let Some((source, module)) = loads.next().await {
            modules.insert(source, module);
        }
        modules
    }

    async fn start_plugins(
        self: &Arc<Self>,
        prepared: &Prepared,
        modules: &HashMap<ModuleSource, Result<Module, ModuleRefusal>>,
        previous: &ActiveConfig,
    ) -> Vec<(PluginName, Result<Ready, Rejection>)> {
        let mut outcomes = Vec::with_capacity(prepared.snapshot.plugins.len());
        let mut starts = TaskSet::new("plugin start");
        for (name, model) in &prepared.snapshot.plugins {
            let module = match modules.get(&model.module) {
                Some(Ok(module)) => module.clone(),
                Some(Err(refusal)) => {
                    let ModuleRefusal { reason, hint } = refusal.clone();
                    outcomes.push((name.clone(), Err(rejection(name, "module", reason, hint))));
                    continue;
                }
                None => continue, // There is an entry for every plugin's module.
            };
            let hash = module.hash();
            // (Where its module comes from plays no part: another replica of the control plane says another place.)
            let is_same = |other: &Plugin| *other == Plugin { module: other.module.clone(), ..(**model).clone() };
            let same = previous.plugins.get(name).filter(|plugin| is_same(&plugin.model));
            if let Some(plugin) = same
                && previous.modules.get(name) == Some(&hash)
            {
                outcomes.push((name.clone(), Ok((Arc::clone(plugin), hash))));
                continue;
            }
            let warmer = Arc::clone(self);
            let model = Arc::clone(model);
            starts.spawn(async move { warmer.start_plugin(model, module).await });
        }
        while let Some(started) = starts.next().await {
            outcomes.push(started);
        }
        outcomes
    }

    async fn start_plugin(&self, model: Arc<Plugin>, module: Module) -> (PluginName, Result<Ready, Rejection>) {
        let name = model.name.clone();
        let hash = module.hash();
        let _turn = self.starts.acquire().await; // Never closed, so there is always a turn.
        let options = PluginStart {
            model,
            module,
            workers: self.options.workers,
            state: Arc::clone(&self.options.state),
            restarts: self.options.restarts.clone(),
        };
        let began = tokio::time::Instant::now();
        let started = task::blocking("plugin start", move || ActivePlugin::start(options)).await;
        let outcome = match started {
            Some(Ok(plugin)) => {
                info!(plugin = %name, duration_ms = began.elapsed().as_millis(), "plugin started");
                Ok((plugin, hash))
            }
            Some(Err(error)) => Err(rejection(&name, error.field, error.reason, error.hint.to_owned())),
            None => {
                let reason = "starting it failed by a bug of the proxy".to_owned();
                Err(rejection(&name, "module", reason, "the log says where".to_owned()))
            }
        };
        (name, outcome)
    }
}

fn rejection(plugin: &PluginName, field: &str, reason: String, hint: String) -> Rejection {
    let resource = ResourceId { kind: ResourceKind::Plugin, name: plugin.to_string() };
    Rejection { resource, field: field.to_owned(), reason, hint }
}

/// A name that does not resolve is no reason to refuse a change: its cluster has no endpoint until it does.
async fn resolve_new(clusters: &[Arc<Cluster>]) {
    let mut answers = TaskSet::new("first dns answer");
    for cluster in clusters {
        if matches!(cluster.model().discovery, weir_model::Discovery::Dns { .. }) {
            let cluster = Arc::clone(cluster);
            answers.spawn(async move {
                if let Err(reason) = resolve_once(&cluster, FIRST_RESOLVE_TIMEOUT).await {
                    let cluster = &cluster.model().name;
                    warn!(%cluster, %reason, "the cluster's name does not resolve yet; its requests fail until it does");
                }
            });
        }
    }
    while answers.next().await.is_some() {}
}
