//! Framing and persistence by the fields of a head: RFC 9112 §6.3 and §9.3.

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};

use crate::limits::MAX_CONNECTION_FIELDS;
use crate::rejection::Rejection;

/// The length of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// Exactly this many bytes; 0 for no body.
    Exact(u64),
    /// The chunked coding.
    Chunked,
    /// Every byte until the connection closes. Responses only.
    UntilClose,
}

/// The options of a head's `connection` fields (RFC 9110 §7.6.1).
#[derive(Debug, Default)]
pub(crate) struct ConnectionOptions {
    flags: u8,
    /// Fields that concern the connection alone.
    named: Vec<HeaderName>,
}

impl ConnectionOptions {
    const CLOSE: u8 = 1;
    const KEEP_ALIVE: u8 = 1 << 1;
    const UPGRADE: u8 = 1 << 2;

    /// Adds the options of one field.
    ///
    /// # Errors
    /// More fields are named than any sender needs.
    pub(crate) fn add(&mut self, value: &[u8]) -> Result<(), Rejection> {
        for option in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if option.eq_ignore_ascii_case(b"close") {
                self.flags |= Self::CLOSE;
            } else if option.eq_ignore_ascii_case(b"keep-alive") {
                self.flags |= Self::KEEP_ALIVE;
            } else if option.eq_ignore_ascii_case(b"upgrade") {
                self.flags |= Self::UPGRADE;
            } else if let Ok(name) = HeaderName::from_bytes(option)
                && !is_end_to_end(name.as_str())
            {
                if self.named.len() == MAX_CONNECTION_FIELDS {
                    return Err(Rejection::TooManyFields);
                }
                self.named.push(name);
            }
        }
        Ok(())
    }

    /// Returns true if the sender wants to switch protocols.
    pub(crate) fn upgrades(&self) -> bool {
        self.flags & Self::UPGRADE != 0
    }

    /// Returns true if a field concerns the connection alone.
    pub(crate) fn names(&self, name: &HeaderName) -> bool {
        self.named.contains(name)
    }

    /// Returns the fields that concern the connection alone.
    pub(crate) fn into_named(self) -> Vec<HeaderName> {
        self.named
    }

    /// Returns true if the sender can use the connection for another message (RFC 9112 §9.3).
    pub(crate) fn is_persistent(&self, version: Version) -> bool {
        self.flags & Self::CLOSE == 0 && (version == Version::HTTP_11 || self.flags & Self::KEEP_ALIVE != 0)
    }
}

/// Returns true for fields that `connection` cannot remove.
///
/// A sender must not be able to hide its identity, its credentials or its expectations from those behind this proxy,
/// nor to change the length of its body. `te` is reduced later to what every hop can forward.
fn is_end_to_end(name: &str) -> bool {
    name.starts_with("x-forwarded-")
        || name.starts_with("content-")
        || matches!(
            name,
            "host"
                | "te"
                | "expect"
                | "transfer-encoding"
                | "forwarded"
                | "via"
                | "x-real-ip"
                | "x-request-id"
                | "authorization"
                | "cookie"
        )
}

/// The elements of a head's `transfer-encoding` fields.
#[derive(Debug, Default)]
pub(crate) struct TransferCoding {
    elements: u32,
    has_chunked: bool,
    /// True if an element follows `chunked`.
    is_chunked_early: bool,
}

impl TransferCoding {
    /// Adds the elements of one field.
    pub(crate) fn add(&mut self, value: &[u8]) {
        for element in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            self.is_chunked_early |= self.has_chunked;
            self.has_chunked |= element.eq_ignore_ascii_case(b"chunked");
            self.elements = self.elements.saturating_add(1);
        }
    }

    fn is_present(&self) -> bool {
        self.elements > 0
    }

    /// Returns true for one `chunked`, false without any coding.
    fn is_chunked(&self, version: Version) -> Result<bool, Rejection> {
        match self {
            Self { elements: 0, .. } => Ok(false),
            _ if version == Version::HTTP_10 => Err(Rejection::TransferCodingInHttp10),
            Self { is_chunked_early: true, .. } => Err(Rejection::ChunkedNotLast),
            Self { elements: 1, has_chunked: true, .. } => Ok(true),
            _ => Err(Rejection::TransferCoding),
        }
    }
}

/// Returns the length of a request's body (RFC 9112 §6.3).
pub(crate) fn request_length(
    version: Version,
    coding: &TransferCoding,
    headers: &HeaderMap,
) -> Result<BodyLength, Rejection> {
    Ok(declared_length(version, coding, headers)?.unwrap_or(BodyLength::Exact(0)))
}

/// Returns the length of the body of a response whose status and request permit one (RFC 9112 §6.3).
pub(crate) fn response_length(
    version: Version,
    coding: &TransferCoding,
    headers: &HeaderMap,
) -> Result<BodyLength, Rejection> {
    Ok(declared_length(version, coding, headers)?.unwrap_or(BodyLength::UntilClose))
}

/// Checks the fields of a response without a body. Its `transfer-encoding` describes the response to another request
/// (RFC 9112 §6.1).
pub(crate) fn bodyless_length(headers: &HeaderMap) -> Result<BodyLength, Rejection> {
    content_length(headers)?;
    Ok(BodyLength::Exact(0))
}

/// Returns true if a response to `method` has a body (RFC 9112 §6.3).
pub(crate) fn permits_body(status: StatusCode, method: &Method) -> bool {
    method != Method::HEAD
        && !status.is_informational()
        && !matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

fn declared_length(
    version: Version,
    coding: &TransferCoding,
    headers: &HeaderMap,
) -> Result<Option<BodyLength>, Rejection> {
    if !coding.is_present() {
        return content_length(headers);
    }
    let is_chunked = coding.is_chunked(version)?;
    // A sender that declares both may hide a request in the body of another one.
    if headers.contains_key(CONTENT_LENGTH) {
        return Err(Rejection::LengthAndTransferCoding);
    }
    Ok(is_chunked.then_some(BodyLength::Chunked))
}

/// Returns the value of `content-length`. Repeated values must be equal byte by byte, so `5` and `05` conflict.
fn content_length(headers: &HeaderMap) -> Result<Option<BodyLength>, Rejection> {
    let mut lengths =
        headers.get_all(CONTENT_LENGTH).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let Some(first) = lengths.next().map(<[u8]>::trim_ascii) else { return Ok(None) };
    if first.is_empty() || !first.iter().all(u8::is_ascii_digit) {
        return Err(Rejection::ContentLength);
    }
    if !lengths.all(|length| length.trim_ascii() == first) {
        return Err(Rejection::ConflictingLengths);
    }
    let length = std::str::from_utf8(first).ok().and_then(|digits| digits.parse().ok());
    length.map(BodyLength::Exact).map(Some).ok_or(Rejection::ContentLength)
}

/// Returns true if one of a header's comma-separated elements is `token`, in any case.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &[u8]) -> bool {
    let mut elements =
        headers.get_all(name).iter().map(HeaderValue::as_bytes).flat_map(|value| value.split(|byte| *byte == b','));
    elements.any(|element| element.trim_ascii().eq_ignore_ascii_case(token))
}
