//! One line of the access log: what is known of a request or a TCP connection when it has ended, and how that is
//! written as JSON.
//!
//! Written by hand into a buffer that is there already: no allocation, no serializer on the request path. The keys and
//! their order are stable; what is not known is left out. Last come the `fields` that filters have set.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method, Version};

use crate::error::ProxyError;
use crate::limits::{MAX_LOG_FIELD_BYTES, MAX_LOG_FIELD_NAME_BYTES, MAX_LOG_FIELDS};
use crate::telemetry::timestamp::Timestamps;

/// A value that a filter has set for the stream, under its whole path.
type PathAndValue = (Box<[u8]>, Box<[u8]>);

/// What is known of a request or a TCP connection when it has ended. Empty texts and `None` are left out.
pub(crate) struct AccessRecord<'a> {
    /// When the request's head was whole, or the connection began.
    pub(crate) started: SystemTime,
    /// From then until the last byte had gone.
    pub(crate) duration: Duration,
    /// The listener it came through.
    pub(crate) listener: &'a str,
    /// Who sent it.
    pub(crate) peer: SocketAddr,
    /// Who the downstream has proved to be.
    pub(crate) peer_identity: Option<&'a str>,
    /// What was asked for and answered; `None` for a TCP connection.
    pub(crate) request: Option<RequestRecord<'a>>,
    /// The route that it took.
    pub(crate) route: &'a str,
    /// The cluster that it went to.
    pub(crate) cluster: &'a str,
    /// The endpoint that it went to, of the last attempt.
    pub(crate) endpoint: Option<SocketAddr>,
    /// How many endpoints were tried.
    pub(crate) attempts: u32,
    /// Bytes from the downstream: of a request, those of its body.
    pub(crate) bytes_in: u64,
    /// Bytes to the downstream: of a request, those of its response's body.
    pub(crate) bytes_out: u64,
    /// Why it failed; `None` when it did not.
    pub(crate) failure: Option<&'a ProxyError>,
    /// Who answered or what was odd, in snake case, when it did not fail: `filter_reply`, `redirect`.
    pub(crate) details: &'a str,
    /// The plugin that answered or failed.
    pub(crate) plugin: &'a str,
    /// What filters have set for the stream, by path: fields of this line stand under `access_log.NAME`.
    pub(crate) values: &'a [PathAndValue],
}

/// What a request asked for, and what it was told.
pub(crate) struct RequestRecord<'a> {
    /// `x-request-id`.
    pub(crate) request_id: &'a [u8],
    /// `:method`.
    pub(crate) method: &'a Method,
    /// `:authority`, as sent.
    pub(crate) authority: Option<&'a HeaderValue>,
    /// `:path` with the query, as sent.
    pub(crate) path: &'a str,
    /// What the downstream speaks.
    pub(crate) version: Version,
    /// What the downstream was told; 0 when nothing.
    pub(crate) status: u16,
}

impl AccessRecord<'_> {
    /// Appends the line, with its line break.
    pub(super) fn write(&self, timestamps: &mut Timestamps, line: &mut Vec<u8>) {
        line.extend_from_slice(b"{\"time\":\"");
        timestamps.write(self.started, line);
        line.push(b'"');
        text(line, "listener", self.listener.as_bytes());
        match &self.request {
            Some(request) => request.write(line),
            None => text(line, "protocol", b"TCP"),
        }
        text(line, "route", self.route.as_bytes());
        text(line, "cluster", self.cluster.as_bytes());
        address(line, "endpoint", self.endpoint);
        if self.attempts > 0 {
            number(line, "attempts", u64::from(self.attempts));
        }
        number(line, "bytes_in", self.bytes_in);
        number(line, "bytes_out", self.bytes_out);
        milliseconds(line, self.duration);
        self.write_outcome(line);
        address(line, "peer", Some(self.peer));
        if let Some(identity) = self.peer_identity {
            text(line, "peer_identity", identity.as_bytes());
        }
        self.write_fields(line);
        line.extend_from_slice(b"}\n");
    }

    fn write_fields(&self, line: &mut Vec<u8>) {
        let mut count = 0;
        for (at, (path, value)) in self.values.iter().enumerate() {
            let Some(name) = field_name(path) else { continue };
            if count == MAX_LOG_FIELDS {
                break;
            }
            // The same name under the other spelling of its path.
            if self.values[..at].iter().any(|(earlier, _)| field_name(earlier) == Some(name)) {
                continue;
            }
            line.extend_from_slice(if count == 0 { b",\"fields\":{\"" } else { b",\"" });
            line.extend_from_slice(name);
            line.extend_from_slice(b"\":\"");
            escaped(line, cut(value));
            line.push(b'"');
            count += 1;
        }
        if count > 0 {
            line.push(b'}');
        }
    }

    fn write_outcome(&self, line: &mut Vec<u8>) {
        let Some(failure) = self.failure else {
            text(line, "outcome", b"ok");
            text(line, "details", self.details.as_bytes());
            text(line, "plugin", self.plugin.as_bytes());
            return;
        };
        let row = failure.row();
        text(line, "outcome", b"failed");
        text(line, "who_failed", row.fault.name().as_bytes());
        text(line, "response_flags", row.flag.as_bytes());
        text(line, "details", row.detail.as_bytes());
        text(line, "reason", row.reason.as_bytes());
        text(line, "cause", failure.cause().unwrap_or_default().as_bytes());
        text(line, "plugin", self.plugin.as_bytes());
    }
}

