//! A minimal HTTP/1.1 client and server for tests. Messages are read whole, and header values are bytes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Timeout of connects, reads and writes.
pub const TIMEOUT: Duration = Duration::from_secs(20);

/// Limit of a start or header line, in bytes.
const MAX_LINE: u64 = 1 << 20;

/// A request or a response.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The request line or status line.
    pub start: String,
    /// Names as received, and values.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body without its framing.
    pub body: Vec<u8>,
}

impl Message {
    /// Creates a response with a plain text.
    pub fn response(status: u16, text: &str) -> Self {
        let headers = vec![("content-type".to_owned(), b"text/plain".to_vec())];
        Self { start: format!("HTTP/1.1 {status} "), headers, body: text.as_bytes().to_vec() }
    }

    /// Creates a request without headers and body.
    pub fn request(method: &str, path: &str) -> Self {
        Self { start: format!("{method} {path} HTTP/1.1"), ..Self::default() }
    }

    /// Adds a header.
    pub fn with_header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Returns the method of a request.
    pub fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    /// Returns the path of a request, with its query.
    pub fn path(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// Returns the status of a response; 0 when the status line is invalid.
    pub fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// Returns the first value of a header.
    pub fn header(&self, name: &str) -> Option<String> {
        self.values(name).next()
    }

    /// Returns every value of a header.
    pub fn values(&self, name: &str) -> impl Iterator<Item = String> {
        let matching = move |(key, _): &&(String, Vec<u8>)| key.eq_ignore_ascii_case(name);
        self.headers.iter().filter(matching).map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    /// Returns the body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Writes the message with a `content-length`, except for a request without a body.
    pub(super) fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let mut wire = format!("{}\r\n", self.start).into_bytes();
        for (name, value) in &self.headers {
            wire.extend_from_slice(name.as_bytes());
            wire.extend_from_slice(b": ");
            wire.extend_from_slice(value);
            wire.extend_from_slice(b"\r\n");
        }
        if !self.body.is_empty() || self.start.starts_with("HTTP/") {
            wire.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        wire.extend_from_slice(b"\r\n");
        wire.extend_from_slice(&self.body);
        to.write_all(&wire)?;
        to.flush()
    }

    /// Reads a request; `None` when the peer closed the connection before the first byte.
    pub(super) fn read_request(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let Some(mut message) = Self::read_head(from)? else { return Ok(None) };
        message.read_body(from, BodyFraming::Empty)?;
        Ok(Some(message))
    }

    /// Reads the response to a request of `method`.
    fn read_response(from: &mut impl BufRead, method: &str) -> io::Result<Self> {
        loop {
            let mut message = Self::read_head(from)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            match message.status() {
                100..=199 => continue,
                204 | 304 => return Ok(message),
                _ if method == "HEAD" => return Ok(message),
                _ => message.read_body(from, BodyFraming::UntilClose)?,
            }
            return Ok(message);
        }
    }

    fn read_head(from: &mut impl BufRead) -> io::Result<Option<Self>> {
        let start = read_line(from)?;
        if start.is_empty() {
            return Ok(None);
        }
        let mut message = Self { start: String::from_utf8_lossy(&start).into_owned(), ..Self::default() };
        loop {
            let line = read_line(from)?;
            if line.is_empty() {
                return Ok(Some(message));
            }
            let colon = line.iter().position(|&byte| byte == b':').ok_or(io::ErrorKind::InvalidData)?;
            let name = String::from_utf8_lossy(&line[..colon]).into_owned();
            message.headers.push((name, line[colon + 1..].trim_ascii().to_vec()));
        }
    }

    fn read_body(&mut self, from: &mut impl BufRead, default_framing: BodyFraming) -> io::Result<()> {
        let chunked = self.values("transfer-encoding").any(|value| value.eq_ignore_ascii_case("chunked"));
        let length: Option<u64> = self.header("content-length").and_then(|length| length.parse().ok());
        match (chunked, length, default_framing) {
            (true, _, _) => self.read_chunks(from),
            (false, Some(length), _) => read_exactly(from, length, &mut self.body),
            (false, None, BodyFraming::Empty) => Ok(()),
            (false, None, BodyFraming::UntilClose) => from.read_to_end(&mut self.body).map(drop),
        }
    }

    fn read_chunks(&mut self, from: &mut impl BufRead) -> io::Result<()> {
        loop {
            let line = read_line(from)?;
            let size = String::from_utf8_lossy(&line);
            let size = size.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| io::ErrorKind::InvalidData)?;
            if size == 0 {
                while !read_line(from)?.is_empty() {} // Trailers are dropped.
                return Ok(());
            }
            read_exactly(from, size, &mut self.body)?;
            read_line(from)?;
        }
    }
}

/// The framing of a body without `content-length` and `transfer-encoding` (RFC 9112 §6.3).
#[derive(Clone, Copy)]
enum BodyFraming {
    Empty,
    UntilClose,
}

fn read_exactly(from: &mut impl BufRead, length: u64, body: &mut Vec<u8>) -> io::Result<()> {
    let read = from.take(length).read_to_end(body)?;
    if u64::try_from(read) == Ok(length) { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

fn read_line(from: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    from.take(MAX_LINE).read_until(b'\n', &mut line)?;
    Ok(line.trim_ascii_end().to_vec())
}

/// Sends one request on a connection of its own and reads the response whole.
pub fn send(to: SocketAddr, request: &Message) -> io::Result<Message> {
    let connection = TcpStream::connect_timeout(&to, TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.set_write_timeout(Some(TIMEOUT))?;
    let mut request = request.clone();
    if request.header("host").is_none() {
        request = request.with_header("host", to.to_string());
    }
    let method = request.method().to_owned();
    // A proxy may respond and close before it has read the whole body. Then the write fails, and the response counts.
    let written = request.with_header("connection", "close").write(&mut &connection);
    Message::read_response(&mut BufReader::new(&connection), &method).or_else(|error| written.and(Err(error)))
}

#[cfg(test)]
mod tests {
    use super::Message;

    #[track_caller]
    fn check(wire: &str, method: &str, expected_status: u16, expected_body: &str) {
        let response = Message::read_response(&mut wire.as_bytes(), method).unwrap();
        assert_eq!((response.status(), response.text().as_str()), (expected_status, expected_body), "{wire:?}");
    }

    #[test]
    fn read_response_reads_whole_body_of_any_framing() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi and more", "GET", 200, "hi");
        check("HTTP/1.1 200 OK\r\n\r\nto the end", "GET", 200, "to the end");
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n", "HEAD", 200, "");
        check("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", "PUT", 204, "");
        let chunks =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\nt: 1\r\n\r\n";
        check(chunks, "GET", 200, "abc0123456789");
    }

    #[test]
    fn written_request_is_read_unchanged() {
        let sent = Message::request("POST", "/a?b").with_header("x-y", b"\xff").with_header("X-Y", "2");
        let sent = Message { body: b"body".to_vec(), ..sent };
        let mut wire = Vec::new();
        sent.write(&mut wire).unwrap();
        let read = Message::read_request(&mut wire.as_slice()).unwrap().unwrap();
        assert_eq!((read.method(), read.path(), read.text().as_str()), ("POST", "/a?b", "body"));
        assert_eq!(read.values("x-y").collect::<Vec<_>>(), ["\u{fffd}", "2"]);
        assert_eq!(Message::read_request(&mut b"".as_slice()).unwrap(), None);
        assert!(Message::read_request(&mut b"GET / HTTP/1.1\r\ncontent-length: 5\r\n\r\nabc".as_slice()).is_err());
    }
}
