//! The end of a section of lines: a head or a trailer section ends with an empty line.

use crate::rejection::Rejection;

/// The position of a scan for the empty line. Each byte is scanned once, however the section is split.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct SectionScan {
    scanned: usize,
    line_start: usize,
}

impl SectionScan {
    /// Returns the length of the section with its empty line; `None` until it is complete. The empty line may be the
    /// first.
    ///
    /// # Errors
    /// RFC 9112 §2.2 lets a recipient accept LF alone as the end of a line. A proxy that does so reads other messages
    /// than one that does not, so it is rejected.
    pub(crate) fn find_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Rejection> {
        while let Some(offset) = memchr::memchr(b'\n', &bytes[self.scanned..]) {
            let line_feed = self.scanned + offset;
            if line_feed == self.line_start || bytes[line_feed - 1] != b'\r' {
                return Err(Rejection::BareLineFeed);
            }
            let is_empty = line_feed - 1 == self.line_start;
            self.scanned = line_feed + 1;
            self.line_start = line_feed + 1;
            if is_empty {
                return Ok(Some(line_feed + 1));
            }
        }
        self.scanned = bytes.len();
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_line_ends_section_however_it_is_split() {
        for (text, expected) in [
            ("", Ok(None)),
            ("\r", Ok(None)),
            ("\r\n", Ok(Some(2))),
            ("a\r\n", Ok(None)),
            ("a\r\n\r\n", Ok(Some(5))),
            ("a\r\nb\r\n\r\nrest\n", Ok(Some(8))),
            ("\n", Err(Rejection::BareLineFeed)),
            ("a\r\n\n", Err(Rejection::BareLineFeed)),
            ("a\n\r\n", Err(Rejection::BareLineFeed)),
        ] {
            for split in 0..=text.len() {
                let mut scan = SectionScan::default();
                let outcome = match scan.find_end(&text.as_bytes()[..split]) {
                    Ok(None) => scan.find_end(text.as_bytes()),
                    ended => ended,
                };
                assert_eq!(outcome, expected, "{text:?} split at {split}");
            }
        }
    }
}
