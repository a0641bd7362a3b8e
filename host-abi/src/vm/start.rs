//! How a VM starts: instantiate, initialise, create the plugin context, `proxy_on_vm_start`, `proxy_on_configure`. One
//! deadline covers all of it. Called by [`Vm::start`].

use std::fmt;
use std::sync::Arc;

use wasmtime::{Error, Instance, PoolConcurrencyLimitError, Store, UpdateDeadline};

use crate::abi::context::ContextId;
use crate::entry::{Entry, Returns};
use crate::failure::{Failure, Stop};
use crate::host::Host;
use crate::lend::Lent;
use crate::limits::MAX_TICKS_BETWEEN_CHECKS;
use crate::plugin::Plugin;
use crate::state::{Phase, VmState};
use crate::vm::Vm;
use crate::vm::callbacks::{Callback, Callbacks, find_export};
use crate::vm::http::clamped;

/// A step of a VM's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StartStep {
    /// Memory, tables and the module's start section.
    Instantiate,
    /// `_initialize` and `main`, or `_start`.
    Initialise,
    /// `proxy_on_context_create` of the plugin context.
    CreateContext,
    /// `proxy_on_vm_start`
    VmStart,
    /// `proxy_on_configure`
    Configure,
}

impl StartStep {
    /// The step in words.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Instantiate => "instantiation",
            Self::Initialise => "initialisation",
            Self::CreateContext => "proxy_on_context_create",
            Self::VmStart => "proxy_on_vm_start",
            Self::Configure => "proxy_on_configure",
        }
    }
}

impl fmt::Display for StartStep {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// Why a VM did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The guest failed.
    #[error("the plugin failed in its {step}: {failure}")]
    Failed {
        /// Which of the VM's plugins, from 0.
        plugin: usize,
        /// Where.
        step: StartStep,
        /// How.
        failure: Failure,
    },
    /// The guest answered false: it does not accept its configuration. Its log says why.
    #[error("the plugin refused its configuration: {step} returned false")]
    Refused {
        /// Which of the VM's plugins, from 0.
        plugin: usize,
        /// Where.
        step: StartStep,
    },
    /// As many VMs live as the engine's pool holds.
    #[error("no room for another VM: {0}")]
    NoRoom(String),
}

/// Starts a VM with its plugins, of which there is at least one.
pub(super) fn start(plugins: &[Arc<Plugin>], host: &mut dyn Host) -> Result<Vm, StartError> {
    let Some(plugin) = plugins.first() else { return Err(StartError::NoRoom("a VM without a plugin".to_owned())) };
    let mut store = make_store(plugins, plugin)?;
    let instance = instantiate(plugin, &mut store, host)?;
    let callbacks = Callbacks::find(&instance, &mut store);
    initialise(&instance, &mut store, host)?;
    store.data_mut().phase = Phase::Callback;
    let activity = plugin.module().engine().activity();
    let mut vm = Vm { plugins: plugins.into(), acting: 0, store, callbacks, activity, dead: false };
    for (number, plugin) in plugins.iter().enumerate() {
        if number > 0 {
            begin_start(&mut vm.store, plugin);
        }
        create_context(&mut vm, host, number)?;
    }
    Ok(vm)
}

fn failed(step: StartStep, failure: Failure) -> StartError {
    StartError::Failed { plugin: 0, step, failure }
}

fn make_store(plugins: &[Arc<Plugin>], plugin: &Plugin) -> Result<Store<VmState>, StartError> {
    let engine = plugin.module().engine();
    let settings: Vec<_> = plugins.iter().map(|plugin| Arc::clone(plugin.shared_settings())).collect();
    let state = VmState::new(&settings, Arc::clone(plugin.module().interface()));
    let no_room = |error: Error| StartError::NoRoom(format!("{error:#}"));
    let mut store = Store::try_new(engine.inner(), state).map_err(no_room)?;
    store.limiter(|state| &mut state.growth);
    let activity = engine.activity();
    store.epoch_deadline_callback(move |mut store| {
        activity.note();
        Ok(UpdateDeadline::Continue(store.data_mut().deadline.check()?))
    });
    begin_start(&mut store, plugin);
    Ok(store)
}

fn begin_start(store: &mut Store<VmState>, plugin: &Plugin) {
    store.data_mut().deadline.begin(plugin.settings().limits.start_time);
    store.set_epoch_deadline(MAX_TICKS_BETWEEN_CHECKS); // A start takes longer than a tick and has seconds.
    plugin.module().engine().wake_ticker();
}

