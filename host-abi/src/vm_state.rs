//! `VmState`: the host-side state of a running VM. It is the data of the engine's store; hostcalls and the VM share it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::Memory;

use crate::abi::action::HeaderPause;
use crate::abi::pairs::PairsEncoder;
use crate::abi::status::Status;
use crate::contexts::ContextSet;
use crate::deadline::Deadline;
use crate::foreign::expression::ExpressionTable;
use crate::guest_function::GuestFunction;
use crate::host_slot::{HasHostSlot, HostSlot};
use crate::interface::ModuleInterface;
use crate::limits::{Limits, MAX_DECLARED, MAX_NAME};
use crate::log_budget::LogBudget;
use crate::memory_limiter::MemoryLimiter;
use crate::settings::PluginSettings;

/// The phase of the guest, which determines the allowed hostcalls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// The start section, `_initialize`, `main` or `_start` runs.
    Initializing,
    /// A callback runs.
    Callback,
    /// The guest's allocator runs, called from a hostcall.
    Allocating,
}

/// The timer that a guest set with `proxy_set_tick_period_milliseconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TickTimer {
    pub(crate) period: Option<Duration>,
    /// Incremented whenever the guest sets the period, also to the same value: the timer then restarts.
    pub(crate) generation: u64,
}

/// The state of a plugin in its VM.
pub(crate) struct VmPlugin {
    pub(crate) settings: Arc<PluginSettings>,
    /// A copy from the settings, as the next two fields, because every call reads it.
    pub(crate) call_time: Duration,
    pub(crate) header_pause: HeaderPause,
    /// True if `settings` restricts the capabilities.
    pub(crate) is_restricted: bool,
    pub(crate) timer: TickTimer,
    pub(crate) log_budget: LogBudget,
}

/// The host-side state of a VM.
pub(crate) struct VmState {
    /// The plugins of the VM.
    pub(crate) plugins: Box<[VmPlugin]>,
    /// Index of the plugin of the current call.
    pub(crate) current_plugin: usize,
    pub(crate) interface: Arc<ModuleInterface>,
    pub(crate) host: HostSlot,
    /// `None` while the module is instantiated.
    pub(crate) memory: Option<Memory>,
    /// `None` while the module is instantiated, and while the allocator runs.
    pub(crate) allocator: Option<GuestFunction<1>>,
    pub(crate) phase: Phase,
    /// True while `proxy_on_vm_start` runs.
    pub(crate) in_vm_start: bool,
    pub(crate) contexts: ContextSet,
    pub(crate) deadline: Deadline,
    pub(crate) memory_limiter: MemoryLimiter,
    /// Properties that the guest has declared (`declare_property`). The value is true for text.
    pub(crate) declared: HashMap<Vec<u8>, bool>,
    /// Expressions that the guest has created (`expr_create`).
    pub(crate) expressions: ExpressionTable,
    /// The output buffer of hosts; empty between hostcalls.
    pub(crate) scratch: Vec<u8>,
    /// The encoder of header maps; empty between hostcalls.
    pub(crate) encoder: PairsEncoder,
}

impl VmState {
    /// Creates the state for plugins that share a module. The memory limits are the largest of any plugin.
    pub(crate) fn new(plugins: &[Arc<PluginSettings>], interface: Arc<ModuleInterface>) -> Self {
        let largest =
            |of: fn(&Limits) -> usize| plugins.iter().map(|plugin| of(&plugin.limits)).max().unwrap_or_default();
        let plugin_state = |settings: &Arc<PluginSettings>| VmPlugin {
            log_budget: LogBudget::new(settings.limits.log_bytes_per_second),
            settings: Arc::clone(settings),
            call_time: settings.limits.call_time,
            header_pause: settings.header_pause,
            is_restricted: settings.capabilities.is_some(),
            timer: TickTimer::default(),
        };
        Self {
            memory_limiter: MemoryLimiter::new(
                largest(|limits| limits.memory),
                largest(|limits| limits.table_elements),
            ),
            plugins: plugins.iter().map(plugin_state).collect(),
            current_plugin: 0,
            interface,
            host: HostSlot::default(),
            memory: None,
            allocator: None,
            phase: Phase::Initializing,
            in_vm_start: false,
            contexts: ContextSet::new(plugins.len()),
            deadline: Deadline::default(),
            declared: HashMap::new(),
            expressions: ExpressionTable::default(),
            scratch: Vec::new(),
            encoder: PairsEncoder::default(),
        }
    }

    /// Returns the plugin of the current call.
    pub(crate) fn plugin(&self) -> &VmPlugin {
        &self.plugins[self.current_plugin]
    }

    /// Returns the plugin of the current call, mutably.
    pub(crate) fn plugin_mut(&mut self) -> &mut VmPlugin {
        &mut self.plugins[self.current_plugin]
    }

    /// Returns whether the current plugin may make the hostcall.
    pub(crate) fn allows(&self, name: &str) -> bool {
        let plugin_state = self.plugin();
        !plugin_state.is_restricted || plugin_state.settings.allows(name)
    }

    /// Returns the settings of the current plugin.
    pub(crate) fn settings(&self) -> &Arc<PluginSettings> {
        &self.plugin().settings
    }

    /// Declares a property.
    ///
    /// # Errors
    /// `BadArgument` if the name is too long or already declared, or [`MAX_DECLARED`] is reached.
    pub(crate) fn declare(&mut self, name: &[u8], is_text: bool) -> Result<(), Status> {
        if name.len() > MAX_NAME || self.declared.len() >= MAX_DECLARED || self.declared.contains_key(name) {
            return Err(Status::BadArgument);
        }
        self.declared.insert(name.to_vec(), is_text);
        Ok(())
    }
}

impl HasHostSlot for VmState {
    fn slot(&mut self) -> &mut HostSlot {
        &mut self.host
    }
}
