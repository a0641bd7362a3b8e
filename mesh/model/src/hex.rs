//! Hexadecimal text of bytes: hashes, tokens and key identifiers.

use std::fmt::{self, Write};

/// Returns two lowercase hexadecimal digits per byte.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    write(&mut text, bytes).expect("writing to a String does not fail");
    text
}

/// Writes two lowercase hexadecimal digits per byte; for [`fmt::Display`] implementations.
///
/// # Errors
/// The error of the writer.
pub fn write(writer: &mut impl Write, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(writer, "{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encode_writes_two_lowercase_digits_per_byte() {
        for (bytes, expected) in [(&[][..], ""), (&[0], "00"), (&[0x0f, 0xa0, 0xff], "0fa0ff")] {
            assert_eq!(encode(bytes), expected);
        }
    }
}
