//! Outlier detection of a `BackendTrafficPolicy`: validation.

use std::sync::Arc;

use weir_model::limits::{MAX_EJECTION, MAX_OUTLIER_COUNT, MIN_EJECTION};
use weir_model::{OutlierDetection, SuccessRate};

use crate::resource::protocol_options::check_within;
use crate::spec::{OutlierDetectionSpec, SuccessRateSpec};
use crate::yaml::{FieldErrors, FieldPathRef};

/// Validates the outlier detection of a policy.
pub(super) fn check(
    spec: OutlierDetectionSpec,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Arc<OutlierDetection>> {
    let OutlierDetectionSpec {
        consecutive_errors,
        consecutive_gateway_errors,
        consecutive_local_errors,
        success_rate,
        interval,
        ejection_time,
        max_ejection_time,
        max_ejected,
    } = spec;
    let default = OutlierDetection::default();
    let consecutive_errors =
        check_consecutive(consecutive_errors.or(default.consecutive_errors), &path.field("consecutiveErrors"), errors);
    let consecutive_gateway_errors =
        check_consecutive(consecutive_gateway_errors, &path.field("consecutiveGatewayErrors"), errors);
    let consecutive_local_errors =
        check_consecutive(consecutive_local_errors, &path.field("consecutiveLocalErrors"), errors);
    let success_rate = match success_rate {
        None => Some(None),
        Some(spec) => check_success_rate(&spec, &path.field("successRate"), errors).map(Some),
    };
    let bounds = || MIN_EJECTION..=MAX_EJECTION;
    let interval = check_within(interval, default.interval, bounds(), &path.field("interval"), errors);
    let ejection_time =
        check_within(ejection_time, default.ejection_time, bounds(), &path.field("ejectionTime"), errors);
    let longest = default.max_ejection_time.max(ejection_time.unwrap_or_default());
    let max_ejection_time = check_within(max_ejection_time, longest, bounds(), &path.field("maxEjectionTime"), errors);
    let max_ejected_percent = max_ejected.unwrap_or(default.max_ejected_percent);
    if max_ejected_percent > 100 {
        errors.add(&path.field("maxEjected"), format!("{max_ejected_percent} of 100 endpoints"), "0 to 100");
        return None;
    }
    let (ejection_time, max_ejection_time) = (ejection_time?, max_ejection_time?);
    if max_ejection_time < ejection_time {
        errors.add(&path.field("maxEjectionTime"), "shorter than `ejectionTime`", "make it at least as long");
        return None;
    }
    Some(Arc::new(OutlierDetection {
        consecutive_errors: consecutive_errors?.0,
        consecutive_gateway_errors: consecutive_gateway_errors?.0,
        consecutive_local_errors: consecutive_local_errors?.0,
        success_rate: success_rate?,
        interval: interval?,
        ejection_time,
        max_ejection_time,
        max_ejected_percent,
    }))
}

/// A number of failures in a row; `None` if it is disabled.
struct Consecutive(Option<u32>);

fn check_consecutive(number: Option<u32>, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Consecutive> {
    let number = number.filter(|number| *number > 0);
    is_within(number, path, errors).then_some(Consecutive(number))
}

fn check_success_rate(
    spec: &SuccessRateSpec,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<SuccessRate> {
    let SuccessRateSpec { minimum_endpoints, minimum_requests, stdev_factor } = *spec;
    let default = SuccessRate::default();
    let fields =
        [("minimumEndpoints", minimum_endpoints), ("minimumRequests", minimum_requests), ("stdevFactor", stdev_factor)];
    let mut is_valid = true;
    for (name, number) in fields {
        is_valid &= is_within(number, &path.field(name), errors);
    }
    is_valid.then(|| SuccessRate {
        minimum_endpoints: minimum_endpoints.unwrap_or(default.minimum_endpoints),
        minimum_requests: minimum_requests.unwrap_or(default.minimum_requests),
        deviation_thousandths: stdev_factor.unwrap_or(default.deviation_thousandths),
    })
}

fn is_within(number: Option<u32>, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> bool {
    let is_within = number.is_none_or(|number| number <= MAX_OUTLIER_COUNT);
    if !is_within {
        errors.add(path, "out of bounds", format!("at most {MAX_OUTLIER_COUNT}"));
    }
    is_within
}
