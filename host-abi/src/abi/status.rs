//! `Status`: the answer of every hostcall. Hosts return it, hostcalls hand it to the guest unchanged.
//!
//! Widely used guests panic on a status they do not expect, so the choice matters more than the name suggests:
//! reads that make no sense now answer `NotFound`, never `BadArgument`.

/// What a hostcall answers to the guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[repr(u8)]
pub enum Status {
    /// It worked.
    #[error("ok")]
    Ok = 0,
    /// There is no such key, property, queue, metric or callout.
    #[error("not found")]
    NotFound = 1,
    /// An argument has a value the call cannot accept.
    #[error("bad argument")]
    BadArgument = 2,
    /// A value could not be turned into bytes.
    #[error("serialization failure")]
    SerializationFailure = 3,
    /// Bytes from the guest could not be read.
    #[error("parse failure")]
    ParseFailure = 4,
    /// Unused by every known guest.
    #[error("bad expression")]
    BadExpression = 5,
    /// A pointer or length of the guest lies outside its memory.
    #[error("invalid memory access")]
    InvalidMemoryAccess = 6,
    /// The queue holds nothing.
    #[error("empty")]
    Empty = 7,
    /// The shared value was changed by somebody else meanwhile.
    #[error("compare-and-swap mismatch")]
    CasMismatch = 8,
    /// Unused by every known guest.
    #[error("result mismatch")]
    ResultMismatch = 9,
    /// The host failed, or the call is not allowed now.
    #[error("internal failure")]
    InternalFailure = 10,
    /// A callout's connection broke.
    #[error("broken connection")]
    BrokenConnection = 11,
    /// The host does not offer this call.
    #[error("unimplemented")]
    Unimplemented = 12,
}

impl Status {
    /// Every status, in the order of their numbers.
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

    /// The number that stands for this status on the wire.
    #[must_use]
    pub const fn number(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_the_contract() {
        for (expected, status) in (0..).zip(Status::ALL) {
            assert_eq!(status.number(), expected, "{status}");
        }
    }
}
