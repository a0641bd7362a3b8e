//! Splits a file into chunks at its `---` lines. No YAML value contains a line that starts with `---` and white space,
//! so the split does not change the meaning. JSON has no such line.

/// A part of a file that is parsed on its own: usually one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk<'a> {
    /// The text, from its `---` line to the next.
    pub(crate) text: &'a str,
    /// The number of lines of the file before it.
    pub(crate) lines_before: u32,
}

/// Returns the chunks of a file, in order, without a byte order mark.
pub(crate) fn chunks(text: &str) -> Vec<Chunk<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut chunks = Vec::new();
    let (mut start, mut start_line) = (0, 0);
    let (mut offset, mut line) = (0, 0_u32);
    for content in text.split_inclusive('\n') {
        if offset > start && is_document_start(content) {
            chunks.push(Chunk { text: &text[start..offset], lines_before: start_line });
            (start, start_line) = (offset, line);
        }
        offset += content.len();
        line = line.saturating_add(1);
    }
    if offset > start {
        chunks.push(Chunk { text: &text[start..], lines_before: start_line });
    }
    chunks
}

fn is_document_start(line: &str) -> bool {
    line.strip_prefix("---").is_some_and(|rest| rest.chars().next().is_none_or(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_start_at_document_starts() {
        let check = |text: &str, expected: &[(&str, u32)]| {
            let found: Vec<_> = chunks(text).iter().map(|chunk| (chunk.text, chunk.lines_before)).collect();
            assert_eq!(found, expected, "{text:?}");
        };
        check("", &[]);
        check("a: 1\n", &[("a: 1\n", 0)]);
        check("a: 1\n---\nb: 2", &[("a: 1\n", 0), ("---\nb: 2", 1)]);
        check("---\na: 1\n--- \nb: 2\n---\n", &[("---\na: 1\n", 0), ("--- \nb: 2\n", 2), ("---\n", 4)]);
        check("\u{feff}---\r\na: 1\r\n---\r\n", &[("---\r\na: 1\r\n", 0), ("---\r\n", 2)]);
        check("a: |\n  ---\n---x: 1\n", &[("a: |\n  ---\n---x: 1\n", 0)]);
    }
}
