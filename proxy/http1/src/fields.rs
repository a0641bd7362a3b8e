//! Field lines to a header map. The values refer to the section's bytes. Fields that concern the connection end here
//! (RFC 9110 §7.6.1): the decoder has used them, and the next connection has its own.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::framing::{ConnectionOptions, TransferCoding};
use crate::limits::STACK_FIELDS;
use crate::rejection::Rejection;

/// The fields of a head.
#[derive(Debug, Default)]
pub(crate) struct HeadFields {
    /// The first `host` of a request. A second one is among the headers.
    pub(crate) host: Option<HeaderValue>,
    /// The other fields that do not concern the connection, in their order.
    pub(crate) headers: HeaderMap,
    /// The values of `connection`.
    pub(crate) connection: ConnectionOptions,
    /// The values of `transfer-encoding`.
    pub(crate) coding: TransferCoding,
}

/// The kind of message that fields belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageKind {
    Request,
    Response,
}

/// Returns memory for `count` parsed fields: of `few` if they fit, otherwise of `many`.
pub(crate) fn field_slots<'slots, 'head>(
    count: usize,
    few: &'slots mut [MaybeUninit<httparse::Header<'head>>; STACK_FIELDS],
    many: &'slots mut Vec<MaybeUninit<httparse::Header<'head>>>,
) -> &'slots mut [MaybeUninit<httparse::Header<'head>>] {
    if count <= STACK_FIELDS {
        return &mut few[..count];
    }
    many.resize_with(count, MaybeUninit::uninit);
    many
}

/// Reads the parsed fields of a head, which is `section`.
///
/// # Errors
/// `http` rejects a name or a value that the parser has accepted.
pub(crate) fn read_head_fields(
    kind: MessageKind,
    section: &Bytes,
    fields: &[httparse::Header<'_>],
) -> Result<HeadFields, Rejection> {
    let mut read = HeadFields { headers: HeaderMap::with_capacity(fields.len()), ..HeadFields::default() };
    // `connection` may stand behind the fields that it names.
    for field in fields.iter().filter(|field| field.name.eq_ignore_ascii_case("connection")) {
        read.connection.add(field.value)?;
    }
    for field in fields {
        match field.name.len() {
            4 if kind == MessageKind::Request && read.host.is_none() && field.name.eq_ignore_ascii_case("host") => {
                read.host = Some(value_of(section, field)?);
            }
            10 | 16 | 14 if is_connection_field(field.name) => {}
            17 if field.name.eq_ignore_ascii_case("transfer-encoding") => read.coding.add(field.value),
            // RFC 9110 §7.8: without the connection option it is not meant for this connection.
            7 if !read.connection.upgrades() && field.name.eq_ignore_ascii_case("upgrade") => {}
            _ => {
                let name = name_of(field)?;
                if !read.connection.names(&name) {
                    read.headers.append(name, value_of(section, field)?);
                }
            }
        }
    }
    Ok(read)
}

/// Returns true for fields that concern the connection alone.
fn is_connection_field(name: &str) -> bool {
    ["connection", "keep-alive", "proxy-connection", "http2-settings"]
        .iter()
        .any(|field| name.eq_ignore_ascii_case(field))
}

/// Converts parsed field lines of `section` to a header map, in their order.
///
/// # Errors
/// `http` rejects a name or a value that the parser has accepted.
pub(crate) fn to_header_map(section: &Bytes, fields: &[httparse::Header<'_>]) -> Result<HeaderMap, Rejection> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        headers.append(name_of(field)?, value_of(section, field)?);
    }
    Ok(headers)
}

fn name_of(field: &httparse::Header<'_>) -> Result<HeaderName, Rejection> {
    HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Rejection::FieldName)
}

fn value_of(section: &Bytes, field: &httparse::Header<'_>) -> Result<HeaderValue, Rejection> {
    HeaderValue::from_maybe_shared(section.slice_ref(field.value)).map_err(|_| Rejection::FieldValue)
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
