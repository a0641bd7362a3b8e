//! `SweepClock`: the time of a worker's pools.

use std::cell::Cell;

/// Coarse clock: counts pool sweeps (500 ms each). Stamping an idle connection with it avoids a clock read per request.
#[derive(Debug, Default)]
pub(super) struct SweepClock(Cell<u32>);

impl SweepClock {
    pub(super) fn advance(&self) {
        self.0.set(self.0.get().wrapping_add(1));
    }

    pub(super) fn now(&self) -> u32 {
        self.0.get()
    }

    /// Returns true if as many sweeps have passed since `since`; false without a limit.
    pub(super) fn has_passed(&self, since: u32, limit: Option<u32>) -> bool {
        limit.is_some_and(|limit| self.0.get().wrapping_sub(since) >= limit)
    }
}
