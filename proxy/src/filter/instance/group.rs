//! Loaded and started plugins that share VMs, which routes refer to. The `active` module makes a group off the workers,
//! and each worker takes VMs from its pool. Shared by all workers, without locks on the request path.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use weir_host_abi::shared::Namespace;
use weir_host_abi::{Exports, Module, StartFailure};
use weir_loader::settings;
use weir_model::Isolation;

use super::shared_state::SharedPluginState;
use super::vm_pool::{VmPool, VmPoolOptions};

/// Plugins that share VMs: one, or several of one module. They start together and have one VM on each worker; each drains with its own last user.
pub(crate) struct PluginGroup {
    /// The plugins, by their index in a VM.
    plugins: Box<[GroupPlugin]>,
    /// Started spare VMs, with all of the plugins.
    pub(crate) pool: Arc<VmPool>,
}

/// A plugin of a group. Cloning it is cheap.
#[derive(Clone)]
pub(crate) struct ActivePlugin {
    group: Arc<PluginGroup>,
    /// Index of the plugin in its group, and in each VM.
    pub(crate) index: usize,
}

/// The identity of a started plugin in this process. A plugin whose resource was changed has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PluginId {
    /// The id of its group's VMs.
    pub(super) pool: u64,
    /// The index in its group.
    pub(super) index: usize,
}

/// One plugin of a group, for all workers.
pub(crate) struct GroupPlugin {
    /// The plugin as the snapshot defines it.
    pub(crate) model: Arc<weir_model::Plugin>,
    /// Module, configuration and limits, as the Wasm host uses them.
    pub(crate) plugin: Arc<weir_host_abi::Plugin>,
    /// Counters and state across workers.
    pub(crate) stats: PluginStats,
}

impl Deref for ActivePlugin {
    type Target = GroupPlugin;

    fn deref(&self) -> &GroupPlugin {
        &self.group.plugins[self.index]
    }
}

/// State of a plugin across all workers. The `telemetry` module has the counters that survive the plugin.
#[derive(Debug, Default)]
pub(crate) struct PluginStats {
    /// Number of VMs that run on workers.
    pub(crate) vms: AtomicU64,
    /// Number of requested breaker resets.
    pub(crate) resets: AtomicU64,
    last_failure: Mutex<Option<String>>,
    /// Latest time at which an open breaker of a worker closes.
    open_until: Mutex<Option<Instant>>,
}

impl PluginStats {
    pub(crate) fn record_failure(&self, text: String) {
        *self.last_failure.lock() = Some(text);
    }

    /// Records that a breaker is open until `until`.
    pub(crate) fn record_breaker_open(&self, until: Instant) {
        let mut latest = self.open_until.lock();
        *latest = (*latest).max(Some(until));
    }

    /// Returns the longest time until an open breaker of a worker closes. `None` if none is open.
    pub(crate) fn breaker_pause(&self) -> Option<Duration> {
        let until = (*self.open_until.lock())?;
        Some(until.saturating_duration_since(Instant::now())).filter(|pause| !pause.is_zero())
    }

    /// Requests a reset of the breakers of all workers, which they apply with the next request.
    pub(crate) fn reset_breakers(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
        *self.open_until.lock() = None;
    }

    /// Returns the text of the last failure.
    pub(crate) fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().clone()
    }
}

impl ActivePlugin {
    /// Starts the VMs of one plugin, or of several plugins of one module that share VMs. Slow, so not for a worker.
    ///
    /// # Errors
    /// The first VM failed to start. The VMs started before it are dropped.
    pub(crate) fn start(
        models: &[Arc<weir_model::Plugin>],
        module: &Module,
        options: VmPoolOptions,
    ) -> Result<Vec<Self>, StartFailure> {
        let plugins: Vec<_> = models.iter().map(|model| load(model, module)).collect();
        let Some(first) = models.first() else { return Ok(Vec::new()) };
        let namespace = options.state.namespace(&first.vm_id());
        for model in models {
            namespace.data().set_limit(usize::try_from(model.limits.shared_data.0).unwrap_or(usize::MAX));
            namespace.metrics().set_limit(usize::try_from(model.limits.metrics).unwrap_or(usize::MAX));
        }
        let pool = VmPool::start(plugins.clone(), namespace, first.isolation, options)?;
        let member = |(model, plugin): (&Arc<weir_model::Plugin>, Arc<weir_host_abi::Plugin>)| GroupPlugin {
            model: Arc::clone(model),
            plugin,
            stats: PluginStats::default(),
        };
        let group = Arc::new(PluginGroup { plugins: models.iter().zip(plugins).map(member).collect(), pool });
        Ok(Self::members(&group).collect())
    }

    fn members(group: &Arc<PluginGroup>) -> impl Iterator<Item = Self> {
        (0..group.plugins.len()).map(|index| Self { group: Arc::clone(group), index })
    }

    /// Returns all plugins of the group, by index.
    pub(crate) fn group_members(&self) -> impl Iterator<Item = Self> {
        Self::members(&self.group)
    }

    /// Returns the spare VMs of the group.
    pub(crate) fn pool(&self) -> &Arc<VmPool> {
        &self.group.pool
    }

    /// Returns the identity of the plugin.
    pub(crate) fn id(&self) -> PluginId {
        PluginId { pool: self.group.pool.id, index: self.index }
    }

    /// Returns the callbacks that the plugin's module exports.
    pub(crate) fn exports(&self) -> Exports {
        self.plugin.exports()
    }

    /// Returns the number of shared data values that were evicted (`limits.sharedData`).
    pub(crate) fn evicted_values(&self) -> u64 {
        self.namespace().data().evicted()
    }

    /// Returns the state that plugins share within the process.
    pub(crate) fn state(&self) -> &SharedPluginState {
        &self.group.pool.state
    }

    /// Returns the shared data, queues and metrics of the plugin's VM id.
    pub(crate) fn namespace(&self) -> &Arc<Namespace> {
        &self.group.pool.namespace
    }
}

fn load(model: &weir_model::Plugin, module: &Module) -> Arc<weir_host_abi::Plugin> {
    let mut settings = settings(model);
    if model.isolation == Isolation::Stream {
        // The VM of a stream starts on its worker and blocks it, so the limit of a call applies.
        settings.limits.start_time = settings.limits.start_time.min(settings.limits.call_time);
    }
    Arc::new(weir_host_abi::Plugin::new(settings, module.clone()))
}
