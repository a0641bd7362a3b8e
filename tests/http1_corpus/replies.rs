//! The parser of the client: the responses in the bytes of a connection.

use std::fmt;

use crate::head::{Field, fields_of, find, lines, values};

/// The number of bytes of a body that a reply contains.
const TEXT_BYTES: usize = 64;

/// The status of a reply, or the reason why it has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Code(u16),
    /// Bytes that are no response.
    Raw,
    /// A head without its end.
    HeadCut,
    /// A head without a valid status line.
    BadHead,
}

impl Status {
    /// Returns the status of a final response.
    pub(crate) fn final_code(self) -> Option<u16> {
        match self {
            Self::Code(code) if code >= 200 => Some(code),
            _ => None,
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => code.fmt(formatter),
            Self::Raw => formatter.write_str("raw"),
            Self::HeadCut => formatter.write_str("head-cut"),
            Self::BadHead => formatter.write_str("bad-head"),
        }
    }
}

/// One response.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: Status,
    /// The reason phrase.
    pub(crate) reason: Vec<u8>,
    fields: Vec<Field>,
    /// The number of bytes of the body, or of the bytes that are no response.
    pub(crate) body: u64,
    /// The first bytes of the body.
    pub(crate) text: Vec<u8>,
    pub(crate) trailers: usize,
    pub(crate) is_complete: bool,
    /// True if the body ends with the connection.
    pub(crate) is_until_close: bool,
    /// An invalid part of the response.
    pub(crate) bad: Option<&'static str>,
}

impl Reply {
    fn new(status: Status) -> Self {
        Self {
            status,
            reason: Vec::new(),
            fields: Vec::new(),
            body: 0,
            text: Vec::new(),
            trailers: 0,
            is_complete: false,
            is_until_close: false,
            bad: None,
        }
    }

    /// Returns the values of the fields of a name.
    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        values(&self.fields, name)
    }

    fn add_data(&mut self, data: &[u8]) {
        self.body += data.len() as u64;
        let text = &data[..data.len().min(TEXT_BYTES)];
        self.text.extend_from_slice(text);
    }
}

/// Everything that a client has received on a connection.
pub(crate) struct Received<'a> {
    pub(crate) bytes: &'a [u8],
    /// The methods of the requests; the last one repeats.
    pub(crate) methods: &'a [&'a str],
    pub(crate) is_closed: bool,
}

impl Received<'_> {
    /// Returns the responses in order. The last one may be incomplete.
    pub(crate) fn replies(&self) -> Vec<Reply> {
        let mut replies: Vec<Reply> = Vec::new();
        let mut rest = self.bytes;
        let mut finals = 0;
        while !rest.is_empty() {
            let mut reply = self.read_head(&mut rest);
            if let Status::Code(code) = reply.status {
                let is_informational = (100..200).contains(&code);
                let method = self.methods[finals.min(self.methods.len() - 1)];
                finals += usize::from(!is_informational);
                let has_no_body = is_informational || method == "HEAD" || matches!(code, 204 | 304);
                self.read_body(&mut reply, &mut rest, has_no_body);
            }
            let is_last = !matches!(reply.status, Status::Code(_)) || !reply.is_complete || reply.bad == Some("body");
            replies.push(reply);
            if is_last {
                break;
            }
        }
        replies
    }

    fn read_head(&self, rest: &mut &[u8]) -> Reply {
        let start = &rest[..rest.len().min(5)];
        if !b"HTTP/".starts_with(start) {
            let mut reply = Reply::new(Status::Raw);
            reply.add_data(rest);
            reply.is_complete = self.is_closed;
            return reply;
        }
        let Some(end) = find(rest, b"\r\n\r\n") else {
            let mut reply = Reply::new(Status::HeadCut);
            reply.body = rest.len() as u64;
            return reply;
        };
        let lines = lines(&rest[..end]);
        *rest = &rest[end + 4..];
        let has_bare_end = lines.iter().any(|line| line.contains(&b'\n') || line.contains(&b'\r'));
        let Some(code) = status_code(lines[0]).filter(|_| !has_bare_end) else { return Reply::new(Status::BadHead) };
        let mut reply = Reply::new(Status::Code(code));
        reply.reason = lines[0].get(13..).unwrap_or_default().to_vec();
        let mut marks = Vec::new();
        reply.fields = fields_of(&lines[1..], &mut marks);
        reply.bad = marks.first().copied();
        reply
    }

    fn read_body(&self, reply: &mut Reply, rest: &mut &[u8], has_no_body: bool) {
        if has_no_body {
            reply.is_complete = true;
            if !rest.is_empty() && !rest.starts_with(b"HTTP/") {
                reply.bad = Some("body");
                reply.body = rest.len() as u64;
            }
            return;
        }
        let codings: Vec<Vec<u8>> = reply.values("transfer-encoding").into_iter().map(<[u8]>::to_vec).collect();
        let lengths: Vec<Vec<u8>> = reply.values("content-length").into_iter().map(<[u8]>::to_vec).collect();
        if !codings.is_empty() && !lengths.is_empty() {
            reply.bad = Some("length-and-coding");
        }
        if lengths.len() > 1 {
            reply.bad = Some("lengths");
        }
        if let Some(coding) = codings.first() {
            if codings.len() > 1 || !coding.eq_ignore_ascii_case(b"chunked") {
                reply.bad = Some("coding");
            }
            read_chunks(reply, rest);
        } else if let Some(length) = lengths.first() {
            let number = std::str::from_utf8(length).ok().and_then(|text| text.parse::<u64>().ok());
            if number.is_none() {
                reply.bad = Some("length");
            }
            let wanted = number.unwrap_or(0);
            reply.add_data(take(rest, wanted));
            reply.is_complete = reply.body == wanted;
        } else {
            reply.is_until_close = true;
            reply.add_data(rest);
            *rest = &[];
            reply.is_complete = self.is_closed;
        }
    }
}

