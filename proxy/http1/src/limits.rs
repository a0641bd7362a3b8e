//! Bounds of one message. The defaults are the proxy's.

/// Bounds of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a head: its first line, its fields and the empty line.
    pub head_bytes: usize,
    /// Field lines of a head. A trailer section has at most 100.
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
            fields: 100,
            target_bytes: 32 * 1024,
            chunk_extension_bytes: 16 * 1024,
            trailer_bytes: 16 * 1024,
        }
    }
}

/// Field lines of a head that are parsed without a heap allocation: Envoy's default bound (`max_headers_count`).
pub(crate) const STACK_FIELDS: usize = 100;

/// Field lines of a trailer section, however many a head may have.
pub(crate) const MAX_TRAILER_FIELDS: usize = 100;

/// Empty lines before a request line that are skipped (RFC 9112 §2.2: at least one).
pub(crate) const MAX_EMPTY_LINES: u8 = 4;

/// Digits of a chunk size: those of 64 bits.
pub(crate) const MAX_CHUNK_SIZE_DIGITS: u8 = 16;

/// Bytes of a method. The longest registered one, `UPDATEREDIRECTREF`, has 17.
pub(crate) const MAX_METHOD_BYTES: usize = 64;

/// Fields that the `connection` fields of one head may name. Each field of the head is compared with all of them.
pub(crate) const MAX_CONNECTION_FIELDS: usize = 32;
