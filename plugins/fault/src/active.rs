//! The requests that are delayed now, of all workers: one value of shared data with the end of each delay.
//!
//! ```text
//!  delay begins ─► [ends that have passed are removed] ─► fewer than the maximum? ─► its end is added
//!  delay ends, or its request ─► its end is removed
//! ```
//!
//! An entry expires by itself. So the requests of a VM that has failed do not count for longer than their delays.

use std::time::Duration;

/// The size of an entry: the time at which it expires, in nanoseconds of the host's monotonic clock.
const ENTRY: usize = 8;

/// The time that an entry outlives its delay, since timers may be late.
const GRACE: Duration = Duration::from_secs(1);

/// Returns the time at which a delay that begins at `now` expires.
pub fn expiry(now: Duration, delay: Duration) -> u64 {
    nanoseconds(now.saturating_add(delay).saturating_add(GRACE))
}

/// Adds an entry and removes the expired ones. Returns `None` if `max` others are active.
pub fn add(entries: &[u8], expires_at: u64, now: Duration, max: usize) -> Option<Vec<u8>> {
    let mut active = live(entries, now).flatten().copied().collect::<Vec<u8>>();
    if active.len() / ENTRY >= max {
        return None;
    }
    active.extend(expires_at.to_le_bytes());
    Some(active)
}

/// Removes one entry, and the expired ones. Entries that expire at the same time are alike, so any of them goes.
pub fn remove(entries: &[u8], expires_at: u64, now: Duration) -> Vec<u8> {
    let mut active: Vec<_> = live(entries, now).copied().collect();
    if let Some(index) = active.iter().position(|entry| *entry == expires_at.to_le_bytes()) {
        active.swap_remove(index);
    }
    active.concat()
}

fn live(entries: &[u8], now: Duration) -> impl Iterator<Item = &[u8; ENTRY]> {
    let now = nanoseconds(now);
    entries.as_chunks().0.iter().filter(move |entry| u64::from_le_bytes(**entry) > now)
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
