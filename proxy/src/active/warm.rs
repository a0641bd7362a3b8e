//! Warming: loads modules, starts plugins and waits for first DNS answers, while the active configuration serves.
//! Called by `config`, which aborts the warming of a superseded change.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tokio::sync::{Semaphore, mpsc};
use tracing::{info, warn};
use weir_host_abi::{Module, ModuleHash};
use weir_loader::ModuleLoadError;
use weir_model::{
    FailedPlugin, FailurePolicy, Isolation, ModuleSource, Plugin, PluginCapabilities, PluginLimits, PluginName,
    PluginRole, RecyclePolicy, Rejection, ResourceId, ResourceKind, VmConfig,
};

use crate::active::active_config::ActiveConfig;
use crate::active::build::PreparedConfig;
use crate::active::module_loader::ModuleLoader;
use crate::active::upstream_tls::UnusableSecret;
use crate::active::{certificates, upstream_tls};
use crate::filter::{ActivePlugin, SharedPluginState, VmPoolOptions, VmStartRequest};
use crate::limits::{FIRST_RESOLVE_TIMEOUT, MAX_CONCURRENT_STARTS};
use crate::task::{self, TaskSet};
use crate::upstream::{Cluster, Resolver, resolve_once};

/// The parts of a [`Warmer`].
pub(crate) struct WarmerOptions {
    /// The module loader of the process.
    pub(crate) modules: Arc<ModuleLoader>,
    /// The state that plugins share.
    pub(crate) state: Arc<SharedPluginState>,
    /// The queue for VM start requests of workers.
    pub(crate) restarts: mpsc::Sender<VmStartRequest>,
    /// The number of workers.
    pub(crate) workers: usize,
    /// The DNS resolver of the process.
    pub(crate) resolver: Arc<Resolver>,
    /// The result of warming if a plugin with the failure policy Open does not load.
    pub(crate) open_failure: OpenFailure,
}

/// The result of warming if a plugin with the failure policy Open does not load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenFailure {
    /// A rejection, so that the source can replace the plugin or mark it as failed.
    Reject,
    /// A configuration with the previous version of the plugin, or without the plugin.
    Skip,
}

/// Turns prepared configurations into active ones.
pub(crate) struct Warmer {
    options: WarmerOptions,
    starts: Semaphore,
}

/// A started plugin with the hash of its module.
struct StartedPlugin {
    plugin: ActivePlugin,
    module: ModuleHash,
}

/// The result of starting the plugin of this name.
type StartResult = (PluginName, Result<StartedPlugin, Rejection>);

impl Warmer {
    /// Returns a warmer with these parts.
    pub(crate) fn new(options: WarmerOptions) -> Arc<Self> {
        Arc::new(Self { options, starts: Semaphore::new(MAX_CONCURRENT_STARTS) })
    }

    /// Returns the module loader.
    pub(crate) fn modules(&self) -> &Arc<ModuleLoader> {
        &self.options.modules
    }

    /// Returns the DNS resolver.
    pub(crate) fn resolver(&self) -> &Arc<Resolver> {
        &self.options.resolver
    }

    /// Returns true if a configuration serves without plugins that do not load and whose failure policy is Open.
    pub(crate) fn skips_failed_plugins(&self) -> bool {
        self.options.open_failure == OpenFailure::Skip
    }

    /// Loads modules, starts plugins, and resolves DNS names of a prepared configuration. Plugins whose settings and
    /// code are equal in `previous` are shared with it.
    ///
    /// # Errors
    /// A rejection for every plugin that does not load or start, and for every listener with invalid certificates. With
    /// [`OpenFailure::Skip`], plugins whose failure policy is Open are not rejected.
    pub(crate) async fn warm(
        self: Arc<Self>,
        prepared: PreparedConfig,
        previous: Arc<ActiveConfig>,
    ) -> Result<ActiveConfig, Vec<Rejection>> {
        let modules = self.load_modules(&prepared).await;
        let started = self.start_plugins(&prepared, &modules, &previous).await;
        let mut rejections = Vec::new();
        let (mut plugins, mut hashes) = (HashMap::new(), HashMap::new());
        let mut failed_plugins: BTreeMap<PluginName, FailedPlugin> = prepared.snapshot.failed_plugins.clone();
        for (name, outcome) in started {
            match outcome {
                Ok(started) => {
                    plugins.insert(name.clone(), started.plugin);
                    hashes.insert(name, started.module);
                }
                Err(rejection) => match prepared.snapshot.plugins.get(&name).filter(|plugin| self.can_skip(plugin)) {
                    None => rejections.push(rejection),
                    Some(plugin) => {
                        let running = running_version(&name, &previous);
                        let failed = failed_plugin(plugin, &rejection, running.is_some());
                        failed_plugins.insert(name.clone(), failed);
                        plugins.extend(running.iter().map(|running| (name.clone(), running.plugin.clone())));
                        hashes.extend(running.map(|running| (name, running.module)));
                    }
                },
            }
        }
        let https = certificates::https_configs(&prepared.snapshot, &previous, &mut rejections);
        let unusable = match self.options.open_failure {
            OpenFailure::Reject => UnusableSecret::Left, // Valid resources of an xDS update are used (invariant I5).
            OpenFailure::Skip => UnusableSecret::Rejected,
        };
        let upstream_tls = upstream_tls::client_settings(&prepared.snapshot, &previous, unusable, &mut rejections);
        if !rejections.is_empty() {
            rejections.sort_by(|one, other| one.resource.cmp(&other.resource));
            return Err(rejections);
        }
        resolve_new(&self.options.resolver, &prepared.new_clusters).await;
        let PreparedConfig { snapshot, route_tables, clusters, .. } = prepared;
        Ok(ActiveConfig {
            snapshot,
            route_tables,
            clusters,
            plugins,
            failed_plugins,
            https,
            upstream_tls,
            modules: hashes,
        })
    }

