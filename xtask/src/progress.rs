//! The output of a running task.

use std::io::{self, Write};
#[expect(clippy::disallowed_types, reason = "a task runs in real time and has no clock to stop")]
use std::time::{Duration, Instant};

use anyhow::Result;

/// Prints a line. Ignores a closed pipe.
pub(crate) fn print(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}

/// Runs one step under a heading and prints its duration.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    print(&format!("\n── {name}"));
    let clock = Stopwatch::start();
    let result = work();
    let end = if result.is_ok() { "done" } else { "FAILED" };
    print(&format!("── {name}: {end} after {}", clock.elapsed()));
    result
}

/// Measures a duration.
#[expect(clippy::disallowed_types, reason = "a task runs in real time and has no clock to stop")]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    pub(crate) fn start() -> Self {
        #[expect(clippy::disallowed_types, reason = "a task runs in real time and has no clock to stop")]
        Self(Instant::now())
    }

    /// Returns the time since the start.
    pub(crate) fn time(&self) -> Duration {
        self.0.elapsed()
    }

    /// Returns the time since the start as text: `120 ms`, `3.4 s`, `2 min 5 s`.
    pub(crate) fn elapsed(&self) -> String {
        let elapsed = self.0.elapsed();
        match elapsed.as_secs() {
            0 => format!("{} ms", elapsed.as_millis()),
            1..=119 => format!("{:.1} s", elapsed.as_secs_f64()),
            seconds => format!("{} min {} s", seconds / 60, seconds % 60),
        }
    }
}
