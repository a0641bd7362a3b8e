//! `HostcallContext`: a hostcall in progress. It provides the guest's memory and the host, and returns results to the
//! guest.
//!
//! The host and the guest's memory are borrowed together only briefly ([`HostcallContext::borrow`]), because the
//! guest's allocator may grow the memory and may call `proxy_log`. Every result is one guest allocation of its exact
//! size, or none if it is empty: some guests take over the allocation by pointer and size.

use wasmtime::{Caller, Memory};

use crate::abi::context::ContextId;
use crate::abi::log::LogLevel;
use crate::abi::pairs::{Pairs, PairsEncoder};
use crate::abi::status::Status;
use crate::failure::HostTrap;
use crate::host::Host;
use crate::limits::SCRATCH_KEEP;
use crate::log_budget::LogDecision;
use crate::memory::GuestMemory;
use crate::vm_state::{Phase, VmState};

/// The result of a hostcall; `Ok` returns 0 to the guest.
pub(crate) type HostcallResult = Result<(), HostcallError>;

/// An outcome of a hostcall other than success.
pub(crate) enum HostcallError {
    /// Returns this number to the guest: a status, or a WASI error number.
    Status(u32),
    /// Returns this number to the guest and logs the reason, which the guest cannot report.
    StatusWithReason(u32, String),
    /// Stops the guest.
    Trap(wasmtime::Error),
}

impl From<Status> for HostcallError {
    fn from(status: Status) -> Self {
        Self::Status(status.number())
    }
}

impl From<HostTrap> for HostcallError {
    fn from(trap: HostTrap) -> Self {
        Self::Trap(wasmtime::Error::new(trap))
    }
}

impl From<wasmtime::Error> for HostcallError {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

/// The guest's memory, the host and the output buffers, borrowed for one hostcall.
pub(crate) struct HostcallArgs<'a> {
    pub(crate) memory: GuestMemory<'a>,
    pub(crate) host: &'a mut dyn Host,
    /// The effective context.
    pub(crate) context: ContextId,
    /// The plugin context of the current plugin.
    pub(crate) root: ContextId,
    /// Output buffer, empty; [`HostcallContext::return_scratch`] returns it to the guest.
    pub(crate) out: &'a mut Vec<u8>,
    /// Encoder, empty; [`HostcallContext::return_pairs`] returns its list to the guest.
    pub(crate) encoder: &'a mut PairsEncoder,
}

/// Decodes a header list in the guest's memory.
pub(crate) fn read_pairs<'m>(
    memory: &'m GuestMemory<'_>,
    [pointer, length]: [u32; 2],
) -> Result<Pairs<'m>, HostcallError> {
    let bytes = memory.bytes(pointer, length)?;
    Pairs::decode(bytes)
        .map_err(|error| HostcallError::StatusWithReason(Status::BadArgument.number(), error.to_string()))
}

/// A hostcall in progress.
pub(crate) struct HostcallContext<'a> {
    caller: Caller<'a, VmState>,
}

impl<'a> HostcallContext<'a> {
    pub(crate) const fn new(caller: Caller<'a, VmState>) -> Self {
        Self { caller }
    }

    pub(crate) fn state(&mut self) -> &mut VmState {
        self.caller.data_mut()
    }

