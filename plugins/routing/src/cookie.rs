//! Reads one cookie of a request, and formats the header that sets one.

use crate::config::CookieAttributes;

/// Returns the value of a cookie in the `cookie` headers of a request. Several headers may be joined by commas.
pub fn find<'a>(cookies: &'a [u8], name: &str) -> Option<&'a [u8]> {
    cookies.split(|byte| matches!(byte, b';' | b',')).find_map(|pair| {
        let pair = pair.trim_ascii();
        let equals = pair.iter().position(|byte| *byte == b'=')?;
        (pair[..equals].trim_ascii() == name.as_bytes()).then(|| unquoted(pair[equals + 1..].trim_ascii()))
    })
}

fn unquoted(value: &[u8]) -> &[u8] {
    value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value)
}

/// Returns the `set-cookie` value that sets a user's id (RFC 6265 §4.1). `is_https` decides about a cookie without
/// `secure`.
pub fn set_cookie(name: &str, id: u64, attributes: &CookieAttributes, is_https: bool) -> String {
    let CookieAttributes { max_age_seconds, same_site, secure } = attributes;
    let secure = if secure.unwrap_or(is_https) { "; Secure" } else { "" };
    let same_site = same_site.name();
    format!("{name}={id:016x}; Path=/; Max-Age={max_age_seconds}; HttpOnly; SameSite={same_site}{secure}")
}
