//! The access log entry of a finished request or TCP connection, and its JSON form.
//!
//! The entry is written directly into the buffer of the worker, without a serializer and without allocation. Keys and
//! their order are stable; unknown values are left out. The `fields` that filters have set are last.

use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use http::{HeaderValue, Method, Version};
use weir_model::{EndpointAddress, UnixPath};

use crate::error::ProxyError;
use crate::limits::{MAX_LOG_FIELD_BYTES, MAX_LOG_FIELD_NAME_BYTES, MAX_LOG_FIELDS};
use crate::telemetry::timestamp::TimestampFormatter;

/// A property that a filter has set for the stream (`proxy_set_property`).
#[derive(Debug, Clone)]
pub(crate) struct StreamProperty {
    /// The whole path; segments are separated by NUL bytes.
    pub(crate) path: Box<[u8]>,
    /// The value.
    pub(crate) value: Box<[u8]>,
}

/// The result of an attempt that was followed by another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AttemptResult {
    /// A response with this status.
    Status(u16),
    /// No response; the detail of the error in the table of failures.
    Error(&'static str),
}

/// An attempt that was followed by another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailedAttempt {
    /// The endpoint.
    pub(crate) endpoint: EndpointAddress,
    /// The result.
    pub(crate) result: AttemptResult,
}

/// The data of a finished request or TCP connection. Empty texts and `None` are left out.
pub(crate) struct AccessLogEntry<'a> {
    /// The time of the complete request head, or of the accepted connection.
    pub(crate) started: SystemTime,
    /// From `started` to the last byte sent.
    pub(crate) duration: Duration,
    /// The name of the listener.
    pub(crate) listener: &'a str,
    /// The address of the downstream.
    pub(crate) peer: SocketAddr,
    /// The authenticated SPIFFE ID of the downstream.
    pub(crate) peer_identity: Option<&'a str>,
    /// Request and status; `None` for a TCP connection.
    pub(crate) http: Option<HttpLogFields<'a>>,
    /// The name of the matched route.
    pub(crate) route: &'a str,
    /// The name of the cluster.
    pub(crate) cluster: &'a str,
    /// The endpoint of the last attempt.
    pub(crate) endpoint: Option<&'a EndpointAddress>,
    /// The number of attempts.
    pub(crate) attempts: u32,
    /// The attempts that were followed by another one.
    pub(crate) failed_attempts: &'a [FailedAttempt],
    /// Bytes received from the downstream: the request body, or all bytes of a TCP connection.
    pub(crate) bytes_in: u64,
    /// Bytes sent to the downstream: the response body, or all bytes of a TCP connection.
    pub(crate) bytes_out: u64,
    /// The error; `None` for a success.
    pub(crate) failure: Option<&'a ProxyError>,
    /// Details of a success in snake case, such as `filter_reply` or `redirect`.
    pub(crate) details: &'a str,
    /// The plugin that sent the response or failed.
    pub(crate) plugin: &'a str,
    /// Properties that filters have set; those with the path `access_log.NAME` become fields.
    pub(crate) properties: &'a [StreamProperty],
}

/// Request and status of an HTTP exchange.
pub(crate) struct HttpLogFields<'a> {
    /// `x-request-id`.
    pub(crate) request_id: &'a [u8],
    /// `:method`.
    pub(crate) method: &'a Method,
    /// `:authority`, as sent.
    pub(crate) authority: Option<&'a HeaderValue>,
    /// `:path` with the query, as sent.
    pub(crate) path: &'a str,
    /// The HTTP version of the downstream.
    pub(crate) version: Version,
    /// The status sent to the downstream; 0 if none was sent.
    pub(crate) status: u16,
}

