//! A parser of a whole connection, written from the grammar of RFC 9112 and RFC 9110 with no code of the crate. It is
//! slow and has no bounds. Leniency and strictness beyond the grammar are the ones of `docs/http1.md`.

use http::{Method, Version};

use crate::messages::{Fields, Message, Sender, StartLine, connection_options, end_to_end, grouped, is_protected};

/// The end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// After a message, or before the first.
    Complete,
    /// Within a message, all of which is valid so far.
    Incomplete,
    /// At bytes that are not valid.
    Invalid,
}

/// The complete messages on a connection, and its end.
#[derive(Debug)]
pub(crate) struct Parsed {
    pub(crate) messages: Vec<Message>,
    pub(crate) end: End,
}

/// Digits of the longest chunk size.
const CHUNK_SIZE_DIGITS: usize = 16;

/// Bytes of the longest method.
const METHOD_BYTES: usize = 64;

/// Empty lines before a request line that are skipped.
const EMPTY_LINES: usize = 4;

/// Fields that are dropped from trailer sections (RFC 9110 §6.5.1): framing, routing, the connection, controls and
/// conditions, authentication and state, content, and control of the response.
#[rustfmt::skip]
const NOT_IN_TRAILERS: [&str; 39] = [
    "transfer-encoding", "content-length", "trailer",
    "host", "forwarded", "via", "max-forwards",
    "connection", "keep-alive", "proxy-connection", "upgrade", "te",
    "expect", "cache-control", "pragma", "range",
    "if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "if-range",
    "authorization", "proxy-authorization", "proxy-authenticate", "www-authenticate", "cookie", "set-cookie",
    "content-encoding", "content-language", "content-location", "content-range", "content-type",
    "age", "date", "expires", "location", "retry-after", "vary", "warning",
];

/// Parses the bytes of a connection, which then ends.
pub(crate) fn parse(sender: Sender<'_>, bytes: &[u8]) -> Parsed {
    let (mut rest, mut messages, mut answered) = (Rest(bytes), Vec::new(), 0);
    loop {
        let parsed = match sender {
            Sender::Client => request(&mut rest),
            Sender::Server(methods) => {
                let method = methods.get(answered).or(methods.last()).unwrap_or(&Method::GET);
                response(&mut rest, method)
            }
        };
        match parsed {
            Ok(message) => {
                answered += usize::from(!message.is_informational());
                messages.push(message);
            }
            Err(end) => return Parsed { messages, end },
        }
    }
}

/// RFC 9112 §3: `method SP request-target SP HTTP-version`.
fn request(rest: &mut Rest<'_>) -> Result<Message, End> {
    let mut empty_lines = 0;
    while let Some(after) = rest.0.strip_prefix(b"\r\n") {
        if empty_lines == EMPTY_LINES {
            return Err(End::Invalid);
        }
        empty_lines += 1;
        *rest = Rest(after);
    }
    let first = rest.0.first().ok_or(End::Complete)?;
    valid(*first == b'\r' || is_tchar(*first))?;
    let lines = rest.section()?;
    let (start, field_lines) = lines.split_first().ok_or(End::Invalid)?;
    let parts: Vec<&[u8]> = start.split(|byte| *byte == b' ').collect();
    let &[method, target, version] = &parts[..] else { return Err(End::Invalid) };
    // RFC 9112 §3.2: no form of a target has other characters.
    let is_target = |byte: &u8| byte.is_ascii_graphic() && *byte != b'#';
    valid(is_token(method) && method.len() <= METHOD_BYTES && !target.is_empty() && target.iter().all(is_target))?;
    let (version, fields) = (parse_version(version)?, parse_fields(field_lines)?);
    let framing = declared(version, &fields)?.unwrap_or(Framing::Length(0)); // RFC 9112 §6.3 rule 7.
    let (body, trailers) = content(rest, framing, &fields)?;
    let start = StartLine::Request { method: text(method), target: target.to_vec() };
    let keep_alive = is_persistent(version, &fields);
    let fields = end_to_end(&start, fields);
    Ok(Message { start, version, fields, body, trailers, keep_alive })
}

