//! Files that are ours alone and appear whole or not at all: fetched modules, what the control plane said last.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Writes a file, and the folder it lies in if need be; nobody else may look into either. On the disk when it returns.
/// Blocks.
///
/// # Errors
/// The file system's; what was there before is there still.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    static DRAFTS: AtomicU64 = AtomicU64::new(0);
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Two may write the same file at once.
    let draft = DRAFTS.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{draft}.tmp", std::process::id()));
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        drop(fs::remove_file(&temporary)); // The first error is the one that is told.
    }
    written
}

/// The one of these files that was written last; none when none is there. Blocks.
pub(crate) fn newest(paths: &[PathBuf]) -> Option<&PathBuf> {
    let written = |path: &&PathBuf| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    paths.iter().filter(|path| written(path).is_some()).max_by_key(written)
}
