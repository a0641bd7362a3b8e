//! A plugin loaded and started: what routes refer to. Made by `config` off the workers; each worker takes VMs from its
//! stock. Shared by all workers without locks on the request path.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use weir_host_abi::shared::Namespace;
use weir_host_abi::{Exports, Module, StartRefusal};
use weir_loader::settings;
use weir_model::Isolation;

use crate::filter::state::PluginState;
use crate::filter::stock::{StockOptions, VmStock};

/// A plugin loaded and started.
pub(crate) struct ActivePlugin {
    /// What was asked for.
    pub(crate) model: Arc<weir_model::Plugin>,
    /// Module, configuration and limits, as the host knows them.
    pub(crate) plugin: Arc<weir_host_abi::Plugin>,
    /// Unlike any other's in this process, also for the same name with another configuration.
    pub(crate) id: u64,
    /// Its VMs.
    pub(crate) stock: Arc<VmStock>,
    /// Which of the plugins in these VMs it is.
    pub(crate) number: usize,
    /// How it fares.
    pub(crate) stats: PluginStats,
}

/// How a plugin fares, over all workers. (What is counted for ever is in `telemetry`.)
#[derive(Debug, Default)]
pub(crate) struct PluginStats {
    /// VMs that run on workers.
    pub(crate) vms: AtomicU64,
    /// How often somebody has asked to reset its breakers.
    pub(super) resets: AtomicU64,
    last_failure: Mutex<Option<String>>,
    /// Until when its policy answers on a worker, if it does.
    open_until: Mutex<Option<Instant>>,
}

impl PluginStats {
    pub(super) fn note_failure(&self, text: String) {
        *self.last_failure.lock() = Some(text);
    }

    /// A breaker opened.
    pub(super) fn note_breaker(&self, until: Instant) {
        let mut latest = self.open_until.lock();
        *latest = (*latest).max(Some(until));
    }

    /// How long its failure policy answers on a worker, if it does now.
    pub(crate) fn breaker_pause(&self) -> Option<Duration> {
        let until = (*self.open_until.lock())?;
        Some(until.saturating_duration_since(Instant::now())).filter(|pause| !pause.is_zero())
    }

    /// Its breakers are closed: the next request calls it.
    pub(crate) fn reset_breakers(&self) {
        self.resets.fetch_add(1, Ordering::Relaxed);
        *self.open_until.lock() = None;
    }

    /// The last failure, in words.
    pub(crate) fn last_failure(&self) -> Option<String> {
        self.last_failure.lock().clone()
    }
}

impl ActivePlugin {
    /// Starts VMs for plugins that share them: one, or several with the same module. Slow: not for a worker.
    ///
    /// # Errors
    /// The first VM that did not start; none is left over then.
    pub(crate) fn start(
        models: &[Arc<weir_model::Plugin>],
        module: &Module,
        options: StockOptions,
    ) -> Result<Vec<Arc<Self>>, StartRefusal> {
        static IDS: AtomicU64 = AtomicU64::new(1);
        let plugins: Vec<_> = models.iter().map(|model| loaded(model, module)).collect();
        let Some(first) = models.first() else { return Ok(Vec::new()) };
        let namespace = options.state.namespace(&first.vm_id());
        for model in models {
            namespace.data().set_limit(usize::try_from(model.limits.shared_data.0).unwrap_or(usize::MAX));
            namespace.metrics().set_limit(usize::try_from(model.limits.metrics).unwrap_or(usize::MAX));
        }
        let stock = VmStock::start(plugins.clone(), (namespace, first.isolation), options)?;
        let active = |(number, (model, plugin)): (usize, (&Arc<weir_model::Plugin>, Arc<weir_host_abi::Plugin>))| {
            Arc::new(Self {
                model: Arc::clone(model),
                plugin,
                id: IDS.fetch_add(1, Ordering::Relaxed),
                stock: Arc::clone(&stock),
                number,
                stats: PluginStats::default(),
            })
        };
        Ok(models.iter().zip(plugins).enumerate().map(active).collect())
    }

    /// The callbacks that its module has.
    pub(crate) fn exports(&self) -> Exports {
        self.plugin.exports()
    }

    /// Values of its shared data that made room for others (`limits.sharedData`).
    pub(crate) fn evicted_values(&self) -> u64 {
        self.namespace().data().evicted()
    }

    /// What plugins share within the process.
    pub(super) fn state(&self) -> &PluginState {
        &self.stock.state
    }

    /// Its own part of that.
    pub(super) fn namespace(&self) -> &Arc<Namespace> {
        &self.stock.namespace
    }
}

fn loaded(model: &weir_model::Plugin, module: &Module) -> Arc<weir_host_abi::Plugin> {
    let mut settings = settings(model);
    if model.isolation == Isolation::Stream {
        // A VM of a stream starts on its worker, which does nothing else meanwhile.
        settings.limits.start_time = settings.limits.start_time.min(settings.limits.call_time);
    }
    Arc::new(weir_host_abi::Plugin::new(settings, module.clone()))
}
