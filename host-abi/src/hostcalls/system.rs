//! Hostcalls on the VM itself: log, time, timer, contexts.

use std::time::{Duration, UNIX_EPOCH};

use crate::abi::log::LogLevel;
use crate::hostcalls::context::{HostcallContext, HostcallResult, LogText};

/// `proxy_log(level, message pointer, message size)`
pub(super) fn log(call: &mut HostcallContext<'_>, [level, pointer, length]: [u32; 3]) -> HostcallResult {
    call.log(LogLevel::try_from(level)?, LogText::Guest { pointer, length })
}

/// `proxy_get_log_level(&level)`
pub(super) fn log_level(call: &mut HostcallContext<'_>, [level_at]: [u32; 1]) -> HostcallResult {
    let mut args = call.borrow()?;
    let level = args.host.log_level();
    Ok(args.memory.write_u32(level_at, level.number())?)
}

/// `proxy_get_current_time_nanoseconds(&u64)`
pub(super) fn current_time(call: &mut HostcallContext<'_>, [time_at]: [u32; 1]) -> HostcallResult {
    let mut args = call.borrow()?;
    let since_epoch = args.host.now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let nanoseconds = u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX);
    Ok(args.memory.write_u64(time_at, nanoseconds)?)
}

/// `proxy_set_tick_period_milliseconds(period)`: sets the timer of the plugin context, whichever context is effective.
pub(super) fn set_tick_period(call: &mut HostcallContext<'_>, [period_ms]: [u32; 1]) -> HostcallResult {
    let timer = &mut call.state().plugin_mut().timer;
    timer.period = (period_ms > 0).then(|| Duration::from_millis(period_ms.into()));
    timer.generation = timer.generation.wrapping_add(1);
    Ok(())
}

/// `proxy_set_effective_context(context)`
pub(super) fn set_effective_context(call: &mut HostcallContext<'_>, [context]: [u32; 1]) -> HostcallResult {
    Ok(call.state().contexts.set_effective(context)?)
}

/// `proxy_done()`
pub(super) fn done(call: &mut HostcallContext<'_>, []: [u32; 0]) -> HostcallResult {
    Ok(call.state().contexts.mark_done()?)
}
