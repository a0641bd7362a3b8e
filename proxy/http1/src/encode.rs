//! Heads and bodies to bytes. The caller gives headers whose framing agrees with the body; [`BodyEncoder`] enforces it.

use std::fmt;

use http::header::{HOST, HeaderName};
use http::{HeaderMap, Method, StatusCode, Version};

use crate::body::belongs_in_head;
use crate::framing::BodyLength;
use crate::sent_names::SentNames;

/// Appends the head of a request: `target` in the form that the receiver expects, `host` (RFC 9110 §7.2: first), and
/// every other header in order.
pub fn request_head(out: &mut Vec<u8>, method: &Method, target: &[u8], fields: Fields<'_>) {
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(host) = fields.headers.get(HOST) {
        field(out, fields.name(&HOST), host.as_bytes());
    }
    for (name, value) in fields.headers.iter().filter(|(name, _)| *name != HOST) {
        field(out, fields.name(name), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Appends the head of a response, without the empty line that ends it: [`end_of_head`] follows. An empty `reason` is
/// sent as the usual one of the status.
///
/// The version is HTTP/1.1 also for a client that speaks HTTP/1.0 (RFC 9112 §2.3).
pub fn response_head(out: &mut Vec<u8>, status: StatusCode, reason: &[u8], fields: Fields<'_>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(if reason.is_empty() {
        status.canonical_reason().unwrap_or_default().as_bytes()
    } else {
        reason
    });
    out.extend_from_slice(b"\r\n");
    for (name, value) in fields.headers {
        field(out, fields.name(name), value.as_bytes());
    }
}

/// The fields of a head.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    /// Names in lower case, and values.
    pub headers: &'a HeaderMap,
    /// The forms in which the names are sent; `None` for lower case.
    pub sent_names: Option<&'a SentNames>,
}

impl Fields<'_> {
    fn name<'a>(&'a self, name: &'a HeaderName) -> &'a [u8] {
        self.sent_names.map_or(name.as_str().as_bytes(), |names| names.get(name))
    }
}

/// Appends one more field.
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends the empty line that ends a head.
pub fn end_of_head(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// The body does not have the length that its head declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongLength;

impl fmt::Display for WrongLength {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the body does not have the declared length")
    }
}

impl std::error::Error for WrongLength {}

/// Frames one body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BodyEncoder {
    left: BodyLength,
}

impl BodyEncoder {
    /// Returns the encoder of a body of this length.
    pub fn new(length: BodyLength) -> Self {
        Self { left: length }
    }

    /// Returns true if the body's length is declared and has been sent.
    pub fn is_complete(&self) -> bool {
        self.left == BodyLength::Exact(0)
    }

    /// Appends what stands before `length` bytes of data, and returns what stands after them. `length` is not 0.
    ///
    /// # Errors
    /// More data than declared: none of it may be sent, since the receiver would read it as the next message.
    pub fn data_frame(&mut self, length: usize, out: &mut Vec<u8>) -> Result<&'static [u8], WrongLength> {
        match &mut self.left {
            BodyLength::Exact(left) => {
                *left = left.checked_sub(length as u64).ok_or(WrongLength)?;
                Ok(b"")
            }
            BodyLength::UntilClose => Ok(b""),
            BodyLength::Chunked => {
                hexadecimal(out, length);
                out.extend_from_slice(b"\r\n");
                Ok(b"\r\n")
            }
        }
    }

    /// Appends the end of the body. Trailers are sent in the chunked coding only, without those that belong in a head.
    ///
    /// # Errors
    /// Less data than declared: the connection must be closed.
    pub fn end(&mut self, trailers: Option<&HeaderMap>, out: &mut Vec<u8>) -> Result<(), WrongLength> {
        match self.left {
            BodyLength::Exact(0) | BodyLength::UntilClose => Ok(()),
            BodyLength::Exact(_) => Err(WrongLength),
            BodyLength::Chunked => {
                out.extend_from_slice(b"0\r\n");
                let trailers = trailers.iter().flat_map(|trailers| trailers.iter());
                for (name, value) in trailers.filter(|(name, _)| !belongs_in_head(name)) {
                    field(out, name.as_str().as_bytes(), value.as_bytes());
                }
                out.extend_from_slice(b"\r\n");
                Ok(())
            }
        }
    }
}

fn hexadecimal(out: &mut Vec<u8>, number: usize) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let significant = (usize::BITS - number.leading_zeros()).div_ceil(4).max(1);
    for position in (0..significant).rev() {
        out.push(DIGITS[number >> (4 * position) & 0xf]);
    }
}

/// Returns true if a body of unknown length can be framed for a receiver of this version without closing.
pub fn can_chunk(version: Version) -> bool {
    version >= Version::HTTP_11
}
