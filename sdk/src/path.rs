//! The readings of a path: one path as different upstreams interpret it.
//!
//! A filter does not know how the upstream reads `%2f` or `;`. A rule on a path therefore compares every plausible
//! reading. `auth` and `rate-limit` use these functions, and a filter with rules on paths should use them too.

use std::borrow::Cow;

/// The number of times that a path is decoded: `%2541` to `%41`, then to `A`.
const MAX_DECODINGS: usize = 2;

/// Returns the readings of a path: unchanged, normalized (RFC 3986 §6.2.2), and as the most lenient upstream reads it
/// ([`lenient`]). The query is ignored. Adjacent equal readings are merged, so a path in normal form has one.
pub fn readings(path: &[u8]) -> Vec<Cow<'_, [u8]>> {
    let path = without_query(path);
    if is_plain(path) {
        return vec![Cow::Borrowed(path)];
    }
    let normal = percent_decode(path, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let normal = without_dots(&normal, Leniency::Strict);
    let mut readings = vec![Cow::Borrowed(path), Cow::Owned(normal), lenient(path)];
    readings.dedup();
    readings
}

/// Returns a path without its query as the most lenient upstream reads it. Such an upstream decodes everything twice,
/// reads `\` as `/`, merges slashes, and drops parameters after `;` and white space at the ends of a segment. Spellings
/// of one path have one lenient reading, except that `/a/` and `/a` differ.
pub fn lenient(path: &[u8]) -> Cow<'_, [u8]> {
    let path = without_query(path);
    if is_plain(path) {
        return Cow::Borrowed(path);
    }
    let mut lenient = path.to_vec();
    for _ in 0..MAX_DECODINGS {
        lenient = percent_decode(&lenient, |_| true);
    }
    for byte in &mut lenient {
        if *byte == b'\\' {
            *byte = b'/';
        }
    }
    Cow::Owned(without_dots(&lenient, Leniency::Lenient))
}

/// Returns whether a path has one reading. A rule on a path that has more would match one spelling of it only.
pub fn has_one_reading(path: &[u8]) -> bool {
    readings(path).len() == 1
}

/// Returns the path up to its query.
pub fn without_query(path: &[u8]) -> &[u8] {
    let end = path.iter().position(|byte| b"?#".contains(byte)).unwrap_or(path.len());
    &path[..end]
}

/// Returns the path without one slash at its end. Many upstreams read `/admin/` as `/admin`.
pub fn without_end_slash(path: &[u8]) -> &[u8] {
    path.strip_suffix(b"/").unwrap_or(path)
}

/// Decodes each `%XX` whose byte `wanted` accepts. Other text, like an incomplete `%4`, stays.
pub fn percent_decode(text: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, after)) = rest.split_first() {
        let named = match (byte, after) {
            (b'%', [high, low, ..]) => hex_byte(*high, *low).filter(|&named| wanted(named)),
            _ => None,
        };
        decoded.push(named.unwrap_or(byte));
        rest = if named.is_some() { &after[2..] } else { after };
    }
    decoded
}

/// Returns the byte of two hexadecimal digits. `None` if one of them is not a digit.
pub fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? * 16 + digit(low)?)
}

/// Returns whether all readings equal the unchanged path. This is the fast path for most requests.
fn is_plain(path: &[u8]) -> bool {
    let mut after_slash = false;
    path.first() == Some(&b'/')
        && path.iter().all(|&byte| {
            let is_odd =
                matches!(byte, b'%' | b'\\' | b';') || is_blank(byte) || (after_slash && matches!(byte, b'/' | b'.'));
            after_slash = byte == b'/';
            !is_odd
        })
}

/// Returns whether an upstream may trim the byte: a space or a control character.
fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte.is_ascii_control()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Leniency {
    /// Segments stay unchanged.
    Strict,
    /// Segments lose their parameters, and blanks at their ends.
    Lenient,
}

/// Removes `.` and `..` segments (RFC 3986 §5.2.4), and empty ones.
fn without_dots(path: &[u8], leniency: Leniency) -> Vec<u8> {
    if !path.starts_with(b"/") {
        return path.to_vec(); // `OPTIONS *`
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut ends_in_folder = true;
    for segment in path.split(|&byte| byte == b'/') {
        let segment = if leniency == Leniency::Lenient { bare_segment(segment) } else { segment };
        ends_in_folder = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    let mut joined = Vec::with_capacity(path.len());
    for segment in &segments {
        joined.push(b'/');
        joined.extend_from_slice(segment);
    }
    if ends_in_folder || segments.is_empty() {
        joined.push(b'/');
    }
    joined
}

/// Returns a segment without its parameters and without blanks at its ends.
fn bare_segment(segment: &[u8]) -> &[u8] {
    let parameters_start = segment.iter().position(|&byte| byte == b';').unwrap_or(segment.len());
    let mut segment = &segment[..parameters_start];
    while let [first, rest @ ..] = segment
        && is_blank(*first)
    {
        segment = rest;
    }
    while let [rest @ .., last] = segment
        && is_blank(*last)
    {
        segment = rest;
    }
    segment
}

#[cfg(test)]
mod tests {
    use super::{has_one_reading, lenient, readings};

    #[test]
    fn spellings_have_one_lenient_reading() {
        for spelling in [
            "/login",
            "/login?next=/;x",
            "/login;x",
            "/login;x=1;y",
            "/;/login",
            "/%6cogin",
            "/%256cogin",
            "/login%20",
            "/%09login",
            "/login%00",
            "/login%20;x",
            "//login",
            "/x/../login",
            "/x/%2e%2e/login",
            "/x/..;/login",
            "/x/.%252e/login",
            "/x\\..\\login",
            "/./login",
        ] {
            assert_eq!(String::from_utf8_lossy(&lenient(spelling.as_bytes())), "/login", "{spelling}");
            assert!(readings(spelling.as_bytes()).iter().any(|reading| **reading == *b"/login"), "{spelling}");
        }
    }

    #[test]
    fn other_paths_keep_their_reading() {
        for path in ["/", "/login/", "/loginx", "/a b", "/a.b", "/~a", "/a:b", "/ü"] {
            assert_eq!(*lenient(path.as_bytes()), *path.as_bytes(), "{path}");
            assert!(has_one_reading(path.as_bytes()), "{path}");
        }
        for path in ["/a ", "/a;b", "/%61", "//a", "/a/../b", "/a\\b"] {
            assert!(!has_one_reading(path.as_bytes()), "{path}");
        }
        assert_eq!(*lenient(b"*"), *b"*");
        assert_eq!(*lenient(b""), *b"");
    }
}
