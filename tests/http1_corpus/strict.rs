//! The parser of the origin: RFC 9112 to the letter. It reads what it can, and marks a message that has more than one
//! reading, or none, as ambiguous. It has no code in common with the proxy.

use crate::head::{Field, fields_of, find, is_token, values};

/// The number of bytes of an unparsed message that its outcome contains.
const UNPARSED_BYTES: usize = 40;

/// One request at the origin.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    pub(crate) method: Vec<u8>,
    pub(crate) target: Vec<u8>,
    is_http10: bool,
    /// The fields of the head, and those of the trailer section with the prefix `trailer-`.
    fields: Vec<Field>,
    /// The number of bytes of the body.
    pub(crate) body: u128,
    pub(crate) trailers: usize,
    /// Reasons why the message is ambiguous.
    pub(crate) marks: Vec<&'static str>,
    /// True for a message without its end.
    pub(crate) is_cut: bool,
    /// The number of the connection on which the message came.
    pub(crate) connection: u64,
}

impl Message {
    /// Returns the values of the fields of a name.
    pub(crate) fn values(&self, name: &str) -> Vec<&[u8]> {
        values(&self.fields, name)
    }

    /// Marks what RFC 9112 §6 forbids, and returns the framing of the body.
    fn check_framing(&mut self) -> Framing {
        let lengths: Vec<Vec<u8>> = self.values("content-length").into_iter().map(<[u8]>::to_vec).collect();
        let codings: Vec<Vec<u8>> = self.values("transfer-encoding").into_iter().map(<[u8]>::to_vec).collect();
        let hosts = self.values("host").len();
        if hosts > 1 || (hosts == 0 && !self.is_http10) {
            self.marks.push("host");
        }
        if !lengths.is_empty() && !codings.is_empty() {
            self.marks.push("length-and-coding");
        }
        if lengths.len() > 1 || lengths.iter().any(|value| !is_number(value)) {
            self.marks.push("length");
        }
        if codings.len() > 1 || codings.iter().any(|value| !value.eq_ignore_ascii_case(b"chunked")) {
            self.marks.push("coding");
        }
        if !codings.is_empty() && self.is_http10 {
            self.marks.push("coding-in-1.0");
        }
        match lengths.first() {
            _ if !codings.is_empty() => Framing::ChunkSize,
            Some(length) => Framing::Exact(leading_number(length, 10)),
            None => Framing::Exact(0),
        }
    }
}

/// The part of a body that comes next.
#[derive(Debug, Clone, Copy)]
enum Framing {
    /// The rest of a body of a known length.
    Exact(u128),
    ChunkSize,
    /// The rest of a chunk.
    ChunkData(u128),
    ChunkEnd,
    Trailers,
}

/// A message whose head is complete.
#[derive(Debug)]
struct PartialMessage {
    message: Message,
    framing: Framing,
}

/// The result of reading a body as far as its bytes are there.
enum Progress {
    Complete,
    Incomplete,
    Broken(&'static str),
}

/// The parser of one connection.
#[derive(Debug, Default)]
pub(crate) struct OriginParser {
    buffer: Vec<u8>,
    begun: Option<PartialMessage>,
    broken: Option<&'static str>,
}

impl OriginParser {
    /// Returns a parser that reads nothing.
    pub(crate) fn ignoring() -> Self {
        Self { broken: Some(Self::IGNORED), ..Self::default() }
    }

    const IGNORED: &str = "ignored";

    /// Adds bytes of the connection.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the message whose head is complete and whose body is not.
    pub(crate) fn begun(&self) -> Option<&Message> {
        self.begun.as_ref().map(|begun| &begun.message)
    }

    /// Returns true if the bytes can have no further message.
    pub(crate) fn is_broken(&self) -> bool {
        self.broken.is_some_and(|reason| reason != Self::IGNORED)
    }

    /// Returns true between the first byte and the last byte of a message.
    pub(crate) fn is_within_message(&self) -> bool {
        self.broken.is_none() && (self.begun.is_some() || !self.buffer.is_empty())
    }

    /// Returns the next complete message; `None` when bytes are missing.
    pub(crate) fn next_message(&mut self) -> Option<Message> {
        if self.broken.is_some() {
            return None;
        }
        if self.begun.is_none() {
            match self.read_head() {
                Ok(begun) => self.begun = begun,
                Err(reason) => self.broken = Some(reason),
            }
        }
        let mut begun = self.begun.take()?;
        match self.read_body(&mut begun) {
            Progress::Complete => return Some(begun.message),
            Progress::Incomplete => {}
            Progress::Broken(reason) => self.broken = Some(reason),
        }
        self.begun = Some(begun);
        None
    }

