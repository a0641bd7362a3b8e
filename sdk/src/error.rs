//! What the host may refuse.
//!
//! Every fallible call of this crate returns `Result<_, HostError>`; a status that the host should never give is
//! mapped to [`HostError::Internal`] instead of a panic wherever the `proxy_wasm` crate lets us see it.

use std::fmt;

use proxy_wasm::types::Status;

/// Why the host did not do what a filter asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum HostError {
    /// No such cluster, key, function or id.
    NotFound,
    /// An argument was refused: an unknown cluster, a missing `:path`, a negative counter step.
    BadArgument,
    /// The bytes given or asked for could not be read.
    Malformed,
    /// The value was changed by somebody else in the meantime.
    Conflict,
    /// The host could not do it now.
    Internal,
}

impl HostError {
    /// Of a status as the ABI numbers it; 0 is none.
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
            Self::BadArgument => "the host refused an argument",
            Self::Malformed => "the bytes could not be read",
            Self::Conflict => "changed by somebody else in the meantime",
            Self::Internal => "the host could not do it now",
        })
    }
}

impl std::error::Error for HostError {}
