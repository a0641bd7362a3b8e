//! Retries: when, how often and after which time a request is sent again.

use std::sync::Arc;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::limits::{DEFAULT_RETRY_BACKOFF, MAX_RETRY_AFTER, MAX_RETRY_BACKOFF_FACTOR};

/// The retries of a route's requests (`RetryPolicy` in Envoy, GEP-1731).
///
/// A request of a route without a policy is sent again only if no endpoint can have acted on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryPolicy {
    /// Retries of one request at most; 0 to [`MAX_RETRIES`](crate::limits::MAX_RETRIES).
    pub retries: u32,
    /// True if a request is sent again after an attempt without a response: its connection was closed, its stream reset,
    /// or its time was over.
    pub on_reset: bool,
    /// The statuses of responses after which a request is sent again.
    pub statuses: StatusSet,
    /// The gRPC statuses of responses without a body after which a request is sent again.
    #[serde(skip_serializing_if = "GrpcStatusSet::is_empty")]
    pub grpc_statuses: GrpcStatusSet,
    /// True if only requests with an idempotent method (RFC 9110 §9.2.2) are sent again after an endpoint may have acted
    /// on them.
    pub idempotent_only: bool,
    /// The time before each retry.
    pub backoff: RetryBackoff,
    /// The longest time that a response's `retry-after` may ask for: it takes the place of `backoff`, and a response that
    /// asks for more is not followed by a retry. `None` ignores the header.
    pub max_retry_after: Option<Duration>,
}

impl RetryPolicy {
    /// Returns a policy that sends idempotent requests again after an attempt without a response.
    pub fn new(retries: u32) -> Self {
        Self {
            retries,
            on_reset: true,
            statuses: StatusSet::default(),
            grpc_statuses: GrpcStatusSet::default(),
            idempotent_only: true,
            backoff: RetryBackoff::default(),
            max_retry_after: Some(MAX_RETRY_AFTER),
        }
    }
}

/// The time before a retry: exponential, with full jitter above a minimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryBackoff {
    /// The least time before each retry.
    pub minimum: Duration,
    /// The most that is added to `minimum` before the first retry. Doubles with each further one.
    pub base: Duration,
    /// The most that is ever added.
    pub max: Duration,
}

impl RetryBackoff {
    /// Returns a back-off that never waits less than `minimum`.
    pub fn at_least(minimum: Duration) -> Self {
        let base = minimum.max(Duration::from_millis(1));
        Self { minimum, base, max: base.saturating_mul(MAX_RETRY_BACKOFF_FACTOR) }
    }

    /// Returns the time before a retry, which is 1 for the first. `draw` is uniform over 0 to 1.
    pub fn delay(&self, retry: u32, draw: f64) -> Duration {
        let doubled = self.base.saturating_mul(1_u32.checked_shl(retry.saturating_sub(1)).unwrap_or(u32::MAX));
        self.minimum + doubled.min(self.max).mul_f64(draw.clamp(0.0, 1.0))
    }
}

/// As in Envoy.
impl Default for RetryBackoff {
    fn default() -> Self {
        Self { minimum: Duration::ZERO, ..Self::at_least(DEFAULT_RETRY_BACKOFF) }
    }
}

/// The first status that a [`StatusSet`] can contain.
const FIRST_STATUS: u16 = 400;

/// A set of HTTP statuses from 400 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StatusSet([u64; 4]);

impl StatusSet {
    /// Adds a status. Returns false if it is not from 400 to 599.
    pub fn insert(&mut self, status: u16) -> bool {
        let Some((word, bit)) = Self::position(status) else { return false };
        self.0[word] |= bit;
        true
    }

    /// Returns true if the status is in the set.
    pub fn contains(&self, status: u16) -> bool {
        Self::position(status).is_some_and(|(word, bit)| self.0[word] & bit != 0)
    }

    /// Returns true if the set has no status.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }

    /// Returns the statuses, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        (FIRST_STATUS..600).filter(|status| self.contains(*status))
    }

    fn position(status: u16) -> Option<(usize, u64)> {
        let index = status.checked_sub(FIRST_STATUS).filter(|index| *index < 200)?;
        Some((usize::from(index / 64), 1 << (index % 64)))
    }
}

