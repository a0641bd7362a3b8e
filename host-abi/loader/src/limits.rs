//! The limits of a compilation, each with its unit and reason.

use std::time::Duration;

/// Wall-clock time of a compiler process. A module of 1 MiB takes 0.3 s alone.
pub const COMPILE_TIMEOUT: Duration = Duration::from_secs(60);

/// CPU time of a compiler process in seconds.
pub const COMPILE_CPU_SECONDS: u64 = 45;

/// Address space of a compiler process in bytes: 40 times what a module of 1 MiB takes.
pub const COMPILE_MEMORY_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Niceness of a compiler process. Requests have priority, yet a compilation ends soon on busy cores.
pub const COMPILE_NICENESS: i32 = 5;

/// Output of a compiler process in bytes: an error with its context.
pub const MAX_COMPILER_MESSAGE_BYTES: u64 = 16 * 1024;
