//! How many bytes of log messages a VM may write in a second. Hostcalls that log ask it first.

use std::time::Duration;

use crate::limits::LOG_LINE_BYTES;

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// It is written.
    Write,
    /// It is dropped, and so that people know, a warning is written in its place.
    DropAndWarn,
    /// It is dropped; the warning has been written.
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

    /// Bytes dropped since the VM exists.
    pub(crate) const fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Decides about a message of `bytes` bytes at `now`, a monotonic time.
    pub(crate) fn admit(&mut self, now: Duration, bytes: usize) -> Admission {
        let is_over = |start: Duration| now.saturating_sub(start) >= Duration::from_secs(1);
        if self.window_start.is_none_or(is_over) {
            self.window_start = Some(now);
            self.used = 0;
            self.warned = false;
        }
        // An empty message costs a line all the same: the time, the level, who said it.
        let used = self.used.saturating_add(bytes.max(LOG_LINE_BYTES));
        if used <= self.per_second {
            self.used = used;
            return Admission::Write;
        }
        self.dropped = self.dropped.saturating_add(bytes as u64);
        if std::mem::replace(&mut self.warned, true) { Admission::Drop } else { Admission::DropAndWarn }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_told_once_a_second() {
        let rows = [
            (0, 6_000, Admission::Write),
            (10, 4_000, Admission::Write),
            (20, 1, Admission::DropAndWarn),
            (999, 50_000, Admission::Drop),
            (1000, 10_000, Admission::Write),
            (1001, 0, Admission::DropAndWarn),
            (5000, 10_001, Admission::DropAndWarn),
            (5001, 10_000, Admission::Write),
        ];
        let mut budget = LogBudget::new(10_000);
        for (now, bytes, expected) in rows {
            assert_eq!(budget.admit(Duration::from_millis(now), bytes), expected, "{now} {bytes}");
        }
        assert_eq!(budget.dropped(), 60_002);
    }

    #[test]
    fn empty_messages_cost_a_line() {
        let mut budget = LogBudget::new(10 * LOG_LINE_BYTES);
        let written = (0..1_000).filter(|_| budget.admit(Duration::ZERO, 0) == Admission::Write).count();
        assert_eq!(written, 10);
    }
}
