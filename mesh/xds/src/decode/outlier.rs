//! Decodes the outlier detection of a cluster. What is absent has Envoy's default.

use std::sync::Arc;
use std::time::Duration;

use weir_model::limits::{MAX_EJECTION, MAX_OUTLIER_COUNT, MIN_EJECTION};
use weir_model::{OutlierDetection, SuccessRate};

use super::field_cursor::{FieldCursor, unsupported};
use super::value::duration;
use crate::encode::ALWAYS;
use crate::proto::{cluster as pb, protobuf};

/// Envoy's default of the failures in a row.
const CONSECUTIVE: u32 = 5;

/// Decodes an outlier detection.
#[expect(clippy::too_many_lines, reason = "every field of the message is named once")]
pub(super) fn outlier_detection(
    message: pb::OutlierDetection,
    cursor: &FieldCursor<'_>,
) -> Option<Arc<OutlierDetection>> {
    let pb::OutlierDetection {
        consecutive_5xx,
        interval,
        base_ejection_time,
        max_ejection_percent,
        enforcing_consecutive_5xx,
        enforcing_success_rate,
        success_rate_minimum_hosts,
        success_rate_request_volume,
        success_rate_stdev_factor,
        consecutive_gateway_failure,
        enforcing_consecutive_gateway_failure,
        split_external_local_origin_errors,
        consecutive_local_origin_failure,
        enforcing_consecutive_local_origin_failure,
        enforcing_local_origin_success_rate: _, // Success rates count both kinds of errors.
        failure_percentage_threshold,
        enforcing_failure_percentage,
        enforcing_failure_percentage_local_origin,
        failure_percentage_minimum_hosts,
        failure_percentage_request_volume,
        max_ejection_time,
        max_ejection_time_jitter,
        successful_active_health_check_uneject_host,
        monitors,
        always_eject_one_host,
        detect_degraded_hosts,
    } = message;
    unsupported!(cursor; failure_percentage_threshold, enforcing_failure_percentage,
        enforcing_failure_percentage_local_origin, failure_percentage_minimum_hosts,
        failure_percentage_request_volume, max_ejection_time_jitter, successful_active_health_check_uneject_host,
        monitors, always_eject_one_host, detect_degraded_hosts);
    let number = |value: Option<protobuf::UInt32Value>, default: u32, field: &str| match value {
        None => Some(default),
        Some(protobuf::UInt32Value { value }) if value <= MAX_OUTLIER_COUNT => Some(value),
        Some(_) => cursor.field(field).reject_value("is too large", &format!("at most {MAX_OUTLIER_COUNT}")),
    };
    let is_enforced = |value: Option<protobuf::UInt32Value>, default: bool, field: &str| match value {
        None => Some(default),
        Some(protobuf::UInt32Value { value: 0 }) => Some(false),
        Some(protobuf::UInt32Value { value: ALWAYS }) => Some(true),
        Some(_) => cursor.field(field).reject_value("is neither 0 nor 100", "an ejection is certain or never happens"),
    };
    let time = |value: Option<protobuf::Duration>, default: Duration, field: &str| {
        let Some(value) = value else { return Some(default) };
        let cursor = cursor.field(field);
        let time = duration(value, &cursor)?;
        match (MIN_EJECTION..=MAX_EJECTION).contains(&time) {
            true => Some(time),
            false => cursor.reject_value("is out of bounds", "100ms to 24h"),
        }
    };
    // All of them before the first `?`: every rejection is reported.
    let errors = number(consecutive_5xx, CONSECUTIVE, "consecutive_5xx");
    let counts_errors = is_enforced(enforcing_consecutive_5xx, true, "enforcing_consecutive_5xx");
    let gateway = number(consecutive_gateway_failure, CONSECUTIVE, "consecutive_gateway_failure");
    let counts_gateway =
        is_enforced(enforcing_consecutive_gateway_failure, false, "enforcing_consecutive_gateway_failure");
    let local = number(consecutive_local_origin_failure, CONSECUTIVE, "consecutive_local_origin_failure");
    let field = "enforcing_consecutive_local_origin_failure";
    let counts_local = is_enforced(enforcing_consecutive_local_origin_failure, true, field);
    let looks_at_success_rate = is_enforced(enforcing_success_rate, true, "enforcing_success_rate");
    let default = SuccessRate::default();
    let minimum_endpoints = number(success_rate_minimum_hosts, default.minimum_endpoints, "success_rate_minimum_hosts");
    let minimum_requests = number(success_rate_request_volume, default.minimum_requests, "success_rate_request_volume");
    let deviation = number(success_rate_stdev_factor, default.deviation_thousandths, "success_rate_stdev_factor");
    let default = OutlierDetection::default();
    let interval = time(interval, default.interval, "interval");
    let ejection_time = time(base_ejection_time, default.ejection_time, "base_ejection_time");
    let longest = default.max_ejection_time.max(ejection_time.unwrap_or_default());
    let max_ejection_time = time(max_ejection_time, longest, "max_ejection_time");
    let percent = number(max_ejection_percent, 10, "max_ejection_percent");
    let success_rate = SuccessRate {
        minimum_endpoints: minimum_endpoints?,
        minimum_requests: minimum_requests?,
        deviation_thousandths: deviation?,
    };
    let enforced = |number: u32, is_enforced: bool| Some(number).filter(|number| is_enforced && *number > 0);
    Some(Arc::new(OutlierDetection {
        consecutive_errors: enforced(errors?, counts_errors?),
        consecutive_gateway_errors: enforced(gateway?, counts_gateway?),
        consecutive_local_errors: enforced(local?, counts_local? && split_external_local_origin_errors),
        success_rate: looks_at_success_rate?.then_some(success_rate),
        interval: interval?,
        ejection_time: ejection_time?,
        max_ejection_time: max_ejection_time?,
        max_ejected_percent: percent?.min(100),
    }))
}
