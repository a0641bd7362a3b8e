//! A token bucket as one number: the time at which it will be full again (GCRA, the "theoretical arrival time").
//!
//! ```text
//!           now                          full_at
//!  ──────────┼──────────────────────────────┼────────► ns
//!            │◄── tokens taken and not yet ─►│
//!            │    refilled, times interval   │
//! ```
//!
//! Taking a token moves `full_at` by one interval. A bucket whose `full_at` has passed is full, so it need not be
//! stored. All times are whole nanoseconds, so no rounding error adds up.

/// The maximum of requests in a period, and of a burst. An interval is then at least a microsecond, so rounding it to a
/// nanosecond changes the rate by less than a thousandth.
pub const MAX_REQUESTS: u64 = 1_000_000;

/// The accepted excess of `full_at` over an empty bucket, in nanoseconds. Clocks of other workers may be a little
/// ahead. A larger excess means that the clock was set back, or that the configuration has changed.
const MAX_SKEW: u64 = 1_000_000_000;

/// The refill rate and the capacity of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds until one token is refilled.
    interval: u64,
    burst: u64,
}

/// The result of taking a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeResult {
    /// A token was taken. The value is the new `full_at`.
    Taken(u64),
    /// The bucket is empty.
    Empty {
        /// The time at which the bucket is full again.
        full_at: u64,
        /// True if `full_at` was too far ahead of the clock. The corrected value must be stored.
        is_corrected: bool,
    },
}

/// The state of a bucket, for the `ratelimit-…` headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaStatus {
    /// The tokens of the full bucket.
    pub limit: u64,
    /// The tokens now.
    pub remaining: u64,
    /// Seconds until the bucket is full, rounded up.
    pub reset_s: u64,
}

impl Rate {
    /// Creates a rate of `requests` (1 to [`MAX_REQUESTS`]) in `period_ns`, with at most `burst` at once.
    pub fn new(requests: u64, period_ns: u64, burst: u64) -> Self {
        let requests = requests.max(1);
        Self { interval: ((period_ns + requests / 2) / requests).max(1), burst: burst.max(1) }
    }

    /// Returns the time to fill an empty bucket, in nanoseconds.
    fn capacity(self) -> u64 {
        self.interval.saturating_mul(self.burst)
    }

    /// Takes a token from the bucket that is full at `full_at`, if it has one. A clock that is set back never adds
    /// tokens.
    pub fn take(self, full_at: u64, now: u64) -> TakeResult {
        let owed = full_at.saturating_sub(now);
        let next = owed.saturating_add(self.interval);
        if next <= self.capacity() {
            return TakeResult::Taken(now.saturating_add(next));
        }
        let is_corrected = owed > self.capacity().saturating_add(MAX_SKEW);
        let owed = owed.min(self.capacity());
        TakeResult::Empty { full_at: now.saturating_add(owed), is_corrected }
    }

    /// Returns `full_at` after a token is returned to the bucket.
    pub fn refund(self, full_at: u64) -> u64 {
        full_at.saturating_sub(self.interval)
    }

    /// Returns the state of the bucket.
    pub fn quota(self, full_at: u64, now: u64) -> QuotaStatus {
        let owed = full_at.saturating_sub(now);
        let remaining = self.capacity().saturating_sub(owed) / self.interval;
        QuotaStatus { limit: self.burst, remaining, reset_s: seconds(owed) }
    }

    /// Returns the seconds until the bucket has a token, rounded up, and at least one.
    pub fn wait_s(self, full_at: u64, now: u64) -> u64 {
        let owed = full_at.saturating_sub(now).saturating_add(self.interval);
        seconds(owed.saturating_sub(self.capacity())).max(1)
    }
}

fn seconds(nanoseconds: u64) -> u64 {
    nanoseconds.div_ceil(1_000_000_000)
}
