//! The target of a request in any form, for callouts. `stream` sends paths only.

use bytes::Bytes;

/// A request target that an HTTP/1.1 endpoint receives as it is, in place of the path: in absolute form, with a fragment,
/// or with bytes that belong in no URI. As in Envoy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RequestTarget(Bytes);

impl RequestTarget {
    /// Returns a target. It is not empty, and has no white space and no control characters, which would end it early
    /// (RFC 9112 §3).
    ///
    /// # Errors
    /// The first byte that a target cannot have; `None` for an empty one.
    pub(crate) fn new(bytes: &[u8]) -> Result<Self, Option<u8>> {
        match bytes.iter().find(|byte| **byte <= b' ' || **byte == 0x7f) {
            Some(byte) => Err(Some(*byte)),
            None if bytes.is_empty() => Err(None),
            None => Ok(Self(Bytes::copy_from_slice(bytes))),
        }
    }

    /// Returns the bytes.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
