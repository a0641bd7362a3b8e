//! Circuit breaker of a plugin on one worker: a failed plugin restarts at once after a rare failure, and after growing
//! pauses if it keeps failing (invariant I8). Pure: takes times, returns states.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{BREAKER_FAILURES, BREAKER_INITIAL_PAUSE, BREAKER_MAX_PAUSE, BREAKER_WINDOW};

/// State of a breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BreakerState {
    /// The plugin may be called.
    Closed,
    /// The plugin failed too often, so its failure policy answers.
    Open,
}

/// Failures of one plugin on one worker.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    recent: Vec<Instant>,
    open_until: Option<Instant>,
    openings: u32,
}

impl Breaker {
    /// Counts a failure and returns true if it opened the breaker. `jitter` spreads the pauses of several workers: 0
    /// to 255 adds up to a fifth.
    pub(crate) fn on_failure(&mut self, now: Instant, jitter: u8) -> bool {
        self.recent.retain(|at| now.duration_since(*at) < BREAKER_WINDOW);
        let quiet = self.recent.is_empty() && self.open_until.is_none_or(|until| now > until + BREAKER_WINDOW);
        if quiet {
            self.openings = 0;
        }
        self.recent.push(now);
        if self.recent.len() < BREAKER_FAILURES {
            return false;
        }
        // Only the oldest failure is removed, so one more failure after the pause opens the breaker again.
        self.recent.drain(..1);
        let pause = BREAKER_INITIAL_PAUSE.saturating_mul(1 << self.openings.min(16)).min(BREAKER_MAX_PAUSE);
        let spread = pause / 5 * u32::from(jitter) / 255;
        self.openings += 1;
        self.open_until = Some(now + pause + spread);
        true
    }

    /// Returns the state at `now`.
    pub(crate) fn state(&self, now: Instant) -> BreakerState {
        match self.open_until {
            Some(until) if now < until => BreakerState::Open,
            _ => BreakerState::Closed,
        }
    }

    /// Returns the time until the breaker closes. Zero if it is closed.
    pub(crate) fn pause(&self, now: Instant) -> Duration {
        self.open_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_failures_open_breaker_with_doubled_pauses() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut breaker = Breaker::default();
        assert!(!breaker.on_failure(at(0), 0));
        assert!(!breaker.on_failure(at(1), 0));
        assert_eq!(breaker.state(at(1)), BreakerState::Closed);
        assert!(breaker.on_failure(at(2), 0));
        assert_eq!(breaker.state(at(3)), BreakerState::Open);
        assert_eq!(breaker.pause(at(2)), Duration::from_secs(1));
        assert_eq!(breaker.state(at(1_002)), BreakerState::Closed);
        assert!(breaker.on_failure(at(1_100), 0), "one more opens it again");
        assert_eq!(breaker.pause(at(1_100)), Duration::from_secs(2));
    }

    #[test]
    fn rare_failures_keep_breaker_closed() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for index in 0..100 {
            assert!(!breaker.on_failure(start + Duration::from_secs(6 * index), 255));
        }
    }
}
