//! A folder of one test, removed when the test is over.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::Error;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// An empty folder that nobody else has.
#[derive(Debug)]
pub struct TestFolder {
    path: PathBuf,
}

impl TestFolder {
    /// Makes one in the system's temporary folder.
    pub fn new() -> Result<Self, Error> {
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = std::env::temp_dir().join(format!("weir-test-{}-{number}", std::process::id()));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self { path }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {} // Of a process that was killed.
                Err(error) => return Err(Error::of_file(&path, &error)),
            }
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file as a person's editor does: beside it, then renamed, so nobody reads half of it.
    pub fn write(&self, name: &str, text: impl AsRef<[u8]>) -> Result<PathBuf, Error> {
        let path = self.path.join(name);
        let parent = path.parent().unwrap_or(&self.path);
        fs::create_dir_all(parent).map_err(|error| Error::of_file(parent, &error))?;
        let draft = parent.join(format!(".draft-{}", NEXT.fetch_add(1, Ordering::Relaxed)));
        fs::write(&draft, text).map_err(|error| Error::of_file(&draft, &error))?;
        fs::rename(&draft, &path).map_err(|error| Error::of_file(&path, &error))?;
        Ok(path)
    }
}

impl Drop for TestFolder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.path).ok(); // What cannot be removed is left to the system's own cleaning.
    }
}
