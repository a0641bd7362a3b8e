//! Transitions of a VM: install, fail, close. A failure of one plugin ends the VM for all of its plugins (invariant I8).

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;
use weir_host_abi::StartedVm;
use weir_model::RecyclePolicy;

use super::lifecycle::PluginPhase;
use super::plugin_instance::PluginInstance;
use super::shared_state::StreamVmPermit;
use super::types::{
    Effect, EffectQueue, PluginRef, RunningVm, StreamContext, StreamRef, VmInstance, VmState, VmStreams,
};
use super::vm_pool::VmPool;
use crate::filter::callout::ClusterMap;

/// Parts of a new [`VmInstance`].
pub(crate) struct VmInstanceOptions {
    /// The spare VMs of the group.
    pub(crate) pool: Arc<VmPool>,
    /// The number of the worker.
    pub(crate) worker: usize,
    /// True if the VM serves one stream only.
    pub(crate) is_per_stream: bool,
    /// The plugins of the group, by index.
    pub(crate) plugins: Box<[PluginInstance]>,
    /// The effects of the worker.
    pub(crate) effects: Rc<EffectQueue>,
    /// The clusters that callouts may use.
    pub(crate) clusters: ClusterMap,
}

impl VmInstance {
    /// Returns a stopped VM.
    pub(crate) fn new(options: VmInstanceOptions) -> Rc<Self> {
        let VmInstanceOptions { pool, worker, is_per_stream, plugins, effects, clusters } = options;
        Rc::new(Self {
            pool,
            worker,
            is_per_stream,
            state: RefCell::new(VmState::Stopped),
            generation: Cell::new(0),
            plugins,
            effects,
            clusters,
            last_callout_id: Cell::new(0),
        })
    }

    /// Returns a stopped VM with the same plugins.
    pub(crate) fn replacement(&self, is_per_stream: bool) -> Rc<Self> {
        Self::new(VmInstanceOptions {
            pool: Arc::clone(&self.pool),
            worker: self.worker,
            is_per_stream,
            plugins: self.plugins.iter().map(PluginInstance::for_new_vm).collect(),
            effects: Rc::clone(&self.effects),
            clusters: Rc::clone(&self.clusters),
        })
    }

    /// Returns a plugin of the VM.
    pub(crate) fn plugin(self: &Rc<Self>, index: usize) -> PluginRef {
        PluginRef { vm: Rc::clone(self), index }
    }

    /// Returns all plugins of the VM.
    pub(crate) fn all_plugins(self: &Rc<Self>) -> impl Iterator<Item = PluginRef> {
        (0..self.plugins.len()).map(|index| self.plugin(index))
    }

    /// Returns the generation of the running VM. A context is valid in the generation that created it.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.get()
    }

    /// Returns whether a VM runs.
    pub(crate) fn is_running(&self) -> bool {
        matches!(*self.state.borrow(), VmState::Running(_))
    }

    /// Returns whether no VM runs again.
    pub(crate) fn is_closed(&self) -> bool {
        matches!(*self.state.borrow(), VmState::Closed)
    }

    /// Returns whether the VM has reached a limit of its recycle policy.
    pub(crate) fn needs_recycling(&self, recycling: &RecyclePolicy) -> bool {
        let RecyclePolicy { requests, age, memory } = recycling;
        let VmState::Running(running) = &*self.state.borrow() else { return false };
        requests.is_some_and(|requests| running.streams.served() >= requests)
            || age.is_some_and(|age| running.started_at.elapsed() >= age)
            || memory.is_some_and(|memory| running.vm.memory_bytes() as u64 >= memory.0)
    }

    /// Deletes a stream's context without calling the guest. Returns false if the VM was replaced or has failed: the
    /// caller then takes the path that detects the failure.
    pub(crate) fn remove_stream(&self, context: StreamContext) -> bool {
        match &mut *self.state.borrow_mut() {
            VmState::Running(running) if context.generation == self.generation() && !running.vm.is_dead() => {
                running.vm.delete_silently(context.id);
                running.streams.remove(context.id);
                true
            }
            _ => false,
        }
    }

    /// Returns the sequence number of a new callout. Unique in the VM, since its plugins may share a table in the guest.
    /// The two lowest bits are free for its kind.
    pub(crate) fn next_callout_id(&self) -> u32 {
        let last = self.last_callout_id.get().wrapping_add(4).max(4);
        self.last_callout_id.set(last);
        last
    }

    /// Returns whether several plugins share the VM.
    pub(crate) fn is_shared(&self) -> bool {
        self.plugins.len() > 1
    }

    /// Installs a started VM: Stopped becomes Running. Registers the queues that its plugins opened at start, and reports
    /// their timers.
    pub(crate) fn install(self: &Rc<Self>, started: StartedVm, permit: Option<StreamVmPermit>) {
        let StartedVm { vm, metrics, queues } = started;
        debug_assert!(matches!(*self.state.borrow(), VmState::Stopped), "a VM is installed in place of none");
        self.generation.set(self.generation.get() + 1);
        self.pool.state.vms.fetch_add(1, Ordering::Relaxed);
        *self.state.borrow_mut() = VmState::Running(Box::new(RunningVm {
            vm,
            streams: VmStreams::default(),
            metrics: RefCell::new(metrics),
            started_at: Instant::now(),
            _permit: permit,
        }));
        for plugin in self.all_plugins() {
            plugin.plugin.stats.vms.fetch_add(1, Ordering::Relaxed);
            if plugin.lifecycle.phase() == PluginPhase::Removed {
                continue; // Streams of the others have started the VM again.
            }
            for (_, name) in queues.iter().filter(|(of, _)| *of == plugin.index) {
                plugin.register_queue(name);
            }
            plugin.check_timer();
        }
    }

    /// Ends a failed VM: Running becomes Stopped. Its callouts are abandoned, and each of its streams is notified. One that
    /// has ended already has no streams.
    pub(crate) fn fail(self: &Rc<Self>) {
        let Some(running) = self.end(VmState::Stopped) else { return };
        let RunningVm { streams, .. } = *running;
        for StreamRef { stream, filter, plugin_index } in streams.into_all() {
            let failure = self.plugin(plugin_index).failure("filter_vm_died");
            self.effects.push(Effect::FilterFailed { stream, filter, failure });
        }
    }

    /// Closes the VM: no other one takes its place here.
    pub(crate) fn close(&self) {
        drop(self.end(VmState::Closed));
    }

    /// Ends the VM that runs, if there is one, and returns it.
    fn end(&self, next: VmState) -> Option<Box<RunningVm>> {
        if self.is_closed() {
            return None;
        }
        let before = self.state.replace(next);
        for plugin in &self.plugins {
            plugin.callouts.abandon_all();
            plugin.timer.stop();
            if plugin.lifecycle.phase() == PluginPhase::ShuttingDown {
                plugin.done.notify_one(); // A shutdown does not wait for a VM that is gone.
            }
        }
        match before {
            VmState::Running(running) => {
                self.pool.state.vms.fetch_sub(1, Ordering::Relaxed);
                for plugin in &self.plugins {
                    plugin.plugin.stats.vms.fetch_sub(1, Ordering::Relaxed);
                }
                Some(running)
            }
            VmState::Stopped | VmState::Closed => None,
        }
    }
}

impl Drop for VmInstance {
    fn drop(&mut self) {
        self.close();
        for plugin in &self.plugins {
            plugin.queue_notifications.close();
        }
    }
}
