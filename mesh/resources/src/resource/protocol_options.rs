//! Bounds and timeouts of HTTP connections, as ClientTrafficPolicy and BackendTrafficPolicy have them.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use weir_model::limits::{MAX_HEAD_BYTES, MAX_HEADERS};
use weir_model::{ByteSize, GatewayDuration, HeadLimits};

use crate::resource::field::{check_size, duration};
use crate::yaml::{FieldErrors, FieldPathRef};

/// The unit of `maxHeadBytes`: Envoy's bounds are numbers of KiB.
const KIB: u64 = 1024;

/// Validates `maxHeadBytes` and `maxHeaders` of the map at `path`.
pub(super) fn check_head(
    bytes: Option<&str>,
    headers: Option<u32>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<HeadLimits> {
    let defaults = HeadLimits::default();
    let bytes = match bytes {
        None => Some(defaults.bytes),
        Some(text) => check_head_bytes(text, &path.field("maxHeadBytes"), errors),
    };
    let headers = headers.unwrap_or(defaults.headers);
    if headers == 0 || headers > MAX_HEADERS {
        let reason = format!("{headers} is too much or too little");
        errors.add(&path.field("maxHeaders"), reason, format!("use 1 to {MAX_HEADERS}"));
        return None;
    }
    Some(HeadLimits { bytes: bytes?, headers })
}

fn check_head_bytes(text: &str, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<u32> {
    let ByteSize(bytes) = check_size(text, &(ByteSize(KIB)..=ByteSize(MAX_HEAD_BYTES.into())), path, errors)?;
    if !bytes.is_multiple_of(KIB) {
        errors.add(path, format!("{bytes} is not a multiple of 1Ki"), "write it in Ki, as in `64Ki`");
        return None;
    }
    u32::try_from(bytes).ok()
}

/// Validates `maxRequestsPerConnection` of the map at `path`.
pub(super) fn check_max_requests(
    count: Option<u32>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<NonZeroU32> {
    if count == Some(0) {
        errors.add(&path.field("maxRequestsPerConnection"), "0 is too little", "use 1 or more, or leave it out");
    }
    count.and_then(NonZeroU32::new)
}

/// Validates `connectionAge` of the map at `path`.
pub(super) fn check_age(text: Option<String>, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Duration> {
    check_positive(&text?, &path.field("connectionAge"), errors)
}

/// Validates a timeout above 0.
pub(super) fn check_positive(text: &str, path: &FieldPathRef<'_>, errors: &mut FieldErrors) -> Option<Duration> {
    let timeout = duration(text, path, errors)?;
    if timeout.is_zero() {
        errors.add(path, "no time", "use 1ms or more");
        return None;
    }
    Some(timeout)
}

/// Validates a time within bounds; an absent one is the default.
pub(super) fn check_within(
    text: Option<String>,
    default: Duration,
    bounds: RangeInclusive<Duration>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<Duration> {
    let Some(text) = text else { return Some(default) };
    let time = check_positive(&text, path, errors)?;
    if !bounds.contains(&time) {
        let (least, most) = (GatewayDuration(*bounds.start()), GatewayDuration(*bounds.end()));
        errors.add(path, "out of bounds", format!("`{least}` to `{most}`"));
        return None;
    }
    Some(time)
}

/// A timeout that `0s` disables: `None` is no limit.
pub(super) struct OptionalTimeout(pub(super) Option<Duration>);

/// Validates a timeout that `0s` disables.
pub(super) fn check_optional(
    text: Option<String>,
    default: Option<Duration>,
    path: &FieldPathRef<'_>,
    errors: &mut FieldErrors,
) -> Option<OptionalTimeout> {
    let Some(text) = text else { return Some(OptionalTimeout(default)) };
    let timeout = duration(&text, path, errors)?;
    Some(OptionalTimeout((!timeout.is_zero()).then_some(timeout)))
}
