//! `ModuleCache`: compiled modules on disk, by module and engine. The proxy loads from it and stores what its compiling
//! child process gives it.
//!
//! Loading an artefact is trusting it with the whole process. So the folder is ours alone, a file is opened without
//! following links, must be ours and closed to others, and its own digest must be right before a byte of it is used.
//! Anything else is logged, removed if it is ours, and treated as absent. Files appear whole: written beside, synced,
//! renamed, folder synced.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::OFlags;

use crate::artefact::{ArtefactKey, CheckedArtefact, HEADER_BYTES, header_of};
use crate::engine::Engine;
use crate::limits::{MAX_ARTEFACT_BYTES, MAX_CACHED_ARTEFACTS, STALE_TEMPORARY};
use crate::module::{Module, ModuleHash};

const TEMPORARY: &str = ".temporary-";
const ARTEFACT: &str = ".code";

/// Why the cache cannot be used, or an artefact not be stored.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The folder cannot be made or read, or a file not be written.
    #[error("cache {path}: {error}")]
    Io {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The path is a file or a link.
    #[error("cache {path} is not a folder: remove it or choose another path")]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The folder belongs to somebody else.
    #[error(
        "cache {path} belongs to user {owner}, not to us ({us}): code from there is not trusted, choose another path"
    )]
    ForeignOwner {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Our user.
        us: u32,
    },
    /// Others may write to the folder.
    #[error("cache {path} has mode {mode:03o}, so others may write to it: run `chmod 700` on it")]
    Writable {
        /// The folder.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// The artefact is larger than [`MAX_ARTEFACT_BYTES`].
    #[error("the compiled module has {bytes} bytes, more than {MAX_ARTEFACT_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
}

/// A folder of compiled modules. Processes may share one.
#[derive(Debug)]
pub struct ModuleCache {
    folder: PathBuf,
    next_temporary: AtomicU64,
}

impl ModuleCache {
    /// Opens a cache folder, makes it if it is not there, and removes what dead processes left in it.
    ///
    /// # Errors
    /// When the folder cannot be made or read, or others could have written to it.
    pub fn open(folder: impl Into<PathBuf>) -> Result<Self, CacheError> {
        let folder = folder.into();
        let failed = |error| CacheError::Io { path: folder.clone(), error };
        DirBuilder::new().recursive(true).mode(0o700).create(&folder).or_else(exists).map_err(failed)?;
        check_folder(&folder)?;
        remove_stale(&folder).map_err(failed)?;
        Ok(Self { folder, next_temporary: AtomicU64::new(0) })
    }

    /// Loads a module. Absent, damaged and untrusted artefacts are all `None`: compile again.
    #[must_use]
    pub fn load(&self, engine: &Engine, hash: &ModuleHash) -> Option<Module> {
        let key = key_of(engine, hash);
        let path = self.folder.join(key.file_name());
        match read_trusted(&path).and_then(|bytes| load_checked(engine, *hash, (&bytes, key))) {
            Ok(module) => Some(module),
            Err(Unusable::Absent) => None,
            Err(Unusable::Refused(reason)) => {
                let removed = remove_if_ours(&path);
                tracing::warn!(path = %path.display(), %reason, removed, "compiled module not used");
                None
            }
        }
    }

    /// Stores what [`Module::precompile`] gave for the module with this hash, in place of what was there.
    ///
    /// # Errors
    /// When the file cannot be written; nothing has changed then.
    pub fn store(&self, engine: &Engine, hash: &ModuleHash, artefact: &[u8]) -> Result<(), CacheError> {
        let bytes = artefact.len() as u64 + HEADER_BYTES as u64;
        if bytes > MAX_ARTEFACT_BYTES {
            return Err(CacheError::TooLarge { bytes });
        }
        let key = key_of(engine, hash);
        let path = self.folder.join(key.file_name());
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folder.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        let stored = write_synced(&temporary, &header_of(key, artefact), artefact)
            .and_then(|()| std::fs::rename(&temporary, &path))
            .and_then(|()| File::open(&self.folder)?.sync_all());
        if let Err(error) = stored {
            let _removed = std::fs::remove_file(&temporary);
            return Err(CacheError::Io { path, error });
        }
        if let Err(error) = remove_oldest(&self.folder) {
            tracing::warn!(path = %self.folder.display(), %error, "old compiled modules not removed");
        }
        Ok(())
    }
}

