//! A reader and writer of the few protobuf messages that guests exchange with their host: foreign functions, and
//! `envoy.config.core.v3.GrpcService`. The reader visits fields in wire order; callers ignore unknown ones.

/// The value of a field on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireValue<'a> {
    /// A varint, or a fixed-size number.
    Number(u64),
    /// A string, bytes or a message.
    Bytes(&'a [u8]),
}

/// Returns the fields of a message with their numbers; `None` if the bytes are not a message.
#[must_use]
pub fn fields(mut bytes: &[u8]) -> Option<Vec<(u64, WireValue<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            0 => WireValue::Number(varint(&mut bytes)?),
            1 => WireValue::Number(u64::from_le_bytes(*take(&mut bytes, 8)?.first_chunk()?)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                WireValue::Bytes(take(&mut bytes, length)?)
            }
            5 => WireValue::Number(u64::from(u32::from_le_bytes(*take(&mut bytes, 4)?.first_chunk()?))),
            _ => return None,
        };
        if key >> 3 == 0 {
            return None;
        }
        fields.push((key >> 3, value));
    }
    Some(fields)
}

/// Returns the last length-delimited value of the field `number`.
#[must_use]
pub fn bytes_field<'a>(fields: &[(u64, WireValue<'a>)], number: u64) -> Option<&'a [u8]> {
    fields.iter().rev().find_map(|(field, value)| match value {
        WireValue::Bytes(bytes) if *field == number => Some(*bytes),
        _ => None,
    })
}

/// Returns the last numeric value of the field `number`; 0 if it is absent.
#[must_use]
pub fn varint_field(fields: &[(u64, WireValue<'_>)], number: u64) -> u64 {
    let found = fields.iter().rev().find_map(|(field, value)| match value {
        WireValue::Number(value) if *field == number => Some(*value),
        _ => None,
    });
    found.unwrap_or_default()
}

/// Appends a varint field.
pub fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    put_varint(out, field << 3);
    put_varint(out, number);
}

/// Appends a bytes, string or message field.
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
    fn written_fields_are_read_back() {
        let mut out = Vec::new();
        put_number(&mut out, 1, 300);
        put_bytes(&mut out, 2, b"text");
        put_number(&mut out, 1, u64::MAX);
        let fields = fields(&out).unwrap();
        assert_eq!(
            fields,
            [(1, WireValue::Number(300)), (2, WireValue::Bytes(b"text")), (1, WireValue::Number(u64::MAX))]
        );
        assert_eq!(
            (varint_field(&fields, 1), bytes_field(&fields, 2), bytes_field(&fields, 3)),
            (u64::MAX, Some(&b"text"[..]), None)
        );
        assert_eq!(varint_field(&fields, 9), 0);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _read = fields(&bytes);
        }
    }
}
