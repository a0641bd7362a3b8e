//! Throttle of log lines about a filter's misuse, which a guest may repeat thousands of times in one call. Pure: takes
//! times, returns decisions.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::MAX_PLUGIN_LOG_LINES_PER_SECOND;

/// Window in which lines are counted.
const WINDOW: Duration = Duration::from_secs(1);

/// Decision about one log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogDecision {
    /// Log the line.
    Log,
    /// Log a notice instead that further lines are suppressed until the window ends.
    LogSuppressionNotice,
    /// Suppress the line.
    Suppress,
}

/// Number of log lines about one plugin on one worker in the current window.
#[derive(Debug, Default)]
pub(crate) struct LogThrottle {
    window_start: Option<Instant>,
    lines: u32,
}

impl LogThrottle {
    /// Counts a line and decides about it.
    pub(crate) fn decide(&mut self, now: Instant) -> LogDecision {
        if self.window_start.is_none_or(|window_start| now.duration_since(window_start) >= WINDOW) {
            self.window_start = Some(now);
            self.lines = 0;
        }
        self.lines = self.lines.saturating_add(1);
        match self.lines {
            ..=MAX_PLUGIN_LOG_LINES_PER_SECOND => LogDecision::Log,
            lines if lines == MAX_PLUGIN_LOG_LINES_PER_SECOND + 1 => LogDecision::LogSuppressionNotice,
            _ => LogDecision::Suppress,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_per_window_are_limited() {
        let start = Instant::now();
        let mut log_throttle = LogThrottle::default();
        for _ in 0..2 {
            let now = start + WINDOW * u32::from(log_throttle.window_start.is_some());
            let decisions: Vec<_> = (0..1_000).map(|_| log_throttle.decide(now)).collect();
            let count = |wanted| decisions.iter().filter(|decision| **decision == wanted).count();
            assert_eq!(count(LogDecision::Log), MAX_PLUGIN_LOG_LINES_PER_SECOND as usize);
            assert_eq!(count(LogDecision::LogSuppressionNotice), 1);
        }
    }
}