impl FromIterator<u16> for StatusSet {
    /// Leaves out what is not from 400 to 599.
    fn from_iter<I: IntoIterator<Item = u16>>(statuses: I) -> Self {
        let mut set = Self::default();
        statuses.into_iter().for_each(|status| {
            set.insert(status);
        });
        set
    }
}

impl Serialize for StatusSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// A set of gRPC statuses, 0 to 16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct GrpcStatusSet(u32);

impl GrpcStatusSet {
    /// Adds a status. One above 16 is not in the set afterwards.
    pub fn insert(&mut self, status: u32) {
        if status <= 16 {
            self.0 |= 1 << status;
        }
    }

    /// Returns true if the status is in the set.
    pub fn contains(self, status: u32) -> bool {
        status <= 16 && self.0 & (1 << status) != 0
    }

    /// Returns true if the set has no status.
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }
}

impl Serialize for GrpcStatusSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((0..=16).filter(|status| self.contains(*status)))
    }
}

/// The share of a cluster's requests that may be retries, so that retries do not overload endpoints that fail
/// (`retryConstraint` of the Gateway API's `XBackendTrafficPolicy`, `RetryBudget` in Envoy).
///
/// Counts the retries of requests on which an endpoint may have acted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RetryBudget {
    /// Retries for each hundred requests of `interval`: 0 to 100.
    pub percent: u32,
    /// The time over which requests and retries are counted.
    pub interval: Duration,
    /// Retries that are always allowed within `min_interval`.
    pub min_count: u32,
    /// See `min_count`.
    pub min_interval: Duration,
}

impl RetryBudget {
    /// Returns the budget for many clusters; `None` if it is the default.
    pub fn shared(self) -> Option<Arc<Self>> {
        (self != Self::default()).then(|| Arc::new(self))
    }

    /// Returns the retries that `interval` allows for so many requests.
    pub fn allowed(&self, requests: u64) -> u64 {
        let share = requests.saturating_mul(u64::from(self.percent)) / 100;
        let minimum = u128::from(self.min_count).saturating_mul(self.interval.as_millis());
        let minimum = minimum / self.min_interval.as_millis().max(1);
        share.max(u64::try_from(minimum).unwrap_or(u64::MAX))
    }
}

/// As in the Gateway API: 20 of 100 over 10 s, and 10 a second.
impl Default for RetryBudget {
    fn default() -> Self {
        Self { percent: 20, interval: Duration::from_secs(10), min_count: 10, min_interval: Duration::from_secs(1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_maximum_above_the_minimum() {
        let backoff = RetryBackoff::at_least(Duration::from_millis(100));
        for (retry, shortest, longest) in
            [(1, 100, 200), (2, 100, 300), (4, 100, 900), (5, 100, 1_100), (99, 100, 1_100)]
        {
            assert_eq!(backoff.delay(retry, 0.0), Duration::from_millis(shortest), "{retry}");
            assert_eq!(backoff.delay(retry, 1.0), Duration::from_millis(longest), "{retry}");
        }
        assert_eq!(RetryBackoff::default().delay(1, 0.0), Duration::ZERO, "full jitter");
        assert_eq!(RetryBackoff::default().delay(9, 1.0), Duration::from_millis(250));
    }

    #[test]
    fn sets_contain_what_was_inserted() {
        let mut set: StatusSet = [503, 400, 599, 463, 464, 200, 600].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [400, 463, 464, 503, 599]);
        assert!(set.insert(500) && !set.insert(399) && !set.insert(600));
        assert!(set.contains(500) && !set.contains(501) && !set.contains(399) && !set.contains(0));
        let mut grpc = GrpcStatusSet::default();
        assert!(grpc.is_empty());
        [14, 0, 16, 17, 40].into_iter().for_each(|status| grpc.insert(status));
        assert_eq!((0..64).filter(|status| grpc.contains(*status)).collect::<Vec<_>>(), [0, 14, 16]);
    }

    #[test]
    fn budget_allows_share_or_minimum() {
        let budget = RetryBudget::default();
        for (requests, allowed) in [(0, 100), (500, 100), (1_000, 200), (10_000, 2_000)] {
            assert_eq!(budget.allowed(requests), allowed, "{requests}");
        }
        assert_eq!(RetryBudget { percent: 0, min_count: 0, ..budget }.allowed(1_000), 0);
    }
}
