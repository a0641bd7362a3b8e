//! One VM of a worker: the plugins that run in it, the streams that have a context in it, and its end. A failure of
//! one plugin ends the VM for all of its plugins (invariant I8).

use std::cell::{Cell, RefCell};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use weir_host_abi::shared::MetricTable;
use weir_host_abi::{ContextId, ContextTable, StartedVm, Vm};
use weir_model::RecyclePolicy;

use crate::filter::effects::Effect;
use crate::filter::plugin_instance::PluginInstance;
use crate::filter::shared_state::StreamVmPermit;
use crate::filter::stream::SharedStream;
use crate::filter::timer;
use crate::filter::vm_pool::VmPool;

/// A stream that has a context in the VM: the filter's index in its chain, and the plugin's index in the VM.
#[derive(Clone)]
pub(super) struct StreamRef {
    pub(super) stream: Weak<SharedStream>,
    pub(super) filter: usize,
    pub(super) plugin_index: usize,
}

/// A stream's context in the VM of one generation.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamContext {
    pub(super) generation: u64,
    pub(super) id: ContextId,
}

/// Holder of one VM of a worker, which may be stopped and started again.
pub(super) struct VmInstance {
    pub(super) pool: Arc<VmPool>,
    pub(super) worker: usize,
    pub(super) running: RefCell<Option<Vm>>,
    /// Incremented with each started VM, so that a context of a dead VM is never used in the next.
    generation: Cell<u64>,
    pub(super) streams: RefCell<ContextTable<StreamRef>>,
    /// The plugins of the VM, by plugin index.
    plugins: RefCell<Vec<Weak<PluginInstance>>>,
    /// Metrics that the VM has defined, by metric id.
    pub(super) guest_metrics: RefCell<MetricTable>,
    /// Permit of a VM that serves one stream. `None` in other VMs.
    permit: RefCell<Option<StreamVmPermit>>,
    /// Id of the last callout. The two lowest bits are zero and free for its kind.
    last_callout_id: Cell<u32>,
    /// Number of streams of the running VM, and the time of its start.
    streams_served: Cell<u64>,
    started_at: Cell<Instant>,
}

impl VmInstance {
    /// Returns a stopped VM without plugins.
    pub(super) fn new(pool: Arc<VmPool>, worker: usize) -> Rc<Self> {
        Rc::new(Self {
            pool,
            worker,
            running: RefCell::new(None),
            generation: Cell::new(0),
            streams: RefCell::default(),
            plugins: RefCell::default(),
            guest_metrics: RefCell::default(),
            permit: RefCell::new(None),
            last_callout_id: Cell::new(0),
            streams_served: Cell::new(0),
            started_at: Cell::new(Instant::now()),
        })
    }

    /// Adds a plugin, which is notified when the VM fails.
    pub(super) fn add_plugin(&self, instance: &Rc<PluginInstance>) {
        let plugin_index = instance.plugin.plugin_index;
        let mut plugins = self.plugins.borrow_mut();
        while plugins.len() <= plugin_index {
            plugins.push(Weak::new());
        }
        plugins[plugin_index] = Rc::downgrade(instance);
    }

    /// Returns the plugins of the VM that still exist.
    pub(super) fn plugins(&self) -> Vec<Rc<PluginInstance>> {
        self.plugins.borrow().iter().filter_map(Weak::upgrade).collect()
    }

    /// Returns the generation of the running VM. A context is valid in the generation that created it.
    pub(super) fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Returns whether the VM runs.
    pub(super) fn is_running(&self) -> bool {
        self.running.borrow().is_some()
    }

    /// Returns whether the VM has reached a limit of its recycle policy.
    pub(super) fn needs_recycling(&self, recycling: &RecyclePolicy) -> bool {
        let RecyclePolicy { requests, age, memory } = recycling;
        let running = self.running.borrow();
        let Some(vm) = running.as_ref() else { return false };
        requests.is_some_and(|requests| self.streams_served.get() >= requests)
            || age.is_some_and(|age| self.started_at.get().elapsed() >= age)
            || memory.is_some_and(|memory| vm.memory_bytes() as u64 >= memory.0)
    }

    /// Registers a stream that has a context in the running VM.
    pub(super) fn add_stream(&self, context: ContextId, stream_ref: StreamRef) {
        self.streams_served.set(self.streams_served.get() + 1);
        self.streams.borrow_mut().insert(context, stream_ref);
    }

    /// Deletes a stream's context without calling the guest. Returns false if the VM was replaced or has failed: the
    /// caller then takes the path that detects the failure.
    pub(super) fn remove_stream(&self, context: StreamContext) -> bool {
        match self.running.borrow_mut().as_mut() {
            Some(vm) if context.generation == self.generation() && !vm.is_dead() => {
                vm.delete_silently(context.id);
                self.streams.borrow_mut().remove(context.id);
                true
            }
            _ => false,
        }
    }

    /// Returns the id of a new callout. Its two lowest bits are free for its kind.
    pub(super) fn next_callout_id(&self) -> u32 {
        let last = self.last_callout_id.get().wrapping_add(4).max(4);
        self.last_callout_id.set(last);
        last
    }

    /// Returns whether several plugins share the VM.
    pub(super) fn is_shared(&self) -> bool {
        self.pool.plugin_count() > 1
    }

    /// Stores a permit until the VM is closed.
    pub(super) fn attach_permit(&self, permit: StreamVmPermit) {
        *self.permit.borrow_mut() = Some(permit);
    }

    /// Installs a started VM, registers the queues that its plugins opened at start, and starts their timers.
    pub(super) fn install(&self, started: StartedVm) {
        let StartedVm { vm, metrics, queues } = started;
        self.generation.set(self.generation.get() + 1);
        self.pool.state.vms.fetch_add(1, Ordering::Relaxed);
        self.streams_served.set(0);
        self.started_at.set(Instant::now());
        *self.guest_metrics.borrow_mut() = metrics;
        *self.running.borrow_mut() = Some(vm);
        for instance in self.plugins() {
            instance.plugin.stats.vms.fetch_add(1, Ordering::Relaxed);
            for (_, name) in queues.iter().filter(|(plugin, _)| *plugin == instance.plugin.plugin_index) {
                instance.register_queue(name);
            }
            timer::sync_timer(&instance);
        }
    }

    /// Closes a failed VM: its callouts are abandoned, and each of its streams is notified.
    pub(super) fn fail(&self) {
        self.close();
        let plugins = self.plugins();
        for instance in &plugins {
            instance.callouts.abandon_all();
        }
        for (_, stream_ref) in self.streams.take().take_all() {
            let Some(instance) =
                plugins.iter().find(|instance| instance.plugin.plugin_index == stream_ref.plugin_index)
            else {
                continue;
            };
            instance
                .effects
                .push(stream_ref.stream, Effect::FilterFailed(stream_ref.filter, instance.failure("filter_vm_died")));
        }
    }

    /// Closes the VM if it runs.
    pub(super) fn close(&self) {
        self.permit.take();
        if self.running.borrow_mut().take().is_none() {
            return;
        }
        self.pool.state.vms.fetch_sub(1, Ordering::Relaxed);
        for instance in self.plugins() {
            instance.plugin.stats.vms.fetch_sub(1, Ordering::Relaxed);
            instance.timer_generation.set(None);
        }
    }
}

impl Drop for VmInstance {
    fn drop(&mut self) {
        self.close(); // A callout may have owned the last plugin instance.
    }
}