/// Why a file is not loaded.
enum Unusable {
    Absent,
    Refused(String),
}

fn refused(reason: &(impl ToString + ?Sized)) -> Unusable {
    Unusable::Refused(reason.to_string())
}

fn key_of(engine: &Engine, hash: &ModuleHash) -> ArtefactKey {
    ArtefactKey::new(hash.as_bytes(), &engine.compatibility())
}

fn exists(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) }
}

fn our_user() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn check_folder(folder: &Path) -> Result<(), CacheError> {
    let path = folder.to_owned();
    let metadata = match std::fs::symlink_metadata(folder) {
        Ok(metadata) => metadata,
        Err(error) => return Err(CacheError::Io { path, error }),
    };
    let (owner, us, mode) = (metadata.uid(), our_user(), metadata.permissions().mode() & 0o777);
    if !metadata.is_dir() {
        return Err(CacheError::NotAFolder { path });
    }
    if owner != us {
        return Err(CacheError::ForeignOwner { path, owner, us });
    }
    if mode & 0o022 != 0 {
        return Err(CacheError::Writable { path, mode });
    }
    Ok(())
}

/// Reads a file that only we can have written.
fn read_trusted(path: &Path) -> Result<Vec<u8>, Unusable> {
    // Without NONBLOCK a named pipe in the place of a file would wait for its writer.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unusable::Absent),
        Err(error) => return Err(refused(&error)),
    };
    let metadata = file.metadata().map_err(|error| refused(&error))?;
    if !metadata.is_file() {
        return Err(refused("it is not a file"));
    }
    if metadata.uid() != our_user() {
        return Err(refused("it belongs to somebody else"));
    }
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(refused("it is open to others"));
    }
    if metadata.len() > MAX_ARTEFACT_BYTES {
        return Err(refused("it is too large"));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).map_err(|error| refused(&error))?);
    file.take(MAX_ARTEFACT_BYTES).read_to_end(&mut bytes).map_err(|error| refused(&error))?;
    Ok(bytes)
}

fn load_checked(engine: &Engine, hash: ModuleHash, (bytes, key): (&[u8], ArtefactKey)) -> Result<Module, Unusable> {
    let artefact = CheckedArtefact::check(bytes, key).map_err(|error| refused(&error))?;
    Module::load(engine, hash, &artefact).map_err(|error| refused(&error))
}

fn remove_if_ours(path: &Path) -> bool {
    let is_ours = std::fs::symlink_metadata(path).is_ok_and(|metadata| metadata.uid() == our_user());
    is_ours && std::fs::remove_file(path).is_ok()
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
        let is_temporary = entry.file_name().to_str().is_some_and(|name| name.starts_with(TEMPORARY));
        // Another process may have renamed or removed it meanwhile.
        let age = entry.metadata().ok().and_then(|metadata| metadata.modified().ok()?.elapsed().ok());
        if is_temporary && age.is_some_and(|age| age >= STALE_TEMPORARY) {
            let _removed = remove_if_ours(&entry.path());
        }
    }
    Ok(())
}

/// Keeps the folder bounded: drops the artefacts that were stored longest ago.
fn remove_oldest(folder: &Path) -> io::Result<()> {
    let mut artefacts = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let is_artefact = entry.file_name().to_str().is_some_and(|name| name.ends_with(ARTEFACT));
        if is_artefact && let Ok(modified) = entry.metadata().and_then(|metadata| metadata.modified()) {
            artefacts.push((modified, entry.path()));
        }
    }
    artefacts.sort_unstable();
    let excess = artefacts.len().saturating_sub(MAX_CACHED_ARTEFACTS);
    for (_, path) in artefacts.iter().take(excess) {
        let _removed = remove_if_ours(path);
    }
    Ok(())
}
