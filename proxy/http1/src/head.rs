//! Heads from bytes. A head is parsed when it is complete, from one block of memory that its header map refers to.

use std::mem::MaybeUninit;

use bytes::{Buf, Bytes, BytesMut};
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode, Version};

use crate::fields::{HeadFields, MessageKind, field_slots, read_head_fields, to_rejection};
use crate::framing::{self, BodyLength};
use crate::limits::{Limits, MAX_EMPTY_LINES, MAX_METHOD_BYTES, STACK_FIELDS};
use crate::lines::SectionScan;
use crate::rejection::Rejection;
use crate::sent_names::SentNames;

/// The head of a request.
#[derive(Debug, Clone)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The target as sent: origin-form, absolute-form, authority-form or `*` (RFC 9112 §3.2), in printable ASCII.
    pub target: Bytes,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The value of `host`. A second `host` is among the headers.
    pub host: Option<HeaderValue>,
    /// The other fields, in order, with names in lower case, without those that concern the connection: `connection`,
    /// what it names, `keep-alive`, `proxy-connection`, `transfer-encoding`; `upgrade` only if `connection` has it.
    pub headers: HeaderMap,
    /// The names of the fields as sent, if the decoder records them and one is not in lower case.
    pub sent_names: Option<SentNames>,
    /// Fields that `connection` names; they are not among the headers, and must not be among the trailers.
    pub connection_fields: Vec<HeaderName>,
    /// The length of the body that follows.
    pub body: BodyLength,
    /// True if the client may send another request on the connection.
    pub keep_alive: bool,
}

/// The head of a response.
#[derive(Debug, Clone)]
pub struct ResponseHead {
    /// The status.
    pub status: StatusCode,
    /// The reason phrase as sent, without control characters.
    pub reason: Bytes,
    /// HTTP/1.0 or HTTP/1.1.
    pub version: Version,
    /// The fields, in order, with names in lower case, without those that concern the connection, as in a request.
    pub headers: HeaderMap,
    /// The names of the fields as sent, as in a request.
    pub sent_names: Option<SentNames>,
    /// Fields that `connection` names; they are not among the headers, and must not be among the trailers.
    pub connection_fields: Vec<HeaderName>,
    /// The length of the body that follows.
    pub body: BodyLength,
    /// True if the server accepts another request on the connection.
    pub keep_alive: bool,
}

/// The readable parts of a request line that is rejected, for logs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestLine {
    /// The method, or what stands in its place.
    pub method: Bytes,
    /// The target, or what stands in its place.
    pub target: Bytes,
    /// True if the line ends with `HTTP/1.0`.
    pub is_http10: bool,
}

/// Reads one head after another from a buffer.
#[derive(Debug)]
pub struct HeadDecoder {
    limits: Limits,
    scan: SectionScan,
    empty_lines: u8,
    records_names: bool,
}

impl HeadDecoder {
    /// Returns a decoder at the beginning of a message.
    pub fn new(limits: Limits) -> Self {
        Self { limits, scan: SectionScan::default(), empty_lines: 0, records_names: false }
    }

    /// Returns the decoder with the names of fields as sent in its heads, if `records_names`.
    #[must_use]
    pub fn with_sent_names(self, records_names: bool) -> Self {
        Self { records_names, ..self }
    }

