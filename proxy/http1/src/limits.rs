//! Bounds of one message. The defaults are the proxy's.

/// Bounds of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head: its first line, its fields and the empty line.
    pub head_bytes: usize,
    /// Field lines of a head, and of a trailer section.
    pub fields: usize,
    /// Bytes of a request target.
    pub target_bytes: usize,
    /// Bytes of all chunk extensions of one message. They are dropped (RFC 9112 §7.1.1).
    pub chunk_extension_bytes: usize,
    /// Bytes of a trailer section.
    pub trailer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 64 * 1024,
            fields: MAX_FIELDS,
            target_bytes: 32 * 1024,
            chunk_extension_bytes: 16 * 1024,
            trailer_bytes: 16 * 1024,
        }
    }
}

/// The largest value of [`Limits::fields`]. Envoy's default (`max_headers_count`).
pub(crate) const MAX_FIELDS: usize = 100;

/// Empty lines before a request line that are skipped (RFC 9112 §2.2: at least one).
pub(crate) const MAX_EMPTY_LINES: u8 = 4;

/// Digits of a chunk size: those of 64 bits.
pub(crate) const MAX_CHUNK_SIZE_DIGITS: u8 = 16;
