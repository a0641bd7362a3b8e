//! `VmState`: what a running VM keeps beside the guest itself. Lives in the engine's store; hostcalls and the VM share
//! it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::Memory;

use crate::abi::action::HeaderPause;
use crate::abi::pairs::PairsEncoder;
use crate::abi::status::Status;
use crate::contexts::Contexts;
use crate::deadline::Deadline;
use crate::entry::Entry;
use crate::foreign::expression::Expressions;
use crate::growth::Growth;
use crate::interface::Interface;
use crate::lend::{Borrows, HostSlot};
use crate::limits::{Limits, MAX_DECLARED, MAX_NAME};
use crate::log_budget::LogBudget;
use crate::settings::PluginSettings;

/// What the guest is doing, as far as hostcalls care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Its start section, `_initialize`, `main` or `_start` runs.
    Initialising,
    /// A callback runs.
    Callback,
    /// Its allocator runs, called from a hostcall.
    Allocating,
}

/// The timer that a guest set with `proxy_set_tick_period_milliseconds`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct TickTimer {
    pub(crate) period: Option<Duration>,
    /// Grows each time the guest sets the period, to the same one too: the timer then starts anew.
    pub(crate) generation: u64,
}

/// A plugin as its VM knows it.
pub(crate) struct Resident {
    pub(crate) settings: Arc<PluginSettings>,
    /// Like the next two a copy of what is in the settings, since each call asks for it.
    pub(crate) call_time: Duration,
    pub(crate) header_pause: HeaderPause,
    /// Whether it may make some hostcalls only.
    pub(crate) is_restricted: bool,
    pub(crate) timer: TickTimer,
    pub(crate) log_budget: LogBudget,
}

/// A running VM, without its guest.
pub(crate) struct VmState {
    /// The plugins that live in it.
    pub(crate) residents: Box<[Resident]>,
    /// Which of them the call that is under way is about.
    pub(crate) current: usize,
    pub(crate) interface: Arc<Interface>,
    pub(crate) host: HostSlot,
    /// `None` while the module is instantiated.
    pub(crate) memory: Option<Memory>,
    /// `None` while the module is instantiated, and while the allocator runs.
    pub(crate) allocator: Option<Entry<1>>,
    pub(crate) phase: Phase,
    /// Whether `proxy_on_vm_start` runs.
    pub(crate) in_vm_start: bool,
    pub(crate) contexts: Contexts,
    pub(crate) deadline: Deadline,
    pub(crate) growth: Growth,
    /// Properties that the guest has declared (`declare_property`), and whether they are text.
    pub(crate) declared: HashMap<Vec<u8>, bool>,
    /// Expressions that the guest has made (`expr_create`).
    pub(crate) expressions: Expressions,
    /// What a host appends its answers to; empty between hostcalls.
    pub(crate) scratch: Vec<u8>,
    /// What header maps are encoded in; empty between hostcalls.
    pub(crate) encoder: PairsEncoder,
}

impl VmState {
    /// For plugins that share a module; the VM may grow as large as the one that may most.
    pub(crate) fn new(plugins: &[Arc<PluginSettings>], interface: Arc<Interface>) -> Self {
        let most = |of: fn(&Limits) -> usize| plugins.iter().map(|plugin| of(&plugin.limits)).max().unwrap_or_default();
        let resident = |settings: &Arc<PluginSettings>| Resident {
            log_budget: LogBudget::new(settings.limits.log_bytes_per_second),
            settings: Arc::clone(settings),
            call_time: settings.limits.call_time,
            header_pause: settings.header_pause,
            is_restricted: settings.capabilities.is_some(),
            timer: TickTimer::default(),
        };
        Self {
            growth: Growth::new(most(|limits| limits.memory), most(|limits| limits.table_elements)),
            residents: plugins.iter().map(resident).collect(),
            current: 0,
            interface,
            host: HostSlot::default(),
            memory: None,
            allocator: None,
            phase: Phase::Initialising,
            in_vm_start: false,
            contexts: Contexts::new(plugins.len()),
            deadline: Deadline::default(),
            declared: HashMap::new(),
            expressions: Expressions::default(),
            scratch: Vec::new(),
            encoder: PairsEncoder::default(),
        }
    }

    /// The plugin that the call under way is about.
    pub(crate) fn resident(&self) -> &Resident {
        &self.residents[self.current]
    }

    /// The same, to change.
    pub(crate) fn resident_mut(&mut self) -> &mut Resident {
        &mut self.residents[self.current]
    }

    /// Whether it may make the hostcall.
    pub(crate) fn allows(&self, name: &str) -> bool {
        let resident = self.resident();
        !resident.is_restricted || resident.settings.allows(name)
    }

    /// Its settings.
    pub(crate) fn settings(&self) -> &Arc<PluginSettings> {
        &self.resident().settings
    }

    /// The guest declares a property; one that is declared already, or too many, are refused.
    pub(crate) fn declare(&mut self, name: &[u8], is_text: bool) -> Result<(), Status> {
        if name.len() > MAX_NAME || self.declared.len() >= MAX_DECLARED || self.declared.contains_key(name) {
            return Err(Status::BadArgument);
        }
        self.declared.insert(name.to_vec(), is_text);
        Ok(())
    }
}

impl Borrows for VmState {
    fn slot(&mut self) -> &mut HostSlot {
        &mut self.host
    }
}
