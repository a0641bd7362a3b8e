//! A strict parser of HTTP/1 messages: one reading, or a fault. It parses what the proxy has sent, to the origin and to
//! clients, so that it accepts the canonical form alone: CRLF, names in lower case, one framing.

/// Names that a message to an endpoint does not have, since they are of one hop (RFC 9110 §7.6.1), or the proxy's own.
const ONE_HOP: [&str; 3] = ["keep-alive", "proxy-connection", "http2-settings"];

/// Names that belong in a head (RFC 9110 §6.5.1).
const NOT_IN_TRAILERS: [&str; 7] =
    ["content-length", "transfer-encoding", "host", "authorization", "cookie", "set-cookie", "connection"];

/// The fields of a section, in order.
pub(super) type Fields = Vec<Field>;

/// One field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) value: Vec<u8>,
}

/// One message.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// The request line or status line.
    pub(super) start: String,
    /// The bytes of the whole message; of its head while it is incomplete.
    pub(super) bytes: Vec<u8>,
}

impl Message {
    /// Returns the status of a response.
    pub(super) fn status(&self) -> u16 {
        self.start.get(9..12).and_then(|status| status.parse().ok()).unwrap_or(0)
    }

    /// Returns true for a response before the final one (RFC 9110 §15.2).
    pub(super) fn is_informational(&self) -> bool {
        (100..200).contains(&self.status())
    }

    /// Returns the target of a request.
    pub(super) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }
}

/// The progress of a message at the front of received bytes.
#[derive(Debug)]
pub(super) enum Progress {
    /// Its head is incomplete.
    InHead,
    /// Its body is incomplete.
    InBody(Message),
    Complete(Message),
}

/// Properties of the requests on a connection that decide how their responses are read.
#[derive(Debug, Clone, Copy)]
pub(super) struct SentRequests {
    /// True if one may be HEAD, whose response has no body.
    pub(super) may_be_head: bool,
    /// True if one may be HTTP/1.0, whose response may end with the connection.
    pub(super) may_be_http10: bool,
}

/// Parses the request at the front of `bytes`, as an endpoint receives it.
pub(super) fn request(bytes: &[u8]) -> Result<Progress, String> {
    let Some(section) = take_section(bytes)? else { return Ok(Progress::InHead) };
    let Section { start, fields, length } = section.with_start()?;
    let parts: Vec<&str> = start.split(' ').collect();
    let &[method, target, "HTTP/1.1"] = &parts[..] else { return Err(format!("a request line {start:?}")) };
    check(is_token(method), || format!("a method {method:?}"))?;
    let is_target = target == "*" || target.starts_with('/');
    check(is_target && target.bytes().all(|byte| byte.is_ascii_graphic()), || format!("a target {target:?}"))?;
    check(count(&fields, "host") == 1, || format!("{} hosts", count(&fields, "host")))?;
    // RFC 9110 §10.1.4: `te` comes with the connection option of its name.
    let options: Vec<&[u8]> = values(&fields, "connection");
    // RFC 9110 §7.8: as does `upgrade`, of an allowed protocol.
    let expected: &[&[u8]] = match (count(&fields, "upgrade"), count(&fields, "te")) {
        (0, 0) => &[],
        (0, _) => &[b"te"],
        (_, 0) => &[b"upgrade"],
        (_, _) => &[b"upgrade, te"],
    };
    check(count(&fields, "upgrade") <= 1, || "more than one upgrade at an endpoint".to_owned())?;
    check(options == expected, || format!("connection options {options:?} at an endpoint"))?;
    for name in ONE_HOP {
        check(count(&fields, name) == 0, || format!("{name} at an endpoint"))?;
    }
    let framing = declared(&fields)?.unwrap_or(Framing::Length(0));
    progress(bytes, Message { start, bytes: bytes[..length].to_vec() }, framing)
}

/// Returns each reading of the responses on a connection that has closed. The last response may be incomplete. More than
/// one reading exists when a response without a length may answer HEAD or end with the connection: what follows its head
/// is another response, or its body.
pub(super) fn readings(bytes: &[u8], sent: SentRequests) -> Result<Vec<Vec<Message>>, String> {
    if bytes.is_empty() {
        return Ok(vec![Vec::new()]);
    }
    let other = response(bytes, SentRequests { may_be_head: false, ..sent });
    if sent.may_be_head {
        let head = response(bytes, SentRequests { may_be_head: true, ..sent })?;
        // Equal readings are followed once: otherwise a row of bodiless responses would double the work for each.
        let is_equal = matches!((&head, &other), (Progress::Complete(head), Ok(Progress::Complete(other)))
            if head.bytes.len() == other.bytes.len());
        let as_head = readings_after(bytes, head, sent);
        if is_equal {
            return as_head;
        }
        return match (as_head, other.and_then(|other| readings_after(bytes, other, sent))) {
            (Ok(as_head), Ok(other)) => Ok([as_head, other].concat()),
            (as_head, other) => other.or(as_head),
        };
    }
    readings_after(bytes, other?, sent)
}

