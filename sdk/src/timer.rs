//! The timer of a plugin context: deadlines of paused streams, and the filter's own ticks, on the one timer that
//! Proxy-Wasm has for each plugin context.
//!
//! ```text
//!  PauseFor ─► deadlines ─┐
//!                         ├─► the earliest ─► proxy_set_tick_period ─► proxy_on_tick ─► due streams, own tick
//!  tick_period ───────────┘
//! ```
//!
//! This file makes no hostcalls: [`Timer`] returns the tick period that its caller passes to the host. Times are
//! nanoseconds of [`crate::clock::monotonic`]. Hosts tick late at times, and may tick early by the rounding of their
//! clocks. A deadline counts as due by the clock only.

use std::time::Duration;

use crate::clock::nanoseconds;

/// Streams that are continued in one tick. A tick has the time limit of one call, and each stream takes some
/// microseconds of it. Others that are due follow in the next tick.
const MAX_DUE_PER_TICK: usize = 512;

const MILLISECOND: u64 = 1_000_000;

/// A deadline, and what waits for it. Of equal deadlines the older stream comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Deadline {
    pub(crate) at: u64,
    /// The id of the stream context.
    pub(crate) stream: u32,
    pub(crate) direction: Direction,
}

/// The direction of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Direction {
    Request,
    Response,
}

/// A tick period in milliseconds, as the host takes it. 0 stops the ticks.
pub(crate) type TickPeriod = u32;

/// The deadlines of one plugin context. `T` refers to a paused stream.
#[derive(Debug)]
pub(crate) struct Timer<T> {
    /// Sorted, the earliest first. Most streams of a filter wait equally long, so that a new deadline is the last one.
    /// A search tree would add eight kilobytes to the module of each filter, whether it pauses or not.
    deadlines: Vec<(Deadline, T)>,
    own: Option<OwnTicks>,
    armed: Option<ArmedTick>,
}

/// The ticks of the filter itself.
#[derive(Debug)]
struct OwnTicks {
    period: u64,
    next_at: u64,
}

/// The tick that the host will make next. It repeats with the same period until another one is set.
#[derive(Debug)]
struct ArmedTick {
    at: u64,
    period: TickPeriod,
}

/// A timer that does not run.
impl<T> Default for Timer<T> {
    fn default() -> Self {
        Self { deadlines: Vec::new(), own: None, armed: None }
    }
}

impl<T> Timer<T> {
    /// Sets the period of the filter's own ticks; `None` disables them. Returns the tick period to set in the host;
    /// `None` if it makes no ticks and is to make none.
    pub(crate) fn set_own_period(&mut self, period: Option<Duration>, now: u64) -> Option<TickPeriod> {
        self.own = period.map(|period| {
            let period = nanoseconds(period).max(MILLISECOND); // Zero would stop the timer.
            OwnTicks { period, next_at: now.saturating_add(period) }
        });
        let was_armed = self.armed.take().is_some();
        self.arm(now).or(was_armed.then_some(0))
    }

    /// Adds a deadline. Returns the tick period to set in the host, if the deadline is before the next tick.
    pub(crate) fn insert(&mut self, deadline: Deadline, waiting: T, now: u64) -> Option<TickPeriod> {
        self.deadlines.insert(self.index_of(deadline), (deadline, waiting));
        match &self.armed {
            Some(armed) if (now..=deadline.at).contains(&armed.at) => None,
            // An overdue tick may never come: a host may skip one, and makes the next after the whole period.
            Some(armed) if armed.at < now => {
                self.armed = None;
                self.arm(now)
            }
            _ => self.arm(now),
        }
    }

    /// Removes a deadline before it is due. The tick for it comes nevertheless, and finds nothing.
    pub(crate) fn remove(&mut self, deadline: Deadline) {
        let index = self.index_of(deadline);
        if self.deadlines.get(index).is_some_and(|(at, _)| *at == deadline) {
            self.deadlines.remove(index);
        }
    }

    /// Returns the index of the first deadline that is not before this one.
    fn index_of(&self, deadline: Deadline) -> usize {
        self.deadlines.partition_point(|(at, _)| *at < deadline)
    }

    /// Returns true if the filter's own tick is due in the tick at `now`, once for each of its periods.
    pub(crate) fn take_own_tick(&mut self, now: u64) -> bool {
        // A tick that was set for the own one is it, also if the host's clock differs a little from this one.
        let reached = self.armed.as_ref().map_or(now, |armed| now.max(armed.at));
        match &mut self.own {
            Some(own) if own.next_at <= reached => {
                own.next_at = now.saturating_add(own.period);
                true
            }
            _ => false,
        }
    }

    /// Removes the deadlines that are due in the tick at `now`, and returns them with what waits for them: the earliest
    /// first, at most [`MAX_DUE_PER_TICK`].
    pub(crate) fn take_due(&mut self, now: u64) -> Vec<(Deadline, T)> {
        let count = self.deadlines.iter().take(MAX_DUE_PER_TICK).take_while(|(deadline, _)| deadline.at <= now).count();
        self.deadlines.drain(..count).collect()
    }

    /// Ends a tick: returns the tick period to set in the host until the next deadline or own tick. `None` if the host
    /// has it already, because it repeats the last one.
    pub(crate) fn arm(&mut self, now: u64) -> Option<TickPeriod> {
        let first = self.deadlines.first().map(|(deadline, _)| deadline.at);
        let next = first.into_iter().chain(self.own.as_ref().map(|own| own.next_at)).min();
        let before = self.armed.as_ref().map_or(0, |armed| armed.period);
        self.armed = next.map(|at| ArmedTick { at, period: milliseconds_until(at, now) });
        let period = self.armed.as_ref().map_or(0, |armed| armed.period);
        (period != before).then_some(period)
    }
}

