//! Reads and writes the few protobuf messages that guests exchange with their host: foreign functions, and
//! `envoy.config.core.v3.GrpcService`. Fields are visited as they come; what is not asked for is passed over.

/// A field's value on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field<'a> {
    /// A varint, or a number of fixed size.
    Number(u64),
    /// A text, bytes or a message.
    Bytes(&'a [u8]),
}

/// The fields of a message, with their numbers; `None` when the bytes are no message.
#[must_use]
pub fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, Field<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            1 => Field::Number(u64::from_le_bytes(*take(&mut bytes, 8)?.first_chunk()?)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Field::Bytes(take(&mut bytes, length)?)
            }
            5 => Field::Number(u64::from(u32::from_le_bytes(*take(&mut bytes, 4)?.first_chunk()?))),
            _ => return None,
        };
        if key >> 3 == 0 {
            return None;
        }
        fields.push((key >> 3, value));
    }
    Some(fields)
}

/// The last field of a number that is bytes.
#[must_use]
pub fn bytes_of<'a>(fields: &[(u64, Field<'a>)], number: u64) -> Option<&'a [u8]> {
    fields.iter().rev().find_map(|(of, value)| match value {
        Field::Bytes(bytes) if *of == number => Some(*bytes),
        _ => None,
    })
}

/// The last field of a number that is a number; 0 when there is none.
#[must_use]
pub fn number_of(fields: &[(u64, Field<'_>)], number: u64) -> u64 {
    let found = fields.iter().rev().find_map(|(of, value)| match value {
        Field::Number(value) if *of == number => Some(*value),
        _ => None,
    });
    found.unwrap_or_default()
}

/// Appends a number.
pub fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    put_varint(out, field << 3);
    put_varint(out, number);
}

/// Appends bytes, a text or a message.
pub fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    out.push(number.to_le_bytes()[0]);
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *take(bytes, 1)?.first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut out = Vec::new();
        put_number(&mut out, 1, 300);
        put_bytes(&mut out, 2, b"text");
        put_number(&mut out, 1, u64::MAX);
        let fields = fields(&out).unwrap();
        assert_eq!(fields, [(1, Field::Number(300)), (2, Field::Bytes(b"text")), (1, Field::Number(u64::MAX))]);
        assert_eq!(
            (number_of(&fields, 1), bytes_of(&fields, 2), bytes_of(&fields, 3)),
            (u64::MAX, Some(&b"text"[..]), None)
        );
        assert_eq!(number_of(&fields, 9), 0);
    }

    proptest! {
        #[test]
        fn anything_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _read = fields(&bytes);
        }
    }
}
