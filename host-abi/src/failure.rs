//! `Failure`: why a call into a guest did not return. Made by the VM; after one, the VM is dead.
//!
//! A failure names the callback, says what happened in words for people, and lists the guest's functions, innermost
//! first.

use std::fmt;

use wasmtime::{Trap, WasmBacktrace};

use crate::abi::context::ContextId;
use crate::limits::{MAX_BACKTRACE_FRAMES, MAX_FUNCTION_NAME, MAX_GUEST_MESSAGE};

/// What kind of failure stopped a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The guest trapped: `unreachable`, a bad memory access, too deep recursion, a division by zero.
    Trap,
    /// It used up its time.
    Deadline,
    /// It trapped after a request for memory or table elements was refused.
    OutOfMemory,
    /// It broke the contract: an allocator that lies, or a call that does not exist.
    AbiViolation,
    /// It ended itself with `proc_exit`.
    Exit,
    /// An earlier failure had already stopped it; the guest was not called.
    Dead,
}

impl FailureKind {
    /// A short name for metrics labels and logs.
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

/// A call into a guest that did not return.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What kind it is.
    pub kind: FailureKind,
    /// The export that was called, for example `proxy_on_request_headers`, or a step of the start.
    pub callback: &'static str,
    /// What happened, in words.
    pub message: String,
    /// The guest's functions, innermost first, demangled; empty when none was running.
    pub backtrace: Vec<String>,
}

impl Failure {
    /// The failure of a call into a VM that is dead.
    pub(crate) fn dead(callback: &'static str) -> Self {
        let message = "an earlier failure stopped this VM".to_owned();
        Self { kind: FailureKind::Dead, callback, message, backtrace: Vec::new() }
    }

    /// The failure of a call for a context that does not live here; the VM goes on.
    pub(crate) fn no_context(callback: &'static str, context: ContextId) -> Self {
        let message = format!("context {context} does not live in this VM");
        Self { kind: FailureKind::Dead, callback, message, backtrace: Vec::new() }
    }

    /// Reads an engine's error. `growth_refused` tells whether the guest was denied memory during the call.
    pub(crate) fn from_engine(error: &wasmtime::Error, callback: &'static str, growth_refused: bool) -> Self {
        let (kind, message) = classify(error);
        let kind = if growth_refused && matches!(kind, FailureKind::Trap | FailureKind::AbiViolation) {
            FailureKind::OutOfMemory
        } else {
            kind
        };
        Self { kind, callback, message, backtrace: backtrace(error) }
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

/// What this crate itself raises to stop a guest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stop {
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
    if let Some(stop) = error.downcast_ref::<Stop>() {
        let kind = match stop {
            Stop::Deadline { .. } => FailureKind::Deadline,
            Stop::Violation(_) => FailureKind::AbiViolation,
            Stop::Exit(_) => FailureKind::Exit,
            Stop::Abort(_) => FailureKind::Trap,
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

/// The beginning of `text`, at most `max` bytes, cut between characters, without control characters.
pub(crate) fn shortened(text: &str, max: usize) -> String {
    let end = text.floor_char_boundary(max);
    text[..end].chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}