impl AccessLogEntry<'_> {
    /// Appends the line, with its line break.
    pub(super) fn write(&self, timestamps: &mut TimestampFormatter, line: &mut Vec<u8>) {
        line.extend_from_slice(b"{\"time\":\"");
        timestamps.write(self.started, line);
        line.push(b'"');
        text(line, "listener", self.listener.as_bytes());
        match &self.http {
            Some(request) => request.write(line),
            None => text(line, "protocol", b"TCP"),
        }
        text(line, "route", self.route.as_bytes());
        text(line, "cluster", self.cluster.as_bytes());
        match self.endpoint {
            None => {}
            Some(EndpointAddress::Socket(endpoint)) => address(line, "endpoint", *endpoint),
            Some(EndpointAddress::Unix(path)) => unix_path(line, "endpoint", path),
        }
        if self.attempts > 0 {
            number(line, "attempts", u64::from(self.attempts));
        }
        self.write_failed_attempts(line);
        number(line, "bytes_in", self.bytes_in);
        number(line, "bytes_out", self.bytes_out);
        milliseconds(line, self.duration);
        self.write_outcome(line);
        address(line, "peer", self.peer);
        if let Some(identity) = self.peer_identity {
            text(line, "peer_identity", identity.as_bytes());
        }
        self.write_fields(line);
        line.extend_from_slice(b"}\n");
    }

    fn write_failed_attempts(&self, line: &mut Vec<u8>) {
        for (index, FailedAttempt { endpoint, result }) in self.failed_attempts.iter().enumerate() {
            line.extend_from_slice(if index == 0 {
                b",\"failed_attempts\":[{\"endpoint\":\""
            } else {
                b",{\"endpoint\":\""
            });
            match endpoint {
                EndpointAddress::Socket(endpoint) => drop(write!(line, "{endpoint}")), // A buffer does not fail.
                EndpointAddress::Unix(path) => escape_unix_path(line, path),
            }
            line.push(b'"');
            match result {
                AttemptResult::Status(status) => number(line, "status", u64::from(*status)),
                AttemptResult::Error(detail) => text(line, "error", detail.as_bytes()),
            }
            line.push(b'}');
        }
        if !self.failed_attempts.is_empty() {
            line.push(b']');
        }
    }

    fn write_fields(&self, line: &mut Vec<u8>) {
        let mut count = 0;
        for (index, StreamProperty { path, value }) in self.properties.iter().enumerate() {
            let Some(name) = field_name(path) else { continue };
            if count == MAX_LOG_FIELDS {
                break;
            }
            // Skips a name that occurs under both spellings of its path.
            if self.properties[..index].iter().any(|earlier| field_name(&earlier.path) == Some(name)) {
                continue;
            }
            line.extend_from_slice(if count == 0 { b",\"fields\":{\"" } else { b",\"" });
            line.extend_from_slice(name);
            line.extend_from_slice(b"\":\"");
            escape(line, truncate(value));
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
            text(line, "response_code_details", self.details.as_bytes());
            text(line, "filter", self.plugin.as_bytes());
            return;
        };
        let info = failure.info();
        text(line, "outcome", b"failed");
        text(line, "who_failed", info.fault.name().as_bytes());
        text(line, "response_flags", info.flag.as_bytes());
        text(line, "response_code_details", info.detail.as_bytes());
        text(line, "reason", info.reason.as_bytes());
        text(line, "cause", failure.cause().unwrap_or_default().as_bytes());
        text(line, "filter", self.plugin.as_bytes());
    }
}

impl HttpLogFields<'_> {
    fn write(&self, line: &mut Vec<u8>) {
        text(line, "request_id", self.request_id);
        text(line, "method", self.method.as_str().as_bytes());
        text(line, "authority", self.authority.map_or(b"".as_slice(), HeaderValue::as_bytes));
        text(line, "path", self.path.as_bytes());
        text(line, "protocol", protocol(self.version).as_bytes());
        number(line, "status", u64::from(self.status));
    }
}

/// Returns the field name of a property path; `None` if the property is not a field. The path is `access_log.NAME` as
/// one segment, which Envoy can log, too, or `access_log` and `NAME` as two segments.
fn field_name(path: &[u8]) -> Option<&[u8]> {
    let name = path.strip_prefix(b"access_log")?;
    let name = name.strip_prefix(b".").or_else(|| name.strip_prefix(b"\0"))?;
    let legal = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_');
    (!name.is_empty() && name.len() <= MAX_LOG_FIELD_NAME_BYTES && name.iter().all(legal)).then_some(name)
}

/// Returns at most [`MAX_LOG_FIELD_BYTES`] of a value, without a partial UTF-8 character at the end.
fn truncate(value: &[u8]) -> &[u8] {
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
    let fraction = (micros % 1_000).to_le_bytes(); // Below 1000, so two bytes are enough.
    let fraction = u16::from_le_bytes([fraction[0], fraction[1]]);
    let digit = |divisor: u16| b'0' + u8::try_from(fraction / divisor % 10).unwrap_or(0);
    line.extend_from_slice(&[b'.', digit(100), digit(10), digit(1)]);
}

fn unix_path(line: &mut Vec<u8>, name: &str, path: &UnixPath) {
    key(line, name);
    line.push(b'"');
    escape_unix_path(line, path);
    line.push(b'"');
}

fn escape_unix_path(line: &mut Vec<u8>, path: &UnixPath) {
    line.extend_from_slice(b"unix:");
    escape(line, path.as_str().as_bytes());
}

