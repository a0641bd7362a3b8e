//! Outlier detection of one endpoint, shared by all workers: what is counted, and whether it is ejected. No IO, and no
//! clock of its own.
//!
//! ```text
//! worker: result of an attempt ─► Counts::record ─► enough in a row ─► ejected until ...
//! main thread: each interval ─► success rates, and the ends of ejections
//! ```

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use weir_model::{OutlierDetection, SuccessRate};

/// The result of an attempt at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A response with this status, or that of its gRPC status.
    Response(u16),
    /// No response.
    LocalError,
}

impl Outcome {
    /// Returns the outcome of a response. The status of a gRPC response without a body is mapped to one of HTTP, as in
    /// Envoy.
    pub(super) fn of_response(status: StatusCode, headers: &HeaderMap) -> Self {
        let grpc = headers.get("grpc-status").and_then(|status| status.to_str().ok()?.parse::<u32>().ok());
        Self::Response(match grpc {
            Some(4) => 504,
            Some(12) => 501,
            Some(14) => 503,
            Some(2 | 13 | 15) => 500,
            _ => status.as_u16(),
        })
    }
}

/// The reason of an ejection, in the words of the field that configures it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EjectionCause {
    /// Responses with a 5xx status in a row.
    ConsecutiveErrors,
    /// Responses with 502, 503 or 504 in a row.
    ConsecutiveGatewayErrors,
    /// Attempts without a response in a row.
    ConsecutiveLocalErrors,
    /// A success rate far below that of the others.
    SuccessRate,
}

impl EjectionCause {
    /// Returns the name of the field, for logs and `/clusters`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::ConsecutiveErrors => "consecutiveErrors",
            Self::ConsecutiveGatewayErrors => "consecutiveGatewayErrors",
            Self::ConsecutiveLocalErrors => "consecutiveLocalErrors",
            Self::SuccessRate => "successRate",
        }
    }

    const ALL: [Self; 4] =
        [Self::ConsecutiveErrors, Self::ConsecutiveGatewayErrors, Self::ConsecutiveLocalErrors, Self::SuccessRate];
}

/// The counts and the ejection of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Outlier {
    errors: AtomicU32,
    gateway_errors: AtomicU32,
    local_errors: AtomicU32,
    /// Attempts in this interval, and those that succeeded.
    attempts: AtomicU32,
    successes: AtomicU32,
    /// The end of the ejection in milliseconds since the start of the process; 0 if it is not ejected.
    ejected_until: AtomicU64,
    /// The index of the cause in [`EjectionCause::ALL`].
    cause: AtomicU32,
    /// The number of ejections, which falls again.
    ejections: AtomicU32,
}

impl Outlier {
    /// Counts the result of an attempt. Returns the cause if the endpoint should be ejected now.
    pub(super) fn record(&self, outcome: Outcome, policy: &OutlierDetection) -> Option<EjectionCause> {
        if policy.success_rate.is_some() {
            self.attempts.fetch_add(1, Ordering::Relaxed);
            if matches!(outcome, Outcome::Response(status) if status < 500) {
                self.successes.fetch_add(1, Ordering::Relaxed);
            }
        }
        let is_split = policy.consecutive_local_errors.is_some();
        let (is_error, is_gateway_error, is_local_error) = match outcome {
            Outcome::Response(status) => (status >= 500, matches!(status, 502..=504), false),
            Outcome::LocalError => (!is_split, !is_split, true),
        };
        let counters = [
            (&self.errors, is_error, policy.consecutive_errors, EjectionCause::ConsecutiveErrors),
            (
                &self.gateway_errors,
                is_gateway_error,
                policy.consecutive_gateway_errors,
                EjectionCause::ConsecutiveGatewayErrors,
            ),
            (
                &self.local_errors,
                is_local_error,
                policy.consecutive_local_errors,
                EjectionCause::ConsecutiveLocalErrors,
            ),
        ];
        let mut cause = None;
        for (counter, counts, limit, of) in counters {
            let Some(limit) = limit else { continue };
            // A local error says nothing about responses, if it is counted by itself.
            let is_unrelated = is_split && is_local_error;
            match counts {
                true if counter.fetch_add(1, Ordering::Relaxed) + 1 >= limit => cause = cause.or(Some(of)),
                // Without a write as long as all is well: workers on all cores read it.
                false if !is_unrelated && counter.load(Ordering::Relaxed) != 0 => counter.store(0, Ordering::Relaxed),
                _ => {}
            }
        }
        cause.filter(|_| !self.is_ejected())
    }

