//! Random valid messages with odd syntax: the bytes of a connection, and the messages that they mean.
//!
//! The messages have no syntax that hyper deliberately reads in another way than the codec. `Where hyper differs` marks
//! each exclusion. Not generated at all are more codings than `chunked`, a length beside it, and lines that end with LF:
//! the codec rejects them, and hyper accepts them.

use http::{Method, Version};
use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, RngCore};

use crate::messages::{Fields, Message, StartLine, end_to_end, grouped};

const TOKEN: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$%&'*+-.^_`|~";

/// RFC 3986 §3.3 and §3.4: characters of paths and queries, beside percent-encoded ones.
const PATH: &[u8] = b"abcxyzABCXYZ0189-._~!$&'()*+,;=:@/";

/// RFC 9110 §5.5: characters of field values.
const TEXT: &[u8] = b"aZ0\t \"\\,;:=(){}<>/?~!\x80\xff";

/// Names of fields that mean nothing to a codec, beside `x-` and a random token.
const NAMES: [&str; 8] = ["Host", "accept", "X-One", "COOKIE", "set-cookie", "x_two", "if-match", "Server"];

/// An informational response (RFC 9110 §15.2). Where hyper differs: 101 ends HTTP/1 on its connection.
const INFORMATIONAL: [u16; 4] = [100, 102, 103, 199];

const FINAL: [u16; 12] = [200, 201, 204, 206, 301, 304, 404, 418, 500, 503, 600, 999];

/// A response, and the bytes that stand for it.
pub(crate) struct Response {
    pub(crate) method: Method,
    pub(crate) bytes: Vec<u8>,
    /// Informational responses, and the final one.
    pub(crate) messages: Vec<Message>,
    /// True if the end of the connection ends the body.
    pub(crate) is_until_close: bool,
}

/// The framing of a generated body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// No body. Fields may describe the body of another response.
    Absent,
    Length,
    Chunked,
    UntilClose,
}

pub(crate) struct Generator<'a> {
    pub(crate) random: &'a mut SmallRng,
}