    /// Returns the message that the end of the connection has cut.
    pub(crate) fn finish(self) -> Option<Message> {
        if let Some(PartialMessage { mut message, .. }) = self.begun {
            message.is_cut = true;
            message.marks.extend(self.broken);
            return Some(message);
        }
        let start = &self.buffer[..self.buffer.len().min(UNPARSED_BYTES)];
        (!start.is_empty()).then(|| Message {
            method: b"UNPARSED".to_vec(),
            target: start.to_vec(),
            is_cut: true,
            marks: vec![self.broken.unwrap_or("partial-head")],
            ..Message::default()
        })
    }

    /// Reads a head. Returns `None` when bytes are missing.
    fn read_head(&mut self) -> Result<Option<PartialMessage>, &'static str> {
        let end = find(&self.buffer, b"\r\n\r\n");
        let bare = find(&self.buffer, b"\n\n");
        if bare.is_some_and(|bare| end.is_none_or(|end| bare < end)) {
            return Err("bare-lf");
        }
        let Some(end) = end else { return Ok(None) };
        let head: Vec<u8> = self.buffer.drain(..end + 4).take(end).collect();
        let lines = crate::head::lines(&head);
        let mut message = Message::default();
        if lines.iter().any(|line| line.contains(&b'\n') || line.contains(&b'\r')) {
            message.marks.push("bare-line-end");
        }
        if let Err(reason) = read_request_line(lines[0], &mut message) {
            // The bytes are put back, for the outcome.
            self.buffer.splice(..0, [head.as_slice(), b"\r\n\r\n"].concat());
            return Err(reason);
        }
        message.fields = fields_of(&lines[1..], &mut message.marks);
        let framing = message.check_framing();
        Ok(Some(PartialMessage { message, framing }))
    }

    fn read_body(&mut self, begun: &mut PartialMessage) -> Progress {
        let PartialMessage { message, framing } = begun;
        loop {
            match *framing {
                Framing::Exact(left) => {
                    let left = self.skip_data(left, message);
                    *framing = Framing::Exact(left);
                    return if left == 0 { Progress::Complete } else { Progress::Incomplete };
                }
                Framing::ChunkSize => {
                    let Some(line) = self.read_line(message) else { return Progress::Incomplete };
                    match chunk_size(&line, message) {
                        Some(0) => *framing = Framing::Trailers,
                        Some(size) => *framing = Framing::ChunkData(size),
                        None => return Progress::Broken("chunk-size"),
                    }
                }
                Framing::ChunkData(left) => match self.skip_data(left, message) {
                    0 => *framing = Framing::ChunkEnd,
                    left => {
                        *framing = Framing::ChunkData(left);
                        return Progress::Incomplete;
                    }
                },
                Framing::ChunkEnd => match self.buffer.get(..2) {
                    None => return Progress::Incomplete,
                    Some(b"\r\n") => {
                        self.buffer.drain(..2);
                        *framing = Framing::ChunkSize;
                    }
                    Some(_) => return Progress::Broken("chunk-end"),
                },
                Framing::Trailers => {
                    let Some(line) = self.read_line(message) else { return Progress::Incomplete };
                    if line.is_empty() {
                        return Progress::Complete;
                    }
                    add_trailers(&line, message);
                }
            }
        }
    }

    /// Counts and drops bytes of a body. Returns the number of bytes that are still missing.
    fn skip_data(&mut self, left: u128, message: &mut Message) -> u128 {
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
        self.buffer.drain(..length);
        message.body += length as u128;
        left - length as u128
    }

    /// Reads a line of a chunked body, without its end. Marks an end other than CRLF.
    fn read_line(&mut self, message: &mut Message) -> Option<Vec<u8>> {
        let end = self.buffer.iter().position(|byte| *byte == b'\n')?;
        let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
        line.pop();
        if line.pop_if(|last| *last == b'\r').is_none() || line.contains(&b'\r') {
            message.marks.push("chunk-line");
        }
        while line.pop_if(|last| *last == b'\r').is_some() {}
        Some(line)
    }
}

