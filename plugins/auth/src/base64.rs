//! Base64 as HTTP basic uses it (RFC 4648 §4). Padding may be missing; anything else wrong is refused.

/// The bytes that `text` stands for.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let unpadded = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    let mut bytes = Vec::with_capacity(unpadded.len() * 3 / 4);
    for group in unpadded.chunks(4) {
        let mut bits: u32 = 0;
        for &symbol in group {
            bits = bits << 6 | sextet(symbol)?;
        }
        let missing = 4 - group.len();
        let [_, decoded @ ..] = (bits << (6 * missing)).to_be_bytes();
        match missing {
            0..=2 => bytes.extend_from_slice(&decoded[..3 - missing]),
            _ => return None, // One symbol holds no whole byte.
        }
    }
    Some(bytes)
}

fn sextet(symbol: u8) -> Option<u32> {
    let value = match symbol {
        b'A'..=b'Z' => symbol - b'A',
        b'a'..=b'z' => symbol - b'a' + 26,
        b'0'..=b'9' => symbol - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}