impl RequestRecord<'_> {
    fn write(&self, line: &mut Vec<u8>) {
        text(line, "request_id", self.request_id);
        text(line, "method", self.method.as_str().as_bytes());
        text(line, "authority", self.authority.map_or(b"".as_slice(), HeaderValue::as_bytes));
        text(line, "path", self.path.as_bytes());
        text(line, "protocol", protocol(self.version).as_bytes());
        number(line, "status", u64::from(self.status));
    }
}

/// The field that a property is: `access_log.NAME` as one segment, which Envoy can print too, or `access_log` and
/// `NAME` as two.
fn field_name(path: &[u8]) -> Option<&[u8]> {
    let name = path.strip_prefix(b"access_log")?;
    let name = name.strip_prefix(b".").or_else(|| name.strip_prefix(b"\0"))?;
    let legal = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    (!name.is_empty() && name.len() <= MAX_LOG_FIELD_NAME_BYTES && name.iter().all(legal)).then_some(name)
}

/// As much of a value as a line takes, without half a character at its end.
fn cut(value: &[u8]) -> &[u8] {
    if value.len() <= MAX_LOG_FIELD_BYTES {
        return value;
    }
    let is_inside_character = |at: &usize| value[*at] & 0b1100_0000 == 0b1000_0000;
    let end = (MAX_LOG_FIELD_BYTES - 3..=MAX_LOG_FIELD_BYTES).rev().find(|at| !is_inside_character(at));
    &value[..end.unwrap_or(MAX_LOG_FIELD_BYTES)]
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_09 => "HTTP/0.9",
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_3 => "HTTP/3",
        _ => "HTTP/1.1",
    }
}

fn key(line: &mut Vec<u8>, key: &str) {
    line.extend_from_slice(b",\"");
    line.extend_from_slice(key.as_bytes());
    line.extend_from_slice(b"\":");
}

