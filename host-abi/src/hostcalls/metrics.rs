//! Hostcalls on metrics.

use crate::abi::metric::MetricKind;
use crate::abi::status::Status;
use crate::hostcalls::context::{HostcallContext, HostcallResult};
use crate::limits::MAX_NAME;

/// `proxy_define_metric(kind, name pointer, name size, &metric)`
pub(super) fn define(call: &mut HostcallContext<'_>, [kind, name, name_size, metric_at]: [u32; 4]) -> HostcallResult {
    let kind = MetricKind::try_from(kind)?;
    if name_size as usize > MAX_NAME {
        return Err(Status::BadArgument.into());
    }
    let mut args = call.borrow()?;
    args.memory.check(metric_at, 4)?;
    let name = args.memory.bytes(name, name_size)?;
    let metric = args.host.define_metric(kind, name)?;
    Ok(args.memory.write_u32(metric_at, metric)?)
}

/// `proxy_increment_metric(metric, offset)`
pub(super) fn increment(call: &mut HostcallContext<'_>, metric: u32, offset: i64) -> HostcallResult {
    Ok(call.borrow()?.host.increment_metric(metric, offset)?)
}

/// `proxy_record_metric(metric, value)`
pub(super) fn record(call: &mut HostcallContext<'_>, metric: u32, value: i64) -> HostcallResult {
    Ok(call.borrow()?.host.record_metric(metric, value.cast_unsigned())?)
}

/// `proxy_get_metric(metric, &value)`
pub(super) fn value(call: &mut HostcallContext<'_>, [metric, value_at]: [u32; 2]) -> HostcallResult {
    let mut args = call.borrow()?;
    let value = args.host.metric(metric)?;
    Ok(args.memory.write_u64(value_at, value)?)
}
