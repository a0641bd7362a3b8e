//! One spelling for each path. `/a//b`, `/a/./b`, `/a/x/../b` and `/%61/b` are `/a/b` to some servers. Such a spelling
//! could bypass a rule for `/a/b`, so it becomes `/a/b` before any rule is applied, and a path without a safe spelling
//! is rejected. `sanitize` calls it. The query is not changed.
//!
//! ```text
//! //              merged                           %2F %5C %00 \      rejected: hidden separators
//! . .. %2e        resolved (RFC 3986 §5.2.4)       .. above the root  rejected
//! %61 %7E         decoded: unreserved (§6.2.2.2)   % without digits   rejected
//!                                                  ..; .;             rejected: dots to servers with path parameters
//! ```

use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, Uri};

use crate::error::ProxyError;

/// Returns the normalized path and the query of a request's target.
///
/// # Errors
/// `BadRequest` for a path without a safe spelling.
pub(super) fn path(uri: Uri, method: &Method) -> Result<PathAndQuery, ProxyError> {
    let Some(path) = uri.into_parts().path_and_query else {
        return Ok(PathAndQuery::from_static("/")); // `http://a.com`
    };
    match path.as_str() {
        "*" if *method == Method::OPTIONS => Ok(path),
        text if text.starts_with('/') && is_plain(path.path().as_bytes()) => Ok(path),
        text if text.starts_with(['/', '?']) => normalized(path),
        _ => Err(ProxyError::BadRequest("the path does not begin with a slash")),
    }
}

/// Returns true if the path needs no change, as most paths do.
fn is_plain(path: &[u8]) -> bool {
    let mut previous = 0;
    path.iter().all(|byte| {
        let suspect = match byte {
            b'%' | b'\\' => true,
            b'/' | b'.' => previous == b'/',
            _ => false,
        };
        previous = *byte;
        !suspect
    })
}

fn normalized(original: PathAndQuery) -> Result<PathAndQuery, ProxyError> {
    // `path()` is `/` for `?query`, the target of `http://a.com?query`.
    let path = original.path();
    let mut text = Vec::with_capacity(original.as_str().len() + 1);
    let mut segments = path.as_bytes().split(|byte| *byte == b'/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        let start = text.len();
        text.push(b'/');
        decode(segment, &mut text)?;
        match &text[start + 1..] {
            b"" | b"." => text.truncate(start),
            b".." => {
                text.truncate(start);
                let parent = text.iter().rposition(|byte| *byte == b'/');
                text.truncate(parent.ok_or(ProxyError::BadRequest("the path leaves the root"))?);
            }
            [b'.', b';', ..] | [b'.', b'.', b';', ..] => {
                return Err(ProxyError::BadRequest("the path has hidden dots"));
            }
            _ => continue,
        }
        if last {
            text.push(b'/'); // The remaining path is a folder.
        }
    }
    if text == path.as_bytes() && original.as_str().starts_with('/') {
        return Ok(original);
    }
    if let Some(query) = original.query() {
        text.push(b'?');
        text.extend_from_slice(query.as_bytes());
    }
    PathAndQuery::from_maybe_shared(Bytes::from(text)).map_err(|_| ProxyError::BadRequest("the path is not valid"))
}

/// Appends a segment to `text`. Unreserved characters are decoded; other escapes remain.
fn decode(segment: &[u8], text: &mut Vec<u8>) -> Result<(), ProxyError> {
    let mut bytes = segment.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => return Err(ProxyError::BadRequest("the path has a backslash")),
            b'%' => {
                let digits = bytes.as_slice().first_chunk::<2>();
                let decoded = digits.and_then(|digits| hexadecimal(*digits));
                let (Some(digits), Some(decoded)) = (digits, decoded) else {
                    return Err(ProxyError::BadRequest("the path has a % without two digits"));
                };
                match decoded {
                    0 | b'/' | b'\\' => return Err(ProxyError::BadRequest("the path has a hidden separator")),
                    b'-' | b'.' | b'_' | b'~' => text.push(decoded),
                    _ if decoded.is_ascii_alphanumeric() => text.push(decoded),
                    _ => text.extend_from_slice(&[b'%', digits[0], digits[1]]),
                }
                bytes = bytes.as_slice()[2..].iter();
            }
            _ => text.push(*byte),
        }
    }
    Ok(())
}

