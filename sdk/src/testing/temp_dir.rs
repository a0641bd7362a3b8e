//! A temporary folder, removed on drop.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::Error;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A temporary folder of one test. Removed on drop.
#[derive(Debug)]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Creates an empty folder in the system's temporary folder.
    pub fn new() -> Result<Self, Error> {
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("weir-test-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {} // Left by a killed process.
                Err(error) => return Err(Error::file(&path, &error)),
            }
        }
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file atomically: it writes a draft in the same folder and renames it.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        let parent = path.parent().unwrap_or(&self.path);
        fs::create_dir_all(parent).map_err(|error| Error::file(parent, &error))?;
        let draft = parent.join(format!(".draft-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::write(&draft, text).map_err(|error| Error::file(&draft, &error))?;
        fs::rename(&draft, &path).map_err(|error| Error::file(&path, &error))?;
        Ok(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).ok(); // The system cleans up what cannot be removed.
    }
}
