//! Hostcalls about metrics.

use crate::abi::metric::MetricKind;
use crate::abi::status::Status;
use crate::hostcalls::call::{Call, CallResult};
use crate::limits::MAX_NAME;

/// `proxy_define_metric(kind, name pointer, name size, &metric)`
pub(super) fn define(call: &mut Call<'_>, [kind, name, name_size, metric_at]: [u32; 4]) -> CallResult {
    let kind = MetricKind::try_from(kind)?;
    if name_size as usize > MAX_NAME {
        return Err(Status::BadArgument.into());
    }
    let mut parts = call.lend()?;
    parts.memory.check(metric_at, 4)?;
    let name = parts.memory.bytes(name, name_size)?;
    let metric = parts.host.define_metric(kind, name)?;
    Ok(parts.memory.write_u32(metric_at, metric)?)
}

/// `proxy_increment_metric(metric, offset)`
pub(super) fn increment(call: &mut Call<'_>, metric: u32, offset: i64) -> CallResult {
    Ok(call.lend()?.host.increment_metric(metric, offset)?)
}

/// `proxy_record_metric(metric, value)`
pub(super) fn record(call: &mut Call<'_>, metric: u32, value: i64) -> CallResult {
    Ok(call.lend()?.host.record_metric(metric, value.cast_unsigned())?)
}

/// `proxy_get_metric(metric, &value)`
pub(super) fn value(call: &mut Call<'_>, [metric, value_at]: [u32; 2]) -> CallResult {
    let mut parts = call.lend()?;
    let value = parts.host.metric(metric)?;
    Ok(parts.memory.write_u64(value_at, value)?)
}