fn hexadecimal(digits: [u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? * 16 + low?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(target: &str) -> Result<String, &'static str> {
        match path(target.parse().unwrap(), &Method::GET) {
            Ok(path) => Ok(path.as_str().to_owned()),
            Err(ProxyError::BadRequest(reason)) => Err(reason),
            Err(_) => Err("another error"),
        }
    }

    #[test]
    fn path_is_normalized_to_one_spelling() {
        for (target, expected) in [
            ("/", "/"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b/"),
            ("//", "/"),
            ("//evil.com/x", "/evil.com/x"),
            ("/a//b///c", "/a/b/c"),
            ("/a/./b", "/a/b"),
            ("/a/.", "/a/"),
            ("/.", "/"),
            ("/a/..", "/"),
            ("/a/../b", "/b"),
            ("/a/b/..", "/a/"),
            ("/a//../b", "/b"),
            ("/a/%2e%2E/b", "/b"),
            ("/a/.%2e/b", "/b"),
            ("/a/%2e/b", "/a/b"),
            ("/%61dmin", "/admin"),
            ("/a%7Eb%2Dc", "/a~b-c"),
            ("/a%20b%3f%25", "/a%20b%3f%25"),
            ("/%252e%252e/a", "/%252e%252e/a"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
            ("/a..b/.c", "/a..b/.c"),
            ("/a;v=1/b", "/a;v=1/b"),
            ("/a?b=//../%2F%00\\", "/a?b=//../%2F%00\\"),
            ("//a?//", "/a?//"),
            ("http://a.com", "/"),
            ("http://a.com?x=1", "/?x=1"),
            ("http://a.com//x", "/x"),
        ] {
            assert_eq!(check(target), Ok(expected.to_owned()), "{target}");
        }
    }

    #[test]
    fn path_without_safe_spelling_is_rejected() {
        for (target, reason) in [
            ("/a%2fb", "the path has a hidden separator"),
            ("/a%2Fb", "the path has a hidden separator"),
            ("/a%5cb", "the path has a hidden separator"),
            ("/a%00", "the path has a hidden separator"),
            ("/..", "the path leaves the root"),
            ("/../a", "the path leaves the root"),
            ("/a/../../b", "the path leaves the root"),
            ("/%2e%2e/b", "the path leaves the root"),
            ("/a/..;/b", "the path has hidden dots"),
            ("/a/%2e%2e;x/b", "the path has hidden dots"),
            ("/a/.;/b", "the path has hidden dots"),
            ("/a%", "the path has a % without two digits"),
            ("/a%4", "the path has a % without two digits"),
            ("/a%zz", "the path has a % without two digits"),
            ("/a%+1", "the path has a % without two digits"),
            ("*", "the path does not begin with a slash"),
        ] {
            assert_eq!(check(target), Err(reason), "{target}");
        }
        let backslash = PathAndQuery::from_static("/a\\b");
        assert!(path(Uri::from(backslash), &Method::GET).is_err());
        assert_eq!(path("*".parse().unwrap(), &Method::OPTIONS).unwrap().as_str(), "*");
    }

    proptest! {
        /// Normalizing is idempotent, and leaves nothing that a server could interpret in another way.
        #[test]
        fn normalized_path_is_stable(target in "/(%2e|%2E|%61|\\.|/|a|;|%20){0,12}") {
            if let Ok(once) = check(&target) {
                prop_assert_eq!(check(&once), Ok(once.clone()));
                let path = once.split('?').next().unwrap();
                prop_assert!(!path.contains("//") && !path.contains("/./") && !path.contains("/../"));
                prop_assert!(!path.ends_with("/.") && !path.ends_with("/.."));
            }
        }
    }
}
