//! The host's clocks. A module for `wasm32-unknown-unknown` has no clock of its own.

use std::time::{Duration, SystemTime};

use proxy_wasm::hostcalls;

use crate::wasi;

/// Returns the current time; the Unix epoch when the host call fails.
pub fn now() -> SystemTime {
    hostcalls::get_current_time().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Returns the time since some moment in the past, which is the same for all VMs of a process. It does not change when
/// the system's clock is set.
///
/// Proxy-Wasm has the wall clock only, so this is `clock_time_get` of WASI. A host that denies it (`allow.capabilities`)
/// makes this the time since the Unix epoch, which may go back.
pub fn monotonic() -> Duration {
    Duration::from_nanos(monotonic_nanoseconds())
}

/// Returns [`monotonic`] in nanoseconds.
pub(crate) fn monotonic_nanoseconds() -> u64 {
    let since_epoch = || nanoseconds(now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    wasi::monotonic_nanoseconds().unwrap_or_else(since_epoch)
}

/// Returns a duration in nanoseconds. Those beyond 584 years saturate.
pub(crate) fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
