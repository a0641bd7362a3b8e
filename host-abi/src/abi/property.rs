//! The wire form of property paths and values (`proxy_get_property`, `proxy_set_property`).
//!
//! A path is segments joined by one NUL byte. Values have a fixed binary form per type; [`PropertyValue`] writes them.

/// A path as a guest wrote it, without the trailing NUL that some guests add.
#[must_use]
pub fn path_bytes(raw: &[u8]) -> &[u8] {
    raw.strip_suffix(&[0]).unwrap_or(raw)
}

/// The segments of a path. A one-segment path with dots (`request.path`) is split at the dots too when `dotted` says
/// so.
#[must_use]
pub fn segments(path: &[u8], dotted: Dotted) -> Vec<&[u8]> {
    let path = path_bytes(path);
    if path.is_empty() {
        return Vec::new();
    }
    let separator = if dotted == Dotted::Split && !path.contains(&0) { b'.' } else { 0 };
    path.split(|byte| *byte == separator).collect()
}

/// Whether dots separate segments of a path that has no NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dotted {
    /// A dot is part of its segment, as the specification says.
    Keep,
    /// A dot separates, as a fallback for hand-written paths.
    Split,
}

/// A property's value with its wire form.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum PropertyValue<'a> {
    /// Text or bytes, as they are.
    Bytes(&'a [u8]),
    /// Any whole number: 8 bytes, little-endian.
    Integer(i64),
    /// A yes or no: one byte.
    Bool(bool),
    /// A floating-point number: 8 bytes, little-endian.
    Double(f64),
    /// A moment (since the epoch) or a duration: nanoseconds as 8 bytes, little-endian.
    Nanoseconds(i64),
}

impl PropertyValue<'_> {
    /// Appends the wire form to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Bytes(bytes) => out.extend_from_slice(bytes),
            Self::Integer(number) | Self::Nanoseconds(number) => out.extend_from_slice(&number.to_le_bytes()),
            Self::Bool(yes) => out.push(u8::from(yes)),
            Self::Double(number) => out.extend_from_slice(&number.to_le_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_split_as_guests_expect() {
        type Row<'a> = (&'a [u8], Dotted, &'a [&'a [u8]]);
        let rows: [Row<'_>; 7] = [
            (b"", Dotted::Split, &[]),
            (b"\0", Dotted::Split, &[]),
            (b"request\0path", Dotted::Keep, &[b"request", b"path"]),
            (b"request\0path\0", Dotted::Keep, &[b"request", b"path"]),
            (b"request.path", Dotted::Keep, &[b"request.path"]),
            (b"request.path", Dotted::Split, &[b"request", b"path"]),
            (b"metadata\0a.b", Dotted::Split, &[b"metadata", b"a.b"]),
        ];
        for (path, dotted, expected) in rows {
            assert_eq!(segments(path, dotted), expected, "{path:?} {dotted:?}");
        }
    }

    #[test]
    fn values_have_their_wire_form() {
        let rows: [(PropertyValue<'_>, &[u8]); 5] = [
            (PropertyValue::Bytes(b"abc"), b"abc"),
            (PropertyValue::Integer(-2), &[254, 255, 255, 255, 255, 255, 255, 255]),
            (PropertyValue::Bool(true), &[1]),
            (PropertyValue::Double(1.0), &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f]),
            (PropertyValue::Nanoseconds(258), &[2, 1, 0, 0, 0, 0, 0, 0]),
        ];
        for (value, expected) in rows {
            let mut out = Vec::new();
            value.write(&mut out);
            assert_eq!(out, expected, "{value:?}");
        }
    }
}