fn address(line: &mut Vec<u8>, name: &str, address: SocketAddr) {
    key(line, name);
    line.push(b'"');
    match address {
        SocketAddr::V4(address) => {
            // Without `fmt`, which took a twentieth of the user CPU time of a request for two addresses per line.
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
    escape(line, value);
    line.push(b'"');
}

/// Appends a JSON string without its quotes (RFC 8259 §7). Quotes, backslashes and control characters are escaped;
/// invalid UTF-8 becomes U+FFFD.
fn escape(line: &mut Vec<u8>, value: &[u8]) {
    let is_plain = |byte: u8| matches!(byte, b' '..=b'~') & (byte != b'"') & (byte != b'\\');
    // Checks every byte without a branch for each, so that the compiler vectorizes the loop (16 bytes at a time).
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
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::*;

    static ENDPOINT: EndpointAddress =
        EndpointAddress::Socket(SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 9001)));

    fn request<'a>() -> HttpLogFields<'a> {
        HttpLogFields {
            request_id: b"id",
            method: &Method::GET,
            authority: None,
            path: "/a\"b\\",
            version: Version::HTTP_11,
            status: 200,
        }
    }

    fn entry<'a>() -> AccessLogEntry<'a> {
        AccessLogEntry {
            started: SystemTime::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
            duration: Duration::from_micros(12_034),
            listener: "default/shop/http",
            peer: SocketAddr::from(([127, 0, 0, 1], 5000)),
            peer_identity: None,
            http: Some(request()),
            route: "",
            cluster: "default/reviews:80",
            endpoint: Some(&ENDPOINT),
            attempts: 1,
            failed_attempts: &[],
            bytes_in: 0,
            bytes_out: 5,
            failure: None,
            details: "",
            plugin: "",
            properties: &[],
        }
    }

    fn written(entry: &AccessLogEntry<'_>) -> String {
        let mut line = Vec::new();
        entry.write(&mut TimestampFormatter::default(), &mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn entry_is_json_in_stable_order() {
        assert_eq!(
            written(&entry()),
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
    fn tcp_entry_has_no_request_fields() {
        let line = written(&AccessLogEntry { http: None, ..entry() });
        let begin = r#"{"time":"2023-11-14T22:13:20.123Z","listener":"default/shop/http","protocol":"TCP","cluster""#;
        assert!(line.starts_with(begin), "{line}");
    }

    #[test]
    fn failure_has_fault_flag_and_cause() {
        let failure = ProxyError::ConnectFailed("connection refused".to_owned());
        let line = written(&AccessLogEntry { failure: Some(&failure), ..entry() });
        for part in [
            r#""outcome":"failed","who_failed":"Upstream","response_flags":"UF","response_code_details":"upstream_connect_failed""#,
            r#""cause":"connection refused""#,
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }

    #[test]
    fn arbitrary_bytes_become_valid_json() {
        for value in [b"plain".as_slice(), b"\0\x1f\x7f\"\\\n", b"\xff\xfea", "gr\u{fc}n\u{2028}".as_bytes()] {
            let line =
                written(&AccessLogEntry { http: Some(HttpLogFields { request_id: value, ..request() }), ..entry() });
            let parsed: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(parsed["request_id"], String::from_utf8_lossy(value).as_ref());
            assert_eq!(line.matches('\n').count(), 1);
        }
    }

    #[track_caller]
    fn check_fields(values: &[(&[u8], &[u8])], expected: &str) {
        let property = |(path, value): &(&[u8], &[u8])| StreamProperty { path: (*path).into(), value: (*value).into() };
        let properties: Vec<StreamProperty> = values.iter().map(property).collect();
        let line = written(&AccessLogEntry { properties: &properties, ..entry() });
        let (_, fields) = line.split_once(r#""peer":"127.0.0.1:5000""#).unwrap();
        assert_eq!(fields, format!("{expected}}}\n"));
        serde_json::from_str::<serde_json::Value>(&line).unwrap();
    }

    #[test]
    fn filter_fields_are_last() {
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
    fn invalid_and_excess_fields_are_dropped() {
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
        let (long, truncated) = ("\u{20ac}".repeat(MAX_LOG_FIELD_BYTES), "\u{20ac}".repeat(MAX_LOG_FIELD_BYTES / 3));
        check_fields(&[(b"access_log.a", long.as_bytes())], &format!(",\"fields\":{{\"a\":\"{truncated}\"}}"));
        let many: Vec<String> = (0..=MAX_LOG_FIELDS).map(|number| format!("access_log.f{number}")).collect();
        let values: Vec<(&[u8], &[u8])> = many.iter().map(|path| (path.as_bytes(), b"1".as_slice())).collect();
        let expected: Vec<String> = (0..MAX_LOG_FIELDS).map(|number| format!("\"f{number}\":\"1\"")).collect();
        check_fields(&values, &format!(",\"fields\":{{{}}}", expected.join(",")));
    }
}
