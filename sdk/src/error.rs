//! Errors of hostcalls.
//!
//! Every fallible call of this crate returns `Result<_, HostError>`. An unexpected status becomes
//! [`HostError::Internal`] instead of a panic, wherever the `proxy_wasm` crate returns it.

use std::fmt;

use proxy_wasm::types::Status;

/// The reason why a hostcall failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostError {
    /// The cluster, key, function or id does not exist.
    NotFound,
    /// The host rejected an argument: an unknown cluster, a missing `:path`, a negative counter step.
    BadArgument,
    /// Bytes of an argument or a result could not be parsed or accessed.
    Malformed,
    /// Another VM changed the value in the meantime.
    Conflict,
    /// The host failed for another reason.
    Internal,
}

impl HostError {
    /// Maps a Proxy-Wasm status number. 0 (OK) is no error and must not be passed.
    pub(crate) fn from_number(status: u32) -> Self {
        match status {
            1 | 7 => Self::NotFound,
            2 => Self::BadArgument,
            3 | 4 => Self::Malformed,
            8 => Self::Conflict,
            _ => Self::Internal,
        }
    }
}

impl From<Status> for HostError {
    fn from(status: Status) -> Self {
        Self::from_number(status as u32)
    }
}

impl fmt::Display for HostError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NotFound => "not found",
            Self::BadArgument => "the host rejected an argument",
            Self::Malformed => "the bytes could not be read",
            Self::Conflict => "changed by another VM in the meantime",
            Self::Internal => "the host could not do it now",
        })
    }
}

impl std::error::Error for HostError {}
