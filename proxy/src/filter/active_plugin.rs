//! A loaded and started plugin, which routes refer to. The `active` module makes it off the workers, and each worker
//! takes VMs from its pool. Shared by all workers, without locks on the request path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use weir_host_abi::shared::Namespace;
use weir_host_abi::{Exports, Module, StartFailure};
use weir_loader::settings;
use weir_model::Isolation;

use crate::filter::shared_state::SharedPluginState;
use crate::filter::vm_pool::{VmPool, VmPoolOptions};

/// A loaded and started plugin.
pub(crate) struct ActivePlugin {
    /// The plugin as the snapshot defines it.
    pub(crate) model: Arc<weir_model::Plugin>,
    /// Module, configuration and limits, as the Wasm host uses them.
    pub(crate) plugin: Arc<weir_host_abi::Plugin>,
    /// Id of the plugin, unique in the process. The same name with another configuration has another id.
    pub(crate) id: u64,
    /// Started spare VMs of the plugin.
    pub(crate) pool: Arc<VmPool>,
    /// Index of the plugin in its VMs.
    pub(crate) plugin_index: usize,
    /// Counters and state across workers.
    pub(crate) stats: PluginStats,
}

/// State of a plugin across all workers. The `telemetry` module has the counters that survive the plugin.
#[derive(Debug, Default)]
pub(crate) struct PluginStats {
    /// Number of VMs that run on workers.
    pub(crate) vms: AtomicU64,
    /// Number of requested breaker resets.
    pub(super) resets: AtomicU64,
    last_failure: Mutex<Option<String>>,
    /// Latest time at which an open breaker of a worker closes.
    open_until: Mutex<Option<Instant>>,
}

impl PluginStats {
    pub(super) fn record_failure(&self, text: String) {
        *self.last_failure.lock() = Some(text);
    }

    /// Records that a breaker is open until `until`.
    pub(super) fn record_breaker_open(&self, until: Instant) {
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
    ) -> Result<Vec<Arc<Self>>, StartFailure> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let plugins: Vec<_> = models.iter().map(|model| load(model, module)).collect();
        let Some(first) = models.first() else { return Ok(Vec::new()) };
        let namespace = options.state.namespace(&first.vm_id());
        for model in models {
            namespace.data().set_limit(usize::try_from(model.limits.shared_data.0).unwrap_or(usize::MAX));
            namespace.metrics().set_limit(usize::try_from(model.limits.metrics).unwrap_or(usize::MAX));
        }
        let pool = VmPool::start(plugins.clone(), namespace, first.isolation, options)?;
        let active = |(number, (model, plugin)): (usize, (&Arc<weir_model::Plugin>, Arc<weir_host_abi::Plugin>))| {
            Arc::new(Self {
                model: Arc::clone(model),
                plugin,
                id: IDS.fetch_add(1, Ordering::Relaxed),
                pool: Arc::clone(&pool),
                plugin_index: number,
                stats: PluginStats::default(),
            })
        };
        Ok(models.iter().zip(plugins).enumerate().map(active).collect())
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
    pub(super) fn state(&self) -> &SharedPluginState {
        &self.pool.state
    }

    /// Returns the shared data, queues and metrics of the plugin's VM id.
    pub(super) fn namespace(&self) -> &Arc<Namespace> {
        &self.pool.namespace
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
