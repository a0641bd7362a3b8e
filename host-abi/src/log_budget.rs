//! The limit of log bytes per second of a plugin. Hostcalls that log check it first.

use std::time::Duration;

use crate::limits::LOG_LINE_BYTES;

/// The decision about a log message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogDecision {
    /// Write the message.
    Write,
    /// Drop the message and write a warning instead.
    DropWithWarning,
    /// Drop the message; the warning was already written.
    Drop,
}

/// Counts bytes in windows of one second.
#[derive(Debug)]
pub(crate) struct LogBudget {
    per_second: usize,
    window_start: Option<Duration>,
    used: usize,
    warned: bool,
    dropped: u64,
}

impl LogBudget {
    pub(crate) const fn new(per_second: usize) -> Self {
        Self { per_second, window_start: None, used: 0, warned: false, dropped: 0 }
    }

    /// Returns the bytes dropped since the start of the VM.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Decides about a message of `bytes` bytes at `now`, a monotonic time.
    pub(crate) fn admit(&mut self, now: Duration, bytes: usize) -> LogDecision {
        let is_over = |start: Duration| now.saturating_sub(start) >= Duration::from_secs(1);
        if self.window_start.is_none_or(is_over) {
            self.window_start = Some(now);
            self.used = 0;
            self.warned = false;
        }
        // An empty message still costs a log line with its time, level and plugin.
        let used = self.used.saturating_add(bytes.max(LOG_LINE_BYTES));
        if used <= self.per_second {
            self.used = used;
            return LogDecision::Write;
        }
        self.dropped = self.dropped.saturating_add(bytes as u64);
        if std::mem::replace(&mut self.warned, true) { LogDecision::Drop } else { LogDecision::DropWithWarning }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excess_is_dropped_with_one_warning_per_second() {
        let rows = [
            (0, 6_000, LogDecision::Write),
            (10, 4_000, LogDecision::Write),
            (20, 1, LogDecision::DropWithWarning),
            (999, 50_000, LogDecision::Drop),
            (1000, 10_000, LogDecision::Write),
            (1001, 0, LogDecision::DropWithWarning),
            (5000, 10_001, LogDecision::DropWithWarning),
            (5001, 10_000, LogDecision::Write),
        ];
        let mut budget = LogBudget::new(10_000);
        for (now, bytes, expected) in rows {
            assert_eq!(budget.admit(Duration::from_millis(now), bytes), expected, "{now} {bytes}");
        }
        assert_eq!(budget.dropped(), 60_002);
    }

    #[test]
    fn empty_message_costs_a_line() {
        let mut budget = LogBudget::new(10 * LOG_LINE_BYTES);
        let written = (0..1_000).filter(|_| budget.admit(Duration::ZERO, 0) == LogDecision::Write).count();
        assert_eq!(written, 10);
    }
}