fn read_request_line(line: &[u8], message: &mut Message) -> Result<(), &'static str> {
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts.as_slice() else { return Err("request-line") };
    let is_version = matches!(*version, b"HTTP/1.0" | b"HTTP/1.1");
    if !is_token(method) || target.is_empty() || !is_version {
        return Err("request-line");
    }
    message.method = method.to_vec();
    message.target = target.to_vec();
    message.is_http10 = version.ends_with(b"0");
    if !target.iter().all(is_uri_byte) {
        message.marks.push("target");
    } else if !(target.starts_with(b"/") || *target == b"*" && *method == b"OPTIONS") {
        message.marks.push("target-form");
    }
    Ok(())
}

/// Returns the size of a chunk; `None` if the line has none.
fn chunk_size(line: &[u8], message: &mut Message) -> Option<u128> {
    let end = line.iter().position(|byte| *byte == b';').unwrap_or(line.len());
    let size = &line[..end];
    let is_hex = |digits: &[u8]| !digits.is_empty() && digits.iter().all(u8::is_ascii_hexdigit);
    if line.len() > end + 1 || !is_hex(size) {
        message.marks.push("chunk-size");
    }
    let digits = size.trim_ascii();
    is_hex(digits).then(|| leading_number(digits, 16))
}

fn add_trailers(line: &[u8], message: &mut Message) {
    let trailers = fields_of(&[line], &mut message.marks);
    message.trailers += trailers.len();
    let named = |field: Field| Field { name: [b"trailer-", field.name.as_slice()].concat(), ..field };
    message.fields.extend(trailers.into_iter().map(named));
}

/// Returns true for the bytes that a URI can have (RFC 3986 §2).
fn is_uri_byte(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:/?[]@!$&'()*+,;=%".contains(byte)
}

fn is_number(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(u8::is_ascii_digit)
}

/// Returns the number at the start of a value; the largest one if it is too large.
fn leading_number(value: &[u8], radix: u32) -> u128 {
    let digits = value.iter().map_while(|byte| char::from(*byte).to_digit(radix));
    digits.fold(0, |number: u128, digit| number.saturating_mul(u128::from(radix)).saturating_add(u128::from(digit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns `METHOD TARGET BODY +TRAILERS MARKS` of each message; a cut message ends with `cut`.
    fn parse(bytes: &[u8], step: usize) -> Vec<String> {
        let mut parser = OriginParser::default();
        let mut messages = Vec::new();
        for part in bytes.chunks(step) {
            parser.feed(part);
            messages.extend(std::iter::from_fn(|| parser.next_message()));
        }
        messages.extend(parser.finish());
        let text = |message: &Message| {
            let [method, target] =
                [&message.method, &message.target].map(|part| String::from_utf8_lossy(part).into_owned());
            let cut = if message.is_cut { " cut" } else { "" };
            format!("{method} {target} {} +{} {}{cut}", message.body, message.trailers, message.marks.join(","))
        };
        messages.iter().map(text).collect()
    }

    #[test]
    fn messages_have_their_boundaries_and_marks() {
        let chunked = "POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let rows = [
            (
                "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.0\r\n\r\n".to_owned(),
                vec!["GET /a 0 +0 ", "GET /b 0 +0 "],
            ),
            (format!("{chunked}3\r\nabc\r\n0\r\nx: 1\r\n\r\n"), vec!["POST /b 3 +1 "]),
            (format!("{chunked}3;x=y\r\nabc\r\n0\n\r\n"), vec!["POST /b 3 +0 chunk-size,chunk-line"]),
            (format!("{chunked}3\r\nabcd\r\n"), vec!["POST /b 3 +0 chunk-end cut"]),
            (format!("{chunked}z\r\n"), vec!["POST /b 0 +0 chunk-size,chunk-size cut"]),
            ("POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab".to_owned(), vec!["POST /c 2 +0  cut"]),
            ("GET /a HTTP/1.1\r\n\r\n".to_owned(), vec!["GET /a 0 +0 host"]),
            (
                "GET a HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n".to_owned(),
                vec!["GET a 0 +0 target-form,length"],
            ),
            ("GET /| HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(), vec!["GET /| 0 +0 target,field-name"]),
            ("BAD\r\n\r\n".to_owned(), vec!["UNPARSED BAD\r\n\r\n 0 +0 request-line cut"]),
            ("GET / HTTP/1.1\nHost: a\n\n".to_owned(), vec!["UNPARSED GET / HTTP/1.1\nHost: a\n\n 0 +0 bare-lf cut"]),
        ];
        for (bytes, expected) in rows {
            for step in [1, 7, bytes.len()] {
                assert_eq!(parse(bytes.as_bytes(), step), expected, "{bytes:?} in steps of {step}");
            }
        }
    }
}
