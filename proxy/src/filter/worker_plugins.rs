//! Registry of the plugins of one worker, and the chains of its routes. Each worker owns one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use weir_model::{ClusterName, Isolation, PluginName};

use crate::filter::callout::ClusterMap;
use crate::filter::instance::{ActivePlugin, EffectQueue, PluginHandle, VmHandle, VmHandleOptions};
use crate::filter::tasks;
use crate::telemetry::{PluginMetrics, WorkerMetrics};
use crate::upstream::{Cluster, Upstreams};

/// The plugins of one worker.
pub(crate) struct WorkerPlugins {
    worker: usize,
    metrics: Arc<WorkerMetrics>,
    clusters: ClusterMap,
    /// The VM of each group, by the id of its pool.
    vms: RefCell<HashMap<u64, Rc<VmHandle>>>,
    effects: Rc<EffectQueue>,
}

impl WorkerPlugins {
    /// Returns an empty registry. Starts the task that dispatches effects, so it must run on the worker's thread inside
    /// its runtime.
    pub(crate) fn new(worker: usize, upstreams: Rc<Upstreams>, metrics: Arc<WorkerMetrics>) -> Rc<Self> {
        let effects = Rc::<EffectQueue>::default();
        tasks::start(Rc::clone(&effects), upstreams);
        Rc::new(Self { worker, metrics, clusters: ClusterMap::default(), vms: RefCell::default(), effects })
    }

    /// Returns the plugins of a chain, in request order.
    pub(crate) fn chain(&self, plugins: &[ActivePlugin]) -> Rc<[PluginHandle]> {
        plugins.iter().map(|plugin| PluginHandle::new(&self.vm(plugin), plugin)).collect()
    }

    /// Returns the metrics of a plugin on this worker. Takes a lock.
    pub(crate) fn metrics(&self, plugin: &PluginName) -> Arc<PluginMetrics> {
        self.metrics.plugin(plugin)
    }

    /// Returns the VM of a plugin's group.
    fn vm(&self, plugin: &ActivePlugin) -> Rc<VmHandle> {
        let new = || {
            VmHandle::new(VmHandleOptions {
                plugin,
                worker: self.worker,
                effects: &self.effects,
                clusters: &self.clusters,
                metrics: &self.metrics,
            })
        };
        Rc::clone(self.vms.borrow_mut().entry(plugin.pool().id).or_insert_with(new))
    }

    /// Applies a new configuration. Plugins that it lacks shut down after their last stream, the others keep their
    /// state. Callouts use the clusters of the new configuration.
    pub(crate) fn apply_config<'a>(
        &self,
        plugins: impl Iterator<Item = &'a ActivePlugin>,
        clusters: &HashMap<ClusterName, Arc<Cluster>>,
    ) {
        self.clusters.borrow_mut().clone_from(clusters);
        let plugins: Vec<&ActivePlugin> = plugins.collect();
        self.vms.borrow_mut().retain(|pool, vm| {
            let stays = plugins.iter().any(|plugin| plugin.pool().id == *pool);
            if !stays {
                vm.retire();
            }
            stays
        });
        let runs_here = |plugin: &&&ActivePlugin| match plugin.model.isolation {
            Isolation::Worker => true,
            Isolation::Singleton => self.worker == 0,
            Isolation::Stream => false,
        };
        // A VM runs now so that its timers start with the configuration, not with the first request.
        for plugin in plugins.iter().filter(runs_here) {
            drop(self.vm(plugin).current().plugin(plugin.index).ensure_running());
        }
    }
}

#[cfg(test)]
mod tests;
