//! Encodes the outlier detection of a cluster. Each trigger is enforced always or never.

use weir_model::{OutlierDetection, SuccessRate};

use super::{duration, uint32_value};
use crate::proto::cluster as pb;

/// Envoy's value of `enforcing_*` for always.
pub(crate) const ALWAYS: u32 = 100;

/// Encodes an outlier detection.
pub(super) fn outlier_detection(model: &OutlierDetection) -> pb::OutlierDetection {
    let OutlierDetection {
        consecutive_errors,
        consecutive_gateway_errors,
        consecutive_local_errors,
        success_rate,
        interval,
        ejection_time,
        max_ejection_time,
        max_ejected_percent,
    } = *model;
    let enforcing = |is_on: bool| Some(uint32_value(if is_on { ALWAYS } else { 0 }));
    let SuccessRate { minimum_endpoints, minimum_requests, deviation_thousandths } = success_rate.unwrap_or_default();
    let of_success_rate = |number| success_rate.map(|_| uint32_value(number));
    pb::OutlierDetection {
        consecutive_5xx: consecutive_errors.map(uint32_value),
        enforcing_consecutive_5xx: enforcing(consecutive_errors.is_some()),
        consecutive_gateway_failure: consecutive_gateway_errors.map(uint32_value),
        enforcing_consecutive_gateway_failure: enforcing(consecutive_gateway_errors.is_some()),
        split_external_local_origin_errors: consecutive_local_errors.is_some(),
        consecutive_local_origin_failure: consecutive_local_errors.map(uint32_value),
        enforcing_consecutive_local_origin_failure: enforcing(consecutive_local_errors.is_some()),
        enforcing_success_rate: enforcing(success_rate.is_some()),
        enforcing_local_origin_success_rate: enforcing(false),
        success_rate_minimum_hosts: of_success_rate(minimum_endpoints),
        success_rate_request_volume: of_success_rate(minimum_requests),
        success_rate_stdev_factor: of_success_rate(deviation_thousandths),
        interval: Some(duration(interval)),
        base_ejection_time: Some(duration(ejection_time)),
        max_ejection_time: Some(duration(max_ejection_time)),
        max_ejection_percent: Some(uint32_value(max_ejected_percent)),
        ..pb::OutlierDetection::default()
    }
}
