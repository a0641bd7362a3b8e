//! `Vm`: one running guest instance. The proxy starts one per worker or per stream, and calls its callbacks.
//!
//! ```text
//!                    Failure
//!  start ──► running ───────► dead: every call returns `Dead`, the guest is not called again
//! ```
//!
//! Several plugins with one module may share a VM. Each has its own plugin context and streams, and a failure of one
//! stops all. Calls that concern a plugin and no stream act on the selected plugin ([`Vm::select_plugin`]).
//!
//! A call lends a [`Host`] to the guest's hostcalls until it returns. A callback that the module does not export costs
//! one check of an `Option`. `Vm` is `Send` and not `Sync`: it may start on any thread and then move to its worker.

mod callbacks;
mod callouts;
mod connection;
mod http;
mod start;

use std::sync::Arc;
use std::time::Duration;

use wasmtime::Store;

use crate::abi::context::ContextId;
use crate::engine::Activity;
use crate::failure::Failure;
use crate::host::Host;
use crate::host_slot::HostGuard;
use crate::plugin::Plugin;
use crate::vm_state::{VmPlugin, VmState};
use callbacks::{Callback, Callbacks, ExportedCallback};

pub use callouts::CalloutResponseSizes;
pub use start::{StartError, StartStep};

/// One running guest instance.
pub struct Vm {
    plugins: Box<[Arc<Plugin>]>,
    /// Index of the selected plugin.
    selected: usize,
    store: Store<VmState>,
    callbacks: Callbacks,
    /// Activity flag of the engine, which keeps the ticker awake while guests run.
    activity: Arc<Activity>,
    dead: bool,
}

/// The context that a callback runs on behalf of, with the index of its plugin.
#[derive(Clone, Copy)]
struct CallContext {
    plugin: usize,
    id: ContextId,
}

impl Vm {
    /// Selects the plugin for timers, queues, callout responses and new streams, by its index in this VM.
    pub fn select_plugin(&mut self, plugin: usize) {
        self.selected = plugin.min(self.plugins.len().saturating_sub(1));
    }

    /// Returns the plugin context of the selected plugin.
    #[must_use]
    pub const fn plugin_context(&self) -> ContextId {
        ContextId::of_plugin(self.selected)
    }

    /// Returns whether a failure has stopped the guest.
    #[must_use]
    pub const fn is_dead(&self) -> bool {
        self.dead
    }

    /// Returns the guest's tick period, or `None` without a timer. It may change with each call.
    #[must_use]
    pub fn tick_period(&self) -> Option<Duration> {
        self.plugin_state().timer.period
    }

    /// Returns a number that changes whenever the guest sets its tick period, also to the same value: the timer then
    /// restarts.
    #[must_use]
    pub fn tick_generation(&self) -> u64 {
        self.plugin_state().timer.generation
    }

    /// Returns the size of the guest's memory in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory.map_or(0, |memory| memory.data_size(&self.store))
    }

    /// Returns the bytes of log messages that were dropped over the limit.
    #[must_use]
    pub fn dropped_log_bytes(&self) -> u64 {
        self.plugin_state().log_budget.dropped()
    }

    fn plugin_state(&self) -> &VmPlugin {
        &self.store.data().plugins[self.selected]
    }

    /// Returns true once after the pending plugin context of the selected plugin has called `proxy_done`.
    pub fn take_plugin_done(&mut self) -> bool {
        let root = self.plugin_context();
        self.store.data_mut().contexts.take_done_for(root)
    }

    /// Calls an exported callback on behalf of `context`, limited to the plugin's `call_time`. Returns `None` if the
    /// module does not export it, else its result (unspecified for callbacks without one).
    ///
    /// # Errors
    /// The guest trapped or exceeded a limit, the context is not live, or the VM is dead.
    fn call<const N: usize>(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        pick: impl FnOnce(&Callbacks) -> &Callback<N>,
        arguments: [u32; N],
    ) -> Result<Option<u32>, Failure> {
        let callback = *pick(&self.callbacks);
        if self.dead {
            return Err(Failure::dead(callback.name));
        }
        let Some(callback) = callback.exported() else { return Ok(None) };
        let state = self.store.data_mut();
        let Some(plugin) = state.contexts.plugin_of(context) else {
            return Err(Failure::no_context(callback.name, context));
        };
        state.deadline.begin(state.plugins[plugin].call_time);
        self.store.set_epoch_deadline(1);
        self.enter(host, CallContext { plugin, id: context }, callback, arguments).map(Some)
    }

    /// Calls an exported callback within the deadline that is already running.
    ///
    /// # Errors
    /// The guest trapped or exceeded a limit.
    fn enter<const N: usize>(
        &mut self,
        host: &mut dyn Host,
        context: CallContext,
        callback: ExportedCallback<N>,
        arguments: [u32; N],
    ) -> Result<u32, Failure> {
        let state = self.store.data_mut();
        state.current_plugin = context.plugin;
        state.contexts.enter(context.id, context.plugin);
        state.memory_limiter.begin();
        self.activity.note();
        // The VM counts as dead until the guest has returned. A host that panics unwinds from here and leaves the guest
        // in an unknown state.
        self.dead = true;
        let mut guard = HostGuard::new(&mut self.store, host);
        let outcome = callback.function.call(guard.store(), arguments);
        drop(guard);
        match outcome {
            Ok(result) => {
                self.dead = false;
                Ok(result)
            }
            Err(error) => {
                let rejected_growth = self.store.data().memory_limiter.rejected_growth();
                Err(Failure::from_engine(&error, callback.name, rejected_growth))
            }
        }
    }
}

impl std::fmt::Debug for Vm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plugins: Vec<_> = self.plugins.iter().map(|plugin| &plugin.settings().name).collect();
        formatter.debug_struct("Vm").field("plugins", &plugins).field("dead", &self.dead).finish_non_exhaustive()
    }
}