fn number(line: &mut Vec<u8>, name: &str, value: u64) {
    key(line, name);
    line.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn milliseconds(line: &mut Vec<u8>, duration: Duration) {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    number(line, "duration_ms", micros / 1_000);
    let fraction = (micros % 1_000).to_le_bytes(); // Below 1000, so the first two bytes hold all of it.
    let fraction = u16::from_le_bytes([fraction[0], fraction[1]]);
    let digit = |divisor: u16| b'0' + u8::try_from(fraction / divisor % 10).unwrap_or(0);
    line.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
}

fn address(line: &mut Vec<u8>, name: &str, address: Option<SocketAddr>) {
    let Some(address) = address else { return };
    key(line, name);
    line.push(b'"');
    match address {
        SocketAddr::V4(address) => {
            // By hand: two addresses a line through `fmt` were a twentieth of all that a request costs in user space.
            let mut digits = itoa::Buffer::new();
            for (octet, end) in address.ip().octets().into_iter().zip(*b"...:") {
                line.extend_from_slice(digits.format(octet).as_bytes());
                line.push(end);
            }
            line.extend_from_slice(digits.format(address.port()).as_bytes());
        }
        // Writing into a Vec does not fail.
        SocketAddr::V6(_) => drop(write!(line, "{address}")),
    }
    line.push(b'"');
}

fn text(line: &mut Vec<u8>, name: &str, value: &[u8]) {
    if value.is_empty() {
        return;
    }
    key(line, name);
    line.push(b'"');
    escaped(line, value);
    line.push(b'"');
}

/// RFC 8259 §7: quotes, backslashes and control characters are escaped; what is not UTF-8 becomes U+FFFD.
fn escaped(line: &mut Vec<u8>, value: &[u8]) {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
    // Looks at every byte, without a branch for each: the compiler takes 16 at a time.
    if value.iter().fold(true, |plain, byte| plain & is_plain(*byte)) {
        line.extend_from_slice(value);
        return;
    }
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            match character {
                '"' => line.extend_from_slice(b"\\\""),
                '\\' => line.extend_from_slice(b"\\\\"),
                '\n' => line.extend_from_slice(b"\\n"),
                '\r' => line.extend_from_slice(b"\\r"),
                '\t' => line.extend_from_slice(b"\\t"),
                '\0'..='\u{1f}' | '\u{7f}' | '\u{2028}' | '\u{2029}' => {
                    drop(write!(line, "\\u{:04x}", u32::from(character)));
                }
                _ => line.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        if !chunk.invalid().is_empty() {
            line.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>() -> RequestRecord<'a> {
        RequestRecord {
            request_id: b"id",
            method: &Method::GET,
            authority: None,
            path: "/a\"b\\",
            version: Version::HTTP_11,
            status: 200,
        }
    }

    fn record<'a>() -> AccessRecord<'a> {
        AccessRecord {
            started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            duration: Duration::from_micros(12_034),
            listener: "default/shop/http",
            peer: SocketAddr::from(([127, 0, 0, 1], 5000)),
            peer_identity: None,
            request: Some(request()),
            route: "",
            cluster: "default/reviews:80",
            endpoint: Some(SocketAddr::from(([127, 0, 0, 1], 9001))),
            attempts: 1,
            bytes_in: 0,
            bytes_out: 5,
            failure: None,
            details: "",
            plugin: "",
            values: &[],
        }
    }

    fn written(record: &AccessRecord<'_>) -> String {
        let mut line = Vec::new();
        record.write(&mut Timestamps::default(), &mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_line_is_json_in_a_stable_order() {
        assert_eq!(
            written(&record()),
            concat!(
                r#"{"time":"2023-11-14T22:13:20.123Z","listener":"default/shop/http","request_id":"id","method":"GET","#,
                r#""path":"/a\"b\\","protocol":"HTTP/1.1","status":200,"cluster":"default/reviews:80","#,
                r#""endpoint":"127.0.0.1:9001","attempts":1,"bytes_in":0,"bytes_out":5,"duration_ms":12.034,"#,
                r#""outcome":"ok","peer":"127.0.0.1:5000"}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_connection_has_no_request() {
        let line = written(&AccessRecord { request: None, ..record() });
        let begin = r#"{"time":"2023-11-14T22:13:20.123Z","listener":"default/shop/http","protocol":"TCP","cluster""#;
        assert!(line.starts_with(begin), "{line}");
    }

    #[test]
    fn a_failure_says_in_words_who_and_why() {
        let failure = ProxyError::ConnectFailed("connection refused".to_owned());
        let line = written(&AccessRecord { failure: Some(&failure), ..record() });
        for part in [
            r#""outcome":"failed","who_failed":"upstream","response_flags":"UF","details":"upstream_connect_failed""#,
            r#""cause":"connection refused""#,
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    #[test]
    fn any_bytes_are_valid_json() {
        for value in [b"plain".as_slice(), b"\0\x1f\x7f\"\\\n", b"\xff\xfea", "gr\u{fc}n\u{2028}".as_bytes()] {
            let line =
                written(&AccessRecord { request: Some(RequestRecord { request_id: value, ..request() }), ..record() });
            let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(parsed["request_id"], String::from_utf8_lossy(value).as_ref());
            assert_eq!(line.matches('\n').count(), 1);
        }
    }

    #[track_caller]
    fn check_fields(values: &[(&[u8], &[u8])], expected: &str) {
        let values: Vec<PathAndValue> = values.iter().map(|(path, it)| ((*path).into(), (*it).into())).collect();
        let line = written(&AccessRecord { values: &values, ..record() });
        let (_, fields) = line.split_once(r#""peer":"127.0.0.1:5000""#).unwrap();
        assert_eq!(fields, format!("{expected}}}\n"));
        serde_json::from_str::<serde_json::Value>(&line).unwrap();
    }

    #[test]
    fn filters_add_fields_at_the_end() {
        check_fields(&[], "");
        check_fields(&[(b"access_log.a", b"1")], r#","fields":{"a":"1"}"#);
        check_fields(
            &[
                (b"access_log\0trace_id", b"0af"),
                (b"other", b"x"),
                (b"access_log.b_2", b"\"\n\xff"),
                (b"access_log.b", b""),
            ],
            ",\"fields\":{\"trace_id\":\"0af\",\"b_2\":\"\\\"\\n\u{fffd}\",\"b\":\"\"}",
        );
        check_fields(&[(b"access_log.a", b"1"), (b"access_log\0a", b"2")], r#","fields":{"a":"1"}"#);
    }

    #[test]
    fn fields_have_bounds() {
        for path in [
            b"access_log".as_slice(),
            b"access_log.",
            b"access_log\0",
            b"access_logs.a",
            b"access_log.A",
            b"access_log.a-b",
            b"access_log.a.b",
            b"access_log\0a\0b",
            b"access_log.\"",
            &[b"access_log.".as_slice(), &[b'a'; MAX_LOG_FIELD_NAME_BYTES + 1]].concat(),
        ] {
            check_fields(&[(path, b"1")], "");
        }
        let (long, shown) = ("\u{20ac}".repeat(MAX_LOG_FIELD_BYTES), "\u{20ac}".repeat(MAX_LOG_FIELD_BYTES / 3));
        check_fields(&[(b"access_log.a", long.as_bytes())], &format!(",\"fields\":{{\"a\":\"{shown}\"}}"));
        let many: Vec<String> = (0..=MAX_LOG_FIELDS).map(|number| format!("access_log.f{number}")).collect();
        let values: Vec<(&[u8], &[u8])> = many.iter().map(|path| (path.as_bytes(), b"1".as_slice())).collect();
        let expected: Vec<String> = (0..MAX_LOG_FIELDS).map(|number| format!("\"f{number}\":\"1\"")).collect();
        check_fields(&values, &format!(",\"fields\":{{{}}}", expected.join(",")));
    }
}
