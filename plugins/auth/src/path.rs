//! The readings of a path, and the values of a query.
//!
//! The proxy normalizes paths before filters see them, but other hosts may not. The filter does not know how the
//! upstream reads `%2f` or `;`, so a rule matches against every plausible reading.

use std::borrow::Cow;

use weir_sdk::matching::without_query;

/// The number of times that a path is decoded: `%2541` to `%41`, then to `A`.
const MAX_DECODINGS: usize = 2;

/// Returns the readings of a path: unchanged, normalized (RFC 3986 §6.2.2), and as the most lenient upstream reads it.
/// Such an upstream decodes everything, reads `\` as `/`, and drops parameters after `;`. Equal readings are merged.
pub fn readings(path: &[u8]) -> Vec<Cow<'_, [u8]>> {
    let path = without_query(path);
    if is_plain(path) {
        return vec![Cow::Borrowed(path)];
    }
    let mut lax = path.to_vec();
    for _ in 0..MAX_DECODINGS {
        lax = decode(&lax, |_| true);
    }
    for byte in &mut lax {
        if *byte == b'\\' {
            *byte = b'/';
        }
    }
    let normal = decode(path, |byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    let normal = without_dots(&normal, Parameters::Keep);
    let lax = without_dots(&lax, Parameters::Cut);
    let mut readings = vec![Cow::Borrowed(path), Cow::Owned(normal), Cow::Owned(lax)];
    readings.dedup();
    readings
}

/// Returns whether all readings equal the unchanged path. This is the fast path for most requests.
fn is_plain(path: &[u8]) -> bool {
    let mut after_slash = false;
    path.first() == Some(&b'/')
        && path.iter().all(|&byte| {
            let is_odd = matches!(byte, b'%' | b'\\' | b';') || (after_slash && matches!(byte, b'/' | b'.'));
            after_slash = byte == b'/';
            !is_odd
        })
}

/// Returns the query of a path without the question mark; empty if the path has no query.
pub fn query(path: &[u8]) -> &[u8] {
    let end = path.iter().position(|&byte| byte == b'#').unwrap_or(path.len());
    let path = &path[..end]; // RFC 3986 §3.5: the rest is the fragment, which may contain question marks.
    let start = path.iter().position(|&byte| byte == b'?').map_or(end, |mark| mark + 1);
    &path[start..]
}

/// Returns every value of a query parameter, decoded.
pub fn query_values(query: &[u8], name: &str) -> Vec<Vec<u8>> {
    let decoded = |text: &[u8]| {
        let spaced: Vec<u8> = text.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
        decode(&spaced, |_| true)
    };
    let value = |pair: &[u8]| {
        let equals = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
        let value = pair.get(equals + 1..).unwrap_or_default();
        (decoded(&pair[..equals]) == name.as_bytes()).then(|| decoded(value))
    };
    query.split(|&byte| byte == b'&').filter_map(value).collect()
}

/// Returns the byte of two hexadecimal digits.
pub fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? * 16 + digit(low)?)
}

/// Decodes each `%XX` whose byte `wanted` accepts.
fn decode(text: &[u8], wanted: impl Fn(u8) -> bool) -> Vec<u8> {
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Parameters {
    Keep,
    Cut,
}

/// Removes `.` and `..` segments (RFC 3986 §5.2.4), and empty ones.
fn without_dots(path: &[u8], parameters: Parameters) -> Vec<u8> {
    if !path.starts_with(b"/") {
        return path.to_vec(); // `OPTIONS *`
    }
    let mut segments: Vec<&[u8]> = Vec::new();
    let mut ends_in_folder = true;
    for segment in path.split(|&byte| byte == b'/') {
        let parameters_start = segment.iter().position(|&byte| byte == b';').unwrap_or(segment.len());
        let segment = if parameters == Parameters::Cut { &segment[..parameters_start] } else { segment };
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
