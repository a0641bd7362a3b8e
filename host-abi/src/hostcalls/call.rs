//! `Call`: a hostcall that is under way. Gives each hostcall the guest's memory and the host, and takes answers to the
//! guest.
//!
//! Two rules hold here. The host and the guest's memory are borrowed together for a moment only ([`Call::lend`]),
//! because the guest's allocator may grow the memory and may call `proxy_log`. And every answer is one allocation in
//! the guest of exactly its size, none for an empty one: some guests take the allocation over by pointer and size.

use wasmtime::{Caller, Memory};

use crate::abi::context::ContextId;
use crate::abi::log::LogLevel;
use crate::abi::pairs::{Pairs, PairsEncoder};
use crate::abi::status::Status;
use crate::failure::Stop;
use crate::host::Host;
use crate::limits::SCRATCH_KEEP;
use crate::log_budget::Admission;
use crate::memory::GuestMemory;
use crate::state::{Phase, VmState};

/// `Ok` answers 0.
pub(crate) type CallResult = Result<(), Refusal>;

/// Why a hostcall did not simply succeed.
pub(crate) enum Refusal {
    /// The guest gets this number: a status, or WASI's error number.
    Answer(u32),
    /// The guest gets this number, and because it cannot tell people what was wrong, the log does.
    Explained(u32, String),
    /// The guest is stopped.
    Stop(wasmtime::Error),
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Answer(status.number())
    }
}

impl From<Stop> for Refusal {
    fn from(stop: Stop) -> Self {
        Self::Stop(wasmtime::Error::new(stop))
    }
}

impl From<wasmtime::Error> for Refusal {
    fn from(error: wasmtime::Error) -> Self {
        Self::Stop(error)
    }
}

/// What a hostcall works with, all borrowed at once.
pub(crate) struct Parts<'a> {
    pub(crate) memory: GuestMemory<'a>,
    pub(crate) host: &'a mut dyn Host,
    /// The effective context.
    pub(crate) context: ContextId,
    /// The context of the plugin that the call is about.
    pub(crate) root: ContextId,
    /// Empty; becomes the guest's with [`Call::give_scratch`].
    pub(crate) out: &'a mut Vec<u8>,
    /// Empty; becomes the guest's with [`Call::give_pairs`].
    pub(crate) encoder: &'a mut PairsEncoder,
}

/// Reads a header list of the guest.
pub(crate) fn read_pairs<'m>(memory: &'m GuestMemory<'_>, [pointer, length]: [u32; 2]) -> Result<Pairs<'m>, Refusal> {
    let bytes = memory.bytes(pointer, length)?;
    Pairs::decode(bytes).map_err(|error| Refusal::Explained(Status::BadArgument.number(), error.to_string()))
}

/// A hostcall that is under way.
pub(crate) struct Call<'a> {
    caller: Caller<'a, VmState>,
}

impl<'a> Call<'a> {
    pub(crate) const fn new(caller: Caller<'a, VmState>) -> Self {
        Self { caller }
    }

    pub(crate) fn state(&mut self) -> &mut VmState {
        self.caller.data_mut()
    }

