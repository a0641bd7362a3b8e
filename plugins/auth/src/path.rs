//! The readings of a path, and the values of a query.
//!
//! The proxy normalises paths before filters see them, other hosts may not, and nobody knows how the upstream reads
//! `%2f` or `;`. So a rule looks at every plausible reading.

use std::borrow::Cow;

use weir_sdk::matching::without_query;

/// How deep `%2541` is followed: to `%41`, to `A`, and no further.
const MAX_DECODINGS: usize = 2;

/// The ways to read a path: as it stands; normalised (RFC 3986 §6.2.2); and as the laxest upstream would: everything
/// decoded, `\` as `/`, parameters after `;` cut off. Equal readings are given once.
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

/// Whether all readings are the path as it stands, which is so for most.
fn is_plain(path: &[u8]) -> bool {
    let mut after_slash = false;
    path.first() == Some(&b'/')
        && path.iter().all(|&byte| {
            let is_odd = matches!(byte, b'%' | b'\\' | b';') || (after_slash && matches!(byte, b'/' | b'.'));
            after_slash = byte == b'/';
            !is_odd
        })
}

/// The query of a path, without the question mark; empty if there is none.
pub fn query(path: &[u8]) -> &[u8] {
    let end = path.iter().position(|&byte| byte == b'#').unwrap_or(path.len());
    let path = &path[..end]; // RFC 3986 §3.5: what follows belongs to the fragment, question marks too.
    let start = path.iter().position(|&byte| byte == b'?').map_or(end, |mark| mark + 1);
    &path[start..]
}

/// Every value of a parameter, decoded.
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

/// The byte that two hexadecimal digits name.
pub fn hex_byte(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some(digit(high)? * 16 + digit(low)?)
}

/// Decodes `%XX` where it names a byte that `wanted` accepts.
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

/// Removes `.`, `..` and empty segments (RFC 3986 §5.2.4, and doubled slashes too).
fn without_dots(path: &[u8], parameters: Parameters) -> Vec<u8> {
    if !path.starts_with(b"/") {
        return path.to_vec(); // `*` of OPTIONS.
    }
    let mut kept: Vec<&[u8]> = Vec::new();
    let mut ends_in_folder = true;
    for segment in path.split(|&byte| byte == b'/') {
        let parameters_start = segment.iter().position(|&byte| byte == b';').unwrap_or(segment.len());
        let segment = if parameters == Parameters::Cut { &segment[..parameters_start] } else { segment };
        ends_in_folder = matches!(segment, b"" | b"." | b"..");
        match segment {
            b"" | b"." => {}
            b".." => drop(kept.pop()),
            other => kept.push(other),
        }
    }
    let mut joined = Vec::with_capacity(path.len());
    for segment in &kept {
        joined.push(b'/');
        joined.extend_from_slice(segment);
    }
    if ends_in_folder || kept.is_empty() {
        joined.push(b'/');
    }
    joined
}
