//! The two clocks of the process. Durations are measured by the monotonic clock, which cannot be set. Times
//! for operators and other machines are those of the wall clock.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use tracing::warn;

use crate::limits::MIN_CLOCK_JUMP;

/// Both clocks, read at the same moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClockReading {
    /// The monotonic clock. Comparable in this process only.
    pub(crate) monotonic: Instant,
    /// The wall clock.
    pub(crate) wall: Timestamp,
}

impl ClockReading {
    /// Returns the wall-clock time of a monotonic time, if the wall clock is not set in between.
    pub(crate) fn wall_time(&self, monotonic: Instant) -> Timestamp {
        let ahead = signed(monotonic.saturating_duration_since(self.monotonic));
        let behind = signed(self.monotonic.saturating_duration_since(monotonic));
        self.wall.checked_add(ahead - behind).unwrap_or(self.wall)
    }
}

/// The source of clock readings.
#[derive(Debug, Clone, Default)]
pub(crate) enum Clock {
    /// The clocks of the machine.
    #[default]
    System,
    /// Clocks that a test sets.
    #[cfg(test)]
    Manual(std::sync::Arc<parking_lot::Mutex<ClockReading>>),
}

impl Clock {
    /// Reads both clocks.
    pub(crate) fn read(&self) -> ClockReading {
        match self {
            Self::System => ClockReading { monotonic: Instant::now(), wall: Timestamp::now() },
            #[cfg(test)]
            Self::Manual(reading) => *reading.lock(),
        }
    }
}

/// Detects jumps of the wall clock: set by an operator or by NTP, or by the time that the machine was suspended.
#[derive(Debug)]
pub(crate) struct ClockJumpDetector {
    last: ClockReading,
}

impl ClockJumpDetector {
    /// Returns a detector of jumps after `reading`.
    pub(crate) const fn new(reading: ClockReading) -> Self {
        Self { last: reading }
    }

    /// Logs a jump since the last call.
    pub(crate) fn check(&mut self, reading: ClockReading) {
        if let Some(jump) = self.jump(reading) {
            warn!(
                jump = %format!("{:+.1} s", jump.as_secs_f64()),
                "the wall clock was set, or the machine was suspended: leases of workloads are not affected; tokens and \
                 certificates end by the new time"
            );
        }
    }

    /// Returns the jump since the last call, positive if the wall clock was set forward. `None` if it is shorter than
    /// [`MIN_CLOCK_JUMP`].
    fn jump(&mut self, reading: ClockReading) -> Option<SignedDuration> {
        let last = std::mem::replace(&mut self.last, reading);
        let elapsed = reading.monotonic.saturating_duration_since(last.monotonic);
        let jump = reading.wall.duration_since(last.wall) - signed(elapsed);
        (jump.unsigned_abs() >= MIN_CLOCK_JUMP).then_some(jump)
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
impl Clock {
    /// Returns clocks that move only by [`Clock::advance`] and [`Clock::set_wall`].
    pub(crate) fn manual() -> Self {
        Self::Manual(std::sync::Arc::new(parking_lot::Mutex::new(Self::System.read())))
    }

    /// Moves both clocks forward.
    pub(crate) fn advance(&self, seconds: u64) {
        self.change(|reading| {
            reading.monotonic += Duration::from_secs(seconds);
            reading.wall += SignedDuration::from_secs(seconds.cast_signed());
        });
    }

    /// Sets the wall clock forward, or back.
    pub(crate) fn set_wall(&self, seconds: i64) {
        self.change(|reading| reading.wall += SignedDuration::from_secs(seconds));
    }

    fn change(&self, change: impl FnOnce(&mut ClockReading)) {
        let Self::Manual(reading) = self else { panic!("the clocks of the machine cannot be set") };
        change(&mut reading.lock());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jump_is_detected_once_with_its_size() {
        let clock = Clock::manual();
        let mut detector = ClockJumpDetector::new(clock.read());
        let seconds = |jump: Option<SignedDuration>| jump.map(|jump| jump.as_secs());
        for (set, expected) in
            [(0, None), (3_600, Some(3_600)), (0, None), (-7_200, Some(-7_200)), (0, None), (1, None)]
        {
            clock.advance(1);
            clock.set_wall(set);
            assert_eq!(seconds(detector.jump(clock.read())), expected, "{set}");
        }
    }

    #[test]
    fn late_call_and_slow_correction_are_no_jump() {
        let clock = Clock::manual();
        let mut detector = ClockJumpDetector::new(clock.read());
        clock.advance(600);
        assert_eq!(detector.jump(clock.read()), None);
        for _ in 0..20 {
            clock.advance(1);
            clock.set_wall(1);
            assert_eq!(detector.jump(clock.read()), None);
        }
    }

    #[test]
    fn wall_time_of_past_and_future() {
        let reading = Clock::System.read();
        let second = Duration::from_secs(1);
        let signed = SignedDuration::from_secs(1);
        assert_eq!(reading.wall_time(reading.monotonic + second), reading.wall + signed);
        assert_eq!(
            ClockReading { monotonic: reading.monotonic + second, ..reading }.wall_time(reading.monotonic),
            reading.wall - signed
        );
    }
}
