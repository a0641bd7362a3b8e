//! Decodes base64 of HTTP basic and PEM (RFC 4648 §4), and the stricter base64url of tokens (RFC 4648 §5).

/// Decodes base64, with or without padding. Returns `None` if the text is not base64.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let unpadded = text.strip_suffix(b"==").or_else(|| text.strip_suffix(b"=")).unwrap_or(text);
    Some(groups(unpadded, [b'+', b'/'])?.bytes)
}

/// Decodes base64url in its only accepted form: without padding (RFC 7515 §2), and with leftover bits of zero.
pub fn decode_url(text: &[u8]) -> Option<Vec<u8>> {
    let decoded = groups(text, [b'-', b'_'])?;
    (!decoded.has_leftover_bits).then_some(decoded.bytes)
}

struct Decoded {
    bytes: Vec<u8>,
    has_leftover_bits: bool,
}

fn groups(text: &[u8], last_symbols: [u8; 2]) -> Option<Decoded> {
    let mut decoded = Decoded { bytes: Vec::with_capacity(text.len() * 3 / 4), has_leftover_bits: false };
    for group in text.chunks(4) {
        let mut bits: u32 = 0;
        for &symbol in group {
            bits = bits << 6 | sextet(symbol, last_symbols)?;
        }
        let missing = 4 - group.len();
        let [_, bytes @ ..] = (bits << (6 * missing)).to_be_bytes();
        match missing {
            0..=2 => {
                let (whole, leftover) = bytes.split_at(3 - missing);
                decoded.bytes.extend_from_slice(whole);
                decoded.has_leftover_bits = leftover.iter().any(|&byte| byte != 0);
            }
            _ => return None, // One symbol has less than a byte.
        }
    }
    Some(decoded)
}

fn sextet(symbol: u8, last_symbols: [u8; 2]) -> Option<u32> {
    let value = match symbol {
        b'A'..=b'Z' => symbol - b'A',
        b'a'..=b'z' => symbol - b'a' + 26,
        b'0'..=b'9' => symbol - b'0' + 52,
        _ if symbol == last_symbols[0] => 62,
        _ if symbol == last_symbols[1] => 63,
        _ => return None,
    };
    Some(u32::from(value))
}
