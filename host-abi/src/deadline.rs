//! The time limit of guests. The VM starts a deadline before each call; the engine checks it every few ticks.
//!
//! A deadline counts the CPU time of the thread, so that load on a busy machine does not count against a guest. The
//! wall clock bounds it, too. The clocks are read at the first tick during a call, not at its start. Most calls end
//! before a tick and therefore cost nothing. The price is one tick of tolerance.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::failure::HostTrap;
use crate::limits::{MAX_TICKS_BETWEEN_CHECKS, TICK, WALL_TIME_FACTOR};

/// The deadline of the current call.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    limit: Duration,
    first_check: Option<ClockReading>,
}

#[derive(Debug, Clone, Copy)]
struct ClockReading {
    cpu: Duration,
    wall: Duration,
}

impl ClockReading {
    fn read() -> Self {
        let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
        Self { cpu: read(ClockId::ThreadCPUTime), wall: read(ClockId::Monotonic) }
    }
}

impl Deadline {
    /// Starts a new deadline of `limit` CPU time.
    pub(crate) const fn begin(&mut self, limit: Duration) {
        self.limit = limit;
        self.first_check = None;
    }

    /// Returns the number of ticks until the next check.
    ///
    /// # Errors
    /// The time limit is exceeded.
    pub(crate) fn check(&mut self) -> Result<u64, HostTrap> {
        self.check_at(ClockReading::read())
    }

    fn check_at(&mut self, now: ClockReading) -> Result<u64, HostTrap> {
        let is_first = self.first_check.is_none();
        let first = *self.first_check.get_or_insert(now);
        let used = now.cpu.saturating_sub(first.cpu);
        let wall = now.wall.saturating_sub(first.wall);
        let left = self.limit.saturating_sub(used).min((self.limit * WALL_TIME_FACTOR).saturating_sub(wall));
        // Less than half a tick left counts as exceeded. The next check would be late by more than this one is early.
        if left.is_zero() || (!is_first && left < TICK / 2) {
            let (used_ms, wall_ms, limit_ms) = (used.as_millis(), wall.as_millis(), self.limit.as_millis());
            return Err(HostTrap::Deadline { used_ms, wall_ms, limit_ms });
        }
        let ticks = left.as_nanos().div_ceil(TICK.as_nanos()).max(1);
        Ok(u64::try_from(ticks).unwrap_or(u64::MAX).min(MAX_TICKS_BETWEEN_CHECKS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_limits_cpu_time_and_wall_time() {
        // (CPU ms, wall ms since the first check) -> ticks of 5 ms until the next check; `None` when exceeded.
        let rows: [(u64, u64, Option<u64>); 9] = [
            (0, 0, Some(2)),
            (1, 1, Some(2)),
            (0, 30, Some(2)),
            (0, 45, Some(1)),
            (7, 12, Some(1)),
            (8, 12, None),
            (10, 12, None),
            (0, 48, None),
            (400, 400, None),
        ];
        for (cpu, wall, expected) in rows {
            let clocks = |cpu, wall| ClockReading {
                cpu: Duration::from_millis(7 + cpu),
                wall: Duration::from_millis(99 + wall),
            };
            let mut deadline = Deadline::default();
            deadline.begin(Duration::from_millis(10));
            assert_eq!(deadline.check_at(clocks(0, 0)), Ok(2));
            assert_eq!(deadline.check_at(clocks(cpu, wall)).ok(), expected, "{cpu} {wall}");
        }
    }

    #[test]
    fn first_check_of_short_limit_passes() {
        let mut deadline = Deadline::default();
        deadline.begin(Duration::from_millis(1));
        assert_eq!(deadline.check(), Ok(1));
    }

    #[test]
    fn long_limit_is_checked_at_maximum_interval() {
        let mut deadline = Deadline::default();
        deadline.begin(Duration::from_secs(3600));
        assert_eq!(deadline.check(), Ok(MAX_TICKS_BETWEEN_CHECKS));
    }
}