/// RFC 9112 §4: `HTTP-version SP status-code SP [ reason-phrase ]`. The second space may be missing.
fn response(rest: &mut Rest<'_>, method: &Method) -> Result<Message, End> {
    valid(rest.0.iter().zip(b"HTTP/").all(|(byte, expected)| byte == expected))?;
    if rest.0.is_empty() {
        return Err(End::Complete);
    }
    let lines = rest.section()?;
    let (start, field_lines) = lines.split_first().ok_or(End::Invalid)?;
    let (version, after) = start.split_at_checked(8).ok_or(End::Invalid)?;
    let version = parse_version(version)?;
    let (&[b' ', ref status @ ..], reason) = after.split_at_checked(4).ok_or(End::Invalid)? else {
        return Err(End::Invalid);
    };
    valid(status.iter().all(u8::is_ascii_digit) && status[0] != b'0')?;
    let status: u16 = text(status).parse().map_err(|_| End::Invalid)?;
    let reason = match reason {
        [] => reason,
        [b' ', reason @ ..] => reason,
        _ => return Err(End::Invalid),
    };
    valid(reason.iter().copied().all(is_text))?;
    let fields = parse_fields(field_lines)?;
    // RFC 9112 §6.1, and §6.3 rules 1 and 8: a coding without a body describes another response.
    let is_bodiless = *method == Method::HEAD || matches!(status, 100..=199 | 204 | 304);
    let framing = if is_bodiless {
        let lengths = fields.iter().filter(|(name, _)| name == "content-length").cloned().collect();
        declared(version, &lengths)?;
        Framing::Length(0)
    } else {
        declared(version, &fields)?.unwrap_or(Framing::Close)
    };
    let keep_alive = is_persistent(version, &fields) && framing != Framing::Close;
    let (body, trailers) = content(rest, framing, &fields)?;
    let start = StartLine::Response { status, reason: reason.to_vec() };
    let fields = end_to_end(&start, fields);
    Ok(Message { start, version, fields, body, trailers, keep_alive })
}

fn valid(is_valid: bool) -> Result<(), End> {
    if is_valid { Ok(()) } else { Err(End::Invalid) }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// RFC 9110 §5.6.2: `tchar`.
fn is_tchar(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_tchar)
}

/// `HTAB / SP / VCHAR / obs-text`: of field values (RFC 9110 §5.5) and reason phrases (RFC 9112 §4).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// RFC 9112 §2.3: names are case-sensitive.
fn parse_version(bytes: &[u8]) -> Result<Version, End> {
    match bytes {
        b"HTTP/1.0" => Ok(Version::HTTP_10),
        b"HTTP/1.1" => Ok(Version::HTTP_11),
        _ => Err(End::Invalid),
    }
}

/// RFC 9112 §5: `field-name ":" OWS field-value OWS`.
fn parse_fields(lines: &[&[u8]]) -> Result<Fields, End> {
    let parse_field = |line: &&[u8]| {
        let colon = line.iter().position(|byte| *byte == b':').ok_or(End::Invalid)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        valid(is_token(name) && value.iter().copied().all(is_text))?;
        Ok((text(name).to_ascii_lowercase(), trim(value).to_vec()))
    };
    lines.iter().map(parse_field).collect()
}

/// Removes OWS at both ends.
fn trim(bytes: &[u8]) -> &[u8] {
    let is_visible = |byte: &u8| !b" \t".contains(byte);
    let start = bytes.iter().position(is_visible).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(is_visible).map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// Returns the comma-separated elements of every field of this name.
fn elements<'a>(fields: &'a Fields, name: &'a str) -> Vec<&'a [u8]> {
    let values = fields.iter().filter(|field| field.0 == name).map(|field| &field.1);
    values.flat_map(|value| value.split(|byte| *byte == b',')).map(trim).collect()
}

/// RFC 9112 §9.3.
fn is_persistent(version: Version, fields: &Fields) -> bool {
    let options = elements(fields, "connection");
    let has = |name: &[u8]| options.iter().any(|option| option.eq_ignore_ascii_case(name));
    !has(b"close") && (version == Version::HTTP_11 || has(b"keep-alive"))
}

/// The delimiter of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
    Close,
}

