//! The wire format of property paths and values (`proxy_get_property`, `proxy_set_property`).
//!
//! A path has segments separated by one NUL byte. Values have a fixed binary format per type, which [`PropertyValue`]
//! writes.

use std::borrow::Cow;

/// Returns a path without the trailing NUL that some guests append.
#[must_use]
pub fn path_bytes(raw: &[u8]) -> &[u8] {
    raw.strip_suffix(&[0]).unwrap_or(raw)
}

/// Returns the segments of a path. [`DotSeparators::Split`] also splits a path without NUL at its dots
/// (`request.path`).
#[must_use]
pub fn segments(path: &[u8], dotted: DotSeparators) -> Vec<&[u8]> {
    let path = path_bytes(path);
    if path.is_empty() {
        return Vec::new();
    }
    let separator = if dotted == DotSeparators::Split && !path.contains(&0) { b'.' } else { 0 };
    path.split(|byte| *byte == separator).collect()
}

/// Treatment of dots in a path that has no NUL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DotSeparators {
    /// A dot is part of its segment, as in the specification.
    Keep,
    /// A dot separates segments, as a fallback for hand-written paths.
    Split,
}

/// The typed value of a property. Expressions compare it by type; guests get its wire format.
#[derive(Debug, Clone, PartialEq)]
pub enum PropertyValue<'a> {
    /// Text, unchanged. It need not be UTF-8, as header values.
    Text(Cow<'a, [u8]>),
    /// Bytes or a serialized message, unchanged.
    Bytes(Cow<'a, [u8]>),
    /// A signed integer: 8 bytes, little-endian.
    Integer(i64),
    /// An unsigned integer: 8 bytes, little-endian.
    Unsigned(u64),
    /// A boolean: one byte.
    Bool(bool),
    /// A floating-point number: 8 bytes, little-endian.
    Double(f64),
    /// A point in time: nanoseconds since 1970 as 8 bytes, little-endian.
    Timestamp(i64),
    /// A duration: nanoseconds as 8 bytes, little-endian.
    Duration(i64),
    /// Names with values: a serialized header map.
    Pairs(Vec<(Vec<u8>, Vec<u8>)>),
}

impl<'a> PropertyValue<'a> {
    /// Creates a borrowed text value.
    #[must_use]
    pub fn text<T: AsRef<[u8]> + ?Sized>(text: &'a T) -> Self {
        Self::Text(Cow::Borrowed(text.as_ref()))
    }

    /// Returns the approximate size in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Text(bytes) | Self::Bytes(bytes) => bytes.len(),
            Self::Pairs(pairs) => pairs.iter().map(|(name, value)| name.len() + value.len()).sum(),
            _ => 8,
        }
    }

    /// Returns whether the size is 0.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the wire format to `out`.
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
    fn path_is_split_into_segments() {
        type Row<'a> = (&'a [u8], DotSeparators, &'a [&'a [u8]]);
        let rows: [Row<'_>; 7] = [
            (b"", DotSeparators::Split, &[]),
            (b"\0", DotSeparators::Split, &[]),
            (b"request\0path", DotSeparators::Keep, &[b"request", b"path"]),
            (b"request\0path\0", DotSeparators::Keep, &[b"request", b"path"]),
            (b"request.path", DotSeparators::Keep, &[b"request.path"]),
            (b"request.path", DotSeparators::Split, &[b"request", b"path"]),
            (b"metadata\0a.b", DotSeparators::Split, &[b"metadata", b"a.b"]),
        ];
        for (path, dotted, expected) in rows {
            assert_eq!(segments(path, dotted), expected, "{path:?} {dotted:?}");
        }
    }

    #[test]
    fn values_are_written_in_wire_format() {
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
