//! `Failure`: the reason why a call into a guest did not return. The VM creates it and is dead afterwards.
//!
//! A failure has the callback's name, a message for operators, and the guest's call stack, innermost function first.

use std::fmt;

use wasmtime::{Trap, WasmBacktrace};

use crate::abi::context::ContextId;
use crate::limits::{MAX_BACKTRACE_FRAMES, MAX_FUNCTION_NAME, MAX_GUEST_MESSAGE};

/// The kind of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The guest trapped: `unreachable`, a bad memory access, too deep recursion, a division by zero.
    Trap,
    /// The guest exceeded its time limit.
    Deadline,
    /// The guest trapped after a rejected request for memory or table elements.
    OutOfMemory,
    /// The guest violated the ABI: its allocator returned a wrong pointer, or it called a function that does not exist.
    AbiViolation,
    /// The guest called `proc_exit`.
    Exit,
    /// An earlier failure had already stopped the VM; the guest was not called.
    Dead,
}

impl FailureKind {
    /// Returns the name for metric labels and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Deadline => "deadline",
            Self::OutOfMemory => "out_of_memory",
            Self::AbiViolation => "abi_violation",
            Self::Exit => "exit",
            Self::Dead => "dead",
        }
    }
}

/// A resource of a VM with a configurable limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitedResource {
    /// Linear memory, in bytes.
    Memory,
    /// Elements of all tables.
    TableElements,
}

/// A growth that a limit has rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RejectedGrowth {
    /// The resource.
    pub resource: LimitedResource,
    /// The amount after the growth.
    pub needed: usize,
    /// The limit.
    pub limit: usize,
}

impl fmt::Display for RejectedGrowth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { needed, limit, .. } = self;
        match self.resource {
            LimitedResource::Memory => {
                write!(formatter, "it needs {} KiB of memory, and the limit is {} KiB", needed >> 10, limit >> 10)
            }
            LimitedResource::TableElements => {
                write!(formatter, "it needs {needed} table elements, and the limit is {limit}")
            }
        }
    }
}

/// A call into a guest that did not return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The kind.
    pub kind: FailureKind,
    /// The export that was called, for example `proxy_on_request_headers`, or a step of the start.
    pub callback: &'static str,
    /// Description for operators.
    pub message: String,
    /// The guest's call stack, innermost function first, demangled; empty when no guest function was running.
    pub backtrace: Vec<String>,
    /// The growth of memory or tables that a limit rejected before the failure, and that may have caused it.
    pub rejected_growth: Option<RejectedGrowth>,
}

impl Failure {
    /// Creates the failure of a call into a dead VM.
    pub(crate) fn dead(callback: &'static str) -> Self {
        let message = "an earlier failure stopped this VM".to_owned();
        Self { kind: FailureKind::Dead, callback, message, backtrace: Vec::new(), rejected_growth: None }
    }

    /// Creates the failure of a call for a context that is not in this VM. The VM stays alive.
    pub(crate) fn no_context(callback: &'static str, context: ContextId) -> Self {
        let message = format!("context {context} is not live in this VM");
        Self { kind: FailureKind::Dead, callback, message, backtrace: Vec::new(), rejected_growth: None }
    }

    /// Converts a wasmtime error. `rejected_growth` is the growth of memory or tables that was rejected during the call.
    pub(crate) fn from_engine(
        error: &wasmtime::Error,
        callback: &'static str,
        rejected_growth: Option<RejectedGrowth>,
    ) -> Self {
        let (kind, message) = classify(error);
        let may_be_caused = matches!(kind, FailureKind::Trap | FailureKind::AbiViolation | FailureKind::Exit);
        let (kind, message) = match rejected_growth.filter(|_| may_be_caused) {
            Some(growth) => (FailureKind::OutOfMemory, format!("{message}; {growth}")),
            None => (kind, message),
        };
        Self { kind, callback, message, backtrace: backtrace(error), rejected_growth }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.callback, self.message)?;
        for (depth, name) in self.backtrace.iter().enumerate() {
            let before = if depth == 0 { " (in " } else { ", called by " };
            write!(formatter, "{before}{name}")?;
        }
        if self.backtrace.is_empty() { Ok(()) } else { formatter.write_str(")") }
    }
}

impl std::error::Error for Failure {}

/// A trap that this crate raises to stop a guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostTrap {
    #[error("stopped after {used_ms} ms of CPU time ({wall_ms} ms by the clock); the limit is {limit_ms} ms")]
    Deadline { used_ms: u128, wall_ms: u128, limit_ms: u128 },
    #[error("{0}")]
    Violation(String),
    #[error("ended itself with exit code {0}")]
    Exit(u32),
    #[error("aborted: {0}")]
    Abort(String),
}

fn classify(error: &wasmtime::Error) -> (FailureKind, String) {
    if let Some(stop) = error.downcast_ref::<HostTrap>() {
        let kind = match stop {
            HostTrap::Deadline { .. } => FailureKind::Deadline,
            HostTrap::Violation(_) => FailureKind::AbiViolation,
            HostTrap::Exit(_) => FailureKind::Exit,
            HostTrap::Abort(_) => FailureKind::Trap,
        };
        return (kind, stop.to_string());
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => (FailureKind::Deadline, "interrupted".to_owned()),
        Some(trap) => (FailureKind::Trap, trap.to_string().trim_start_matches("wasm trap: ").to_owned()),
        None => (FailureKind::Trap, shortened(&error.root_cause().to_string(), MAX_GUEST_MESSAGE)),
    }
}

fn backtrace(error: &wasmtime::Error) -> Vec<String> {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    let frames = backtrace.frames().iter().take(MAX_BACKTRACE_FRAMES);
    frames
        .map(|frame| match frame.func_name() {
            Some(name) => shortened(&format!("{:#}", rustc_demangle::demangle(name)), MAX_FUNCTION_NAME),
            None => format!("function {}", frame.func_index()),
        })
        .collect()
}

/// Returns the first `max` bytes of `text` at most, cut at a character boundary, with control characters replaced by
/// spaces.
pub(crate) fn shortened(text: &str, max: usize) -> String {
    let end = text.floor_char_boundary(max);
    text[..end].chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