    /// Takes a complete request head from the front of `input`; `None` until it is there.
    ///
    /// # Errors
    /// The head is rejected. `input` is unchanged, for [`HeadDecoder::request_line`].
    pub fn decode_request(&mut self, input: &mut BytesMut) -> Result<Option<RequestHead>, Rejection> {
        // RFC 9112 §2.2: empty lines before the request line are skipped.
        while input.starts_with(b"\r\n") {
            if self.empty_lines == MAX_EMPTY_LINES {
                return Err(Rejection::RequestLine);
            }
            self.empty_lines += 1;
            input.advance(2);
            self.scan = SectionScan::default();
        }
        if input.first().is_some_and(|byte| *byte != b'\r' && !is_token_byte(*byte)) {
            return Err(Rejection::Method); // Without waiting for a line of what is not HTTP at all.
        }
        // RFC 9112 §3: a request line without an end is a target that is too long.
        let Some(length) = self.complete_length(input, Rejection::TargetTooLong)? else { return Ok(None) };
        let section = Bytes::copy_from_slice(&input[..length]);
        let (mut few, mut many) = ([const { MaybeUninit::uninit() }; STACK_FIELDS], Vec::new());
        let fields = field_slots(self.limits.fields, &mut few, &mut many);
        let mut request = httparse::Request::new(&mut []);
        if let Err(error) = request.parse_with_uninit_headers(&section, fields) {
            return Err(match error {
                httparse::Error::Token | httparse::Error::Version => request_line_rejection(&section),
                error => to_rejection(error, &section, Rejection::RequestLine),
            });
        }
        let (Some(method), Some(target), Some(minor)) = (request.method, request.path, request.version) else {
            return Err(Rejection::RequestLine);
        };
        if method.len() > MAX_METHOD_BYTES {
            return Err(Rejection::Method);
        }
        // The parser also takes UTF-8, which no URI has (RFC 3986 §2), and a fragment, which no target has (RFC 9112
        // §3.2).
        if !target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(Rejection::Target);
        }
        if target.len() > self.limits.target_bytes {
            return Err(Rejection::TargetTooLong);
        }
        let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
        let HeadFields { host, headers, connection, coding } =
            read_head_fields(MessageKind::Request, &section, request.headers)?;
        let head = RequestHead {
            method: Method::from_bytes(method.as_bytes()).map_err(|_| Rejection::Method)?,
            target: section.slice_ref(target.as_bytes()),
            version,
            host,
            body: framing::request_length(version, &coding, &headers)?,
            keep_alive: connection.is_persistent(version),
            sent_names: self.sent_names(&section, request.headers)?,
            headers,
            connection_fields: connection.into_named(),
        };
        self.take(input, length);
        Ok(Some(head))
    }

    /// Takes a complete response head from the front of `input`; `None` until it is there. `method` is the request's.
    ///
    /// # Errors
    /// The head is rejected.
    pub fn decode_response(
        &mut self,
        input: &mut BytesMut,
        method: &Method,
    ) -> Result<Option<ResponseHead>, Rejection> {
        if !input.is_empty() && !b"HTTP/".starts_with(&input[..input.len().min(5)]) {
            return Err(Rejection::StatusLine);
        }
        let Some(length) = self.complete_length(input, Rejection::HeadTooLarge)? else { return Ok(None) };
        let section = Bytes::copy_from_slice(&input[..length]);
        let (mut few, mut many) = ([const { MaybeUninit::uninit() }; STACK_FIELDS], Vec::new());
        let fields = field_slots(self.limits.fields, &mut few, &mut many);
        let mut response = httparse::Response::new(&mut []);
        let parsed =
            httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, &section, fields);
        parsed.map_err(|error| to_rejection(error, &section, Rejection::StatusLine))?;
        let (Some(code), Some(minor)) = (response.code, response.version) else { return Err(Rejection::StatusLine) };
        let version = if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 };
        let status = StatusCode::from_u16(code).map_err(|_| Rejection::StatusLine)?;
        let HeadFields { host: _, headers, connection, coding } =
            read_head_fields(MessageKind::Response, &section, response.headers)?;
        let body = match framing::permits_body(status, method) {
            true => framing::response_length(version, &coding, &headers)?,
            false => framing::bodyless_length(&headers)?,
        };
        let head = ResponseHead {
            status,
            reason: reason_phrase(&section),
            version,
            body,
            keep_alive: connection.is_persistent(version) && body != BodyLength::UntilClose,
            sent_names: self.sent_names(&section, response.headers)?,
            headers,
            connection_fields: connection.into_named(),
        };
        self.take(input, length);
        Ok(Some(head))
    }

    /// Returns what can be read of the request line at the front of `input`, which was rejected.
    pub fn request_line(input: &[u8]) -> RequestLine {
        let line = input.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
        let mut parts = line.splitn(3, |byte| *byte == b' ').map(Bytes::copy_from_slice);
        let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let is_http10 = parts.next().is_some_and(|version| &version[..] == b"HTTP/1.0");
        RequestLine { method, target, is_http10 }
    }

    /// Returns the length of the head; `None` until it is complete. A head whose first line alone is too large is
    /// rejected as `long_first_line`.
    fn complete_length(&mut self, input: &[u8], long_first_line: Rejection) -> Result<Option<usize>, Rejection> {
        let length = self.scan.find_end(input)?;
        // An incomplete head of the largest size needs at least one byte more.
        if length.unwrap_or(input.len() + 1) <= self.limits.head_bytes {
            return Ok(length);
        }
        match memchr::memchr(b'\n', &input[..self.limits.head_bytes.min(input.len())]) {
            None => Err(long_first_line),
            Some(_) => Err(Rejection::HeadTooLarge),
        }
    }

    fn sent_names(&self, section: &Bytes, fields: &[httparse::Header<'_>]) -> Result<Option<SentNames>, Rejection> {
        if self.records_names { SentNames::of(section, fields) } else { Ok(None) }
    }

    fn take(&mut self, input: &mut BytesMut, length: usize) {
        input.advance(length);
        self.scan = SectionScan::default();
        self.empty_lines = 0;
    }
}

/// Returns the rejection of a request line that does not parse: its method, its target, its version, or the whole.
fn request_line_rejection(section: &[u8]) -> Rejection {
    let line = section.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let mut next = || parts.next().unwrap_or_default();
    let (method, target, version) = (next(), next(), next());
    let is_version = matches!(version, [b'H', b'T', b'T', b'P', b'/', major, rest @ ..]
        if major.is_ascii_digit() && matches!(rest, [] | [b'.', b'0'..=b'9']));
    if is_version && version[..] != b"HTTP/1.0"[..] && version[..] != b"HTTP/1.1"[..] {
        return Rejection::Version;
    }
    if method.is_empty() || !method.iter().copied().all(is_token_byte) {
        Rejection::Method
    } else if target.is_empty() || target.iter().all(u8::is_ascii_graphic) {
        Rejection::RequestLine
    } else {
        Rejection::Target
    }
}

/// Returns the reason phrase of a valid status line: what follows the status (RFC 9112 §4).
fn reason_phrase(section: &Bytes) -> Bytes {
    let end = memchr::memchr(b'\r', section).unwrap_or(0);
    section.slice(STATUS_LINE_PREFIX.min(end)..end)
}

/// Bytes before the reason phrase: `HTTP/1.1 200 `.
const STATUS_LINE_PREFIX: usize = 13;

/// RFC 9110 §5.6.2: `tchar`.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~'
        )
}
