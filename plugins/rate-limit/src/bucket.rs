//! A token bucket kept as one number: the time at which it will be full again (GCRA, the "theoretical arrival time").
//!
//! ```text
//!           now                          full_at
//!  ──────────┼──────────────────────────────┼────────► ns
//!            │◄─ what was taken and has not ►│
//!            │   come back: tokens * interval│
//! ```
//!
//! A token taken moves `full_at` by one interval; time brings it nearer. A bucket whose `full_at` has passed is full,
//! so it need not be kept. All is whole nanoseconds, so nothing is lost over long runs.

/// The most requests in a period, and the largest burst: an interval is then at least a microsecond, and rounding it to
/// a nanosecond changes the rate by less than a thousandth.
pub const MAX_REQUESTS: u64 = 1_000_000;

/// How far ahead of the clock a bucket may be beyond what it can owe, in nanoseconds. More than that is no other
/// worker's clock that is a little ahead: the clock was set back, or the configuration has changed.
const MAX_SKEW: u64 = 1_000_000_000;

/// How fast a bucket fills, and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds until a token comes back.
    interval: u64,
    burst: u64,
}

/// An answer of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Take {
    /// It held a token; it is full again then.
    Taken(u64),
    /// It is empty.
    Empty {
        /// When it is full again.
        full_at: u64,
        /// It was beyond what time can explain, and has to be written as empty from now on.
        is_corrected: bool,
    },
}

/// What a bucket holds, for the downstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Tokens when it is full.
    pub limit: u64,
    /// Tokens now.
    pub remaining: u64,
    /// Seconds until it is full, rounded up.
    pub reset_s: u64,
}

impl Rate {
    /// `requests` (1 to [`MAX_REQUESTS`]) in `period_ns`, of which `burst` may come at once.
    pub fn new(requests: u64, period_ns: u64, burst: u64) -> Self {
        let requests = requests.max(1);
        Self { interval: ((period_ns + requests / 2) / requests).max(1), burst: burst.max(1) }
    }

    /// What the bucket can owe when it is empty, in nanoseconds.
    fn capacity(self) -> u64 {
        self.interval.saturating_mul(self.burst)
    }

    /// Takes a token from the bucket that is full at `full_at`, if it has one. The clock may go backwards: then less is
    /// there, never more.
    pub fn take(self, full_at: u64, now: u64) -> Take {
        let owed = full_at.saturating_sub(now);
        let next = owed.saturating_add(self.interval);
        if next <= self.capacity() {
            return Take::Taken(now.saturating_add(next));
        }
        let is_corrected = owed > self.capacity().saturating_add(MAX_SKEW);
        let owed = owed.min(self.capacity());
        Take::Empty { full_at: now.saturating_add(owed), is_corrected }
    }

    /// The bucket's `full_at` after a token was given back.
    pub fn give_back(self, full_at: u64) -> u64 {
        full_at.saturating_sub(self.interval)
    }

    /// What the bucket holds.
    pub fn standing(self, full_at: u64, now: u64) -> Standing {
        let owed = full_at.saturating_sub(now);
        let remaining = self.capacity().saturating_sub(owed) / self.interval;
        Standing { limit: self.burst, remaining, reset_s: seconds(owed) }
    }

    /// Seconds until the bucket has a token, rounded up, at least one.
    pub fn wait_s(self, full_at: u64, now: u64) -> u64 {
        let owed = full_at.saturating_sub(now).saturating_add(self.interval);
        seconds(owed.saturating_sub(self.capacity())).max(1)
    }
}

fn seconds(nanoseconds: u64) -> u64 {
    nanoseconds.div_ceil(1_000_000_000)
}
