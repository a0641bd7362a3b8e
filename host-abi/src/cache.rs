//! `ModuleCache`: compiled modules on disk, keyed by module and engine. The compiling child process stores into it; the
//! proxy and the control plane load from it.
//!
//! A loaded artifact runs with the rights of the whole process. Therefore the folder is private to this user. A file is
//! opened without following links, must be owned by this user and closed to others, and its digest is checked before
//! any of its code is used. Other files are logged, removed if owned by this user, and treated as absent. Files appear
//! atomically: they are written under a temporary name, synced and renamed, and the folder is synced.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;

use crate::artifact::{ArtifactKey, CheckedArtifact, HEADER_BYTES, header};
use crate::engine::Engine;
use crate::limits::{MAX_ARTIFACT_BYTES, MAX_CACHED_ARTIFACTS, STALE_TEMPORARY};
use crate::module::{Module, ModuleHash};

const TEMPORARY_PREFIX: &str = ".temporary-";
const ARTIFACT_SUFFIX: &str = ".code";

/// A failure to open the cache or to store an artifact.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The folder cannot be created or read, or a file cannot be written.
    #[error("cache {path}: {error}")]
    Io {
        /// Path of the folder or file.
        path: PathBuf,
        /// The I/O error.
        error: io::Error,
    },
    /// The path is a file or a link.
    #[error("cache {path} is not a folder: remove it or choose another path")]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The folder belongs to another user.
    #[error(
        "cache {path} belongs to user {owner}, not to user {user}: code from there is not trusted, choose another path"
    )]
    ForeignOwner {
        /// The folder.
        path: PathBuf,
        /// User id of the owner.
        owner: u32,
        /// User id of this process.
        user: u32,
    },
    /// Other users may write to the folder.
    #[error("cache {path} has mode {mode:03o}, so other users may write to it: run `chmod 700` on it")]
    Writable {
        /// The folder.
        path: PathBuf,
        /// Permission bits of the folder.
        mode: u32,
    },
    /// The artifact is larger than [`MAX_ARTIFACT_BYTES`].
    #[error("the compiled module has {bytes} bytes, more than {MAX_ARTIFACT_BYTES}")]
    TooLarge {
        /// Size in bytes, including the header.
        bytes: u64,
    },
}

/// A folder of compiled modules. Processes of one user may share it.
#[derive(Debug)]
pub struct ModuleCache {
    folder: PathBuf,
    next_temporary: AtomicU64,
}

impl ModuleCache {
    /// Opens a cache folder, creates it if necessary, and removes leftovers of dead processes.
    ///
    /// # Errors
    /// The folder cannot be created or read, or other users may write to it.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, CacheError> {
        let folder = folder.into();
        let failed = |error| CacheError::Io { path: folder.clone(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).or_else(exists).map_err(failed)?;
        check_folder(&folder)?;
        remove_stale(&folder).map_err(failed)?;
        Ok(Self { folder, next_temporary: AtomicU64::new(0) })
    }

    /// Loads a module. Returns `None` for absent, damaged and untrusted artifacts: the caller compiles again.
    #[must_use]
    pub fn load(&self, engine: &Engine, hash: &ModuleHash) -> Option<Module> {
        let key = artifact_key(engine, hash);
        let path = self.folder.join(key.file_name());
        match read_trusted(&path).and_then(|bytes| load_checked(engine, *hash, key, &bytes)) {
            Ok(module) => Some(module),
            Err(ArtifactLoadError::Absent) => None,
            Err(ArtifactLoadError::Rejected(reason)) => {
                let removed = remove_if_owned(&path);
                tracing::warn!(path = %path.display(), %reason, removed, "compiled module rejected");
                None
            }
        }
    }

    /// Stores the artifact that [`Module::precompile`] returned for the module with this hash. It replaces an existing
    /// one.
    ///
    /// # Errors
    /// The artifact is too large or its file cannot be written. The cache is then unchanged.
    pub fn store(&self, engine: &Engine, hash: &ModuleHash, artifact: &[u8]) -> Result<(), CacheError> {
        let bytes = artifact.len() as u64 + HEADER_BYTES as u64;
        if bytes > MAX_ARTIFACT_BYTES {
            return Err(CacheError::TooLarge { bytes });
        }
        let key = artifact_key(engine, hash);
        let path = self.folder.join(key.file_name());
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folder.join(format!("{TEMPORARY_PREFIX}{}-{number}", std::process::id()));
        let stored = write_synced(&temporary, &header(key, artifact), artifact)
            .and_then(|()| std::fs::rename(&temporary, &path))
            .and_then(|()| File::open(&self.folder)?.sync_all());
        if let Err(error) = stored {
            let _removed = std::fs::remove_file(&temporary);
            return Err(CacheError::Io { path, error });
        }
        if let Err(error) = remove_oldest(&self.folder) {
            tracing::warn!(path = %self.folder.display(), %error, "cannot remove old compiled modules");
        }
        Ok(())
    }
}

