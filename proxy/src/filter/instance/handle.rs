//! The VM of a group of plugins on one worker that takes new streams. VMs are replaced below it: recycled by policy, or
//! one for each stream.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use weir_host_abi::Exports;
use weir_model::{Isolation, RecyclePolicy};

use super::group::ActivePlugin;
use super::health::PluginHealth;
use super::plugin_instance::PluginInstance;
use super::types::{EffectQueue, PluginRef, VmInstance};
use super::vm::VmInstanceOptions;
use crate::filter::callout::ClusterMap;
use crate::telemetry::WorkerMetrics;

/// Parts of a new [`VmHandle`].
#[derive(Clone, Copy)]
pub(crate) struct VmHandleOptions<'a> {
    /// Any plugin of the group.
    pub(crate) plugin: &'a ActivePlugin,
    /// The number of the worker.
    pub(crate) worker: usize,
    /// The effects of the worker.
    pub(crate) effects: &'a Rc<EffectQueue>,
    /// The clusters that callouts may use.
    pub(crate) clusters: &'a ClusterMap,
    /// The counters of the worker.
    pub(crate) metrics: &'a WorkerMetrics,
}

/// The VM for new streams of a group of plugins on one worker.
pub(crate) struct VmHandle {
    current: RefCell<Rc<VmInstance>>,
    /// Number of [`PluginHandle`]s of each plugin.
    handles: Box<[Cell<usize>]>,
    /// True once no configuration refers to the group. Its plugins drain when their last handle is dropped.
    is_retired: Cell<bool>,
}

impl VmHandle {
    /// Returns the handle of a VM that does not run yet.
    pub(crate) fn new(options: VmHandleOptions<'_>) -> Rc<Self> {
        let VmHandleOptions { plugin, worker, effects, clusters, metrics } = options;
        let instance = |plugin: ActivePlugin| {
            let health = Rc::new(PluginHealth::new(plugin.model.limits.cpu_per_second));
            let metrics = metrics.plugin(&plugin.model.name);
            PluginInstance::new(plugin, health, metrics)
        };
        let plugins: Box<[_]> = plugin.group_members().map(instance).collect();
        let handles = plugins.iter().map(|_| Cell::new(0)).collect();
        let vm = VmInstance::new(VmInstanceOptions {
            pool: Arc::clone(plugin.pool()),
            worker,
            is_per_stream: false,
            plugins,
            effects: Rc::clone(effects),
            clusters: Rc::clone(clusters),
        });
        Rc::new(Self { current: RefCell::new(vm), handles, is_retired: Cell::new(false) })
    }

    /// Returns the VM for new streams. Replaces a VM that needs recycling if a spare one is ready; the plugins of the old
    /// one drain.
    pub(crate) fn current(&self) -> Rc<VmInstance> {
        let current = Rc::clone(&self.current.borrow());
        let recycling = &current.plugins[0].plugin.model.recycling; // Plugins that share a VM are not recycled.
        if *recycling == RecyclePolicy::default()
            || !current.needs_recycling(recycling)
            || !current.pool.has_spare(current.worker)
        {
            return current;
        }
        let next = current.replacement(false);
        *self.current.borrow_mut() = Rc::clone(&next);
        current.all_plugins().for_each(|plugin| plugin.drain());
        next
    }

    /// Ends the group here: each plugin drains when its last handle is dropped.
    pub(crate) fn retire(&self) {
        self.is_retired.set(true);
        for (index, handles) in self.handles.iter().enumerate() {
            if handles.get() == 0 {
                self.drain(index);
            }
        }
    }

    fn drain(&self, index: usize) {
        let plugin = self.current.borrow().plugin(index);
        plugin.drain();
    }
}

/// A plugin of a route's chain, on one worker.
pub(crate) struct PluginHandle {
    vm: Rc<VmHandle>,
    index: usize,
    isolation: Isolation,
    /// Callbacks that the plugin's module exports.
    pub(crate) exports: Exports,
    /// Limit of buffered body bytes of one direction of a stream.
    pub(crate) body_buffer_limit_bytes: usize,
}

impl PluginHandle {
    /// Returns a handle of a plugin of the VM's group.
    pub(crate) fn new(vm: &Rc<VmHandle>, plugin: &ActivePlugin) -> Self {
        let handles = &vm.handles[plugin.index];
        handles.set(handles.get() + 1);
        Self {
            vm: Rc::clone(vm),
            index: plugin.index,
            isolation: plugin.model.isolation,
            exports: plugin.exports(),
            body_buffer_limit_bytes: usize::try_from(plugin.model.limits.body.0).unwrap_or(usize::MAX),
        }
    }

    /// Returns the plugin in the VM for a new stream. With `isolation: Stream` that is a new VM.
    pub(crate) fn for_stream(&self) -> PluginRef {
        let vm = match self.isolation {
            Isolation::Worker | Isolation::Singleton => self.vm.current(),
            Isolation::Stream => self.vm.current.borrow().replacement(true),
        };
        PluginRef { vm, index: self.index }
    }
}

impl Drop for PluginHandle {
    fn drop(&mut self) {
        let handles = &self.vm.handles[self.index];
        handles.set(handles.get().saturating_sub(1));
        if handles.get() == 0 && self.vm.is_retired.get() {
            self.vm.drain(self.index);
        }
    }
}
