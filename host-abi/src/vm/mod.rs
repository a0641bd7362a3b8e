//! `Vm`: one running guest of a plugin. The proxy makes one per worker or per stream, and calls its callbacks.
//!
//! ```text
//!                    Failure
//!  start ──► running ───────► dead: every call answers `Dead`, the guest is not entered again
//! ```
//!
//! Several plugins with one module may share a VM: each has a plugin context and streams of its own, and a failure of one
//! is the end of all. What is about a plugin and no stream is about the one that acts ([`Vm::act_for`]).
//!
//! A call lends a [`Host`] to the guest's hostcalls and takes it back before it returns. A callback that the module
//! does not export costs a look at an `Option`. `Vm` is `Send` and not `Sync`: start it anywhere, then move it to its
//! worker.

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
use crate::entry::Entry;
use crate::failure::Failure;
use crate::host::Host;
use crate::interface::Exports;
use crate::lend::Lent;
use crate::plugin::Plugin;
use crate::state::{Resident, VmState};
use callbacks::{Callback, Callbacks};

pub use callouts::CalloutResponse;
pub use start::{StartError, StartStep};

/// One running guest.
pub struct Vm {
    plugins: Box<[Arc<Plugin>]>,
    /// Which of them acts.
    acting: usize,
    store: Store<VmState>,
    callbacks: Callbacks,
    /// Of its engine: the ticker is awake while guests run.
    activity: Arc<Activity>,
    dead: bool,
}

impl Vm {
    /// Instantiates a plugin, initialises it, creates its plugin context and has it read its configuration, all within
    /// `start_time` of CPU. May take that long: not for a worker's thread.
    ///
    /// # Errors
    /// When a step fails or the guest refuses its configuration.
    pub fn start(plugin: &Arc<Plugin>, host: &mut dyn Host) -> Result<Self, StartError> {
        Self::start_all(std::slice::from_ref(plugin), host)
    }

    /// The same for plugins that share the VM, one after the other, each within a `start_time` of its own. They have one
    /// module and the same VM configuration, environment and capabilities: those of the first one.
    ///
    /// # Errors
    /// When a step fails or the guest refuses a configuration.
    pub fn start_all(plugins: &[Arc<Plugin>], host: &mut dyn Host) -> Result<Self, StartError> {
        start::start(plugins, host)
    }

    /// Chooses the plugin that timers, queues, answers to callouts and new streams are about, by its number here.
    pub fn act_for(&mut self, plugin: usize) {
        self.acting = plugin.min(self.plugins.len().saturating_sub(1));
    }

    /// The plugin context of the plugin that acts.
    #[must_use]
    pub const fn root_context(&self) -> ContextId {
        ContextId::of_plugin(self.acting)
    }

    /// The callbacks that the guest has.
    #[must_use]
    pub fn exports(&self) -> Exports {
        self.plugins[self.acting].exports()
    }

    /// Whether a failure has stopped the guest for good.
    #[must_use]
    pub const fn is_dead(&self) -> bool {
        self.dead
    }

    /// How often the guest wants `proxy_on_tick`, if at all. Look again after each call.
    #[must_use]
    pub fn tick_period(&self) -> Option<Duration> {
        self.resident().timer.period
    }

    /// Changes each time the guest sets its tick period, also to the same one: the timer then starts anew.
    #[must_use]
    pub fn tick_generation(&self) -> u64 {
        self.resident().timer.generation
    }

    /// Bytes of the guest's memory.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.store.data().memory.map_or(0, |memory| memory.data_size(&self.store))
    }

    /// Bytes of log messages that were dropped because the guest wrote too many.
    #[must_use]
    pub fn dropped_log_bytes(&self) -> u64 {
        self.resident().log_budget.dropped()
    }

    fn resident(&self) -> &Resident {
        &self.store.data().residents[self.acting]
    }

    /// Contexts that live, the plugin contexts included.
    #[must_use]
    pub fn live_contexts(&self) -> usize {
        self.store.data().contexts.live()
    }

    /// Whether the context lives in this VM.
    #[must_use]
    pub fn is_live(&self, context: ContextId) -> bool {
        self.store.data().contexts.is_live(context)
    }

    /// Whether the plugin context of the plugin that acts has been pending and is done now; true once.
    pub fn plugin_is_done(&mut self) -> bool {
        let root = self.root_context();
        self.store.data_mut().contexts.take_if_done(root)
    }

    /// A context whose [`Vm::on_done`] answered false and for which the guest has called `proxy_done` since: delete it
    /// now. Ask after each call, until there is none.
    pub fn take_done(&mut self) -> Option<ContextId> {
        self.store.data_mut().contexts.take_done()
    }

    /// Calls a callback on behalf of `context`, within the plugin's `call_time`. `None` when the module does not export
    /// it; what it returns else, which means nothing where it returns nothing.
    fn call<const N: usize>(
        &mut self,
        host: &mut dyn Host,
        context: ContextId,
        pick: impl FnOnce(&Callbacks) -> &Callback<N>,
        arguments: [u32; N],
    ) -> Result<Option<u32>, Failure> {
        let Callback { name, entry } = *pick(&self.callbacks);
        if self.dead {
            return Err(Failure::dead(name));
        }
        let Some(entry) = entry else { return Ok(None) };
        let state = self.store.data_mut();
        let Some(plugin) = state.contexts.plugin_of(context) else {
            return Err(Failure::no_context(name, context));
        };
        state.deadline.begin(state.residents[plugin].call_time);
        self.store.set_epoch_deadline(1);
        self.enter(host, (plugin, context), (name, entry), arguments).map(Some)
    }

    /// As [`Vm::call`], of a callback that is there, within the time that is left of the deadline that was begun.
    fn enter<const N: usize>(
        &mut self,
        host: &mut dyn Host,
        (plugin, context): (usize, ContextId),
        (name, entry): (&'static str, Entry<N>),
        arguments: [u32; N],
    ) -> Result<u32, Failure> {
        let state = self.store.data_mut();
        state.current = plugin;
        state.contexts.enter(context, plugin);
        state.growth.begin();
        self.activity.note();
        // Until the guest has returned: a host that panics unwinds from here, past a guest that is then in an unknown
        // state.
        self.dead = true;
        let mut lent = Lent::new(&mut self.store, host);
        let outcome = entry.call(lent.store(), arguments);
        drop(lent);
        match outcome {
            Ok(answer) => {
                self.dead = false;
                Ok(answer)
            }
            Err(error) => {
                let growth_refused = self.store.data().growth.was_refused();
                Err(Failure::from_engine(&error, name, growth_refused))
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
