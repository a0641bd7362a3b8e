//! URLs of the control API: percent-encoding of paths and queries.

/// Returns `?name=value&…` of the fields that have a value, percent-encoded; an empty text if none has.
pub(crate) fn query(fields: &[(&str, Option<String>)]) -> String {
    let fields = fields.iter().filter_map(|(name, value)| Some(format!("{name}={}", escape(value.as_ref()?))));
    let fields: Vec<String> = fields.collect();
    if fields.is_empty() { String::new() } else { format!("?{}", fields.join("&")) }
}

/// Percent-encodes all but unreserved characters (RFC 3986 §2.3).
pub(crate) fn escape(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_escaped() {
        assert_eq!(query(&[("a", None), ("b", Some("x y&z/ä".to_owned()))]), "?b=x%20y%26z%2F%C3%A4");
        assert_eq!(query(&[("a", None)]), "");
    }
}
