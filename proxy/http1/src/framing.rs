//! Framing and persistence by the fields of a head: RFC 9112 §6.3 and §9.3.

use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Method, StatusCode, Version};

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

/// Returns the length of a request's body (RFC 9112 §6.3).
pub(crate) fn request_length(version: Version, headers: &HeaderMap) -> Result<BodyLength, Rejection> {
    let declared = declared_length(version, headers)?;
    Ok(declared.unwrap_or(BodyLength::Exact(0)))
}

/// Returns the length of a response's body (RFC 9112 §6.3). `method` is the request's.
pub(crate) fn response_length(
    version: Version,
    status: StatusCode,
    headers: &HeaderMap,
    method: &Method,
) -> Result<BodyLength, Rejection> {
    let declared = declared_length(version, headers)?;
    if method == Method::HEAD
        || status.is_informational()
        || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
    {
        return Ok(BodyLength::Exact(0));
    }
    Ok(declared.unwrap_or(BodyLength::UntilClose))
}

fn declared_length(version: Version, headers: &HeaderMap) -> Result<Option<BodyLength>, Rejection> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return content_length(headers) };
    if version == Version::HTTP_10 {
        return Err(Rejection::TransferCodingInHttp10);
    }
    let is_single = codings.next().is_none();
    if !is_single || !coding.as_bytes().eq_ignore_ascii_case(b"chunked") {
        return Err(unsupported_coding(headers));
    }
    // A sender that declares both may hide a request in the body of another one.
    if headers.contains_key(CONTENT_LENGTH) {
        return Err(Rejection::LengthAndTransferCoding);
    }
    Ok(Some(BodyLength::Chunked))
}

/// Returns the rejection of codings other than one `chunked`.
fn unsupported_coding(headers: &HeaderMap) -> Rejection {
    let codings = headers.get_all(TRANSFER_ENCODING);
    let elements = codings.iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let mut is_chunked = elements.map(|value| value.trim_ascii().eq_ignore_ascii_case(b"chunked")).peekable();
    while let Some(chunked) = is_chunked.next() {
        if chunked && is_chunked.peek().is_some() {
            return Rejection::ChunkedNotLast;
        }
    }
    Rejection::TransferCoding
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

/// Returns true if the sender can use the connection for another message (RFC 9112 §9.3).
pub(crate) fn is_persistent(version: Version, headers: &HeaderMap) -> bool {
    match headers.get(CONNECTION) {
        None => version == Version::HTTP_11,
        Some(_) if has_token(headers, &CONNECTION, b"close") => false,
        Some(_) => version == Version::HTTP_11 || has_token(headers, &CONNECTION, b"keep-alive"),
    }
}

/// Returns true if one of a header's comma-separated elements is `token`, in any case.
pub fn has_token(headers: &HeaderMap, name: &HeaderName, token: &[u8]) -> bool {
    let mut elements =
        headers.get_all(name).iter().map(HeaderValue::as_bytes).flat_map(|value| value.split(|byte| *byte == b','));
    elements.any(|element| element.trim_ascii().eq_ignore_ascii_case(token))
}