/// Returns the readings that begin with this response.
fn readings_after(bytes: &[u8], first: Progress, sent: SentRequests) -> Result<Vec<Vec<Message>>, String> {
    match first {
        Progress::InHead => Ok(vec![Vec::new()]),
        Progress::InBody(message) => Ok(vec![vec![message]]),
        Progress::Complete(message) => {
            let mut all = readings(&bytes[message.bytes.len()..], sent)?;
            for rest in &mut all {
                rest.insert(0, message.clone());
            }
            Ok(all)
        }
    }
}

/// Returns the length of a final response at the front of an origin's bytes, with the informational ones before it;
/// `None` if it is incomplete, not valid, or ends with the connection. Letters may have any case.
pub(super) fn complete_length(bytes: &[u8]) -> Option<usize> {
    let mut bytes = bytes.to_ascii_lowercase();
    for at in 0..bytes.len() {
        if bytes[at..].starts_with(b"http/1.") {
            bytes[at..at + 4].make_ascii_uppercase();
        }
    }
    let mut length = 0;
    loop {
        let sent = SentRequests { may_be_head: false, may_be_http10: false };
        let Ok(Progress::Complete(message)) = response(&bytes[length..], sent) else { return None };
        length += message.bytes.len();
        if !message.is_informational() {
            return Some(length);
        }
    }
}

fn response(bytes: &[u8], sent: SentRequests) -> Result<Progress, String> {
    let is_start = bytes.iter().zip(b"HTTP/1.1 ").all(|(byte, expected)| byte == expected);
    check(is_start, || format!("no status line: {}", bytes[..bytes.len().min(40)].escape_ascii()))?;
    let Some(section) = take_section(bytes)? else { return Ok(Progress::InHead) };
    let Section { start, fields, length } = section.with_start()?;
    let message = Message { start, bytes: bytes[..length].to_vec() };
    let status = message.status();
    check(status >= 100 && message.start.as_bytes().get(12) == Some(&b' '), || format!("{:?}", message.start))?;
    let framing = declared(&fields)?;
    if message.is_informational() || status == 204 {
        check(framing.is_none(), || format!("{status} with a framing"))?;
    }
    if message.is_informational() || matches!(status, 204 | 304) {
        return Ok(Progress::Complete(message));
    }
    match framing {
        _ if sent.may_be_head => Ok(Progress::Complete(message)),
        Some(framing) => progress(bytes, message, framing),
        None if sent.may_be_http10 => {
            let message = Message { bytes: bytes.to_vec(), ..message };
            Ok(Progress::Complete(message))
        }
        None => Err(format!("{:?} without a framing", message.start)),
    }
}

fn check(is_right: bool, fault: impl FnOnce() -> String) -> Result<(), String> {
    if is_right { Ok(()) } else { Err(fault()) }
}

fn count(fields: &Fields, name: &str) -> usize {
    fields.iter().filter(|field| field.name == name).count()
}

fn values<'a>(fields: &'a Fields, name: &str) -> Vec<&'a [u8]> {
    fields.iter().filter(|field| field.name == name).map(|field| &field.value[..]).collect()
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// Lines up to an empty one.
struct Section {
    start: String,
    fields: Fields,
    length: usize,
}

/// The lines of a section, and its length with the empty line.
struct Lines<'a> {
    lines: Vec<&'a [u8]>,
    length: usize,
}

impl Lines<'_> {
    fn with_start(self) -> Result<Section, String> {
        let (start, rest) = self.lines.split_first().ok_or("an empty line before a message")?;
        let start: String = start.iter().map(|byte| char::from(*byte)).collect();
        Ok(Section { start, fields: parse_fields(rest)?, length: self.length })
    }
}

fn take_section(bytes: &[u8]) -> Result<Option<Lines<'_>>, String> {
    let (mut lines, mut at) = (Vec::new(), 0);
    while let Some(end) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        let line = bytes[at..at + end].strip_suffix(b"\r").ok_or("a line without CR")?;
        check(line.iter().all(|byte| *byte == b'\t' || !byte.is_ascii_control()), || "a control character".to_owned())?;
        at += end + 1;
        if line.is_empty() {
            return Ok(Some(Lines { lines, length: at }));
        }
        lines.push(line);
    }
    Ok(None)
}

fn parse_fields(lines: &[&[u8]]) -> Result<Fields, String> {
    let parse_field = |line: &&[u8]| -> Result<Field, String> {
        let text = || line.escape_ascii().to_string();
        let colon = line.iter().position(|byte| *byte == b':').ok_or_else(text)?;
        let name = std::str::from_utf8(&line[..colon]).map_err(|_| text())?;
        check(is_token(name) && !name.bytes().any(|byte| byte.is_ascii_uppercase()), text)?;
        Ok(Field { name: name.to_owned(), value: line[colon + 1..].trim_ascii().to_vec() })
    };
    lines.iter().map(parse_field).collect()
}