    /// The memory and the host, for a moment.
    pub(crate) fn lend(&mut self) -> Result<Parts<'_>, Refusal> {
        let memory = self.memory()?;
        let (bytes, state) = memory.data_and_store_mut(&mut self.caller);
        let VmState { host, contexts, current, scratch, encoder, .. } = state;
        // A host that failed half-way may have left something.
        scratch.clear();
        encoder.clear(usize::MAX);
        Ok(Parts {
            memory: GuestMemory::new(bytes),
            host: host.host()?,
            context: contexts.effective(),
            root: ContextId::of_plugin(*current),
            out: scratch,
            encoder,
        })
    }

    /// As [`Call::lend`], after a look at the pointers that the answer will be written through: a host must not do work
    /// whose outcome cannot be told.
    pub(crate) fn lend_for_answer(&mut self, [pointer_at, size_at]: [u32; 2]) -> Result<Parts<'_>, Refusal> {
        let parts = self.lend()?;
        parts.memory.check(pointer_at, 4)?;
        parts.memory.check(size_at, 4)?;
        Ok(parts)
    }

    /// As [`Call::lend_for_answer`], for an answer that is at hand.
    pub(crate) fn check_answer(&mut self, [pointer_at, size_at]: [u32; 2]) -> CallResult {
        let (memory, _) = self.lend_state()?;
        memory.check(pointer_at, 4)?;
        Ok(memory.check(size_at, 4)?)
    }

    /// The memory and the VM's own state, for calls that the VM answers itself.
    pub(crate) fn lend_state(&mut self) -> Result<(GuestMemory<'_>, &mut VmState), Refusal> {
        let memory = self.memory()?;
        let (bytes, state) = memory.data_and_store_mut(&mut self.caller);
        Ok((GuestMemory::new(bytes), state))
    }

    /// The guest's memory. While its start section runs there is no instance to keep it from.
    fn memory(&mut self) -> Result<Memory, Refusal> {
        if let Some(memory) = self.caller.data().memory {
            return Ok(memory);
        }
        let interface = std::sync::Arc::clone(&self.caller.data().interface);
        let export = self.caller.get_export(&interface.memory).and_then(wasmtime::Extern::into_memory);
        export.ok_or_else(|| Stop::Violation("the module's memory is not there".to_owned()).into())
    }

    /// Gives the guest what the host appended to [`Parts::out`].
    pub(crate) fn give_scratch(&mut self, [pointer_at, size_at]: [u32; 2]) -> CallResult {
        let mut scratch = std::mem::take(&mut self.state().scratch);
        let result = self.give(&[&scratch], [pointer_at, size_at]);
        scratch.clear();
        scratch.shrink_to(SCRATCH_KEEP);
        self.state().scratch = scratch;
        result
    }

    /// Gives the guest what was pushed into [`Parts::encoder`].
    pub(crate) fn give_pairs(&mut self, [pointer_at, size_at]: [u32; 2]) -> CallResult {
        let mut encoder = std::mem::take(&mut self.state().encoder);
        let result = if encoder.size() == 0 {
            self.give(&[], [pointer_at, size_at])
        } else {
            let (count, lengths, bytes) = encoder.parts();
            self.give(&[&count, lengths, bytes], [pointer_at, size_at])
        };
        encoder.clear(SCRATCH_KEEP);
        self.state().encoder = encoder;
        result
    }

    /// Gives the guest some bytes: allocates there, copies, and writes pointer and size where the guest wants them.
    pub(crate) fn give(&mut self, runs: &[&[u8]], [pointer_at, size_at]: [u32; 2]) -> CallResult {
        let total: usize = runs.iter().map(|run| run.len()).sum();
        let size = u32::try_from(total).map_err(|_| Status::InternalFailure)?;
        let pointer = if size == 0 { 0 } else { self.allocate(size)? };
        let (mut memory, state) = self.lend_state()?;
        if size > 0 && (pointer == 0 || memory.check(pointer, size).is_err()) {
            let name = state.interface.allocator;
            let lie = format!("{name}({size}) returned {pointer:#x}, which is not {size} bytes of its memory");
            return Err(Stop::Violation(lie).into());
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

    /// Has the guest allocate. An allocator that fails stops the guest, as does one that lies (see [`Call::give`]): most
    /// guests have no way to handle a status here.
    fn allocate(&mut self, size: u32) -> Result<u32, Refusal> {
        let state = self.caller.data_mut();
        let phase = std::mem::replace(&mut state.phase, Phase::Allocating);
        let name = state.interface.allocator;
        let Some(allocator) = state.allocator.take() else {
            return Err(Stop::Violation(format!("{name} was needed while it ran, or before the start")).into());
        };
        let outcome = allocator.call(&mut self.caller, [size]);
        let state = self.caller.data_mut();
        state.phase = phase;
        state.allocator = Some(allocator);
        Ok(outcome?)
    }

    /// Writes a log message of the guest, if its level is wanted and its plugin's byte rate allows.
    pub(crate) fn log(&mut self, level: LogLevel, text: LogText<'_>) -> CallResult {
        let memory = self.memory()?;
        let (bytes, state) = memory.data_and_store_mut(&mut self.caller);
        let VmState { host, contexts, residents, current, .. } = state;
        let log_budget = &mut residents[*current].log_budget;
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
            Admission::Write => host.log(contexts.effective(), level, message),
            Admission::DropAndWarn => {
                host.log(
                    contexts.effective(),
                    LogLevel::Warn,
                    b"log messages are dropped: over the plugin's bytes per second",
                );
            }
            Admission::Drop => {}
        }
        Ok(())
    }

    /// Notes that a guest made a hostcall in a phase in which it cannot work.
    pub(crate) fn refuse_early(&mut self) -> CallResult {
        let doing = match self.state().phase {
            Phase::Allocating => "called from the module's allocator",
            Phase::Initialising | Phase::Callback => "called before the module's first callback",
        };
        Err(Refusal::Explained(Status::InternalFailure.number(), doing.to_owned()))
    }
}

/// Where the text of a log message is.
#[derive(Clone, Copy)]
pub(crate) enum LogText<'a> {
    /// In the guest's memory.
    Guest { pointer: u32, length: u32 },
    /// Here.
    Host(&'a [u8]),
}
