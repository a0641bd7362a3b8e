//! `KeptHeaders`: a copy of a header map for whoever may want it later, and mostly does not: filters that log, an attempt
//! that must be made again. All in one piece of memory, so that it costs a fifth of a `HeaderMap`'s copy; reading it is
//! a walk.

use http::{HeaderMap, HeaderName, HeaderValue};

/// Room for the headers of most messages.
const USUAL_BYTES: usize = 512;

/// Bytes before each header: how long its name is (2) and its value (4).
const LENGTHS: usize = 6;

/// A copy of a header map.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeptHeaders {
    bytes: Vec<u8>,
}

impl KeptHeaders {
    /// Copies a map.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let mut bytes = Vec::with_capacity(USUAL_BYTES);
        for (name, value) in headers {
            let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
            // `http` has no names longer than that, and no value of 4 GiB is read from anywhere.
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

    /// Every header, in order; names in lower case.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            let (lengths, after) = rest.split_first_chunk::<LENGTHS>()?;
            let [a, b, c, d, e, f] = *lengths;
            let (name, after) = after.split_at_checked(usize::from(u16::from_le_bytes([a, b])))?;
            let (value, after) = after.split_at_checked(u32::from_le_bytes([c, d, e, f]) as usize)?;
            rest = after;
            Some((name, value))
        })
    }

    /// The values of a header, in order.
    pub(crate) fn values<'a>(&'a self, wanted: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value)
    }

    /// As a map again.
    pub(crate) fn to_map(&self) -> HeaderMap {
        // What was in a map can be in one.
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
    fn what_is_kept_is_what_was_there() {
        let mut map = HeaderMap::new();
        assert_eq!(KeptHeaders::of(&map).to_map(), map);
        let long = "x".repeat(70_000);
        for (name, value) in
            [("a", "1"), ("x-empty", ""), ("a", "2"), ("content-type", "text/plain"), ("x-long", &long)]
        {
            map.append(name, HeaderValue::from_str(value).unwrap());
        }
        map.append("x-bytes", HeaderValue::from_bytes(b"\xff\xfe").unwrap());
        let kept = KeptHeaders::of(&map);
        assert_eq!(kept.to_map(), map);
        assert_eq!(kept.values(b"A").collect::<Vec<_>>(), [b"1", b"2"]);
        assert_eq!(kept.values(b"nothing").count(), 0);
        assert_eq!(kept.iter().count(), 6);
    }
}