/// The delimiter of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
}

/// Returns the one framing of a message.
fn declared(fields: &Fields) -> Result<Option<Framing>, String> {
    let values = |name: &str| -> Vec<&[u8]> {
        fields.iter().filter(|field| field.name == name).map(|field| field.value.as_slice()).collect()
    };
    match (&values("content-length")[..], &values("transfer-encoding")[..]) {
        ([], []) => Ok(None),
        ([length], []) if length.iter().all(u8::is_ascii_digit) => {
            let length = std::str::from_utf8(length).ok().and_then(|digits| digits.parse().ok());
            length.map(Framing::Length).map(Some).ok_or_else(|| "a content-length that is no number".to_owned())
        }
        ([], [b"chunked"]) => Ok(Some(Framing::Chunked)),
        (lengths, codings) => Err(format!("{} content-length, {} transfer-encoding", lengths.len(), codings.len())),
    }
}

/// Returns the progress of a message whose head is complete.
fn progress(bytes: &[u8], head: Message, framing: Framing) -> Result<Progress, String> {
    let start = head.bytes.len();
    let length = match framing {
        Framing::Length(length) => usize::try_from(length).ok().filter(|length| bytes.len() - start >= *length),
        Framing::Chunked => chunked_length(&bytes[start..])?,
    };
    Ok(match length {
        Some(length) => {
            let end = start + length;
            Progress::Complete(Message { bytes: bytes[..end].to_vec(), ..head })
        }
        None => Progress::InBody(Message { bytes: bytes.to_vec(), ..head }),
    })
}

/// Returns the length of a chunked body with its trailers; `None` while it is incomplete.
fn chunked_length(bytes: &[u8]) -> Result<Option<usize>, String> {
    let mut at = 0;
    loop {
        let Some(end) = bytes[at..].windows(2).position(|pair| pair == b"\r\n") else {
            let digits = bytes[at..].strip_suffix(b"\r").unwrap_or(&bytes[at..]);
            check(digits.len() <= 16 && digits.iter().all(u8::is_ascii_hexdigit), || "a chunk size".to_owned())?;
            return Ok(None);
        };
        let digits = std::str::from_utf8(&bytes[at..at + end]).unwrap_or_default();
        let is_number = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        check(is_number, || format!("a chunk size {digits:?}"))?;
        let size = usize::from_str_radix(digits, 16).map_err(|error| error.to_string())?;
        at += end + 2;
        if size == 0 {
            let Some(Lines { lines, length }) = take_section(&bytes[at..])? else { return Ok(None) };
            let trailers = parse_fields(&lines)?;
            let forbidden = trailers.iter().find(|field| NOT_IN_TRAILERS.contains(&field.name.as_str()));
            check(forbidden.is_none(), || format!("a trailer {forbidden:?}"))?;
            return Ok(Some(at + length));
        }
        let Some(data_end) = at.checked_add(size).filter(|data_end| data_end + 2 <= bytes.len()) else {
            return Ok(None);
        };
        check(&bytes[data_end..data_end + 2] == b"\r\n", || "a chunk without its end".to_owned())?;
        at = data_end + 2;
    }
}

#[test]
fn ambiguous_messages_have_no_reading() {
    let request_of = |fields: &str| format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n");
    for fields in ["content-length: 1\r\ncontent-length: 1\r\n", "content-length: +1\r\n", "x: 1\n", "host: b\r\n"] {
        assert!(request(request_of(fields).as_bytes()).is_err(), "{fields:?}");
    }
    let chunked = request_of("transfer-encoding: chunked\r\n");
    assert!(matches!(request(format!("{chunked}2\r\nok\r\n0\r\n\r\n").as_bytes()), Ok(Progress::Complete(_))));
    assert!(matches!(request(format!("{chunked}2\r\nok\r\n0\r\n").as_bytes()), Ok(Progress::InBody(_))));
    assert!(request(format!("{chunked}2 \r\nok\r\n0\r\n\r\n").as_bytes()).is_err());
    let both = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 204 No Content\r\n\r\n";
    let sent = SentRequests { may_be_head: false, may_be_http10: false };
    let lengths = |bytes: &[u8], sent| -> Result<Vec<usize>, String> {
        Ok(readings(bytes, sent)?.iter().map(Vec::len).collect())
    };
    assert_eq!(lengths(both, sent), Ok(vec![2]));
    assert!(readings(b"HTTP/1.1 200 OK\r\n\r\nbody", sent).is_err());
    let within = b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
    assert_eq!(lengths(within, SentRequests { may_be_head: true, may_be_http10: true }), Ok(vec![2, 1]));
    assert_eq!(lengths(within, SentRequests { may_be_head: true, may_be_http10: false }), Ok(vec![2]));
    assert_eq!(complete_length(both), Some(40));
}