    /// Returns true while the endpoint is ejected.
    pub(super) fn is_ejected(&self) -> bool {
        self.ejected_until.load(Ordering::Relaxed) != 0
    }

    /// Returns the end of the ejection since the start of the process, and its cause; `None` if it is not ejected.
    pub(super) fn ejection(&self) -> Option<(Duration, EjectionCause)> {
        let until = self.ejected_until.load(Ordering::Relaxed);
        let cause = EjectionCause::ALL.get(self.cause.load(Ordering::Relaxed) as usize).copied()?;
        (until != 0).then(|| (Duration::from_millis(until), cause))
    }

    /// Ejects the endpoint. Returns the time of the ejection.
    pub(super) fn eject(&self, cause: EjectionCause, now: Duration, policy: &OutlierDetection) -> Duration {
        let count = self.ejections.fetch_add(1, Ordering::Relaxed) + 1;
        let time = policy.ejection(count);
        let index = EjectionCause::ALL.iter().position(|of| *of == cause).unwrap_or(0);
        self.cause.store(u32::try_from(index).unwrap_or(0), Ordering::Relaxed);
        let until = u64::try_from((now + time).as_millis()).unwrap_or(u64::MAX).max(1);
        self.ejected_until.store(until, Ordering::Relaxed);
        time
    }

    /// Ends the ejection if its time is over. Returns whether it ended.
    pub(super) fn uneject(&self, now: Duration) -> bool {
        let until = self.ejected_until.load(Ordering::Relaxed);
        if until == 0 || u128::from(until) > now.as_millis() {
            return false;
        }
        for counter in [&self.errors, &self.gateway_errors, &self.local_errors] {
            counter.store(0, Ordering::Relaxed);
        }
        self.ejected_until.store(0, Ordering::Relaxed);
        true
    }

    /// Ends an interval: the number of ejections falls if the endpoint is not ejected. Returns the attempts of the
    /// interval, and the successes.
    pub(super) fn end_interval(&self) -> IntervalCounts {
        if !self.is_ejected() {
            let count = self.ejections.load(Ordering::Relaxed);
            self.ejections.store(count.saturating_sub(1), Ordering::Relaxed);
        }
        IntervalCounts {
            attempts: self.attempts.swap(0, Ordering::Relaxed),
            successes: self.successes.swap(0, Ordering::Relaxed),
        }
    }
}

/// The attempts of an endpoint in one interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IntervalCounts {
    pub(super) attempts: u32,
    pub(super) successes: u32,
}

impl IntervalCounts {
    fn rate(self) -> f64 {
        f64::from(self.successes) / f64::from(self.attempts.max(1))
    }
}

