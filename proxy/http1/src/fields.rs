//! Field lines to a header map. The values refer to the section's bytes.

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::rejection::Rejection;

/// Converts parsed field lines of `section` to a header map, in their order.
///
/// # Errors
/// `http` rejects a name or a value that the parser has accepted.
pub(crate) fn to_header_map(section: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Rejection> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Rejection::FieldName)?;
        let value =
            HeaderValue::from_maybe_shared(section.slice_ref(field.value)).map_err(|_| Rejection::FieldValue)?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// Maps an error of the parser. `section` is complete, so an incomplete message does not occur.
pub(crate) fn to_rejection(error: httparse::Error, section: &[u8], first_line: Rejection) -> Rejection {
    match error {
        httparse::Error::HeaderName if has_folded_line(section) => Rejection::FoldedField,
        httparse::Error::HeaderName => Rejection::FieldName,
        httparse::Error::HeaderValue => Rejection::FieldValue,
        httparse::Error::TooManyHeaders => Rejection::TooManyFields,
        httparse::Error::Version => Rejection::Version,
        httparse::Error::NewLine | httparse::Error::Status | httparse::Error::Token => first_line,
    }
}

/// Returns true if a line begins with a space: obsolete line folding (RFC 9112 §5.2).
fn has_folded_line(section: &[u8]) -> bool {
    section.windows(2).any(|pair| pair[0] == b'\n' && matches!(pair[1], b' ' | b'\t'))
}
