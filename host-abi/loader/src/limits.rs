//! Every bound on compiling a module: the number, its unit, and why it is that number.

use std::time::Duration;

/// Wall-clock time of a child process that compiles: a module of 1 MiB takes 0.3 s alone.
pub const COMPILE_TIMEOUT: Duration = Duration::from_secs(60);

/// CPU time of a child process that compiles, in seconds.
pub const COMPILE_CPU_SECONDS: u64 = 45;

/// Address space of a child process that compiles, in bytes: 40 times what a module of 1 MiB takes.
pub const COMPILE_MEMORY_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Niceness of a child process that compiles: requests come first, and yet it ends soon on busy cores.
pub const COMPILE_NICENESS: i32 = 5;

/// What a child process that compiles may say, in bytes: an error with its context.
pub const MAX_COMPILER_MESSAGE_BYTES: u64 = 16 * 1024;