/// Returns the positions of endpoints whose success rate is an outlier, the worst first.
pub(super) fn success_rate_outliers(counts: &[IntervalCounts], policy: &SuccessRate) -> Vec<usize> {
    let enough = |counts: &IntervalCounts| counts.attempts >= policy.minimum_requests.max(1);
    let rates: Vec<f64> = counts.iter().copied().filter(enough).map(IntervalCounts::rate).collect();
    if rates.len() < policy.minimum_endpoints.max(1) as usize {
        return Vec::new();
    }
    let number = rates.len() as f64;
    let mean = rates.iter().sum::<f64>() / number;
    let variance = rates.iter().map(|rate| (rate - mean).powi(2)).sum::<f64>() / number;
    let threshold = mean - variance.sqrt() * f64::from(policy.deviation_thousandths) / 1_000.0;
    let rate = |index: &usize| counts[*index].rate();
    let mut outliers: Vec<usize> =
        (0..counts.len()).filter(|index| enough(&counts[*index]) && rate(index) < threshold).collect();
    outliers.sort_by(|one, other| rate(one).total_cmp(&rate(other)));
    outliers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OK: Outcome = Outcome::Response(200);

    fn policy(errors: Option<u32>, gateway: Option<u32>, local: Option<u32>) -> OutlierDetection {
        OutlierDetection {
            consecutive_errors: errors,
            consecutive_gateway_errors: gateway,
            consecutive_local_errors: local,
            ..OutlierDetection::default()
        }
    }

    /// Returns the number of the first outcome with a cause, from 1, and the cause.
    fn first(outcomes: &[Outcome], policy: &OutlierDetection) -> Option<(usize, EjectionCause)> {
        let outlier = Outlier::default();
        let mut numbered = (1..).zip(outcomes);
        numbered.find_map(|(number, outcome)| Some((number, outlier.record(*outcome, policy)?)))
    }

    #[test]
    fn causes_are_those_of_their_fields() {
        use EjectionCause::{ConsecutiveErrors, ConsecutiveGatewayErrors, ConsecutiveLocalErrors};
        use Outcome::{LocalError, Response};
        let (bad, gateway) = (Response(500), Response(503));
        for (outcomes, policy, expected) in [
            (&[bad, bad, bad][..], policy(Some(3), None, None), Some((3, ConsecutiveErrors))),
            (&[bad, bad, OK, bad, bad], policy(Some(3), None, None), None),
            (&[bad, Response(404), bad, bad], policy(Some(3), None, None), None),
            (&[gateway, bad, gateway], policy(None, Some(2), None), None),
            (&[gateway, gateway], policy(Some(5), Some(2), None), Some((2, ConsecutiveGatewayErrors))),
            (&[LocalError, LocalError], policy(Some(2), None, None), Some((2, ConsecutiveErrors))),
            (&[LocalError, LocalError], policy(Some(1), None, Some(2)), Some((2, ConsecutiveLocalErrors))),
            (&[bad, LocalError, bad], policy(Some(2), None, Some(9)), Some((3, ConsecutiveErrors))),
            (&[LocalError, bad, LocalError], policy(None, None, Some(2)), None),
            (&[bad; 9], policy(None, None, None), None),
        ] {
            assert_eq!(first(outcomes, &policy), expected, "{outcomes:?} {policy:?}");
        }
    }

    #[test]
    fn ejections_grow_and_fall_again() {
        let policy = OutlierDetection { max_ejection_time: Duration::from_secs(70), ..policy(Some(1), None, None) };
        let (outlier, mut now) = (Outlier::default(), Duration::from_secs(5));
        for seconds in [30, 60, 70, 70] {
            let cause = outlier.record(Outcome::Response(500), &policy).unwrap();
            assert_eq!(outlier.eject(cause, now, &policy), Duration::from_secs(seconds));
            assert_eq!(outlier.ejection().unwrap().1, EjectionCause::ConsecutiveErrors);
            assert_eq!(outlier.record(Outcome::Response(500), &policy), None, "it is ejected already");
            now += Duration::from_secs(seconds);
            assert!(!outlier.uneject(now - Duration::from_millis(1)) && outlier.uneject(now) && !outlier.uneject(now));
        }
        (0..4).for_each(|_| drop_counts(outlier.end_interval()));
        let cause = outlier.record(Outcome::Response(500), &policy).unwrap();
        assert_eq!(outlier.eject(cause, now, &policy), Duration::from_secs(30));
    }

    fn drop_counts(_: IntervalCounts) {}

    #[test]
    fn success_rate_far_below_the_others_is_an_outlier() {
        let counts = |successes| IntervalCounts { attempts: 100, successes };
        let policy = SuccessRate::default();
        let all = [99, 100, 98, 60, 100, 99].map(counts);
        assert_eq!(success_rate_outliers(&all, &policy), [3]);
        assert!(success_rate_outliers(&all[..4], &policy).is_empty(), "too few endpoints");
        assert!(success_rate_outliers(&[counts(50); 8], &policy).is_empty(), "all are alike");
        let few = IntervalCounts { attempts: 99, successes: 0 };
        let with_few = [counts(99), counts(100), few, counts(99), counts(98), counts(100)];
        assert!(success_rate_outliers(&with_few, &policy).is_empty(), "too few requests");
    }

    proptest! {
        /// The cause comes exactly when the naive count of the last outcomes reaches the limit.
        #[test]
        fn record_equals_naive_count(
            outcomes in prop::collection::vec(prop_oneof![
                Just(OK), Just(Outcome::Response(500)), Just(Outcome::Response(503)), Just(Outcome::LocalError),
            ], 0..40),
            limit in 1_u32..5,
        ) {
            let policy = policy(Some(limit), None, None);
            let outlier = Outlier::default();
            for end in 1..=outcomes.len() {
                let in_a_row = outcomes[..end].iter().rev().take_while(|outcome| **outcome != OK).count();
                let cause = outlier.record(outcomes[end - 1], &policy);
                prop_assert_eq!(cause.is_some(), in_a_row >= limit as usize);
            }
        }
    }
}
