//! The values of a query.

use weir_sdk::path::percent_decode;

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
        percent_decode(&spaced, |_| true)
    };
    let value = |pair: &[u8]| {
        let equals = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
        let value = pair.get(equals + 1..).unwrap_or_default();
        (decoded(&pair[..equals]) == name.as_bytes()).then(|| decoded(value))
    };
    query.split(|&byte| byte == b'&').filter_map(value).collect()
}
