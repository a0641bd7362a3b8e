//! `VmState`: what a running VM keeps beside the guest itself. Lives in the engine's store; hostcalls and the VM share
//! it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use wasmtime::{Memory, TypedFunc};

use crate::abi::pairs::PairsEncoder;
use crate::abi::status::Status;
use crate::contexts::Contexts;
use crate::deadline::Deadline;
use crate::growth::Growth;
use crate::interface::Interface;
use crate::lend::{Borrows, HostSlot};
use crate::limits::{MAX_DECLARED, MAX_NAME};
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

/// A running VM, without its guest.
pub(crate) struct VmState {
    pub(crate) settings: Arc<PluginSettings>,
    pub(crate) interface: Arc<Interface>,
    pub(crate) host: HostSlot,
    /// `None` while the module is instantiated.
    pub(crate) memory: Option<Memory>,
    /// `None` while the module is instantiated, and while the allocator runs.
    pub(crate) allocator: Option<TypedFunc<u32, u32>>,
    pub(crate) phase: Phase,
    /// Whether `proxy_on_vm_start` runs.
    pub(crate) in_vm_start: bool,
    pub(crate) contexts: Contexts,
    pub(crate) timer: TickTimer,
    pub(crate) deadline: Deadline,
    pub(crate) growth: Growth,
    pub(crate) log_budget: LogBudget,
    /// Properties that the guest has declared (`declare_property`).
    pub(crate) declared: HashSet<Vec<u8>>,
    /// What a host appends its answers to; empty between hostcalls.
    pub(crate) scratch: Vec<u8>,
    /// What header maps are encoded in; empty between hostcalls.
    pub(crate) encoder: PairsEncoder,
}

impl VmState {
    pub(crate) fn new(settings: Arc<PluginSettings>, interface: Arc<Interface>) -> Self {
        let limits = &settings.limits;
        Self {
            growth: Growth::new(limits.memory, limits.table_elements),
            log_budget: LogBudget::new(limits.log_bytes_per_second),
            settings,
            interface,
            host: HostSlot::default(),
            memory: None,
            allocator: None,
            phase: Phase::Initialising,
            in_vm_start: false,
            contexts: Contexts::new(),
            timer: TickTimer::default(),
            deadline: Deadline::default(),
            declared: HashSet::new(),
            scratch: Vec::new(),
            encoder: PairsEncoder::default(),
        }
    }
}

impl VmState {
    /// The guest declares a property; one that is declared already, or too many, are refused.
    pub(crate) fn declare(&mut self, name: &[u8]) -> Result<(), Status> {
        if name.len() > MAX_NAME || self.declared.len() >= MAX_DECLARED || self.declared.contains(name) {
            return Err(Status::BadArgument);
        }
        self.declared.insert(name.to_vec());
        Ok(())
    }
}

impl Borrows for VmState {
    fn slot(&mut self) -> &mut HostSlot {
        &mut self.host
    }
}
