//! Backups of a store: all its keys and values in one text file, which ends with a checksum.
//!
//! ```text
//! {"weirBackup":1,"store":"ID","incarnation":N,"revision":N,"time":"…"}     the first line
//! {"key":"…","value":"BASE64"}                                             one line for each key
//! {"entries":N,"sha256":"…"}                                               the last line, of all lines before it
//! ```
//!
//! The roots of the CA are the entry [`AUTHORITY`], also those of a store in a folder, which are in a file of their own.

use std::io::{self, BufRead, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use weir_model::hex;

/// The version of the format.
const VERSION: u32 = 1;
/// The key of the roots of the CA.
pub(crate) const AUTHORITY: &str = "authority";

/// The first line of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackupHeader {
    /// The version of the format.
    weir_backup: u32,
    /// The id of the store.
    pub store: String,
    /// The incarnation of the store.
    pub incarnation: u64,
    /// The last revision.
    pub revision: u64,
    /// The time of the backup.
    pub time: jiff::Timestamp,
}

#[derive(Serialize, Deserialize)]
struct EntryLine {
    key: String,
    value: String,
}

#[derive(Serialize, Deserialize)]
struct LastLine {
    entries: u64,
    sha256: String,
}

impl BackupHeader {
    /// Creates the header of a backup that is made now.
    pub(super) fn new(store: String, incarnation: u64, revision: u64) -> Self {
        Self { weir_backup: VERSION, store, incarnation, revision, time: jiff::Timestamp::now() }
    }
}

/// Writes a backup line by line.
pub(super) struct BackupWriter<W> {
    output: W,
    hash: Sha256,
    entries: u64,
}

impl<W: Write> BackupWriter<W> {
    /// Writes the header.
    pub(super) fn new(output: W, header: &BackupHeader) -> io::Result<Self> {
        let mut writer = Self { output, hash: Sha256::new(), entries: 0 };
        writer.line(header)?;
        Ok(writer)
    }

    /// Writes an entry.
    pub(super) fn entry(&mut self, key: &str, value: &[u8]) -> io::Result<()> {
        self.entries += 1;
        self.line(&EntryLine { key: key.to_owned(), value: STANDARD.encode(value) })
    }

    /// Writes the last line, without which the file is no backup.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let sha256 = hex::encode(&self.hash.clone().finalize());
        self.line(&LastLine { entries: self.entries, sha256 })?;
        self.output.flush()
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(value).map_err(io::Error::other)?;
        line.push(b'\n');
        self.hash.update(&line);
        self.output.write_all(&line)
    }
}

/// Reads a backup, calls `on_entry` for each entry, and returns the header. Reads the whole file also if `on_entry` does
/// nothing, so a first pass checks a file before a second one uses it.
///
/// # Errors
/// The file cannot be read, is no backup, is incomplete or was changed; or the error of `on_entry`.
pub fn read_backup(
    input: impl BufRead,
    mut on_entry: impl FnMut(&str, Vec<u8>) -> Result<(), String>,
) -> Result<BackupHeader, String> {
    let (mut hash, mut entries, mut header, mut is_complete) = (Sha256::new(), 0_u64, None, false);
    for (index, line) in input.split(b'\n').enumerate() {
        let (number, mut line) = (index + 1, line.map_err(|error| error.to_string())?);
        if is_complete {
            return Err(format!("line {number} follows the end of the backup"));
        }
        line.push(b'\n');
        if header.is_none() {
            let parsed: BackupHeader =
                serde_json::from_slice(&line).map_err(|_| "the file is no backup of a Weir store".to_owned())?;
            if parsed.weir_backup != VERSION {
                return Err(format!(
                    "the backup has the format {}, and this release reads {VERSION}",
                    parsed.weir_backup
                ));
            }
            header = Some(parsed);
        } else if let Ok(EntryLine { key, value }) = serde_json::from_slice(&line) {
            let value = STANDARD.decode(value).map_err(|_| format!("line {number} of the backup is damaged"))?;
            on_entry(&key, value)?;
            entries += 1;
        } else if let Ok(LastLine { entries: expected, sha256 }) = serde_json::from_slice(&line) {
            if expected != entries || sha256 != hex::encode(&hash.clone().finalize()) {
                return Err("the backup was changed: its checksum differs".to_owned());
            }
            is_complete = true;
        } else {
            return Err(format!("line {number} of the backup is damaged"));
        }
        hash.update(&line);
    }
    match header {
        Some(header) if is_complete => Ok(header),
        Some(_) => Err("the backup is incomplete: its last line is missing".to_owned()),
        None => Err("the backup is empty".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup() -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = BackupWriter::new(&mut bytes, &BackupHeader::new("a".to_owned(), 1, 7)).unwrap();
        writer.entry("head", b"seven").unwrap();
        writer.entry("tokens/x", &[0, 255]).unwrap();
        writer.finish().unwrap();
        bytes
    }

    type Entries = Vec<(String, Vec<u8>)>;

    fn read(bytes: &[u8]) -> Result<(BackupHeader, Entries), String> {
        let mut entries = Vec::new();
        let header = read_backup(bytes, |key, value| {
            entries.push((key.to_owned(), value));
            Ok(())
        })?;
        Ok((header, entries))
    }

    #[test]
    fn entries_are_read_as_they_were_written() {
        let (header, entries) = read(&backup()).unwrap();
        assert_eq!((header.store.as_str(), header.incarnation, header.revision), ("a", 1, 7));
        assert_eq!(entries, [("head".to_owned(), b"seven".to_vec()), ("tokens/x".to_owned(), vec![0, 255])]);
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_detected() {
        let whole = backup();
        for end in 0..whole.len() - 1 {
            assert!(read(&whole[..end]).is_err(), "cut after {end} bytes");
        }
        for index in 0..whole.len() - 1 {
            let mut changed = whole.clone();
            changed[index] ^= 1;
            assert!(read(&changed).is_err(), "byte {index}: {}", String::from_utf8_lossy(&changed));
        }
        assert!(read(&[whole.as_slice(), b"{}\n"].concat()).is_err(), "bytes after the end");
    }
}
