//! Text of others on a terminal and in a log: no character of it moves the cursor, changes the order of the text, or
//! begins a line.

use std::borrow::Cow;

/// Returns the text with escapes, as in `\n` and `\u{1b}`, in place of control characters, line breaks, and characters
/// that change the direction of the text.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, is_unprintable)
}

/// Returns a text of several lines with escapes, as [`printable`] does for each line.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escape(text, |character| character != '\n' && is_unprintable(character))
}

/// Returns true for a character that [`printable`] escapes.
pub fn is_unprintable(character: char) -> bool {
    // Line and paragraph separators, and the bidirectional controls of UAX #9.
    let is_layout = matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    character.is_control() || is_layout
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match is_escaped(character) {
            true => escaped.extend(character.escape_default()),
            false => escaped.push(character),
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_escaped_and_text_is_not() {
        for (text, line, lines) in [
            ("plain text, `ä` and 日本", "plain text, `ä` and 日本", "plain text, `ä` and 日本"),
            ("a\nb\r\n", "a\\nb\\r\\n", "a\nb\\r\n"),
            (
                "\u{1b}[31mred\u{9b}0m\u{7f}\0",
                "\\u{1b}[31mred\\u{9b}0m\\u{7f}\\u{0}",
                "\\u{1b}[31mred\\u{9b}0m\\u{7f}\\u{0}",
            ),
            ("\u{202e}evil\u{2029}", "\\u{202e}evil\\u{2029}", "\\u{202e}evil\\u{2029}"),
            ("a\\nb", "a\\nb", "a\\nb"),
        ] {
            assert_eq!((&*printable(text), &*printable_lines(text)), (line, lines), "{text:?}");
            assert_eq!(printable(&printable(text)), line, "escaping twice has no further effect");
        }
    }
}