/// RFC 9112 §6.1 to §6.3, where a message with two framings and every coding but one `chunked` are not valid.
fn declared(version: Version, fields: &Fields) -> Result<Option<Framing>, End> {
    let (codings, lengths) = (elements(fields, "transfer-encoding"), elements(fields, "content-length"));
    match (&codings[..], &lengths[..]) {
        ([], []) => Ok(None),
        ([coding], []) => {
            valid(version == Version::HTTP_11 && coding.eq_ignore_ascii_case(b"chunked"))?;
            Ok(Some(Framing::Chunked))
        }
        ([], [first, others @ ..]) => {
            valid(!first.is_empty() && first.iter().all(u8::is_ascii_digit))?;
            valid(others.iter().all(|other| other == first))?;
            Ok(Some(Framing::Length(text(first).parse().map_err(|_| End::Invalid)?)))
        }
        _ => Err(End::Invalid),
    }
}

/// Takes the body and its trailers.
fn content(rest: &mut Rest<'_>, framing: Framing, head: &Fields) -> Result<(Vec<u8>, Fields), End> {
    match framing {
        Framing::Length(length) => Ok((rest.take(length)?.to_vec(), Fields::new())),
        Framing::Close => Ok((std::mem::take(&mut rest.0).to_vec(), Fields::new())),
        Framing::Chunked => {
            let mut body = Vec::new();
            loop {
                match chunk_size(rest)? {
                    0 => break,
                    size => body.extend_from_slice(rest.take(size)?),
                }
                rest.expect(b"\r\n")?;
            }
            let mut trailers = parse_fields(&rest.section()?)?;
            let options = connection_options(head);
            trailers.retain(|(name, _)| {
                let is_named = !is_protected(name) && options.contains(name);
                !NOT_IN_TRAILERS.contains(&name.as_str()) && !is_named
            });
            Ok((body, grouped(trailers)))
        }
    }
}

/// RFC 9112 §7.1: `chunk-size [ chunk-ext ] CRLF`, of whose extension only the characters are checked.
fn chunk_size(rest: &mut Rest<'_>) -> Result<u64, End> {
    let mut digits = String::new();
    while rest.peek()?.is_ascii_hexdigit() {
        valid(digits.len() < CHUNK_SIZE_DIGITS)?;
        digits.push(char::from(rest.next()?));
    }
    let size = u64::from_str_radix(&digits, 16).map_err(|_| End::Invalid)?;
    let mut has_space = false;
    while b" \t".contains(&rest.peek()?) {
        has_space = true;
        rest.next()?;
    }
    if rest.peek()? == b';' {
        while rest.peek()? != b'\r' {
            valid(is_text(rest.next()?))?;
        }
    } else {
        valid(!has_space)?;
    }
    rest.expect(b"\r\n")?;
    Ok(size)
}

/// The bytes that are not parsed yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn peek(&self) -> Result<u8, End> {
        self.0.first().copied().ok_or(End::Incomplete)
    }

    fn next(&mut self) -> Result<u8, End> {
        let byte = self.peek()?;
        self.0 = &self.0[1..];
        Ok(byte)
    }

    fn expect(&mut self, expected: &[u8]) -> Result<(), End> {
        expected.iter().try_for_each(|expected| valid(self.next()? == *expected))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], End> {
        let length = usize::try_from(length).map_err(|_| End::Incomplete)?;
        let (taken, rest) = self.0.split_at_checked(length).ok_or(End::Incomplete)?;
        self.0 = rest;
        Ok(taken)
    }

    /// Takes lines up to the first empty line, and that line. RFC 9112 §2.2: a line ends with CRLF; LF alone is rejected.
    fn section(&mut self) -> Result<Vec<&'a [u8]>, End> {
        let mut lines = Vec::new();
        loop {
            let line_feed = self.0.iter().position(|byte| *byte == b'\n').ok_or(End::Incomplete)?;
            let line = self.0[..line_feed].strip_suffix(b"\r").ok_or(End::Invalid)?;
            self.0 = &self.0[line_feed + 1..];
            if line.is_empty() {
                return Ok(lines);
            }
            lines.push(line);
        }
    }
}
