//! Hostcalls about the VM itself: log, time, timer, contexts.

use std::time::{Duration, UNIX_EPOCH};

use crate::abi::log::LogLevel;
use crate::hostcalls::call::{Call, CallResult, LogText};

/// `proxy_log(level, message pointer, message size)`
pub(super) fn log(call: &mut Call<'_>, [level, pointer, length]: [u32; 3]) -> CallResult {
    call.log(LogLevel::try_from(level)?, LogText::Guest { pointer, length })
}

/// `proxy_get_log_level(&level)`
pub(super) fn log_level(call: &mut Call<'_>, [level_at]: [u32; 1]) -> CallResult {
    let mut parts = call.lend()?;
    let level = parts.host.log_level();
    Ok(parts.memory.write_u32(level_at, level.number())?)
}

/// `proxy_get_current_time_nanoseconds(&u64)`
pub(super) fn current_time(call: &mut Call<'_>, [time_at]: [u32; 1]) -> CallResult {
    let mut parts = call.lend()?;
    let since_epoch = parts.host.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanoseconds = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
    Ok(parts.memory.write_u64(time_at, nanoseconds)?)
}

/// `proxy_set_tick_period_milliseconds(period)`; the timer belongs to the plugin context, whoever sets it.
pub(super) fn set_tick_period(call: &mut Call<'_>, [period_ms]: [u32; 1]) -> CallResult {
    let timer = &mut call.state().resident_mut().timer;
    timer.period = (period_ms > 0).then(|| Duration::from_millis(period_ms.into()));
    timer.generation = timer.generation.wrapping_add(1);
    Ok(())
}

/// `proxy_set_effective_context(context)`
pub(super) fn set_effective_context(call: &mut Call<'_>, [context]: [u32; 1]) -> CallResult {
    Ok(call.state().contexts.set_effective(context)?)
}

/// `proxy_done()`
pub(super) fn done(call: &mut Call<'_>, []: [u32; 0]) -> CallResult {
    Ok(call.state().contexts.set_done()?)
}
