//! Outlier detection: endpoints whose requests fail are left out for a while.

use std::time::Duration;

use serde::Serialize;

/// The outlier detection of a cluster (`OutlierDetection` in Envoy).
///
/// An ejected endpoint gets no requests for `ejection_time` times the number of its ejections, at most
/// `max_ejection_time`. The number falls again with each interval without an ejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Ejects after so many responses with a 5xx status in a row. Attempts without a response count, too, unless
    /// `consecutive_local_errors` counts them. `None` does not eject for this reason.
    pub consecutive_errors: Option<u32>,
    /// Ejects after so many responses with 502, 503 or 504 in a row, and attempts without a response as above.
    pub consecutive_gateway_errors: Option<u32>,
    /// Ejects after so many attempts without a response in a row: no connection, a reset, or the end of the attempt's
    /// time.
    pub consecutive_local_errors: Option<u32>,
    /// Ejects endpoints whose share of successes is far below that of the others.
    pub success_rate: Option<SuccessRate>,
    /// The time between two looks at success rates, and after which the number of ejections falls.
    pub interval: Duration,
    /// The time of a first ejection.
    pub ejection_time: Duration,
    /// The longest ejection.
    pub max_ejection_time: Duration,
    /// The endpoints of a cluster that are ejected at the same time, for each hundred: 0 to 100.
    pub max_ejected_percent: u32,
}

/// Ejects an endpoint whose share of successes in an interval is below the mean of all endpoints, less
/// `deviation_thousandths` of their standard deviation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SuccessRate {
    /// Endpoints with enough requests, without which none is ejected.
    pub minimum_endpoints: u32,
    /// Requests of an endpoint in an interval, without which it is not looked at.
    pub minimum_requests: u32,
    /// The factor of the standard deviation, in thousandths.
    pub deviation_thousandths: u32,
}

/// As in Envoy, but for the share of endpoints, which is 10 there.
impl Default for OutlierDetection {
    fn default() -> Self {
        Self {
            consecutive_errors: Some(5),
            consecutive_gateway_errors: None,
            consecutive_local_errors: None,
            success_rate: None,
            interval: Duration::from_secs(10),
            ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejected_percent: 50,
        }
    }
}

impl Default for SuccessRate {
    fn default() -> Self {
        Self { minimum_endpoints: 5, minimum_requests: 100, deviation_thousandths: 1_900 }
    }
}

impl OutlierDetection {
    /// Returns the time of an ejection, which is 1 for the first.
    pub fn ejection(&self, count: u32) -> Duration {
        let longest = self.max_ejection_time.max(self.ejection_time);
        self.ejection_time.saturating_mul(count.max(1)).min(longest)
    }

    /// Returns the number of endpoints that may be ejected of so many.
    pub fn max_ejected(&self, endpoints: usize) -> usize {
        endpoints.saturating_mul(self.max_ejected_percent as usize) / 100
    }
}
