//! Parts of HTTP/1 heads: the framing of a response, and the target of a rejected request.

use bytes::Bytes;
use http::Version;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING};
use http::uri::PathAndQuery;
use http_body::Body as _;
use weir_http1::{BodyLength, encode};

use crate::body::Body;

/// Makes the framing headers of a response agree with its body, and returns its length (RFC 9112 §6.3).
pub(super) fn set_framing(headers: &mut HeaderMap, body: &Body, version: Version) -> BodyLength {
    headers.remove(TRANSFER_ENCODING);
    // A filter may have set any value.
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let declared = values.next().filter(|value| value.as_bytes().iter().all(u8::is_ascii_digit));
    let declared: Option<u64> = declared.and_then(|value| value.to_str().ok()?.parse().ok());
    let is_single = values.next().is_none();
    let length = match (body.size_hint().exact(), declared.filter(|_| is_single)) {
        (Some(length), Some(declared)) if length == declared => return BodyLength::Exact(length),
        (None, Some(declared)) => return BodyLength::Exact(declared),
        (Some(length), _) => BodyLength::Exact(length),
        (None, None) if encode::can_chunk(version) => BodyLength::Chunked,
        (None, None) => BodyLength::UntilClose,
    };
    headers.remove(CONTENT_LENGTH);
    match length {
        BodyLength::Exact(length) => drop(headers.insert(CONTENT_LENGTH, HeaderValue::from(length))),
        BodyLength::Chunked => drop(headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"))),
        BodyLength::UntilClose => {}
    }
    length
}

/// Returns a target for the log: bytes that no URI has are percent-encoded.
pub(super) fn printable_target(target: &[u8]) -> PathAndQuery {
    use std::fmt::Write;
    let mut text = String::with_capacity(target.len());
    for byte in target {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#' => drop(write!(text, "%{byte:02X}")),
            byte if byte.is_ascii_graphic() => text.push(char::from(*byte)),
            byte => drop(write!(text, "%{byte:02X}")),
        }
    }
    let path = if text.starts_with('/') { text } else { format!("/{text}") };
    PathAndQuery::from_maybe_shared(Bytes::from(path)).unwrap_or_else(|_| PathAndQuery::from_static("/"))
}
