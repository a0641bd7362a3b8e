//! The host's wall clock. A module for `wasm32-unknown-unknown` has no clock of its own.

use std::time::SystemTime;

use proxy_wasm::hostcalls;

/// Returns the current time; the Unix epoch when the host call fails.
pub fn now() -> SystemTime {
    hostcalls::get_current_time().unwrap_or(SystemTime::UNIX_EPOCH)
}
