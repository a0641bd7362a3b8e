//! Syntax of paths, headers, query parameters and ports.

use std::sync::Arc;

use weir_model::limits::MAX_PATH_MATCH_BYTES;

use crate::limits::{MAX_MATCH_NAME_BYTES, MAX_MATCH_VALUE_BYTES};
use crate::suggest::quoted;
use crate::syntax::error::SyntaxError;

/// Headers that belong to the connection or to the body's framing, or have a field of their own. Editing one by name
/// could make two proxies interpret a request differently (RFC 9110 §7.6.1, RFC 9112 §6).
const PROTECTED_HEADERS: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Validates a header name (RFC 9110 §5.6.2, token) and returns it in lower case.
pub(crate) fn header_name(text: &str) -> Result<Arc<str>, SyntaxError> {
    if text.len() > MAX_MATCH_NAME_BYTES {
        return Err(too_long("the name", text, MAX_MATCH_NAME_BYTES));
    }
    if text.is_empty() || !text.bytes().all(is_token) {
        return Err(SyntaxError::new(
            format!("{} is not a header name", quoted(text)),
            "use letters, digits and `-`, without white space or colon",
        ));
    }
    Ok(Arc::from(text.to_ascii_lowercase()))
}

/// Validates the name of a header that a modifier may set, add or remove.
pub(crate) fn editable_header_name(text: &str) -> Result<Arc<str>, SyntaxError> {
    let name = header_name(text)?;
    if &*name == "host" {
        return Err(SyntaxError::new("`host` cannot be edited as a header", "use a URLRewrite filter with `hostname`"));
    }
    if PROTECTED_HEADERS.contains(&&*name) {
        return Err(SyntaxError::new(
            format!("`{name}` belongs to the connection and is set by the proxy"),
            "remove this edit",
        ));
    }
    Ok(name)
}

/// Validates a header value (RFC 9110 §5.5). Messages omit the value, which may be a secret.
pub(crate) fn header_value(text: &str) -> Result<Arc<str>, SyntaxError> {
    if text.len() > MAX_MATCH_VALUE_BYTES {
        return Err(too_long("the value", text, MAX_MATCH_VALUE_BYTES));
    }
    if text.bytes().any(|byte| (byte < 0x20 && byte != b'\t') || byte == 0x7f) {
        return Err(SyntaxError::new(
            "the value holds a control character",
            "write it on one line; a block text (`|`) ends with a line break, `|-` does not",
        ));
    }
    if text.starts_with([' ', '\t']) || text.ends_with([' ', '\t']) {
        return Err(SyntaxError::new("the value begins or ends with white space", "remove it: peers strip it"));
    }
    Ok(Arc::from(text))
}

/// Validates the name of a query parameter.
pub(crate) fn query_name(text: &str) -> Result<Arc<str>, SyntaxError> {
    if text.len() > MAX_MATCH_NAME_BYTES {
        return Err(too_long("the name", text, MAX_MATCH_NAME_BYTES));
    }
    if text.is_empty() || text.chars().any(|character| character.is_control() || character.is_whitespace()) {
        return Err(SyntaxError::new(format!("{} is not a parameter name", quoted(text)), "write it percent-decoded"));
    }
    Ok(Arc::from(text))
}

/// Validates the value of a query parameter.
pub(crate) fn query_value(text: &str) -> Result<Arc<str>, SyntaxError> {
    if text.is_empty() {
        return Err(SyntaxError::new("the value is empty", "write the value that the parameter must have"));
    }
    if text.len() > MAX_MATCH_VALUE_BYTES {
        return Err(too_long("the value", text, MAX_MATCH_VALUE_BYTES));
    }
    Ok(Arc::from(text))
}