fn instantiate(plugin: &Plugin, store: &mut Store<VmState>, host: &mut dyn Host) -> Result<Instance, StartError> {
    let mut lent = Lent::new(store, host);
    let outcome = plugin.module().pre().instantiate(lent.store());
    drop(lent);
    let instance = match outcome {
        Ok(instance) => instance,
        Err(error) if error.is::<PoolConcurrencyLimitError>() => return Err(StartError::NoRoom(error.to_string())),
        Err(error) => {
            let step = StartStep::Instantiate;
            return Err(failed(step, Failure::from_engine(&error, step.name(), store.data().growth.was_refused())));
        }
    };
    let interface = Arc::clone(&store.data().interface);
    let memory = instance.get_memory(&mut *store, &interface.memory);
    let allocator = Entry::find(&instance, store, interface.allocator, Returns::Number);
    store.data_mut().memory = memory;
    store.data_mut().allocator = allocator;
    Ok(instance)
}

/// Runs what toolchains put before the first callback. A command's `_start` may end itself with code 0.
fn initialise(instance: &Instance, store: &mut Store<VmState>, host: &mut dyn Host) -> Result<(), StartError> {
    let reactor: Callback<0> = find_export(instance, store, "_initialize", Returns::Nothing);
    let command: Callback<0> = find_export(instance, store, "_start", Returns::Nothing);
    let main: Callback<2> = find_export(instance, store, "main", Returns::Number);
    let main_void: Callback<0> = find_export(instance, store, "__main_void", Returns::Number);
    let mut lent = Lent::new(store, host);
    let (name, outcome) = if let Some(entry) = reactor.entry {
        match (entry.call(lent.store(), []), main.entry, main_void.entry) {
            (Ok(_), Some(entry), _) => (main.name, entry.call(lent.store(), [0, 0])),
            (Ok(_), None, Some(entry)) => (main_void.name, entry.call(lent.store(), [])),
            (outcome, ..) => (reactor.name, outcome),
        }
    } else if let Some(entry) = command.entry {
        (command.name, entry.call(lent.store(), []))
    } else {
        return Ok(());
    };
    drop(lent);
    match outcome {
        Err(error) if name == reactor.name || error.downcast_ref::<Stop>() != Some(&Stop::Exit(0)) => {
            let growth_refused = store.data().growth.was_refused();
            Err(failed(StartStep::Initialise, Failure::from_engine(&error, name, growth_refused)))
        }
        Ok(_) | Err(_) => Ok(()),
    }
}

fn create_context(vm: &mut Vm, host: &mut dyn Host, plugin: usize) -> Result<(), StartError> {
    let root = ContextId::of_plugin(plugin);
    let settings = Arc::clone(vm.plugins[plugin].shared_settings());
    let failed = |step, failure| StartError::Failed { plugin, step, failure };

    let step = StartStep::CreateContext;
    start_call(vm, host, root, |callbacks| &callbacks.context_create, [root.number(), 0])
        .map_err(|failure| failed(step, failure))?;

    let step = StartStep::VmStart;
    let arguments = [root.number(), clamped(settings.vm_configuration.len())];
    vm.store.data_mut().in_vm_start = true;
    let started = start_call(vm, host, root, |callbacks| &callbacks.vm_start, arguments);
    vm.store.data_mut().in_vm_start = false;
    if started.map_err(|failure| failed(step, failure))? == Some(0) {
        return Err(StartError::Refused { plugin, step });
    }

    let step = StartStep::Configure;
    let arguments = [root.number(), clamped(settings.configuration.len())];
    let configured = start_call(vm, host, root, |callbacks| &callbacks.configure, arguments);
    if configured.map_err(|failure| failed(step, failure))? == Some(0) {
        return Err(StartError::Refused { plugin, step });
    }
    Ok(())
}

/// Calls a callback about a plugin context; `None` when the module does not export it.
fn start_call(
    vm: &mut Vm,
    host: &mut dyn Host,
    root: ContextId,
    pick: fn(&Callbacks) -> &Callback<2>,
    arguments: [u32; 2],
) -> Result<Option<u32>, Failure> {
    let Callback { name, entry } = *pick(&vm.callbacks);
    entry.map(|entry| vm.enter(host, (root.plugin(), root), (name, entry), arguments)).transpose()
}