impl Generator<'_> {
    /// Returns the bytes of up to five requests, and the requests.
    pub(crate) fn requests(&mut self) -> (Vec<u8>, Vec<Message>) {
        let (mut bytes, mut messages) = (Vec::new(), Vec::new());
        let count = self.random.random_range(1..=5);
        for index in 0..count {
            bytes.extend_from_slice(&b"\r\n\r\n\r\n\r\n"[..2 * self.below(8).saturating_sub(3)]);
            // Where hyper differs: after CONNECT it hands the connection over. So CONNECT is last.
            let is_connect = index + 1 == count && self.below(20) == 0;
            let method = if is_connect { "CONNECT".to_owned() } else { self.method() };
            messages.push(self.request(method, &mut bytes));
        }
        (bytes, messages)
    }

    fn method(&mut self) -> String {
        match self.below(4) {
            0 => String::from_utf8_lossy(&self.token(12)).into_owned(),
            _ => self.pick(&["GET", "POST", "HEAD", "OPTIONS", "PATCH", "get"]).to_owned(),
        }
    }

    fn request(&mut self, method: String, bytes: &mut Vec<u8>) -> Message {
        let target = self.target(&method);
        let version = self.version();
        let framing = match (method.as_str(), version, self.below(3)) {
            ("CONNECT", _, _) | (_, _, 0) => Framing::Absent,
            (_, Version::HTTP_11, 1) => Framing::Chunked,
            _ => Framing::Length,
        };
        bytes.extend_from_slice(format!("{method} ").as_bytes());
        bytes.extend_from_slice(&target);
        bytes.extend_from_slice(format!(" {version:?}\r\n").as_bytes());
        self.rest(StartLine::Request { method, target }, version, framing, bytes)
    }

    /// Returns a target in one of the forms of RFC 9112 §3.2.
    ///
    /// Where hyper differs: it reads a target as a URI, which has no `#`, no `"` and the like, and adds an absent path to
    /// the absolute form.
    fn target(&mut self, method: &str) -> Vec<u8> {
        match (method, self.below(6)) {
            ("CONNECT", _) => b"a.example:443".to_vec(),
            ("OPTIONS", 0..=3) => b"*".to_vec(),
            (_, 0) => [&b"http://a.example:8080/"[..], &self.path()].concat(),
            (_, 1) => [&b"https://[::1]/"[..], &self.path(), b"?/?"].concat(),
            (_, 2) => [&b"/"[..], &self.path(), b"?", &self.path()].concat(),
            _ => [&b"/"[..], &self.path()].concat(),
        }
    }

    /// Returns a response to a request with a random method.
    pub(crate) fn response(&mut self) -> Response {
        let method = [Method::GET, Method::GET, Method::HEAD, Method::POST][self.below(4)].clone();
        let (mut bytes, mut messages) = (Vec::new(), Vec::new());
        for _ in 0..self.below(6).saturating_sub(3) {
            let status = self.pick(&INFORMATIONAL);
            messages.push(self.response_of(status, Framing::Absent, &mut bytes));
        }
        let status = self.pick(&FINAL);
        let framing = match self.below(5) {
            _ if method == Method::HEAD || matches!(status, 204 | 304) => Framing::Absent,
            0 => Framing::UntilClose,
            1 | 2 => Framing::Length,
            _ => Framing::Chunked,
        };
        messages.push(self.response_of(status, framing, &mut bytes));
        Response { method, bytes, messages, is_until_close: framing == Framing::UntilClose }
    }

    fn response_of(&mut self, status: u16, framing: Framing, bytes: &mut Vec<u8>) -> Message {
        let version = if framing == Framing::Chunked { Version::HTTP_11 } else { self.version() };
        // RFC 9112 §4. Where hyper differs: it drops a phrase with obs-text.
        let reason = match self.below(5) {
            0 => Vec::new(),
            1 => b" odd  \treason: \"x\" ".to_vec(),
            _ => self.token(10),
        };
        bytes.extend_from_slice(format!("{version:?} {status}").as_bytes());
        if !reason.is_empty() || self.random.random() {
            bytes.push(b' ');
        }
        bytes.extend_from_slice(&reason);
        bytes.extend_from_slice(b"\r\n");
        self.rest(StartLine::Response { status, reason }, version, framing, bytes)
    }

    /// Appends what follows a start line, and returns the message.
    fn rest(&mut self, start: StartLine, version: Version, framing: Framing, bytes: &mut Vec<u8>) -> Message {
        let body = if framing == Framing::Absent { Vec::new() } else { self.body() };
        let mut lines = self.fields();
        let (keep_alive, connection) = self.connection(version);
        lines.extend(connection.into_iter().map(|value| field("Connection", value)));
        lines.extend(self.framing_fields(&start, framing, body.len()));
        // RFC 9112 §9.3 and RFC 9110 §10.1.1.
        if matches!(start, StartLine::Request { .. }) && self.below(10) == 0 {
            lines.push(field("Expect", "100-continue"));
        }
        lines.shuffle(self.random);
        // RFC 9112 §3.2: a request with two hosts is not valid.
        let mut hosts = 0;
        lines.retain(|(name, _)| {
            hosts += usize::from(name.eq_ignore_ascii_case("host"));
            !name.eq_ignore_ascii_case("host") || hosts == 1
        });
        self.write_fields(&lines, bytes);
        let trailers = match framing {
            Framing::Chunked => self.write_chunked(&body, bytes),
            Framing::Absent | Framing::Length | Framing::UntilClose => {
                bytes.extend_from_slice(&body);
                Fields::new()
            }
        };
        let keep_alive = keep_alive && framing != Framing::UntilClose;
        let fields = end_to_end(&start, lower_case(lines));
        Message { start, version, fields, body, trailers, keep_alive }
    }

    /// Returns values of `connection`, and whether the connection persists (RFC 9112 §9.3).
    fn connection(&mut self, version: Version) -> (bool, Vec<&'static str>) {
        let is_http11 = version == Version::HTTP_11;
        match self.below(12) {
            0 => (false, vec!["close"]),
            1 => (false, vec!["x-one ,\tClose"]),
            2 => (false, vec!["x-one, keep-alive", "close"]),
            3 => (false, vec!["close, keep-alive"]),
            4 => (is_http11, vec!["x-one"]),
            5 | 6 => (true, vec!["Keep-Alive"]),
            7 | 8 => (true, vec!["x-one,keep-alive"]),
            9 if !is_http11 => (true, vec!["x-one", "keep-alive"]),
            _ if is_http11 => (true, vec![]),
            _ => (true, vec!["keep-alive"]),
        }
    }

    fn framing_fields(&mut self, start: &StartLine, framing: Framing, length: usize) -> Fields {
        let is_response = matches!(start, StartLine::Response { .. });
        let coded = self.pick(&["chunked", "Chunked", "CHUNKED"]);
        match (framing, self.below(6)) {
            (Framing::Chunked, _) => vec![field("Transfer-Encoding", coded)],
            (Framing::UntilClose, _) => vec![],
            // Where hyper differs: its server reads no list of equal lengths (RFC 9112 §6.3 rule 5).
            (Framing::Length, 0) if is_response => vec![field("content-length", &format!("{length} ,\t{length}"))],
            (Framing::Length, 1) => vec![field("Content-Length", &length.to_string()); 2],
            (Framing::Length, 2) => vec![field("CONTENT-LENGTH", &format!("000{length}"))],
            (Framing::Length, _) => vec![field("content-length", &length.to_string())],
            // RFC 9112 §6.3 rule 1: a field does not give these responses a body.
            (Framing::Absent, 0) if is_response => vec![field("content-length", "7")],
            (Framing::Absent, _) => vec![],
        }
    }

    fn fields(&mut self) -> Fields {
        (0..self.below(7)).map(|_| (self.name(), self.value())).collect()
    }

    /// Returns a field name. Where hyper differs: `upgrade` and `http2-settings` mean another protocol to it.
    fn name(&mut self) -> String {
        match self.below(3) {
            0 => format!("x-{}", String::from_utf8_lossy(&self.token(20))),
            _ => self.pick(&NAMES).to_owned(),
        }
    }

    /// Returns a field value: text that neither begins nor ends with a space (RFC 9110 §5.5).
    fn value(&mut self) -> Vec<u8> {
        let mut value: Vec<u8> = (0..self.below(24)).map(|_| self.pick(TEXT)).collect();
        while matches!(value.last(), Some(b' ' | b'\t')) {
            value.pop();
        }
        let start = value.iter().position(|byte| !b" \t".contains(byte)).unwrap_or(0);
        value.split_off(start)
    }

    fn write_fields(&mut self, lines: &Fields, bytes: &mut Vec<u8>) {
        for (name, value) in lines {
            bytes.extend_from_slice(name.as_bytes());
            bytes.push(b':');
            bytes.extend_from_slice(self.space());
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(self.space());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"\r\n");
    }

    /// Appends a chunked body (RFC 9112 §7.1), and returns its trailers.
    ///
    /// Where hyper differs: it passes on the trailers that the codec drops, so none of them is generated.
    fn write_chunked(&mut self, body: &[u8], bytes: &mut Vec<u8>) -> Fields {
        let mut rest = body;
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(self.random.random_range(1..=rest.len()));
            self.write_chunk_size(chunk.len(), bytes);
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
            rest = after;
        }
        self.write_chunk_size(0, bytes);
        let mut trailers: Fields = (0..self.below(6).saturating_sub(2)).map(|_| (self.name(), self.value())).collect();
        trailers
            .iter_mut()
            .filter(|(name, _)| !name.starts_with("x-"))
            .for_each(|(name, _)| *name = "X-Sum".to_owned());
        self.write_fields(&trailers, bytes);
        grouped(lower_case(trailers))
    }

    fn write_chunk_size(&mut self, size: usize, bytes: &mut Vec<u8>) {
        let zeros = "0".repeat(self.below(4));
        let digits = if self.random.random() { format!("{zeros}{size:x}") } else { format!("{zeros}{size:X}") };
        bytes.extend_from_slice(digits.as_bytes());
        for _ in 0..self.below(5).saturating_sub(2) {
            bytes.extend_from_slice(self.space());
            bytes.push(b';');
            bytes.extend_from_slice(self.space());
            bytes.extend_from_slice(&self.token(6));
            bytes.extend_from_slice(self.pick(&[&b""[..], b"=x", b" =\t1", b"=\"a;\\\"\x80\t\""]));
        }
        bytes.extend_from_slice(b"\r\n");
    }

    fn body(&mut self) -> Vec<u8> {
        let length = match self.below(10) {
            0 => 0,
            1 => self.below(9000), // More than the codec copies.
            _ => self.below(40),
        };
        let mut body = vec![0; length];
        self.random.fill_bytes(&mut body);
        body
    }

    fn token(&mut self, longest: usize) -> Vec<u8> {
        (0..=self.below(longest)).map(|_| self.pick(TOKEN)).collect()
    }

    fn path(&mut self) -> Vec<u8> {
        let part = |generator: &mut Self| match generator.below(8) {
            0 => b"%00".to_vec(),
            1 => b"%fF".to_vec(),
            _ => vec![generator.pick(PATH)],
        };
        (0..self.below(12)).flat_map(|_| part(self)).collect()
    }

    /// Returns optional white space.
    fn space(&mut self) -> &'static [u8] {
        self.pick(&[&b""[..], b" ", b"\t", b" \t "])
    }

    fn version(&mut self) -> Version {
        if self.below(3) == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
    }

    fn below(&mut self, end: usize) -> usize {
        self.random.random_range(0..end)
    }

    fn pick<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }
}

fn field(name: &str, value: &str) -> (String, Vec<u8>) {
    (name.to_owned(), value.as_bytes().to_vec())
}

fn lower_case(lines: Fields) -> Fields {
    lines.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect()
}