/// Validates a path to match or to replace another (Gateway API, `HTTPPathMatch`).
pub(crate) fn path(text: &str) -> Result<(), SyntaxError> {
    if !text.starts_with('/') {
        let hint = format!("write {}", quoted(&format!("/{text}")));
        return Err(SyntaxError::new(format!("{} does not begin with `/`", quoted(text)), hint));
    }
    if text.len() > MAX_PATH_MATCH_BYTES {
        return Err(too_long("the path", text, MAX_PATH_MATCH_BYTES));
    }
    if text.contains(['?', '#']) {
        return Err(SyntaxError::new(
            format!("{} holds `?` or `#`", quoted(text)),
            "a path ends before them; match the query with `queryParams`",
        ));
    }
    let reject = |part: &str, hint: &str| Err(SyntaxError::new(format!("{} holds {part}", quoted(text)), hint));
    if text.contains("//") {
        return reject("`//`", "write a single `/`");
    }
    if text.split('/').any(|segment| matches!(segment, "." | "..")) {
        return reject(
            "`.` or `..` as a segment",
            "write the normalized path: the proxy normalizes requests before matching",
        );
    }
    if text.to_ascii_lowercase().contains("%2f") {
        return reject("an encoded slash", "such requests cannot be matched by segment; use RegularExpression");
    }
    if !is_path(text) {
        return reject("a character that is not valid in a path", "percent-encode it, as in `/a%20b`");
    }
    Ok(())
}

/// Validates a port number.
pub(crate) fn port(number: i64) -> Result<u16, SyntaxError> {
    u16::try_from(number)
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| SyntaxError::new(format!("{number} is not a port"), "ports are between 1 and 65535"))
}

// RFC 3986: pchar, `/`, and complete percent escapes.
fn is_path(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_hex = |index: usize| bytes.get(index).is_some_and(u8::is_ascii_hexdigit);
    bytes.iter().enumerate().all(|(index, byte)| match byte {
        b'%' => is_hex(index + 1) && is_hex(index + 2),
        byte => byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(byte),
    })
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

fn too_long(noun: &str, text: &str, limit: usize) -> SyntaxError {
    SyntaxError::new(format!("{noun} has {} bytes", text.len()), format!("use at most {limit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_accepts_normalized_paths_only() {
        for (text, expected) in [
            ("/", None),
            ("/a/b", None),
            ("/a%20b", None),
            ("/a/", None),
            ("/@me/(x)", None),
            ("a", Some("`a` does not begin with `/`")),
            ("", Some("`` does not begin with `/`")),
            ("/a//b", Some("`/a//b` holds `//`")),
            ("/a/../b", Some("`/a/../b` holds `.` or `..` as a segment")),
            ("/a/.", Some("`/a/.` holds `.` or `..` as a segment")),
            ("/a?b=c", Some("`/a?b=c` holds `?` or `#`")),
            ("/a%2Fb", Some("`/a%2Fb` holds an encoded slash")),
            ("/a b", Some("`/a b` holds a character that is not valid in a path")),
            ("/a%2", Some("`/a%2` holds a character that is not valid in a path")),
            ("/ä", Some("`/ä` holds a character that is not valid in a path")),
        ] {
            assert_eq!(path(text).err().map(|error| error.reason).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn header_names_and_values() {
        assert_eq!(header_name("X-User").unwrap().as_ref(), "x-user");
        for name in ["", "a b", "a:", ":path", "ä"] {
            assert!(header_name(name).is_err(), "{name}");
        }
        for name in ["Host", "content-length", "Transfer-Encoding", "connection"] {
            assert!(editable_header_name(name).is_err(), "{name}");
        }
        for value in ["", "a b", "a\tb", "ä"] {
            assert!(header_value(value).is_ok(), "{value}");
        }
        for value in ["a\nb", "a\r", "\0", " a", "a "] {
            let error = header_value(value).unwrap_err();
            assert!(!error.reason.contains('a') || error.reason.starts_with("the value"), "{error:?}");
        }
    }

    #[test]
    fn port_is_in_range() {
        for (number, expected) in [(1, true), (65_535, true), (0, false), (-1, false), (65_536, false)] {
            assert_eq!(port(number).is_ok(), expected, "{number}");
        }
    }
}