    /// Borrows the memory, the host and the output buffers.
    pub(crate) fn borrow(&mut self) -> Result<HostcallArgs<'_>, HostcallError> {
        let memory = self.memory()?;
        let (bytes, state) = memory.data_and_store_mut(&mut self.caller);
        let VmState { host, contexts, current_plugin, scratch, encoder, .. } = state;
        // A failed host call may have left data.
        scratch.clear();
        encoder.clear(usize::MAX);
        Ok(HostcallArgs {
            memory: GuestMemory::new(bytes),
            host: host.host()?,
            context: contexts.effective(),
            root: ContextId::of_plugin(*current_plugin),
            out: scratch,
            encoder,
        })
    }

    /// Borrows like [`HostcallContext::borrow`] and checks the pointers for the result first: a host must not do work
    /// whose result cannot be returned.
    pub(crate) fn borrow_for_result(
        &mut self,
        [pointer_at, size_at]: [u32; 2],
    ) -> Result<HostcallArgs<'_>, HostcallError> {
        let args = self.borrow()?;
        args.memory.check(pointer_at, 4)?;
        args.memory.check(size_at, 4)?;
        Ok(args)
    }

    /// Checks the pointers for a result.
    pub(crate) fn check_result_pointers(&mut self, [pointer_at, size_at]: [u32; 2]) -> HostcallResult {
        let (memory, _) = self.borrow_state()?;
        memory.check(pointer_at, 4)?;
        Ok(memory.check(size_at, 4)?)
    }

    /// Borrows the memory and the VM's state, for calls that the VM serves itself.
    pub(crate) fn borrow_state(&mut self) -> Result<(GuestMemory<'_>, &mut VmState), HostcallError> {
        let memory = self.memory()?;
        let (bytes, state) = memory.data_and_store_mut(&mut self.caller);
        Ok((GuestMemory::new(bytes), state))
    }

    /// Returns the guest's memory. While the start section runs, it is looked up by its export name.
    fn memory(&mut self) -> Result<Memory, HostcallError> {
        if let Some(memory) = self.caller.data().memory {
            return Ok(memory);
        }
        let interface = std::sync::Arc::clone(&self.caller.data().interface);
        let export = self.caller.get_export(&interface.memory).and_then(wasmtime::Extern::into_memory);
        export.ok_or_else(|| HostTrap::Violation("the module's memory is missing".to_owned()).into())
    }

    /// Returns the bytes in [`HostcallArgs::out`] to the guest.
    pub(crate) fn return_scratch(&mut self, [pointer_at, size_at]: [u32; 2]) -> HostcallResult {
        let mut scratch = std::mem::take(&mut self.state().scratch);
        let result = self.return_bytes(&[&scratch], [pointer_at, size_at]);
        scratch.clear();
        scratch.shrink_to(SCRATCH_KEEP);
        self.state().scratch = scratch;
        result
    }

    /// Returns the header list in [`HostcallArgs::encoder`] to the guest.
    pub(crate) fn return_pairs(&mut self, [pointer_at, size_at]: [u32; 2]) -> HostcallResult {
        let mut encoder = std::mem::take(&mut self.state().encoder);
        let result = if encoder.size() == 0 {
            self.return_bytes(&[], [pointer_at, size_at])
        } else {
            let (count, lengths, bytes) = encoder.parts();
            self.return_bytes(&[&count, lengths, bytes], [pointer_at, size_at])
        };
        encoder.clear(SCRATCH_KEEP);
        self.state().encoder = encoder;
        result
    }

    /// Returns bytes to the guest: allocates guest memory, copies `runs`, and writes pointer and size to the result
    /// pointers.
    pub(crate) fn return_bytes(&mut self, runs: &[&[u8]], [pointer_at, size_at]: [u32; 2]) -> HostcallResult {
        let total: usize = runs.iter().map(|run| run.len()).sum();
        let size = u32::try_from(total).map_err(|_| Status::InternalFailure)?;
        let pointer = if size == 0 { 0 } else { self.allocate(size)? };
        let (mut memory, state) = self.borrow_state()?;
        if size > 0 && (pointer == 0 || memory.check(pointer, size).is_err()) {
            let name = state.interface.allocator;
            let violation = format!("{name}({size}) returned {pointer:#x}, which is not {size} bytes of its memory");
            return Err(HostTrap::Violation(violation).into());
        }
        let mut at = pointer;
        for run in runs {
            memory.write(at, run)?;
            at = at.wrapping_add(u32::try_from(run.len()).unwrap_or(u32::MAX));
        }
        memory.write_u32(pointer_at, pointer)?;
        memory.write_u32(size_at, size)?;
        Ok(())
    }

    /// Calls the guest's allocator. An allocator that fails or returns a wrong pointer (see
    /// [`HostcallContext::return_bytes`]) stops the guest, because most guests cannot handle a status here.
    fn allocate(&mut self, size: u32) -> Result<u32, HostcallError> {
        let state = self.caller.data_mut();
        let phase = std::mem::replace(&mut state.phase, Phase::Allocating);
        let name = state.interface.allocator;
        let Some(allocator) = state.allocator.take() else {
            return Err(HostTrap::Violation(format!(
                "{name} was needed while it was running, or before the guest had started"
            ))
            .into());
        };
        let outcome = allocator.call(&mut self.caller, [size]);
        let state = self.caller.data_mut();
        state.phase = phase;
        state.allocator = Some(allocator);
        Ok(outcome?)
    }

    /// Writes a log message of the guest, if its level is enabled and its plugin's byte rate allows it.
    pub(crate) fn log(&mut self, level: LogLevel, text: LogText<'_>) -> HostcallResult {
        let memory = self.memory()?;
        let (bytes, state) = memory.data_and_store_mut(&mut self.caller);
        let VmState { host, contexts, plugins, current_plugin, .. } = state;
        let log_budget = &mut plugins[*current_plugin].log_budget;
        let host = host.host()?;
        let guest = GuestMemory::new(bytes);
        let message = match text {
            LogText::Guest { pointer, length } => guest.bytes(pointer, length)?,
            LogText::Host(text) => text,
        };
        if level < host.log_level() {
            return Ok(());
        }
        match log_budget.admit(host.monotonic(), message.len()) {
            LogDecision::Write => host.log(contexts.effective(), level, message),
            LogDecision::DropWithWarning => {
                host.log(
                    contexts.effective(),
                    LogLevel::Warn,
                    b"log messages dropped: limit of bytes per second exceeded",
                );
            }
            LogDecision::Drop => {}
        }
        Ok(())
    }

    /// Rejects a hostcall that is not allowed in the guest's current phase.
    pub(crate) fn reject_early(&mut self) -> HostcallResult {
        let reason = match self.state().phase {
            Phase::Allocating => "called from the module's allocator",
            Phase::Initializing | Phase::Callback => "called before the module's first callback",
        };
        Err(HostcallError::StatusWithReason(Status::InternalFailure.number(), reason.to_owned()))
    }
}

/// The text of a log message.
#[derive(Clone, Copy)]
pub(crate) enum LogText<'a> {
    /// Text in the guest's memory.
    Guest { pointer: u32, length: u32 },
    /// Text in the host's memory.
    Host(&'a [u8]),
}
