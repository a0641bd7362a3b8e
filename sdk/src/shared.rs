//! Data shared by all VMs of a plugin, on all workers.
//!
//! A value has a version that grows with each write. To change a value that others change too, use [`update`], which
//! reads, computes and writes until nobody came in between.

use proxy_wasm::hostcalls;

use crate::error::HostError;

/// How often [`update`] tries before it gives up.
pub const MAX_UPDATE_ATTEMPTS: usize = 10;

/// The value of `key`.
pub fn read(key: &str) -> Option<Vec<u8>> {
    hostcalls::get_shared_data(key).ok().and_then(|(value, _version)| value)
}

/// Writes the value of `key`, whatever it was.
pub fn write(key: &str, value: &[u8]) -> Result<(), HostError> {
    Ok(hostcalls::set_shared_data(key, Some(value), None)?)
}

/// Changes the value of `key` and answers the new one; [`HostError::Conflict`] when others were always faster.
pub fn update(key: &str, change: impl Fn(Option<Vec<u8>>) -> Vec<u8>) -> Result<Vec<u8>, HostError> {
    for _attempt in 0..MAX_UPDATE_ATTEMPTS {
        let (value, version) = hostcalls::get_shared_data(key)?;
        let next = change(value);
        if hostcalls::set_shared_data(key, Some(&next), version).is_ok() {
            return Ok(next);
        }
    }
    Err(HostError::Conflict)
}
