//! When a plugin's next VM may be used on a worker: at once after a rare failure, later and later when it keeps failing
//! (invariant I8). Pure: times go in, a verdict comes out.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{BREAKER_FAILURES, BREAKER_MAX_PAUSE, BREAKER_PAUSE, BREAKER_WINDOW};

/// What the breaker says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The plugin may be called.
    Closed,
    /// It failed too often: its failure policy answers until then.
    Open(Instant),
}

/// Failures of one plugin on one worker.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    recent: Vec<Instant>,
    open_until: Option<Instant>,
    openings: u32,
}

impl Breaker {
    /// Counts a failure. `jitter` spreads the pauses of several workers: 0 to 255.
    /// True when it opened the breaker.
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
        // After a pause, one more failure opens it again: it has to earn its three back.
        self.recent.drain(..1);
        let pause = BREAKER_PAUSE.saturating_mul(1 << self.openings.min(16)).min(BREAKER_MAX_PAUSE);
        let spread = pause / 5 * u32::from(jitter) / 255;
        self.openings += 1;
        self.open_until = Some(now + pause + spread);
        true
    }

    /// May the plugin be called now?
    pub(crate) fn verdict(&self, now: Instant) -> Verdict {
        match self.open_until {
            Some(until) if now < until => Verdict::Open(until),
            _ => Verdict::Closed,
        }
    }

    /// How long until it may be called.
    pub(crate) fn pause(&self, now: Instant) -> Duration {
        self.open_until.map_or(Duration::ZERO, |until| until.saturating_duration_since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_failures_in_ten_seconds_open_it_longer_each_time() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut breaker = Breaker::default();
        assert!(!breaker.on_failure(at(0), 0));
        assert!(!breaker.on_failure(at(1), 0));
        assert_eq!(breaker.verdict(at(1)), Verdict::Closed);
        assert!(breaker.on_failure(at(2), 0));
        assert_eq!(breaker.verdict(at(3)), Verdict::Open(at(1_002)));
        assert_eq!(breaker.verdict(at(1_002)), Verdict::Closed);
        assert!(breaker.on_failure(at(1_100), 0), "one more opens it again");
        assert_eq!(breaker.pause(at(1_100)), Duration::from_secs(2));
    }

    #[test]
    fn rare_failures_never_open_it() {
        let start = Instant::now();
        let mut breaker = Breaker::default();
        for index in 0..100 {
            assert!(!breaker.on_failure(start + Duration::from_secs(6 * index), 255));
        }
    }
}
