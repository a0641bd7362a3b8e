//! Names, statuses and texts of rejections. A rejected message ends its connection: the rest of the bytes has no
//! meaning.

use std::fmt;

use http::StatusCode;

/// The reason for which a message is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rejection {
    /// A line ends with LF alone (RFC 9112 §2.2).
    BareLineFeed,
    /// The request line is not `method SP target SP version` (RFC 9112 §3).
    RequestLine,
    /// The method is not a token (RFC 9110 §9.1).
    Method,
    /// The target has a byte that no URI has (RFC 9112 §3.2).
    Target,
    /// The target is longer than [`Limits::target_bytes`](crate::Limits::target_bytes) (RFC 9112 §3).
    TargetTooLong,
    /// The version is neither HTTP/1.0 nor HTTP/1.1 (RFC 9112 §2.3).
    Version,
    /// The status line is not `version SP status SP reason` (RFC 9112 §4).
    StatusLine,
    /// A field name is empty, is not a token, or is followed by a space (RFC 9112 §5.1).
    FieldName,
    /// A field value has a control character (RFC 9110 §5.5).
    FieldValue,
    /// A field value continues on the next line (RFC 9112 §5.2).
    FoldedField,
    /// The head has more bytes than [`Limits::head_bytes`](crate::Limits::head_bytes).
    HeadTooLarge,
    /// The head has more fields than [`Limits::fields`](crate::Limits::fields).
    TooManyFields,
    /// `content-length` is not one number (RFC 9110 §8.6).
    ContentLength,
    /// Several values of `content-length` differ (RFC 9112 §6.3).
    ConflictingLengths,
    /// `content-length` stands beside `transfer-encoding` (RFC 9112 §6.3).
    LengthAndTransferCoding,
    /// The transfer coding is known by no name but `chunked` (RFC 9112 §6.1).
    TransferCoding,
    /// `chunked` is repeated, or another coding follows it (RFC 9112 §6.1).
    ChunkedNotLast,
    /// `transfer-encoding` in HTTP/1.0 (RFC 9112 §6.1).
    TransferCodingInHttp10,
    /// A chunk size is not 1 to 16 hexadecimal digits (RFC 9112 §7.1).
    ChunkSize,
    /// A chunk extension has a control character (RFC 9112 §7.1.1).
    ChunkExtension,
    /// The chunk extensions have more bytes than allowed.
    ChunkExtensionsTooLarge,
    /// The data of a chunk is not followed by CRLF (RFC 9112 §7.1).
    ChunkEnd,
    /// The trailer section has more bytes or fields than allowed.
    TrailersTooLarge,
    /// The connection was closed within a message (RFC 9112 §8).
    Incomplete,
}

impl Rejection {
    /// Every rejection.
    pub const ALL: [Self; 24] = [
        Self::BareLineFeed,
        Self::RequestLine,
        Self::Method,
        Self::Target,
        Self::TargetTooLong,
        Self::Version,
        Self::StatusLine,
        Self::FieldName,
        Self::FieldValue,
        Self::FoldedField,
        Self::HeadTooLarge,
        Self::TooManyFields,
        Self::ContentLength,
        Self::ConflictingLengths,
        Self::LengthAndTransferCoding,
        Self::TransferCoding,
        Self::ChunkedNotLast,
        Self::TransferCodingInHttp10,
        Self::ChunkSize,
        Self::ChunkExtension,
        Self::ChunkExtensionsTooLarge,
        Self::ChunkEnd,
        Self::TrailersTooLarge,
        Self::Incomplete,
    ];

    /// Returns the name in logs and metrics: stable, in snake case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BareLineFeed => "http1_bare_line_feed",
            Self::RequestLine => "http1_request_line",
            Self::Method => "http1_method",
            Self::Target => "http1_target",
            Self::TargetTooLong => "http1_target_too_long",
            Self::Version => "http1_version",
            Self::StatusLine => "http1_status_line",
            Self::FieldName => "http1_field_name",
            Self::FieldValue => "http1_field_value",
            Self::FoldedField => "http1_folded_field",
            Self::HeadTooLarge => "http1_head_too_large",
            Self::TooManyFields => "http1_too_many_fields",
            Self::ContentLength => "http1_content_length",
            Self::ConflictingLengths => "http1_conflicting_lengths",
            Self::LengthAndTransferCoding => "http1_length_and_transfer_coding",
            Self::TransferCoding => "http1_transfer_coding",
            Self::ChunkedNotLast => "http1_chunked_not_last",
            Self::TransferCodingInHttp10 => "http1_transfer_coding_in_http10",
            Self::ChunkSize => "http1_chunk_size",
            Self::ChunkExtension => "http1_chunk_extension",
            Self::ChunkExtensionsTooLarge => "http1_chunk_extensions_too_large",
            Self::ChunkEnd => "http1_chunk_end",
            Self::TrailersTooLarge => "http1_trailers_too_large",
            Self::Incomplete => "http1_incomplete",
        }
    }

    /// Returns the status of a request that is rejected for this reason.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge | Self::TooManyFields | Self::TrailersTooLarge => {
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
            }
            Self::TransferCoding => StatusCode::NOT_IMPLEMENTED,
            Self::Version => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// Returns the reason as text: a clause without a full stop.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::BareLineFeed => "a line ends with LF and not CRLF",
            Self::RequestLine => "the request line is not valid",
            Self::Method => "the method is not a token",
            Self::Target => "the target is not a valid URI",
            Self::TargetTooLong => "the target is too long",
            Self::Version => "the version is not HTTP/1.0 or HTTP/1.1",
            Self::StatusLine => "the status line is not valid",
            Self::FieldName => "a field name is not valid",
            Self::FieldValue => "a field value has a control character",
            Self::FoldedField => "a field value is folded over several lines",
            Self::HeadTooLarge => "the head is too large",
            Self::TooManyFields => "the message has too many fields",
            Self::ContentLength => "content-length is not one number",
            Self::ConflictingLengths => "the values of content-length differ",
            Self::LengthAndTransferCoding => "content-length beside transfer-encoding",
            Self::TransferCoding => "a transfer coding other than chunked",
            Self::ChunkedNotLast => "chunked is not the last transfer coding, or is repeated",
            Self::TransferCodingInHttp10 => "transfer-encoding in HTTP/1.0",
            Self::ChunkSize => "a chunk size is not a hexadecimal number",
            Self::ChunkExtension => "a chunk extension has a control character",
            Self::ChunkExtensionsTooLarge => "the chunk extensions are too large",
            Self::ChunkEnd => "a chunk does not end with CRLF",
            Self::TrailersTooLarge => "the trailer section is too large",
            Self::Incomplete => "the connection was closed within a message",
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason())
    }
}

impl std::error::Error for Rejection {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: std::collections::BTreeSet<_> = Rejection::ALL.iter().map(|rejection| rejection.name()).collect();
        assert_eq!(names.len(), Rejection::ALL.len());
    }
}
