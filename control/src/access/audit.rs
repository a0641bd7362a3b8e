//! The audit log: one line of JSON for every change that somebody with a token asked for, also for those that were refused.
//! It names objects and never repeats what they say. Callers without a token are in the process log: they could fill
//! this one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;
use serde::Serialize;
use tracing::error;

use crate::limits::MAX_AUDIT_BYTES;

/// Where changes are noted.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    file: Mutex<(File, u64)>,
}

/// One change that somebody asked for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry<'a> {
    /// When.
    pub time: jiff::Timestamp,
    /// The id of the token.
    pub token: &'a str,
    /// Its name.
    pub author: &'a str,
    /// Where the caller is.
    pub address: String,
    /// The method and path of the request.
    pub request: String,
    /// True when it only asked what would happen.
    pub is_dry_run: bool,
    /// The status that it was answered with.
    pub status: u16,
    /// The revision that it made.
    pub revision: Option<u64>,
    /// The objects that it changed, or would have.
    pub objects: &'a [String],
}

impl AuditLog {
    /// Opens the log, for this user alone.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file: Mutex::new((file, length)) })
    }

    /// Notes a change. One that cannot be noted is said in the process log.
    pub fn note(&self, entry: &AuditEntry<'_>) {
        if let Err(error) = self.write(entry) {
            let path = self.path.display();
            error!(%path, %error, author = entry.author, request = entry.request, "a change is not in the audit log");
        }
    }

    fn write(&self, entry: &AuditEntry<'_>) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let mut file = self.file.lock();
        if file.1 >= MAX_AUDIT_BYTES {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            // When one of these fails, the lines go on where they went.
            fs::rename(&self.path, old).ok();
            *file = (open(&self.path)?, 0);
        }
        file.0.write_all(&line)?;
        file.1 += line.len() as u64;
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}
