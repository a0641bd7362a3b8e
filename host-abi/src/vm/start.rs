//! The start of a VM: instantiate, initialize, create the plugin context, `proxy_on_vm_start`, `proxy_on_configure`.
//! One deadline covers all steps of a plugin. Called by [`Vm::start`].

use std::fmt;
use std::sync::Arc;

use wasmtime::{Error, Instance, Store, UpdateDeadline};

use crate::abi::context::ContextId;
use crate::failure::{Failure, HostTrap};
use crate::guest_function::{GuestFunction, ReturnType};
use crate::host::Host;
use crate::host_slot::HostGuard;
use crate::limits::MAX_TICKS_BETWEEN_CHECKS;
use crate::plugin::Plugin;
use crate::vm::callbacks::{Callback, Callbacks, find_export};
use crate::vm::http::clamped;
use crate::vm::{CallContext, Vm};
use crate::vm_state::{Phase, VmState};

/// A step of a VM's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StartStep {
    /// Allocation of memory and tables, and the module's start section.
    Instantiate,
    /// `_initialize` and `main`, or `_start`.
    Initialize,
    /// `proxy_on_context_create` of the plugin context.
    CreateContext,
    /// `proxy_on_vm_start`
    VmStart,
    /// `proxy_on_configure`
    Configure,
}

impl StartStep {
    /// Returns the name of the step for messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Instantiate => "instantiation",
            Self::Initialize => "initialization",
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

/// The reason why a VM did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The guest failed.
    #[error("the plugin failed in its {step}: {failure}")]
    Failed {
        /// Index of the plugin in the VM.
        plugin: usize,
        /// The step that failed.
        step: StartStep,
        /// The failure of the guest.
        failure: Failure,
    },
    /// The guest returned false: it rejects its configuration. The reason is in its log.
    #[error("the plugin rejected its configuration: {step} returned false")]
    Rejected {
        /// Index of the plugin in the VM.
        plugin: usize,
        /// The step that returned false.
        step: StartStep,
    },
    /// The memory of a VM cannot be allocated.
    #[error("no resources for another VM: {0}")]
    OutOfResources(String),
}

impl Vm {
    /// Instantiates and initializes the module, then creates the context of each plugin and configures it. The plugins
    /// share one module, and the VM configuration, environment and capabilities of the first one. Each may block for
    /// its `start_time` of CPU time, so this must not run on a worker's thread.
    ///
    /// # Errors
    /// A step fails or the guest rejects a configuration.
    pub fn start(plugins: &[Arc<Plugin>], host: &mut dyn Host) -> Result<Self, StartError> {
        let Some(plugin) = plugins.first() else {
            return Err(StartError::OutOfResources("a VM without a plugin".to_owned()));
        };
        let mut store = make_store(plugins, plugin)?;
        let instance = instantiate(plugin, &mut store, host)?;
        let callbacks = Callbacks::find(&instance, &mut store);
        initialize(&instance, &mut store, host)?;
        store.data_mut().phase = Phase::Callback;
        let activity = plugin.module().engine().activity();
        let mut vm = Self { plugins: plugins.into(), selected: 0, store, callbacks, activity, dead: false };
        for (index, plugin) in plugins.iter().enumerate() {
            if index > 0 {
                begin_start(&mut vm.store, plugin);
            }
            create_context(&mut vm, host, index)?;
        }
        Ok(vm)
    }
}

fn failed(step: StartStep, failure: Failure) -> StartError {
    StartError::Failed { plugin: 0, step, failure }
}

fn make_store(plugins: &[Arc<Plugin>], plugin: &Plugin) -> Result<Store<VmState>, StartError> {
    let engine = plugin.module().engine();
    let settings: Vec<_> = plugins.iter().map(|plugin| Arc::clone(plugin.shared_settings())).collect();
    let state = VmState::new(&settings, Arc::clone(plugin.module().interface()));
    let out_of_resources = |error: Error| StartError::OutOfResources(format!("{error:#}"));
    let mut store = Store::try_new(engine.inner(), state).map_err(out_of_resources)?;
    store.limiter(|state| &mut state.memory_limiter);
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
    store.set_epoch_deadline(MAX_TICKS_BETWEEN_CHECKS); // A start takes longer than a tick and has a limit of seconds.
    plugin.module().engine().wake_ticker();
}

fn instantiate(plugin: &Plugin, store: &mut Store<VmState>, host: &mut dyn Host) -> Result<Instance, StartError> {
    let mut guard = HostGuard::new(store, host);
    let outcome = plugin.module().pre().instantiate(guard.store());
    drop(guard);
    let instance = outcome.map_err(|error| {
        let step = StartStep::Instantiate;
        let rejected_growth = store.data().memory_limiter.rejected_growth();
        failed(step, Failure::from_engine(&error, step.name(), rejected_growth))
    })?;
    let interface = Arc::clone(&store.data().interface);
    let memory = instance.get_memory(&mut *store, &interface.memory);
    let allocator = GuestFunction::find(&instance, store, interface.allocator, ReturnType::Number);
    store.data_mut().memory = memory;
    store.data_mut().allocator = allocator;
    Ok(instance)
}

/// Runs the initialization functions of toolchains: `_initialize` and `main`, or `_start`. `_start` of a command may
/// exit with code 0.
fn initialize(instance: &Instance, store: &mut Store<VmState>, host: &mut dyn Host) -> Result<(), StartError> {
    let reactor: Callback<0> = find_export(instance, store, "_initialize", ReturnType::Nothing);
    let command: Callback<0> = find_export(instance, store, "_start", ReturnType::Nothing);
    let main: Callback<2> = find_export(instance, store, "main", ReturnType::Number);
    let main_void: Callback<0> = find_export(instance, store, "__main_void", ReturnType::Number);
    let mut guard = HostGuard::new(store, host);
    let (name, outcome) = if let Some(function) = reactor.function {
        match (function.call(guard.store(), []), main.function, main_void.function) {
            (Ok(_), Some(function), _) => (main.name, function.call(guard.store(), [0, 0])),
            (Ok(_), None, Some(function)) => (main_void.name, function.call(guard.store(), [])),
            (outcome, ..) => (reactor.name, outcome),
        }
    } else if let Some(function) = command.function {
        (command.name, function.call(guard.store(), []))
    } else {
        return Ok(());
    };
    drop(guard);
    match outcome {
        Err(error) if name == reactor.name || error.downcast_ref::<HostTrap>() != Some(&HostTrap::Exit(0)) => {
            let rejected_growth = store.data().memory_limiter.rejected_growth();
            Err(failed(StartStep::Initialize, Failure::from_engine(&error, name, rejected_growth)))
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
        return Err(StartError::Rejected { plugin, step });
    }

    let step = StartStep::Configure;
    let arguments = [root.number(), clamped(settings.configuration.len())];
    let configured = start_call(vm, host, root, |callbacks| &callbacks.configure, arguments);
    if configured.map_err(|failure| failed(step, failure))? == Some(0) {
        return Err(StartError::Rejected { plugin, step });
    }
    Ok(())
}

/// Calls a callback of a plugin context within the current deadline; `None` if the module does not export it.
fn start_call(
    vm: &mut Vm,
    host: &mut dyn Host,
    root: ContextId,
    pick: fn(&Callbacks) -> &Callback<2>,
    arguments: [u32; 2],
) -> Result<Option<u32>, Failure> {
    let context = CallContext { plugin: root.plugin(), id: root };
    let callback = pick(&vm.callbacks).exported();
    callback.map(|callback| vm.enter(host, context, callback, arguments)).transpose()
}
