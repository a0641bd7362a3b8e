//! The notation of bytes in the corpus: text with escapes and repetitions, to bytes and back.
//!
//! `\r \n \t \\ \0 \xNN` are escapes, `{70000*a}` is a repetition, and everything else is UTF-8.

/// The shortest run of equal bytes that [`escape`] writes as a repetition.
const SHORTEST_REPETITION: usize = 20;

/// Returns the bytes of a text in the notation. Errors on an unknown escape and on a brace outside a repetition.
pub(crate) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        rest = match first {
            '\\' => read_escape(&rest[1..], &mut bytes),
            '{' => read_repetition(&rest[1..], &mut bytes),
            _ => {
                let (character, after) = rest.split_at(first.len_utf8());
                bytes.extend_from_slice(character.as_bytes());
                Some(after)
            }
        }
        .ok_or_else(|| format!("neither an escape nor a repetition, at {:?}", shorten(rest)))?;
    }
    Ok(bytes)
}

/// Reads an escape behind its backslash. Returns the text behind it; `None` if there is no such escape.
fn read_escape<'a>(rest: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let simple = match rest.chars().next()? {
        'r' => b'\r',
        'n' => b'\n',
        't' => b'\t',
        '\\' => b'\\',
        '0' => b'\0',
        'x' => {
            bytes.push(u8::from_str_radix(rest.get(1..3)?, 16).ok()?);
            return rest.get(3..);
        }
        _ => return None,
    };
    bytes.push(simple);
    rest.get(1..)
}

/// Reads a repetition behind its brace. Returns the text behind it; `None` if it is not valid.
fn read_repetition<'a>(rest: &'a str, bytes: &mut Vec<u8>) -> Option<&'a str> {
    let (inside, after) = rest.split_once('}')?;
    let (count, text) = inside.split_once('*')?;
    let repeated = unescape(text).ok()?;
    bytes.extend(repeated.repeat(count.parse().ok()?));
    Some(after)
}

/// Returns the notation of bytes. Runs of equal bytes become repetitions, and a space is `\x20`.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for run in bytes.chunk_by(|left, right| left == right) {
        let one = escape_byte(run[0]);
        if run.len() >= SHORTEST_REPETITION {
            text.push_str(&format!("{{{}*{one}}}", run.len()));
        } else {
            text.push_str(&one.repeat(run.len()));
        }
    }
    text
}

fn escape_byte(byte: u8) -> String {
    match byte {
        b'\r' => "\\r".to_owned(),
        b'\n' => "\\n".to_owned(),
        b'\t' => "\\t".to_owned(),
        b'\\' => "\\\\".to_owned(),
        b'\0' => "\\0".to_owned(),
        b'{' | b'}' => format!("\\x{byte:02x}"),
        0x21..=0x7e => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    }
}

/// Returns at most 200 characters of a text.
pub(crate) fn shorten(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notation_has_the_bytes_of_its_escapes() {
        let rows: [(&str, &[u8]); 6] = [
            ("GET / HTTP/1.1\\r\\n", b"GET / HTTP/1.1\r\n"),
            ("\\t\\\\\\0\\x7b\\xff", b"\t\\\0{\xff"),
            ("a{3*b}c", b"abbbc"),
            ("{2*x: y\\r\\n}", b"x: y\r\nx: y\r\n"),
            ("\u{a7}", "\u{a7}".as_bytes()),
            ("", b""),
        ];
        for (text, bytes) in rows {
            assert_eq!(unescape(text).as_deref(), Ok(bytes), "{text}");
        }
        for text in ["{", "{a*b}", "{3*b", "\\q", "\\x1", "\\"] {
            assert!(unescape(text).is_err(), "{text}");
        }
    }

    #[test]
    fn escaped_bytes_have_the_same_bytes_again() {
        let all: Vec<u8> = (0..=255).collect();
        for bytes in [all, vec![b'a'; 20], vec![b' '; 19], b"a{b}".to_vec()] {
            assert_eq!(unescape(&escape(&bytes)), Ok(bytes));
        }
        assert_eq!(escape(&[b'a'; 20]), "{20*a}");
        assert_eq!(escape(b"a b\r"), "a\\x20b\\r");
    }
}
