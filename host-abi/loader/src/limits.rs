//! The limits of a compilation, each with its unit and reason.

use std::time::Duration;

/// Default wall-clock time of a compiler process. A module of 1 MiB takes 0.3 s alone. The limit of its CPU time is three
/// quarters of it.
pub const DEFAULT_COMPILE_TIMEOUT: Duration = Duration::from_secs(60);

/// Shortest configurable time of a compiler process.
pub const MIN_COMPILE_TIMEOUT: Duration = Duration::from_secs(1);

/// Longest configurable time of a compiler process: the largest modules, on one busy core.
pub const MAX_COMPILE_TIMEOUT: Duration = Duration::from_secs(3_600);

/// Address space of a compiler process in bytes: 40 times what a module of 1 MiB takes.
pub const COMPILE_MEMORY_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Niceness of a compiler process. Requests have priority, yet a compilation ends soon on busy cores.
pub const COMPILE_NICENESS: i32 = 5;

/// Output of a compiler process in bytes: an error with its context.
pub const MAX_COMPILER_MESSAGE_BYTES: u64 = 16 * 1024;
