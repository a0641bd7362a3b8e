//! Files that readers see complete or not at all: the content is written to a temporary file in the same folder, which
//! is then renamed. Two writers of one path do not disturb each other; the last rename wins.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};

/// Replaces a file that other users may read. The folder must exist. Blocks on the disk, without `fsync`.
///
/// # Errors
/// The error of the file system; an existing file is then unchanged.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> io::Result<()> {
    replace(path, |temporary| OpenOptions::new().write(true).create_new(true).open(temporary)?.write_all(bytes))
}

/// Replaces a file that only this user may read (mode 0600), and creates missing folders with mode 0700. Blocks until
/// the file and its folder entry are on the disk (`fsync`).
///
/// # Errors
/// The error of the file system; an existing file is then unchanged.
pub fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = match path.parent().ok_or(io::ErrorKind::InvalidInput)? {
        folder if folder.as_os_str().is_empty() => Path::new("."),
        folder => folder,
    };
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    write_private_with(path, |file| file.write_all(bytes))?;
    File::open(folder)?.sync_all()
}

/// Replaces a file that only this user may read (mode 0600) by what `write` writes. The folder must exist. Blocks until the
/// content is on the disk. Returns the result of `write`.
///
/// # Errors
/// The error of `write` or of the file system; an existing file is then unchanged.
pub fn write_private_with<T, E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut File) -> Result<T, E>,
) -> Result<T, E> {
    replace(path, |temporary| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        let written = write(&mut file)?;
        file.sync_all()?;
        Ok(written)
    })
}

fn replace<T, E: From<io::Error>>(path: &Path, write: impl FnOnce(&Path) -> Result<T, E>) -> Result<T, E> {
    let temporary = temporary_path(path)?;
    drop(fs::remove_file(&temporary)); // A crashed process with the same id may have left one, with another mode.
    let result = write(&temporary).and_then(|written| {
        fs::rename(&temporary, path)?;
        Ok(written)
    });
    if result.is_err() {
        drop(fs::remove_file(&temporary)); // The first error is the one that is reported.
    }
    result
}

/// Returns a path in the same folder, unique among the running processes and the calls of this one.
fn temporary_path(path: &Path) -> io::Result<PathBuf> {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".{}-{}.tmp", process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
    Ok(path.with_file_name(name))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn write_atomic_leaves_only_the_complete_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("address");
        for content in ["127.0.0.1:1\n", "127.0.0.1:2\n"] {
            write_atomic(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(write_atomic(&folder.path().join("missing/address"), b"").is_err());
    }

    #[test]
    fn write_private_creates_the_folder_and_hides_both() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/own.pem");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        for content in ["one", "two"] {
            write_private(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
        assert!(write_private(Path::new("/"), b"").is_err());
    }
}
