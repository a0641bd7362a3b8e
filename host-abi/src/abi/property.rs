//! The wire form of property paths and values (`proxy_get_property`, `proxy_set_property`).
//!
//! A path is segments joined by one NUL byte. Values have a fixed binary form per type; [`PropertyValue`] writes them.

use std::borrow::Cow;

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

/// A property's value: what it is, so that expressions can compare it, and its wire form.
#[derive(Debug, Clone, PartialEq)]
pub enum PropertyValue<'a> {
    /// Text, as it is. It need not be UTF-8: headers are not.
    Text(Cow<'a, [u8]>),
    /// Bytes, or a serialised message, as they are.
    Bytes(Cow<'a, [u8]>),
    /// A whole number: 8 bytes, little-endian.
    Integer(i64),
    /// A whole number that is never negative: the same.
    Unsigned(u64),
    /// A yes or no: one byte.
    Bool(bool),
    /// A floating-point number: 8 bytes, little-endian.
    Double(f64),
    /// A moment: nanoseconds since 1970 as 8 bytes, little-endian.
    Timestamp(i64),
    /// A length of time: nanoseconds as 8 bytes, little-endian.
    Duration(i64),
    /// Names with texts: a serialised header map.
    Pairs(Vec<(Vec<u8>, Vec<u8>)>),
}

impl<'a> PropertyValue<'a> {
    /// Text.
    #[must_use]
    pub fn text<T: AsRef<[u8]> + ?Sized>(text: &'a T) -> Self {
        Self::Text(Cow::Borrowed(text.as_ref()))
    }

    /// About how many bytes it has.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(bytes) | Self::Bytes(bytes) => bytes.len(),
            Self::Pairs(pairs) => pairs.iter().map(|(name, value)| name.len() + value.len()).sum(),
            _ => 8,
        }
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the wire form to `out`.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Text(bytes) | Self::Bytes(bytes) => out.extend_from_slice(bytes),
            Self::Integer(number) | Self::Timestamp(number) | Self::Duration(number) => {
                out.extend_from_slice(&number.to_le_bytes());
            }
            Self::Unsigned(number) => out.extend_from_slice(&number.to_le_bytes()),
            Self::Bool(yes) => out.push(u8::from(*yes)),
            Self::Double(number) => out.extend_from_slice(&number.to_le_bytes()),
            Self::Pairs(pairs) => {
                out.extend(super::pairs::encode(pairs.iter().map(|(name, value)| (&name[..], &value[..]))));
            }
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
        let pairs = vec![(b"a".to_vec(), b"1".to_vec())];
        let rows: [(PropertyValue<'_>, &[u8]); 7] = [
            (PropertyValue::text("abc"), b"abc"),
            (PropertyValue::Unsigned(1), &[1, 0, 0, 0, 0, 0, 0, 0]),
            (PropertyValue::Pairs(pairs), b"\x01\0\0\0\x01\0\0\0\x01\0\0\0a\x001\0"),
            (PropertyValue::Integer(-2), &[254, 255, 255, 255, 255, 255, 255, 255]),
            (PropertyValue::Bool(true), &[1]),
            (PropertyValue::Double(1.0), &[0, 0, 0, 0, 0, 0, 0xf0, 0x3f]),
            (PropertyValue::Timestamp(258), &[2, 1, 0, 0, 0, 0, 0, 0]),
        ];
        for (value, expected) in rows {
            let mut out = Vec::new();
            value.write(&mut out);
            assert_eq!(out, expected, "{value:?}");
        }
    }
}
