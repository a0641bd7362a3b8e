//! What a person sees while a task runs.

use std::io::{self, Write};
#[expect(clippy::disallowed_types, reason = "a task runs in real time and has no clock to stop")]
use std::time::{Duration, Instant};

use anyhow::Result;

/// Prints a line. A closed pipe is no reason to stop.
pub(crate) fn say(line: &str) {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).ok();
}

/// Runs one step under a heading and says how long it took.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    say(&format!("\n── {name}"));
    let clock = Clock::start();
    let result = work();
    let end = if result.is_ok() { "done" } else { "FAILED" };
    say(&format!("── {name}: {end} after {}", clock.elapsed()));
    result
}

/// Measures how long something takes.
#[expect(clippy::disallowed_types, reason = "a task runs in real time and has no clock to stop")]
pub(crate) struct Clock(Instant);

impl Clock {
    pub(crate) fn start() -> Self {
        #[expect(clippy::disallowed_types, reason = "a task runs in real time and has no clock to stop")]
        Self(Instant::now())
    }

    /// The time since the start.
    pub(crate) fn time(&self) -> Duration {
        self.0.elapsed()
    }

    /// The time since the start, as a person would say it.
    pub(crate) fn elapsed(&self) -> String {
        let elapsed = self.0.elapsed();
        match elapsed.as_secs() {
            0 => format!("{} ms", elapsed.as_millis()),
            1..=119 => format!("{:.1} s", elapsed.as_secs_f64()),
            seconds => format!("{} min {} s", seconds / 60, seconds % 60),
        }
    }
}
