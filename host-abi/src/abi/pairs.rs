//! The wire format of header lists. Hostcalls decode with [`Pairs`] and encode with [`PairsEncoder`].
//!
//! ```text
//! count u32 | count x (name length u32, value length u32) | count x (name, NUL, value, NUL)    (little-endian)
//! ```
//!
//! Decoding validates the list once and borrows it, so that iteration needs no further checks. Names and values are not
//! validated: they need not be UTF-8 or legal in HTTP.

use crate::limits::{MAX_PAIRS, MAX_PAIRS_BYTES};

/// The reason why a guest's header list was rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PairsError {
    /// More bytes than [`MAX_PAIRS_BYTES`].
    #[error("header list of {0} bytes is longer than {MAX_PAIRS_BYTES}")]
    TooLong(usize),
    /// More entries than [`MAX_PAIRS`].
    #[error("header list has {0} entries, more than {MAX_PAIRS}")]
    TooMany(u32),
    /// The lengths of the entries do not add up to the length of the list.
    #[error("header list is malformed")]
    Malformed,
}

/// A validated, borrowed header list.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pairs<'a> {
    lengths: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Pairs<'a> {
    /// Validates a header list and borrows it. Empty input and a single 0 byte are empty lists.
    ///
    /// # Errors
    /// A limit is exceeded, or the lengths of the entries do not consume the input exactly.
    pub fn decode(input: &'a [u8]) -> Result<Self, PairsError> {
        if input.is_empty() || input == [0] {
            return Ok(Self::default());
        }
        if input.len() > MAX_PAIRS_BYTES {
            return Err(PairsError::TooLong(input.len()));
        }
        let (count, rest) = split_u32(input).ok_or(PairsError::Malformed)?;
        if count > MAX_PAIRS {
            return Err(PairsError::TooMany(count));
        }
        let (lengths, bytes) = rest.split_at_checked(count as usize * 8).ok_or(PairsError::Malformed)?;
        let mut left = bytes;
        for entry in lengths.chunks_exact(4) {
            let (length, _) = split_u32(entry).ok_or(PairsError::Malformed)?;
            let (_, rest) = left.split_at_checked(length as usize).ok_or(PairsError::Malformed)?;
            left = rest.strip_prefix(&[0]).ok_or(PairsError::Malformed)?;
        }
        if left.is_empty() { Ok(Self { lengths, bytes }) } else { Err(PairsError::Malformed) }
    }

    /// Returns the number of entries.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.lengths.len() / 8
    }

    /// Returns whether the list has no entries.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Returns the entries in order, as (name, value).
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        let mut left = self.bytes;
        self.lengths.chunks_exact(8).map_while(move |entry| {
            let (name_length, rest) = split_u32(entry)?;
            let (value_length, _) = split_u32(rest)?;
            let (name, rest) = left.split_at_checked(name_length as usize)?;
            let (value, rest) = rest.get(1..)?.split_at_checked(value_length as usize)?;
            left = rest.get(1..)?;
            Some((name, value))
        })
    }
}

fn split_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*number), rest))
}

/// An encoder of header lists for guests. It reuses its two buffers.
#[derive(Debug, Default)]
pub struct PairsEncoder {
    lengths: Vec<u8>,
    bytes: Vec<u8>,
}

impl PairsEncoder {
    /// Appends one entry. Lengths fit in 32 bits, because header maps are limited far below.
    pub fn push(&mut self, name: &[u8], value: &[u8]) {
        for part in [name, value] {
            let length = u32::try_from(part.len()).unwrap_or(u32::MAX);
            self.lengths.extend_from_slice(&length.to_le_bytes());
            self.bytes.extend_from_slice(part);
            self.bytes.push(0);
        }
    }

    /// Removes all entries and frees the capacity beyond `keep` bytes per buffer.
    pub fn clear(&mut self, keep: usize) {
        for buffer in [&mut self.lengths, &mut self.bytes] {
            buffer.clear();
            buffer.shrink_to(keep);
        }
    }