/// Returns the period of a tick at `at`: rounded up, since a deadline is never early, and at least one millisecond.
fn milliseconds_until(at: u64, now: u64) -> TickPeriod {
    let period = at.saturating_sub(now).div_ceil(MILLISECOND).max(1);
    TickPeriod::try_from(period).unwrap_or(TickPeriod::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000 * MILLISECOND;

    fn deadline(at: u64, stream: u32) -> Deadline {
        Deadline { at, stream, direction: Direction::Request }
    }

    fn due(timer: &mut Timer<&'static str>, now: u64) -> Vec<&'static str> {
        timer.take_due(now).into_iter().map(|(_, waiting)| waiting).collect()
    }

    #[test]
    fn tick_is_set_to_the_earliest_deadline() {
        let mut timer = Timer::default();
        assert_eq!(timer.insert(deadline(5 * SECOND, 1), "five", 0), Some(5_000));
        assert_eq!(timer.insert(deadline(7 * SECOND, 2), "seven", SECOND), None);
        assert_eq!(timer.insert(deadline(3 * SECOND, 3), "three", SECOND), Some(2_000));
        assert_eq!(due(&mut timer, 3 * SECOND), ["three"]);
        assert_eq!(timer.arm(3 * SECOND), None, "the host repeats the last period, which is two seconds");
        assert_eq!(due(&mut timer, 5 * SECOND + 1), ["five"]);
        assert_eq!(timer.arm(5 * SECOND + 1), None, "two seconds again, rounded up");
        assert_eq!(due(&mut timer, 9 * SECOND), ["seven"]);
        assert_eq!(timer.arm(9 * SECOND), Some(0));
        assert_eq!(timer.arm(9 * SECOND), None);
    }

    #[test]
    fn early_tick_continues_no_stream() {
        let mut timer = Timer::default();
        assert_eq!(timer.insert(deadline(10 * MILLISECOND, 1), "a", 0), Some(10));
        assert!(due(&mut timer, 10 * MILLISECOND - 1).is_empty());
        assert_eq!(timer.arm(10 * MILLISECOND - 1), Some(1));
        assert_eq!(due(&mut timer, 11 * MILLISECOND), ["a"]);
    }

    #[test]
    fn tick_that_the_host_has_skipped_is_set_again() {
        let mut timer = Timer::default();
        assert_eq!(timer.insert(deadline(5 * SECOND, 1), "a", 0), Some(5_000));
        assert_eq!(timer.insert(deadline(10 * SECOND, 2), "b", 5 * SECOND), None, "it may come now");
        assert_eq!(timer.insert(deadline(11 * SECOND, 3), "c", 6 * SECOND), Some(1));
        assert_eq!(due(&mut timer, 6 * SECOND), ["a"]);
        assert_eq!(timer.arm(6 * SECOND), Some(4_000));
    }

    #[test]
    fn removed_deadline_is_not_due() {
        let mut timer = Timer::default();
        timer.insert(deadline(SECOND, 1), "gone", 0);
        timer.insert(deadline(SECOND, 2), "stays", 0);
        timer.remove(deadline(SECOND, 1));
        assert_eq!(due(&mut timer, SECOND), ["stays"]);
        assert_eq!(timer.arm(SECOND), Some(0));
        assert!(timer.deadlines.is_empty());
    }

    #[test]
    fn tick_takes_a_bounded_number_of_deadlines_in_order() {
        let mut timer = Timer::default();
        let count = u32::try_from(MAX_DUE_PER_TICK).unwrap() + 10;
        for stream in (0..count).rev() {
            timer.insert(deadline(u64::from(stream), stream), "a", 0);
        }
        let taken = timer.take_due(SECOND);
        assert!(taken.iter().map(|(deadline, _)| deadline.stream).eq(0..count - 10));
        assert_eq!(timer.arm(SECOND), None, "the host repeats the tick of one millisecond");
        assert_eq!(timer.take_due(SECOND).len(), 10);
    }

    #[test]
    fn own_ticks_go_on_at_their_period_beside_deadlines() {
        let mut timer = Timer::default();
        assert_eq!(timer.set_own_period(Some(Duration::from_secs(1)), 0), Some(1_000));
        assert_eq!(timer.insert(deadline(1_300 * MILLISECOND, 1), "a", 100 * MILLISECOND), None);
        // The host ticks a little early by this clock; it is the own tick nevertheless.
        assert!(timer.take_own_tick(SECOND - 1));
        assert_eq!(timer.arm(SECOND), Some(300));
        assert!(!timer.take_own_tick(1_300 * MILLISECOND));
        assert_eq!(due(&mut timer, 1_300 * MILLISECOND), ["a"]);
        assert_eq!(timer.arm(1_300 * MILLISECOND), Some(700));
        assert!(timer.take_own_tick(2_100 * MILLISECOND));
        assert!(!timer.take_own_tick(2_100 * MILLISECOND), "a late tick is one");
        assert_eq!(timer.arm(2_100 * MILLISECOND), Some(1_000));
    }

    #[test]
    fn own_ticks_alone_set_the_period_once() {
        let mut timer: Timer<()> = Timer::default();
        assert_eq!(timer.set_own_period(None, 0), None);
        assert_eq!(timer.set_own_period(Some(Duration::ZERO), 0), Some(1));
        for tick in 1..5 {
            assert!(timer.take_own_tick(tick * MILLISECOND));
            assert_eq!(timer.arm(tick * MILLISECOND), None);
        }
        assert_eq!(timer.set_own_period(Some(Duration::MAX), 9), Some(TickPeriod::MAX));
        assert_eq!(timer.set_own_period(None, 9), Some(0));
    }
}