/// The reason why a file is not loaded.
enum ArtifactLoadError {
    Absent,
    Rejected(String),
}

fn rejected(reason: &(impl ToString + ?Sized)) -> ArtifactLoadError {
    ArtifactLoadError::Rejected(reason.to_string())
}

fn artifact_key(engine: &Engine, hash: &ModuleHash) -> ArtifactKey {
    ArtifactKey::new(hash.as_bytes(), &engine.compatibility())
}

fn exists(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
}

fn current_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn check_folder(folder: &Path) -> Result<(), CacheError> {
    let path = folder.to_owned();
    let metadata = match std::fs::symlink_metadata(folder) {
        Ok(metadata) => metadata,
        Err(error) => return Err(CacheError::Io { path, error }),
    };
    let (owner, user, mode) = (metadata.uid(), current_user(), metadata.permissions().mode() & 0o777);
    if !metadata.is_dir() {
        return Err(CacheError::NotAFolder { path });
    }
    if owner != user {
        return Err(CacheError::ForeignOwner { path, owner, user });
    }
    if mode & 0o022 != 0 {
        return Err(CacheError::Writable { path, mode });
    }
    Ok(())
}

/// Reads a file that only this user can have written.
fn read_trusted(path: &Path) -> Result<Vec<u8>, ArtifactLoadError> {
    // Without NONBLOCK, opening a named pipe would block until its writer opens it.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(ArtifactLoadError::Absent),
        Err(error) => return Err(rejected(&error)),
    };
    let metadata = file.metadata().map_err(|error| rejected(&error))?;
    if !metadata.is_file() {
        return Err(rejected("it is not a file"));
    }
    if metadata.uid() != current_user() {
        return Err(rejected("it belongs to another user"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(rejected("other users may access it"));
    }
    if metadata.len() > MAX_ARTIFACT_BYTES {
        return Err(rejected("it is too large"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).map_err(|error| rejected(&error))?);
    file.take(MAX_ARTIFACT_BYTES).read_to_end(&mut bytes).map_err(|error| rejected(&error))?;
    Ok(bytes)
}

fn load_checked(
    engine: &Engine,
    hash: ModuleHash,
    key: ArtifactKey,
    bytes: &[u8],
) -> Result<Module, ArtifactLoadError> {
    let artifact = CheckedArtifact::check(bytes, key).map_err(|error| rejected(&error))?;
    Module::load(engine, hash, &artifact).map_err(|error| rejected(&error))
}

fn remove_if_owned(path: &Path) -> bool {
    let is_owned = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.uid() == current_user());
    is_owned && std::fs::remove_file(path).is_ok()
}

fn write_synced(path: &Path, header: &[u8], code: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(header)?;
    file.write_all(code)?;
    file.sync_all()
}

fn remove_stale(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let is_temporary = entry.file_name().to_str().is_some_and(|name| name.starts_with(TEMPORARY_PREFIX));
        // Another process may have renamed or removed the file in the meantime.
        let age = entry.metadata().ok().and_then(|metadata| metadata.modified().ok()?.elapsed().ok());
        if is_temporary && age.is_some_and(|age| age >= STALE_TEMPORARY) {
            let _removed = remove_if_owned(&entry.path());
        }
    }
    Ok(())
}

/// Removes the oldest artifacts beyond [`MAX_CACHED_ARTIFACTS`].
fn remove_oldest(folder: &Path) -> io::Result<()> {
    let mut artifacts = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let is_artifact = entry.file_name().to_str().is_some_and(|name| name.ends_with(ARTIFACT_SUFFIX));
        if is_artifact && let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified()) {
            artifacts.push((modified, entry.path()));
        }
    }
    artifacts.sort_unstable();
    let excess = artifacts.len().saturating_sub(MAX_CACHED_ARTIFACTS);
    for (_, path) in artifacts.iter().take(excess) {
        let _removed = remove_if_owned(path);
    }
    Ok(())
}