/// Reads a chunked body, as far as it is there.
fn read_chunks(reply: &mut Reply, rest: &mut &[u8]) {
    while let Some(line) = take_line(rest) {
        let Some(size) = chunk_size(line) else {
            reply.bad = Some("chunk-size");
            return;
        };
        if size == 0 {
            return read_trailers(reply, rest);
        }
        let data = take(rest, size);
        reply.add_data(data);
        if (data.len() as u64) < size || rest.len() < 2 {
            return;
        }
        let (end, after) = rest.split_at(2);
        *rest = after;
        if end != b"\r\n" {
            reply.bad = Some("chunk-end");
            return;
        }
    }
}

/// Returns the size in the line of a chunk; `None` if it has none.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?;
    let is_hex = digits.iter().all(u8::is_ascii_hexdigit);
    u64::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| is_hex)?, 16).ok()
}

fn read_trailers(reply: &mut Reply, rest: &mut &[u8]) {
    while let Some(line) = take_line(rest) {
        if line.is_empty() {
            reply.is_complete = true;
            return;
        }
        reply.trailers += 1;
    }
}

/// Takes a line without its CRLF; `None` if its end is not there.
fn take_line<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let end = find(rest, b"\r\n")?;
    let line = &rest[..end];
    *rest = &rest[end + 2..];
    Some(line)
}

/// Takes at most `wanted` bytes.
fn take<'a>(rest: &mut &'a [u8], wanted: u64) -> &'a [u8] {
    let length = usize::try_from(wanted).unwrap_or(usize::MAX).min(rest.len());
    let (taken, after) = rest.split_at(length);
    *rest = after;
    taken
}

/// Returns the status of `HTTP/1.x NNN` with a space or the end behind it.
fn status_code(line: &[u8]) -> Option<u16> {
    let rest = line.strip_prefix(b"HTTP/1.0 ").or_else(|| line.strip_prefix(b"HTTP/1.1 "))?;
    let digits = rest.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    matches!(rest.get(3), None | Some(b' ')).then(|| std::str::from_utf8(digits).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &str, methods: &[&str], is_closed: bool) -> Vec<String> {
        let replies = Received { bytes: bytes.as_bytes(), methods, is_closed }.replies();
        let text = |reply: &Reply| {
            let bad = reply.bad.map(|bad| format!(" ({bad})")).unwrap_or_default();
            let cut = if reply.is_complete { "" } else { " cut" };
            format!("{} {} +{}{bad}{cut}", reply.status, reply.body, reply.trailers)
        };
        replies.iter().map(text).collect()
    }

    #[test]
    fn replies_have_their_boundaries() {
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
        let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        let get: &[&str] = &["GET"];
        assert_eq!(
            parse(&format!("HTTP/1.1 100 Continue\r\n\r\n{ok}{ok}"), get, false),
            ["100 0 +0", "200 2 +0", "200 2 +0"]
        );
        assert_eq!(parse(&ok[..ok.len() - 1], get, true), ["200 1 +0 cut"]);
        assert_eq!(parse(&format!("{chunked}2\r\nok\r\n0\r\na: b\r\n\r\n"), get, false), ["200 2 +1"]);
        assert_eq!(parse(&format!("{chunked}2\r\nok"), get, false), ["200 2 +0 cut"]);
        assert_eq!(parse(&format!("{chunked}2\r\nokay"), get, false), ["200 2 +0 (chunk-end) cut"]);
        assert_eq!(parse("HTTP/1.0 200 OK\r\n\r\nok", get, true), ["200 2 +0"]);
        assert_eq!(parse("HTTP/1.0 200 OK\r\n\r\nok", get, false), ["200 2 +0 cut"]);
        assert_eq!(parse(&format!("{}{ok}", &ok[..ok.len() - 2]), &["HEAD", "GET"], false), ["200 0 +0", "200 2 +0"]);
        assert_eq!(parse(ok, &["HEAD"], false), ["200 2 +0 (body)"]);
        assert_eq!(parse("HTTP/1.1 099 Low\r\n\r\nok", get, true), ["99 2 +0"]);
        assert_eq!(parse("nonsense", get, true), ["raw 8 +0"]);
        assert_eq!(parse("HTTP/1.1 200", get, false), ["head-cut 12 +0 cut"]);
        assert_eq!(parse("HTTP/1.1 2000 OK\r\n\r\n", get, false), ["bad-head 0 +0 cut"]);
    }
}