    /// Returns the number of entries.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.lengths.len() / 8
    }

    /// Returns the length of the list in bytes; 0 without entries.
    #[must_use]
    pub const fn size(&self) -> usize {
        if self.lengths.is_empty() { 0 } else { 4 + self.lengths.len() + self.bytes.len() }
    }

    /// Returns the list in three consecutive parts: count, lengths, names and values.
    #[must_use]
    pub fn parts(&self) -> ([u8; 4], &[u8], &[u8]) {
        let count = u32::try_from(self.count()).unwrap_or(u32::MAX);
        (count.to_le_bytes(), &self.lengths, &self.bytes)
    }
}

/// Encodes a header list as guests write it: always with its count, even if empty.
#[must_use]
pub fn encode<'a>(pairs: impl IntoIterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut encoder = PairsEncoder::default();
    for (name, value) in pairs {
        encoder.push(name, value);
    }
    let (count, lengths, bytes) = encoder.parts();
    [&count, lengths, bytes].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Owned = Vec<(Vec<u8>, Vec<u8>)>;

    fn collect(input: &[u8]) -> Result<Owned, PairsError> {
        Ok(Pairs::decode(input)?.iter().map(|(name, value)| (name.to_vec(), value.to_vec())).collect())
    }

    #[test]
    fn malformed_lists_are_rejected() {
        let rows: [(&[u8], Result<usize, PairsError>); 8] = [
            (b"", Ok(0)),
            (b"\0", Ok(0)),
            (b"\0\0\0\0", Ok(0)),
            (b"\0\0", Err(PairsError::Malformed)),
            (b"\0\0\0\0x", Err(PairsError::Malformed)),
            (b"\x01\0\0\0\x01\0\0\0\x01\0\0\0a\0b\0", Ok(1)),
            (b"\x01\0\0\0\x01\0\0\0\x01\0\0\0a\0bX", Err(PairsError::Malformed)),
            (b"\xff\xff\xff\xff", Err(PairsError::TooMany(u32::MAX))),
        ];
        for (input, expected) in rows {
            assert_eq!(Pairs::decode(input).map(|pairs| pairs.len()), expected, "{input:?}");
        }
    }

    #[test]
    fn bounds_are_exact() {
        let many = |count: u32| encode((0..count).map(|_| (&b"n"[..], &b"v"[..])));
        assert_eq!(Pairs::decode(&many(MAX_PAIRS)).map(|pairs| pairs.len()), Ok(MAX_PAIRS as usize));
        assert_eq!(Pairs::decode(&many(MAX_PAIRS + 1)).err(), Some(PairsError::TooMany(MAX_PAIRS + 1)));
        let long = |total: usize| encode([(&b""[..], vec![b'x'; total - 4 - 8 - 2].as_slice())]);
        assert!(Pairs::decode(&long(MAX_PAIRS_BYTES)).is_ok());
        assert_eq!(Pairs::decode(&long(MAX_PAIRS_BYTES + 1)).err(), Some(PairsError::TooLong(MAX_PAIRS_BYTES + 1)));
    }

    proptest! {
        #[test]
        fn encoded_pairs_are_decoded(pairs: Vec<(Vec<u8>, Vec<u8>)>) {
            let input = encode(pairs.iter().map(|(name, value)| (name.as_slice(), value.as_slice())));
            prop_assert_eq!(collect(&input), Ok(pairs));
        }

        #[test]
        fn arbitrary_bytes_are_rejected_or_encode_back(input: Vec<u8>) {
            if let Ok(pairs) = Pairs::decode(&input) && input.len() > 1 {
                prop_assert_eq!(encode(pairs.iter()), input);
            }
        }

        #[test]
        fn damaged_lists_never_panic(pairs: Vec<(Vec<u8>, Vec<u8>)>, at: prop::sample::Index, flip: u8) {
            let mut input = encode(pairs.iter().map(|(name, value)| (name.as_slice(), value.as_slice())));
            let at = at.index(input.len());
            input[at] ^= flip;
            if let Ok(pairs) = Pairs::decode(&input) {
                prop_assert_eq!(pairs.iter().count(), pairs.len());
            }
        }
    }
}
