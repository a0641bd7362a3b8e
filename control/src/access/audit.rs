//! The audit log: one line of JSON per change requested with a valid token, including rejected ones. It names objects
//! and contains none of their fields. Requests without a valid token are in the process log only: they could fill this
//! log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::Serialize;
use tracing::error;

use crate::limits::MAX_AUDIT_BYTES;

/// The audit log: a file, rotated when it is `MAX_AUDIT_BYTES` long.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    file: Mutex<LogFile>,
}

/// A requested change.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry<'a> {
    /// The time of the request.
    pub time: jiff::Timestamp,
    /// The token's id.
    pub token: &'a str,
    /// The token's name.
    pub author: &'a str,
    /// The client's address.
    pub address: String,
    /// The request's method and path.
    pub request: String,
    /// True for a dry run, which changes nothing.
    pub is_dry_run: bool,
    /// The HTTP status of the response.
    pub status: u16,
    /// The revision that the change made.
    pub revision: Option<u64>,
    /// The objects that the request changed, or would change.
    pub objects: &'a [String],
}

/// The current file and its length, in bytes.
#[derive(Debug)]
struct LogFile {
    file: File,
    length: u64,
}

impl AuditLog {
    /// Opens the log. A new file has mode 0600.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file: Mutex::new(LogFile { file, length }) })
    }

    /// Records a change. A failure is reported in the process log. Blocks on disk.
    pub fn record(&self, entry: &AuditEntry<'_>) {
        if let Err(error) = self.write(entry) {
            let path = self.path.display();
            error!(%path, %error, author = entry.author, request = entry.request, "change missing in the audit log");
        }
    }

    fn write(&self, entry: &AuditEntry<'_>) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let mut log = self.file.lock();
        if log.length >= MAX_AUDIT_BYTES {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            // If the rename fails, the same file is opened again and grows on.
            fs::rename(&self.path, old).ok();
            *log = LogFile { file: open(&self.path)?, length: 0 };
        }
        log.file.write_all(&line)?;
        log.length += line.len() as u64;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}
