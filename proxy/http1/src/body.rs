//! Bodies from bytes: a length, chunks with trailers (RFC 9112 §7.1), or until the connection closes.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use http::header::{self, HeaderName};

use crate::fields::{to_header_map, to_rejection};
use crate::framing::BodyLength;
use crate::limits::{Limits, MAX_CHUNK_SIZE_DIGITS, MAX_TRAILER_FIELDS};
use crate::lines::SectionScan;
use crate::rejection::Rejection;

/// The end of the data of a chunk, and a last chunk without extensions and trailers.
const LAST_CHUNK: &[u8] = b"\r\n0\r\n\r\n";

/// Data up to this length is copied, so that a buffer of many times its size is free for the next message.
const MAX_COPIED_BYTES: usize = 2 * 1024;

/// An event of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyEvent {
    /// Bytes of the body; never empty.
    Data(Bytes),
    /// The trailer section, which ends the body. Only of chunked bodies, and only if a field is left of it.
    Trailers(HeaderMap),
    /// The end of the body. After it no event follows.
    End,
}

/// Reads one body from a buffer.
#[derive(Debug)]
pub struct BodyDecoder {
    limits: Limits,
    state: State,
    extension_bytes: usize,
    /// Fields that are dropped from the trailers: those that the head's `connection` names (RFC 9110 §7.6.1).
    connection_fields: Vec<HeaderName>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// After bytes that are not valid.
    Rejected(Rejection),
    /// The rest of a body, or of one chunk's data.
    Data {
        left: u64,
        is_chunk: bool,
    },
    UntilClose,
    /// Within the digits of a chunk size.
    ChunkSize {
        size: u64,
        digits: u8,
    },
    /// After white space that follows a chunk size: an extension must follow.
    ChunkSpace {
        size: u64,
    },
    /// Within a chunk extension.
    ChunkExtension {
        size: u64,
    },
    /// After the CR that follows a chunk size or its extensions.
    ChunkSizeLineFeed {
        size: u64,
    },
    /// After the data of a chunk.
    ChunkDataEnd,
    /// After the CR that follows the data of a chunk.
    ChunkDataLineFeed,
    Trailers(SectionScan),
    End,
}

impl BodyDecoder {
    /// Returns the decoder of a body of this length.
    pub fn new(length: BodyLength, limits: Limits) -> Self {
        let state = match length {
            BodyLength::Exact(0) => State::End,
            BodyLength::Exact(left) => State::Data { left, is_chunk: false },
            BodyLength::Chunked => State::ChunkSize { size: 0, digits: 0 },
            BodyLength::UntilClose => State::UntilClose,
        };
        Self { limits, state, extension_bytes: 0, connection_fields: Vec::new() }
    }

    /// Returns the decoder, which drops these fields from the trailers: those that `connection` names in the head.
    pub fn without_trailers(self, connection_fields: Vec<HeaderName>) -> Self {
        Self { connection_fields, ..self }
    }

