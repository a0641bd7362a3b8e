//! The slow half of making a configuration ready: modules loaded, plugins started, first DNS answers. Runs beside what
//! serves; called by `config`, which gives up a warming that a newer change has overtaken.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tracing::{info, warn};
use weir_host_abi::{Module, ModuleHash};
use weir_loader::ModuleRefusal;
use weir_model::{
    Isolation, ModuleSource, Plugin, PluginAllowance, PluginLimits, PluginName, PluginVm, Recycling, Rejection,
    ResourceId, ResourceKind, StreamSight,
};

use crate::active::modules::Modules;
use crate::active::{ActiveConfig, Prepared, certificates};
use crate::filter::{ActivePlugin, PluginState, StockOptions, VmRequest};
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
        let mut groups: HashMap<Shared, (Module, Vec<Arc<Plugin>>)> = HashMap::new();
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
            groups.entry(Shared::of(model, hash)).or_insert_with(|| (module, Vec::new())).1.push(Arc::clone(model));
        }
        for (module, models) in groups.into_values() {
            if let Some(same) = unchanged(&models, &module, previous) {
                outcomes.extend(same);
                continue;
            }
            let warmer = Arc::clone(self);
            starts.spawn(async move { warmer.start_group(models, module).await });
        }
        while let Some(started) = starts.next().await {
            outcomes.extend(started);
        }
        outcomes
    }

    /// Starts the VMs of one plugin, or of several that share them. One that does not start is told; what shares its VMs is
    /// not there either then, and nothing is said of it.
    async fn start_group(
        &self,
        models: Vec<Arc<Plugin>>,
        module: Module,
    ) -> Vec<(PluginName, Result<Ready, Rejection>)> {
        let names: Vec<PluginName> = models.iter().map(|model| model.name.clone()).collect();
        let hash = module.hash();
        let _turn = self.starts.acquire().await; // Never closed, so there is always a turn.
        let options = StockOptions {
            workers: self.options.workers,
            state: Arc::clone(&self.options.state),
            restarts: self.options.restarts.clone(),
        };
        let began = tokio::time::Instant::now();
        let start = move || ActivePlugin::start(&models, &module, options);
        match task::blocking("plugin start", start).await {
            Some(Ok(plugins)) => {
                let duration_ms = began.elapsed().as_millis();
                let ready = |(name, plugin): (PluginName, Arc<ActivePlugin>)| {
                    info!(plugin = %name, duration_ms, "plugin started");
                    (name, Ok((plugin, hash)))
                };
                names.into_iter().zip(plugins).map(ready).collect()
            }
            Some(Err(error)) => {
                let name = &names[error.plugin.min(names.len() - 1)];
                vec![(name.clone(), Err(rejection(name, error.field, error.reason, error.hint.to_owned())))]
            }
            None => {
                let reason = "starting it failed by a bug of the proxy";
                let lost = |name| rejection(name, "module", reason.to_owned(), "the log says where".to_owned());
                names.iter().map(|name| (name.clone(), Err(lost(name)))).collect()
            }
        }
    }
}

/// Which plugins share their VMs: those with one module and one VM, as in Envoy, that may do and use the same: what one
/// gets the others have, too. Whoever names no VM has one of their own, and so has each stream of a plugin with a VM for
/// each, and a plugin whose VMs are recycled.
#[derive(PartialEq, Eq, Hash)]
enum Shared {
    Alone(PluginName),
    By(Box<Shape>),
}

/// All that makes a VM what it is.
#[derive(PartialEq, Eq, Hash)]
struct Shape {
    id: String,
    vm: PluginVm,
    module: ModuleHash,
    allow: PluginAllowance,
    limits: PluginLimits,
    isolation: Isolation,
    sight: StreamSight,
}

impl Shared {
    fn of(plugin: &Plugin, module: ModuleHash) -> Self {
        let alone = plugin.vm.id.is_empty()
            || plugin.isolation == Isolation::Stream
            || plugin.recycling != Recycling::default();
        if alone {
            return Self::Alone(plugin.name.clone());
        }
        Self::By(Box::new(Shape {
            id: plugin.vm_id(),
            vm: plugin.vm.clone(),
            module,
            allow: plugin.allow.clone(),
            limits: plugin.limits,
            isolation: plugin.isolation,
            sight: plugin.sight,
        }))
    }
}

/// The plugins of a group as they run, if nothing about them has changed: a VM goes on with all of its plugins or with none.
fn unchanged(
    models: &[Arc<Plugin>],
    module: &Module,
    previous: &ActiveConfig,
) -> Option<Vec<(PluginName, Result<Ready, Rejection>)>> {
    let hash = module.hash();
    // (Where its module comes from plays no part: another replica of the control plane says another place.)
    let is_same = |model: &Plugin, other: &Plugin| *other == Plugin { module: other.module.clone(), ..model.clone() };
    let running = models.iter().map(|model| {
        let plugin = previous.plugins.get(&model.name).filter(|plugin| is_same(model, &plugin.model))?;
        (previous.modules.get(&model.name) == Some(&hash)).then(|| Arc::clone(plugin))
    });
    let running: Vec<_> = running.collect::<Option<_>>()?;
    let stock = &running.first()?.stock;
    let is_whole = stock.len() == running.len() && running.iter().all(|plugin| Arc::ptr_eq(&plugin.stock, stock));
    is_whole.then(|| running.into_iter().map(|plugin| (plugin.model.name.clone(), Ok((plugin, hash)))).collect())
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
