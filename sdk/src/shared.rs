//! Data shared by all VMs of a plugin, on all workers.
//!
//! Each write of a value changes its version. [`update`] changes a value atomically: it reads, computes and writes, and
//! repeats that when another VM wrote in between. [`get_with_version`] and [`compare_and_set`] are the two steps of it.
//! Both also work for an absent key: of two VMs that create it at the same time, one gets [`HostError::Conflict`].

use proxy_wasm::hostcalls;

use crate::error::HostError;

/// Attempts of [`update`] before it returns [`HostError::Conflict`].
pub const MAX_UPDATE_ATTEMPTS: usize = 10;

/// The version of an absent key. Hosts count from 1. 0 would mean an unconditional write, which overwrites a value that
/// another VM has created meanwhile.
const ABSENT: u32 = u32::MAX;

/// The version of a value when it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Version(u32);

/// Returns the value of `key`; `None` when absent.
pub fn get(key: &str) -> Option<Vec<u8>> {
    hostcalls::get_shared_data(key).ok().and_then(|(value, _version)| value)
}

/// Returns the value of `key`, and the version for [`compare_and_set`]. An absent key has a version, too.
pub fn get_with_version(key: &str) -> Result<(Option<Vec<u8>>, Version), HostError> {
    let (value, version) = hostcalls::get_shared_data(key)?;
    Ok((value, Version(version.unwrap_or(ABSENT))))
}

/// Writes the value of `key` unconditionally.
pub fn set(key: &str, value: &[u8]) -> Result<(), HostError> {
    Ok(hostcalls::set_shared_data(key, Some(value), None)?)
}

/// Writes the value of `key` if its version is still `version`.
///
/// # Errors
/// Returns [`HostError::Conflict`] when another VM wrote the value since [`get_with_version`].
pub fn compare_and_set(key: &str, value: &[u8], version: Version) -> Result<(), HostError> {
    Ok(hostcalls::set_shared_data(key, Some(value), Some(version.0))?)
}

/// Applies `change` to the value of `key` atomically, and returns the new value.
///
/// # Errors
/// Returns [`HostError::Conflict`] when each of [`MAX_UPDATE_ATTEMPTS`] was overtaken by another VM.
pub fn update(key: &str, change: impl Fn(Option<Vec<u8>>) -> Vec<u8>) -> Result<Vec<u8>, HostError> {
    for _attempt in 0..MAX_UPDATE_ATTEMPTS {
        let (value, version) = get_with_version(key)?;
        let next = change(value);
        match compare_and_set(key, &next, version) {
            Err(HostError::Conflict) => {}
            result => return result.map(|()| next),
        }
    }
    Err(HostError::Conflict)
}
