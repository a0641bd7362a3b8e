//! How long a guest may run. The VM begins a deadline before each call; the engine asks it at every few ticks whether
//! to go on.
//!
//! Time is the CPU time of the thread, so that a guest does not pay for others on a busy machine; the wall clock bounds
//! it too. Clocks are read at the first tick that falls into a call, not at its start: most calls end before one and so
//! cost nothing. The price is one tick of grace.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::failure::Stop;
use crate::limits::{MAX_TICKS_BETWEEN_CHECKS, TICK, WALL_TIME_FACTOR};

/// The deadline of the call that is under way.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    limit: Duration,
    first_check: Option<Clocks>,
}

#[derive(Debug, Clone, Copy)]
struct Clocks {
    cpu: Duration,
    wall: Duration,
}

impl Clocks {
    fn read() -> Self {
        let read = |clock| Duration::try_from(clock_gettime(clock)).unwrap_or_default();
        Self { cpu: read(ClockId::ThreadCPUTime), wall: read(ClockId::Monotonic) }
    }
}

impl Deadline {
    /// Starts to count anew: a call may use `limit` of CPU time.
    pub(crate) const fn begin(&mut self, limit: Duration) {
        self.limit = limit;
        self.first_check = None;
    }

    /// How many ticks the guest may run until the next check.
    ///
    /// # Errors
    /// When the time is up.
    pub(crate) fn check(&mut self) -> Result<u64, Stop> {
        self.check_at(Clocks::read())
    }

    fn check_at(&mut self, now: Clocks) -> Result<u64, Stop> {
        let is_first = self.first_check.is_none();
        let first = *self.first_check.get_or_insert(now);
        let used = now.cpu.saturating_sub(first.cpu);
        let wall = now.wall.saturating_sub(first.wall);
        let left = self.limit.saturating_sub(used).min((self.limit * WALL_TIME_FACTOR).saturating_sub(wall));
        // Less than half a tick is nothing: the next look would come too late by more than this one is too early.
        if left.is_zero() || (!is_first && left < TICK / 2) {
            let (used_ms, wall_ms, limit_ms) = (used.as_millis(), wall.as_millis(), self.limit.as_millis());
            return Err(Stop::Deadline { used_ms, wall_ms, limit_ms });
        }
        let ticks = left.as_nanos().div_ceil(TICK.as_nanos()).max(1);
        Ok(u64::try_from(ticks).unwrap_or(u64::MAX).min(MAX_TICKS_BETWEEN_CHECKS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_counts_and_the_wall_clock_bounds_it() {
        // (CPU ms, wall ms since the first check) -> ticks of 5 ms until the next check, or the end.
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
            let clocks =
                |cpu, wall| Clocks { cpu: Duration::from_millis(7 + cpu), wall: Duration::from_millis(99 + wall) };
            let mut deadline = Deadline::default();
            deadline.begin(Duration::from_millis(10));
            assert_eq!(deadline.check_at(clocks(0, 0)), Ok(2));
            assert_eq!(deadline.check_at(clocks(cpu, wall)).ok(), expected, "{cpu} {wall}");
        }
    }

    #[test]
    fn a_short_limit_is_not_over_at_the_first_look() {
        let mut deadline = Deadline::default();
        deadline.begin(Duration::from_millis(1));
        assert_eq!(deadline.check(), Ok(1));
    }

    #[test]
    fn long_limits_are_checked_often() {
        let mut deadline = Deadline::default();
        deadline.begin(Duration::from_secs(3600));
        assert_eq!(deadline.check(), Ok(MAX_TICKS_BETWEEN_CHECKS));
    }
}