    /// Returns true if a configuration serves although the plugin does not load.
    fn can_skip(&self, plugin: &Plugin) -> bool {
        self.skips_failed_plugins() && plugin.failure == FailurePolicy::Open
    }

    /// Loads each module once, for all plugins that run it.
    async fn load_modules(&self, prepared: &PreparedConfig) -> HashMap<ModuleSource, Result<Module, ModuleLoadError>> {
        let mut loads = TaskSet::new("module load");
        let mut modules = HashMap::new();
        for plugin in prepared.snapshot.plugins.values() {
            if modules.contains_key(&plugin.module) {
                continue;
            }
            let lost =
                ModuleLoadError::new("loading the module failed by a bug of the proxy", "see the panic in the log");
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
        prepared: &PreparedConfig,
        modules: &HashMap<ModuleSource, Result<Module, ModuleLoadError>>,
        previous: &ActiveConfig,
    ) -> Vec<StartResult> {
        let mut outcomes = Vec::with_capacity(prepared.snapshot.plugins.len());
        let mut starts = TaskSet::new("plugin start");
        let mut groups: HashMap<VmGroupKey, (Module, Vec<Arc<Plugin>>)> = HashMap::new();
        for (name, model) in &prepared.snapshot.plugins {
            let module = match modules.get(&model.module) {
                Some(Ok(module)) => module.clone(),
                Some(Err(error)) => {
                    let ModuleLoadError { reason, hint } = error.clone();
                    outcomes.push((name.clone(), Err(rejection(name, "module", reason, hint))));
                    continue;
                }
                None => continue, // Not reachable: every plugin's module has an entry.
            };
            let hash = module.hash();
            groups.entry(VmGroupKey::of(model, hash)).or_insert_with(|| (module, Vec::new())).1.push(Arc::clone(model));
        }
        for (module, models) in groups.into_values() {
            if let Some(running) = unchanged(&models, &module, previous) {
                outcomes.extend(running);
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

    /// Starts the VMs of one plugin, or of several that share VMs. If a plugin of the group fails to start and cannot be
    /// skipped, the result has its rejection only: the other plugins of the group do not run either. If it can, the
    /// others start without it.
    async fn start_group(&self, mut models: Vec<Arc<Plugin>>, module: Module) -> Vec<StartResult> {
        let _permit = self.starts.acquire().await; // The semaphore is never closed.
        let mut results = Vec::new();
        loop {
            let mut started = self.start_together(&models, &module).await;
            let has_failed = |model: &Arc<Plugin>| matches!(&*started, [(name, Err(_))] if *name == model.name);
            let failed = models.iter().position(has_failed);
            results.append(&mut started);
            match failed.filter(|index| models.len() > 1 && self.can_skip(&models[*index])) {
                Some(index) => drop(models.remove(index)),
                None => return results,
            }
        }
    }

    /// Starts the VMs of plugins that share them, or returns the rejection of the first one that fails.
    async fn start_together(&self, models: &[Arc<Plugin>], module: &Module) -> Vec<StartResult> {
        let names: Vec<PluginName> = models.iter().map(|model| model.name.clone()).collect();
        let (hash, module, models) = (module.hash(), module.clone(), models.to_vec());
        let options = VmPoolOptions {
            workers: self.options.workers,
            state: Arc::clone(&self.options.state),
            restarts: self.options.restarts.clone(),
        };
        let started_at = tokio::time::Instant::now();
        let start = move || ActivePlugin::start(&models, &module, options);
        match task::blocking("plugin start", start).await {
            Some(Ok(plugins)) => {
                let duration_ms = started_at.elapsed().as_millis();
                let started = |(name, plugin): (PluginName, ActivePlugin)| {
                    info!(plugin = %name, duration_ms, "plugin started");
                    (name, Ok(StartedPlugin { plugin, module: hash }))
                };
                names.into_iter().zip(plugins).map(started).collect()
            }
            Some(Err(error)) => {
                let name = &names[error.plugin.min(names.len() - 1)];
                vec![(name.clone(), Err(rejection(name, error.field, error.reason, error.hint)))]
            }
            None => {
                let reason = "starting the plugin failed by a bug of the proxy";
                let lost = |name| rejection(name, "module", reason.to_owned(), "see the panic in the log".to_owned());
                names.iter().map(|name| (name.clone(), Err(lost(name)))).collect()
            }
        }
    }
}

/// The key of plugins that share VMs. As in Envoy, they have the same module and VM id; their limits and capabilities
/// must be equal, too, because they apply to the whole VM. Plugins without a VM id, with a VM per stream, or with
/// recycled VMs do not share.
#[derive(PartialEq, Eq, Hash)]
enum VmGroupKey {
    Exclusive(PluginName),
    Shared(Box<VmSignature>),
}

/// All settings that apply to a VM as a whole.
#[derive(PartialEq, Eq, Hash)]
struct VmSignature {
    id: String,
    vm: VmConfig,
    module: ModuleHash,
    capabilities: PluginCapabilities,
    limits: PluginLimits,
    isolation: Isolation,
    role: PluginRole,
}

impl VmGroupKey {
    fn of(plugin: &Plugin, module: ModuleHash) -> Self {
        let is_exclusive = plugin.vm.id.is_empty()
            || plugin.isolation == Isolation::Stream
            || plugin.recycling != RecyclePolicy::default();
        if is_exclusive {
            return Self::Exclusive(plugin.name.clone());
        }
        Self::Shared(Box::new(VmSignature {
            id: plugin.vm_id(),
            vm: plugin.vm.clone(),
            module,
            capabilities: plugin.capabilities.clone(),
            limits: plugin.limits,
            isolation: plugin.isolation,
            role: plugin.role,
        }))
    }
}

/// Returns the running plugins of a group if all of them are unchanged: a VM is retained with all of its plugins or not
/// at all.
fn unchanged(models: &[Arc<Plugin>], module: &Module, previous: &ActiveConfig) -> Option<Vec<StartResult>> {
    let hash = module.hash();
    // The source of the module is not compared: replicas of the control plane serve one module under different URLs.
    let is_same = |model: &Plugin, other: &Plugin| *other == Plugin { module: other.module.clone(), ..model.clone() };
    let running = models.iter().map(|model| {
        let plugin = previous.plugins.get(&model.name).filter(|plugin| is_same(model, &plugin.model))?;
        (previous.modules.get(&model.name) == Some(&hash)).then(|| plugin.clone())
    });
    let running: Vec<_> = running.collect::<Option<_>>()?;
    let pool = running.first()?.pool();
    let is_complete =
        pool.plugin_count() == running.len() && running.iter().all(|plugin| Arc::ptr_eq(plugin.pool(), pool));
    let started = |plugin: ActivePlugin| (plugin.model.name.clone(), Ok(StartedPlugin { plugin, module: hash }));
    is_complete.then(|| running.into_iter().map(started).collect())
}

/// Returns the running version of a plugin that can serve in place of a newer one. A plugin that shares its VM cannot,
/// because that VM would run the former versions of the other plugins, too.
fn running_version(name: &PluginName, previous: &ActiveConfig) -> Option<StartedPlugin> {
    let plugin = previous.plugins.get(name).filter(|plugin| plugin.pool().plugin_count() == 1)?;
    Some(StartedPlugin { plugin: plugin.clone(), module: *previous.modules.get(name)? })
}

/// Logs and returns the failure of a plugin that is skipped, or replaced by its previous version.
fn failed_plugin(plugin: &Plugin, rejection: &Rejection, previous_serves: bool) -> FailedPlugin {
    let Rejection { field, reason, hint, .. } = rejection;
    warn!(plugin = %plugin.name, previous_serves, hint, "a filter with FailOpen does not load: {field}: {reason}");
    FailedPlugin { failure: plugin.failure, reason: Arc::from(format!("{field}: {reason}")) }
}

fn rejection(plugin: &PluginName, field: &str, reason: String, hint: String) -> Rejection {
    let resource = ResourceId { kind: ResourceKind::Plugin, name: plugin.to_string() };
    Rejection { resource, field: field.to_owned(), reason, hint }
}

/// Waits for the first DNS answers of new clusters. A name that does not resolve does not reject the change: its
/// cluster has no endpoint until it resolves.
async fn resolve_new(resolver: &Arc<Resolver>, clusters: &[Arc<Cluster>]) {
    let mut answers = TaskSet::new("first dns answer");
    for cluster in clusters {
        if matches!(cluster.model().discovery, weir_model::Discovery::Dns { .. }) {
            let (resolver, cluster) = (Arc::clone(resolver), Arc::clone(cluster));
            answers.spawn(async move {
                if let Err(reason) = resolve_once(&resolver, &cluster, FIRST_RESOLVE_TIMEOUT).await {
                    let cluster = &cluster.model().name;
                    warn!(%cluster, %reason, "the DNS name of a cluster does not resolve yet; its requests fail");
                }
            });
        }
    }
    while answers.next().await.is_some() {}
}