    /// Returns true after the last byte of the message.
    pub fn is_end(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// Returns the bytes that are left of a body of known length.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Data { left, is_chunk: false } => Some(left),
            State::End => Some(0),
            _ => None,
        }
    }

    /// Takes the next event from the front of `input`; `None` until more bytes are there.
    ///
    /// # Errors
    /// The bytes are not a valid chunked body. Every later call has the same error.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<BodyEvent>, Rejection> {
        self.advance(input).inspect_err(|rejection| self.state = State::Rejected(*rejection))
    }

    fn advance(&mut self, input: &mut BytesMut) -> Result<Option<BodyEvent>, Rejection> {
        loop {
            match self.state {
                State::Rejected(rejection) => return Err(rejection),
                State::End => return Ok(Some(BodyEvent::End)),
                State::Data { .. } | State::UntilClose if input.is_empty() => return Ok(None),
                State::UntilClose => return Ok(Some(BodyEvent::Data(input.split().freeze()))),
                State::Data { left, is_chunk } => {
                    return Ok(Some(BodyEvent::Data(self.take_data(input, left, is_chunk))));
                }
                State::Trailers(scan) => match self.take_trailers(input, scan)? {
                    None => return Ok(None),
                    Some(trailers) if !trailers.is_empty() => return Ok(Some(BodyEvent::Trailers(trailers))),
                    Some(_) => {}
                },
                _ => {
                    let Some(byte) = input.first().copied() else { return Ok(None) };
                    input.advance(1);
                    self.on_framing_byte(byte)?;
                }
            }
        }
    }

    fn take_data(&mut self, input: &mut BytesMut, left: u64, is_chunk: bool) -> Bytes {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        self.state = match left - length as u64 {
            0 if is_chunk => State::ChunkDataEnd,
            0 => State::End,
            left => State::Data { left, is_chunk },
        };
        let data = match length {
            ..=MAX_COPIED_BYTES => {
                let data = Bytes::copy_from_slice(&input[..length]);
                input.advance(length);
                data
            }
            _ => input.split_to(length).freeze(),
        };
        // The usual end has often arrived with the last data. Then the receiver can end its message with them.
        if matches!(self.state, State::ChunkDataEnd) && input.starts_with(LAST_CHUNK) {
            input.advance(LAST_CHUNK.len());
            self.state = State::End;
        }
        data
    }

    fn take_trailers(&mut self, input: &mut BytesMut, mut scan: SectionScan) -> Result<Option<HeaderMap>, Rejection> {
        let length = scan.find_end(input)?;
        if length.unwrap_or(input.len()) > self.limits.trailer_bytes {
            return Err(Rejection::TrailersTooLarge);
        }
        let Some(length) = length else {
            self.state = State::Trailers(scan);
            return Ok(None);
        };
        let section = Bytes::copy_from_slice(&input[..length]);
        input.advance(length);
        self.state = State::End;
        self.parse_trailers(&section).map(Some)
    }

    /// Ends the body at the end of the connection.
    ///
    /// # Errors
    /// `Incomplete` for a body that declares its own end and has not reached it.
    pub fn decode_eof(&mut self) -> Result<(), Rejection> {
        match self.state {
            State::UntilClose | State::End => {
                self.state = State::End;
                Ok(())
            }
            _ => Err(Rejection::Incomplete),
        }
    }

    /// RFC 9112 §7.1: `chunk-size [ chunk-ext ] CRLF chunk-data CRLF`.
    fn on_framing_byte(&mut self, byte: u8) -> Result<(), Rejection> {
        self.state = match (self.state, byte) {
            (State::ChunkSize { size, digits }, byte) if byte.is_ascii_hexdigit() => {
                if digits == MAX_CHUNK_SIZE_DIGITS {
                    return Err(Rejection::ChunkSize);
                }
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                State::ChunkSize { size: size << 4 | u64::from(digit), digits: digits + 1 }
            }
            (State::ChunkSize { digits: 0, .. }, _) => return Err(Rejection::ChunkSize),
            (State::ChunkSize { size, .. }, b'\r') => State::ChunkSizeLineFeed { size },
            (State::ChunkSize { size, .. } | State::ChunkSpace { size }, b';') => {
                self.count_extension_byte()?;
                State::ChunkExtension { size }
            }
            (State::ChunkSize { size, .. } | State::ChunkSpace { size }, b' ' | b'\t') => {
                self.count_extension_byte()?;
                State::ChunkSpace { size }
            }
            (State::ChunkSize { .. } | State::ChunkSpace { .. }, _) => return Err(Rejection::ChunkSize),
            (State::ChunkExtension { size }, b'\r') => State::ChunkSizeLineFeed { size },
            (State::ChunkExtension { size }, byte) => {
                if byte == b'\n' {
                    return Err(Rejection::BareLineFeed);
                }
                if byte.is_ascii_control() && byte != b'\t' {
                    return Err(Rejection::ChunkExtension);
                }
                self.count_extension_byte()?;
                State::ChunkExtension { size }
            }
            (State::ChunkSizeLineFeed { size: 0 }, b'\n') => State::Trailers(SectionScan::default()),
            (State::ChunkSizeLineFeed { size }, b'\n') => State::Data { left: size, is_chunk: true },
            (State::ChunkSizeLineFeed { .. }, _) => return Err(Rejection::ChunkSize),
            (State::ChunkDataEnd, b'\r') => State::ChunkDataLineFeed,
            (State::ChunkDataLineFeed, b'\n') => State::ChunkSize { size: 0, digits: 0 },
            _ => return Err(Rejection::ChunkEnd),
        };
        Ok(())
    }

    fn count_extension_byte(&mut self) -> Result<(), Rejection> {
        self.extension_bytes += 1;
        if self.extension_bytes > self.limits.chunk_extension_bytes {
            return Err(Rejection::ChunkExtensionsTooLarge);
        }
        Ok(())
    }

    fn parse_trailers(&self, section: &Bytes) -> Result<HeaderMap, Rejection> {
        let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
        let fields = &mut fields[..self.limits.fields.min(MAX_TRAILER_FIELDS)];
        match httparse::parse_headers(section, fields) {
            Ok(httparse::Status::Complete((_, fields))) => {
                let mut trailers = to_header_map(section, fields)?;
                FORBIDDEN_IN_TRAILERS
                    .iter()
                    .chain(&self.connection_fields)
                    .for_each(|name| drop(trailers.remove(name)));
                Ok(trailers)
            }
            Ok(httparse::Status::Partial) => Err(Rejection::FieldName),
            Err(httparse::Error::TooManyHeaders) => Err(Rejection::TrailersTooLarge),
            Err(error) => Err(to_rejection(error, section, Rejection::FieldName)),
        }
    }
}

/// Returns true for a field that has a meaning in a head alone, and is dropped from trailer sections (RFC 9110 §6.5.1).
pub fn belongs_in_head(name: &HeaderName) -> bool {
    FORBIDDEN_IN_TRAILERS.contains(name)
}

/// Fields that are dropped from trailer sections, since they have a meaning in a head alone: framing, routing, the
/// connection, controls and conditions, authentication, content, and control of the response (RFC 9110 §6.5.1).
const FORBIDDEN_IN_TRAILERS: [HeaderName; 39] = [
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TRAILER,
    header::HOST,
    header::FORWARDED,
    header::VIA,
    header::MAX_FORWARDS,
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::UPGRADE,
    header::TE,
    header::EXPECT,
    header::CACHE_CONTROL,
    header::PRAGMA,
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
    header::AUTHORIZATION,
    header::PROXY_AUTHORIZATION,
    header::PROXY_AUTHENTICATE,
    header::WWW_AUTHENTICATE,
    header::COOKIE,
    header::SET_COOKIE,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::CONTENT_LOCATION,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::AGE,
    header::DATE,
    header::EXPIRES,
    header::LOCATION,
    header::RETRY_AFTER,
    header::VARY,
    header::WARNING,
];
