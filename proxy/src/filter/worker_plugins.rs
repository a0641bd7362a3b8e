//! Registry of the plugins of one worker, and the chains of plugin instances of its routes. Each worker owns one.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use weir_model::{ClusterName, Isolation};

use crate::filter::active_plugin::ActivePlugin;
use crate::filter::callout::{CalloutTable, ClusterMap};
use crate::filter::effects::EffectQueue;
use crate::filter::plugin_instance::{PluginInstance, PluginInstanceOptions};
use crate::filter::shutdown;
use crate::filter::vm_instance::VmInstance;
use crate::task;
use crate::telemetry::WorkerMetrics;
use crate::upstream::{Cluster, Upstreams};

/// The plugins of one worker.
pub(crate) struct WorkerPlugins {
    worker: usize,
    upstreams: Rc<Upstreams>,
    metrics: Arc<WorkerMetrics>,
    clusters: ClusterMap,
    instances: RefCell<HashMap<u64, Rc<PluginInstance>>>,
    effects: Rc<EffectQueue>,
}

impl WorkerPlugins {
    /// Returns an empty registry. Starts the task that delivers effects, so it must run on the worker's thread inside
    /// its runtime.
    pub(crate) fn new(worker: usize, upstreams: Rc<Upstreams>, metrics: Arc<WorkerMetrics>) -> Rc<Self> {
        let effects = Rc::<EffectQueue>::default();
        task::spawn_local("filter-effects", Rc::clone(&effects).deliver());
        let (clusters, instances) = (ClusterMap::default(), RefCell::default());
        Rc::new(Self { worker, upstreams, metrics, clusters, instances, effects })
    }

    /// Returns the plugin instances of a chain, in request order.
    pub(crate) fn instances_for_chain(&self, plugins: &[Arc<ActivePlugin>]) -> Rc<[Rc<PluginInstance>]> {
        plugins.iter().map(|plugin| self.instance(plugin)).collect()
    }

    fn instance(&self, plugin: &Arc<ActivePlugin>) -> Rc<PluginInstance> {
        let mut instances = self.instances.borrow_mut();
        if let Some(instance) = instances.get(&plugin.id) {
            return Rc::clone(instance);
        }
        let instance = PluginInstance::new(PluginInstanceOptions {
            plugin: Arc::clone(plugin),
            vm: self.vm(&instances, plugin),
            is_per_stream: false,
            effects: Rc::clone(&self.effects),
            callouts: CalloutTable::new(Rc::clone(&self.upstreams), Rc::clone(&self.clusters)),
            metrics: self.metrics.plugin(&plugin.model.name),
        });
        instances.insert(plugin.id, Rc::clone(&instance));
        instance
    }

    /// Returns the VM for a plugin: the VM of a registered plugin that shares its pool, or a new one. A VM whose
    /// plugins shut down is not reused, since its plugin contexts end.
    fn vm(&self, instances: &HashMap<u64, Rc<PluginInstance>>, plugin: &ActivePlugin) -> Rc<VmInstance> {
        let shared = instances.values().find(|instance| instance.plugin.pool.id == plugin.pool.id);
        shared
            .map_or_else(|| VmInstance::new(Arc::clone(&plugin.pool), self.worker), |instance| Rc::clone(&instance.vm))
    }

    /// Applies a new configuration. Plugins that it lacks shut down after their last stream, the others keep their
    /// state. Callouts use the clusters of the new configuration.
    pub(crate) fn apply_config<'a>(
        &self,
        plugins: impl Iterator<Item = &'a Arc<ActivePlugin>>,
        clusters: &HashMap<ClusterName, Arc<Cluster>>,
    ) {
        self.clusters.borrow_mut().clone_from(clusters);
        let plugins: Vec<&Arc<ActivePlugin>> = plugins.collect();
        self.instances.borrow_mut().retain(|id, instance| {
            let stays = plugins.iter().any(|plugin| plugin.id == *id);
            if !stays {
                task::spawn_local("filter-shutdown", shutdown::shut_down_when_unused(Rc::clone(instance)));
            }
            stays
        });
        let runs_here = |plugin: &&&Arc<ActivePlugin>| match plugin.model.isolation {
            Isolation::Worker => true,
            Isolation::Singleton => self.worker == 0,
            Isolation::Stream => false,
        };
        // All plugins of a VM have an instance before the VM runs. It runs now so that timers start with the
        // configuration, not with the first request.
        let instances: Vec<_> = plugins.iter().filter(runs_here).map(|plugin| self.instance(plugin)).collect();
        for instance in instances {
            drop(instance.current().ensure_running());
        }
    }
}
