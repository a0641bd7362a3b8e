//! Data shared by all VMs of a plugin, on all workers.
//!
//! A value has a version that changes with each write. To change a value that others change too, use [`update`], which
//! reads, computes and writes until nobody came in between, or [`look`] and [`write_if_unchanged`] to do that in your
//! own way. Both hold for a key that nobody has written yet, too: of two VMs that make it at once, one has to look again.

use proxy_wasm::hostcalls;

use crate::error::HostError;

/// How often [`update`] tries before it gives up.
pub const MAX_UPDATE_ATTEMPTS: usize = 10;

/// A version that no value has: hosts count from 1. 0 would mean "whatever is there", which overwrites what another VM
/// has just made.
const NEVER: u32 = u32::MAX;

/// What a key had when somebody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(u32);

/// The value of `key`.
pub fn read(key: &str) -> Option<Vec<u8>> {
    hostcalls::get_shared_data(key).ok().and_then(|(value, _version)| value)
}

/// The value of `key`, and the version for [`write_if_unchanged`]. A key that is not there has a version, too.
pub fn look(key: &str) -> Result<(Option<Vec<u8>>, Version), HostError> {
    let (value, version) = hostcalls::get_shared_data(key)?;
    Ok((value, Version(version.unwrap_or(NEVER))))
}

/// Writes the value of `key`, whatever it was.
pub fn write(key: &str, value: &[u8]) -> Result<(), HostError> {
    Ok(hostcalls::set_shared_data(key, Some(value), None)?)
}

/// Writes the value of `key`; [`HostError::Conflict`] when somebody has written it since the [`look`].
pub fn write_if_unchanged(key: &str, value: &[u8], version: Version) -> Result<(), HostError> {
    Ok(hostcalls::set_shared_data(key, Some(value), Some(version.0))?)
}

/// Changes the value of `key` and answers the new one; [`HostError::Conflict`] when others were always faster.
pub fn update(key: &str, change: impl Fn(Option<Vec<u8>>) -> Vec<u8>) -> Result<Vec<u8>, HostError> {
    for _attempt in 0..MAX_UPDATE_ATTEMPTS {
        let (value, version) = look(key)?;
        let next = change(value);
        match write_if_unchanged(key, &next, version) {
            Err(HostError::Conflict) => {}
            written => return written.map(|()| next),
        }
    }
    Err(HostError::Conflict)
}
