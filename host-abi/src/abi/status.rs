//! `Status`: the result of every hostcall. Hosts return it, and hostcalls pass it to the guest unchanged.
//!
//! Widely used guests panic on an unexpected status. Therefore a read that is not possible at the moment returns
//! `NotFound`, never `BadArgument`.

/// The result of a hostcall.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum Status {
    /// Success.
    #[error("ok")]
    Ok = 0,
    /// The key, property, queue, metric or callout does not exist.
    #[error("not found")]
    NotFound = 1,
    /// An argument has an invalid value.
    #[error("bad argument")]
    BadArgument = 2,
    /// A value could not be serialized.
    #[error("serialization failure")]
    SerializationFailure = 3,
    /// Bytes from the guest could not be parsed.
    #[error("parse failure")]
    ParseFailure = 4,
    /// Unused by every known guest.
    #[error("bad expression")]
    BadExpression = 5,
    /// A pointer or length is outside the guest's memory.
    #[error("invalid memory access")]
    InvalidMemoryAccess = 6,
    /// The queue is empty.
    #[error("empty")]
    Empty = 7,
    /// Another VM changed the shared value since it was read.
    #[error("compare-and-swap mismatch")]
    CasMismatch = 8,
    /// Unused by every known guest.
    #[error("result mismatch")]
    ResultMismatch = 9,
    /// The host failed, or the call is not allowed in this phase.
    #[error("internal failure")]
    InternalFailure = 10,
    /// The connection of a callout failed.
    #[error("broken connection")]
    BrokenConnection = 11,
    /// The host does not implement the call.
    #[error("unimplemented")]
    Unimplemented = 12,
}

impl Status {
    /// All statuses, in the order of their numbers.
    pub const ALL: &'static [Self] = &[
        Self::Ok,
        Self::NotFound,
        Self::BadArgument,
        Self::SerializationFailure,
        Self::ParseFailure,
        Self::BadExpression,
        Self::InvalidMemoryAccess,
        Self::Empty,
        Self::CasMismatch,
        Self::ResultMismatch,
        Self::InternalFailure,
        Self::BrokenConnection,
        Self::Unimplemented,
    ];

    /// Returns the ABI's number of this status.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_match_the_abi() {
        for (expected, status) in (0..).zip(Status::ALL) {
            assert_eq!(status.number(), expected, "{status}");
        }
    }
}
