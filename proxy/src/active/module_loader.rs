//! The module loader: reads and hashes module files, finds compiled code in memory or in the cache on disk, and
//! otherwise compiles in a child process. One per process, used during warming.
//!
//! ```text
//! ModuleSource ─► file ─► hash ─► in memory? ─► in the cache? ─► child process compiles into the cache ─► Module
//! ```
//!
//! The Wasm engine is created with the first module: a proxy without plugins does not pay for it.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, Semaphore};
use tokio::time::Instant;
use tracing::info;
use weir_file_source::limits::{MAX_SETTLE_TIME, SETTLE_TIME};
use weir_host_abi::{Module, ModuleHash};
use weir_loader::{CompilerProcess, LazyEngine, ModuleLoadError};
use weir_model::ModuleSource;

use crate::active::fetch::{self, AuthenticatedControlPlane};
use crate::limits::{FILE_MTIME_GRANULARITY, MAX_CONCURRENT_COMPILATIONS, MAX_MODULE_BYTES};
use crate::task;
use crate::telemetry::Metrics;

/// The sources of modules and the cache for compiled code.
#[derive(Clone)]
pub(crate) struct ModuleLoaderOptions {
    /// The cache folder for fetched and compiled modules.
    pub(crate) cache: PathBuf,
    /// The folder of shipped modules.
    pub(crate) builtins: PathBuf,
    /// The child process that compiles.
    pub(crate) compiler: CompilerProcess,
    /// The control plane that serves remote modules by mutual TLS; `None` fetches them from their URLs.
    pub(crate) control_plane: Option<AuthenticatedControlPlane>,
}

/// The loader and owner of all modules of the process.
pub(crate) struct ModuleLoader {
    options: ModuleLoaderOptions,
    metrics: Arc<Metrics>,
    engine: LazyEngine,
    loaded: Mutex<HashMap<ModuleHash, Module>>,
    /// The content hashes of files, valid while their stamps are unchanged.
    file_hashes: Mutex<HashMap<PathBuf, (FileStamp, ModuleHash)>>,
    compilations: Semaphore,
    compile_locks: Mutex<HashMap<ModuleHash, Weak<AsyncMutex<()>>>>,
}

/// File attributes that change with the content of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl ModuleLoader {
    /// Returns a loader without modules. Opens no file.
    pub(crate) fn new(options: ModuleLoaderOptions, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            options,
            metrics,
            engine: LazyEngine::default(),
            loaded: Mutex::default(),
            file_hashes: Mutex::default(),
            compilations: Semaphore::new(MAX_CONCURRENT_COMPILATIONS),
            compile_locks: Mutex::default(),
        })
    }

    /// Returns the current module of `source`, compiled. An invalid file is retried until it stops changing, because a
    /// writer may be in the middle of it.
    ///
    /// # Errors
    /// The module is missing, unreadable, too large, not a module for this host, or takes too long to compile.
    pub(crate) async fn load(self: &Arc<Self>, source: &ModuleSource) -> Result<Module, ModuleLoadError> {
        let path = match source {
            ModuleSource::Remote(module) => {
                fetch::fetch(module, &self.options.cache, self.options.control_plane.as_ref()).await?
            }
            // Not reachable: files with bundles are rejected, and a control plane replaces bundles by remote modules.
            ModuleSource::Bundle(name) => {
                return Err(ModuleLoadError::new(
                    format!("the bundle {name} is not available on a proxy"),
                    "use `file`",
                ));
            }
            ModuleSource::File(_) | ModuleSource::Builtin(_) => {
                source.path(&self.options.builtins).unwrap_or_default() // `Some` for these two.
            }
        };
        let deadline = Instant::now() + MAX_SETTLE_TIME;
        loop {
            let before = stamp(&path);
            let error = match self.load_now(source, &path).await {
                Ok(module) => return Ok(module),
                Err(error) => error,
            };
            tokio::time::sleep(SETTLE_TIME).await;
            if stamp(&path) == before || Instant::now() > deadline {
                return Err(error);
            }
        }
    }

    async fn load_now(self: &Arc<Self>, source: &ModuleSource, path: &Path) -> Result<Module, ModuleLoadError> {
        let modules = Arc::clone(self);
        let found = blocking("module loader", {
            let (source, path) = (source.clone(), path.to_owned());
            move || modules.find(&source, &path)
        });
        match found.await? {
            Lookup::Loaded(module) => Ok(module),
            Lookup::NotCompiled(hash, bytes) => self.compile(source, hash, bytes).await,
        }
    }

    /// Drops the modules that are not in `used`, in memory and in the folder of fetched modules.
    pub(crate) fn retain(&self, used: &HashSet<ModuleHash>) {
        let cache = self.options.cache.clone();
        let in_use: Vec<_> = used.iter().map(|hash| weir_model::ModuleHash(*hash.as_bytes())).collect();
        task::spawn("module sweep", task::blocking("module sweep", move || fetch::sweep(&cache, &in_use)));
        self.loaded.lock().retain(|hash, _| used.contains(hash));
        self.file_hashes.lock().retain(|_, (_, hash)| used.contains(hash));
    }

    /// Looks a module up by the hash of its file. Returns its bytes if it has to be compiled. Blocks on the disk.
    fn find(&self, source: &ModuleSource, path: &Path) -> Result<Lookup, ModuleLoadError> {
        let (hash, bytes) = self.identify(path).map_err(|error| error.to_load_error(source, path))?;
        if let Some(module) = self.find_compiled(&hash)? {
            return Ok(Lookup::Loaded(module));
        }
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => read(path).map_err(|error| error.to_load_error(source, path))?.0,
        };
        Ok(Lookup::NotCompiled(ModuleHash::of(&bytes), bytes))
    }

    /// Returns the hash of a file's content, and the content if the file was read for it. Blocks on the disk.
    fn identify(&self, path: &Path) -> Result<(ModuleHash, Option<Vec<u8>>), ModuleReadError> {
        let stamp = FileStamp::of(&fs::metadata(path).map_err(ModuleReadError::Io)?);
        if let Some((known, hash)) = self.file_hashes.lock().get(path)
            && *known == stamp
        {
            return Ok((*hash, None));
        }
        let (bytes, stamp) = read(path)?;
        let hash = ModuleHash::of(&bytes);
        if stamp.is_settled() {
            self.file_hashes.lock().insert(path.to_owned(), (stamp, hash));
        }
        Ok((hash, Some(bytes)))
    }

    async fn compile(
        self: &Arc<Self>,
        source: &ModuleSource,
        hash: ModuleHash,
        bytes: Vec<u8>,
    ) -> Result<Module, ModuleLoadError> {
        let lock = self.compile_lock(hash);
        let _guard = lock.lock().await;
        if let Some(module) = self.load_compiled(hash).await? {
            return Ok(module); // Compiled meanwhile for another plugin or an earlier change.
        }
        let Ok(_permit) = self.compilations.acquire().await else {
            return Err(ModuleLoadError::new("the proxy is shutting down", ""));
        };
        let started = Instant::now();
        self.options.compiler.compile(&self.options.cache, bytes).await?;
        self.metrics.process.modules_compiled.fetch_add(1, Ordering::Relaxed);
        info!(module = %source_name(source), duration_ms = started.elapsed().as_millis(), "module compiled");
        self.load_compiled(hash).await?.ok_or_else(|| {
            ModuleLoadError::new(
                "was compiled, but the compiled code cannot be loaded",
                "see the log, and check --cache",
            )
        })
    }

    /// Returns the lock of a module that its compilation holds. Concurrent loads wait for it, then find the compiled
    /// code.
    fn compile_lock(&self, hash: ModuleHash) -> Arc<AsyncMutex<()>> {
        let mut locks = self.compile_locks.lock();
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(&hash).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(hash, Arc::downgrade(&lock));
        lock
    }

    async fn load_compiled(self: &Arc<Self>, hash: ModuleHash) -> Result<Option<Module>, ModuleLoadError> {
        let modules = Arc::clone(self);
        blocking("module loader", move || modules.find_compiled(&hash)).await
    }

    /// Returns the compiled module from memory, else from the cache; `None` if neither has it. Blocks on the disk.
    fn find_compiled(&self, hash: &ModuleHash) -> Result<Option<Module>, ModuleLoadError> {
        if let Some(module) = self.loaded.lock().get(hash) {
            return Ok(Some(module.clone()));
        }
        let (engine, cache) = self.engine.get(&self.options.cache)?;
        let Some(module) = cache.load(&engine, hash) else { return Ok(None) };
        self.metrics.process.modules_cached.fetch_add(1, Ordering::Relaxed);
        self.loaded.lock().insert(*hash, module.clone());
        Ok(Some(module))
    }
}

/// The result of a lookup by file.
enum Lookup {
    Loaded(Module),
    NotCompiled(ModuleHash, Vec<u8>),
}

async fn blocking<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> Result<T, ModuleLoadError> + Send + 'static,
) -> Result<T, ModuleLoadError> {
    let panicked =
        || ModuleLoadError::new("loading the module failed by a bug of the proxy", "see the panic in the log");
    task::blocking(name, work).await.unwrap_or_else(|| Err(panicked()))
}

fn source_name(source: &ModuleSource) -> String {
    match source {
        ModuleSource::File(path) => path.display().to_string(),
        ModuleSource::Builtin(name) => name.to_string(),
        ModuleSource::Remote(module) => module.url.to_string(),
        ModuleSource::Bundle(name) => name.to_string(),
    }
}

enum ModuleReadError {
    Io(io::Error),
    NotAFile,
    TooLarge,
}

impl ModuleReadError {
    fn to_load_error(&self, source: &ModuleSource, path: &Path) -> ModuleLoadError {
        let path = path.display();
        match (self, source) {
            (Self::Io(error), ModuleSource::Builtin(name)) if error.kind() == io::ErrorKind::NotFound => {
                ModuleLoadError::new(
                    format!("there is no shipped module `{name}` ({path} does not exist)"),
                    "build the shipped modules with `cargo xtask plugins`, or set their folder with --plugins",
                )
            }
            (Self::Io(error), _) if error.kind() == io::ErrorKind::NotFound => {
                let hint = "relative paths start at the folder of the file that names the module";
                ModuleLoadError::new(format!("the module {path} does not exist"), hint)
            }
            (Self::Io(error), _) => {
                ModuleLoadError::new(format!("the module {path} cannot be read: {error}"), "check its permissions")
            }
            (Self::NotAFile, _) => ModuleLoadError::new(
                format!("the module {path} is not a regular file"),
                "name the .wasm file itself, not its folder",
            ),
            (Self::TooLarge, _) => ModuleLoadError::new(
                format!("the module {path} has more than {MAX_MODULE_BYTES} bytes"),
                "build it with optimization for size and without debug information",
            ),
        }
    }
}

/// Reads a module file. The stamp is that of the open file, so it belongs to exactly these bytes.
fn read(path: &Path) -> Result<(Vec<u8>, FileStamp), ModuleReadError> {
    let file = File::open(path).map_err(ModuleReadError::Io)?;
    let metadata = file.metadata().map_err(ModuleReadError::Io)?;
    if !metadata.is_file() {
        return Err(ModuleReadError::NotAFile);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0).min(MAX_MODULE_BYTES));
    file.take(MAX_MODULE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(ModuleReadError::Io)?;
    if bytes.len() > MAX_MODULE_BYTES {
        return Err(ModuleReadError::TooLarge);
    }
    Ok((bytes, FileStamp::of(&metadata)))
}

fn stamp(path: &Path) -> Option<FileStamp> {
    fs::metadata(path).ok().map(|metadata| FileStamp::of(&metadata))
}

impl FileStamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Returns true if every later change produces another stamp. File system clocks tick in milliseconds, so a file
    /// that was changed in the current tick may change again under the same stamp (Git calls such a file racy).
    fn is_settled(&self) -> bool {
        let (seconds, nanos) = self.changed;
        let changed = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.checked_sub(changed).is_some_and(|age| age > FILE_MTIME_GRANULARITY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_module_error_names_path_or_builtin() {
        let builtin = ModuleSource::Builtin(Arc::from("auth"));
        let path = builtin.path(Path::new("/opt/plugins")).unwrap();
        assert_eq!(path, Path::new("/opt/plugins/auth.wasm"));
        let missing = || ModuleReadError::Io(io::Error::from(io::ErrorKind::NotFound));
        assert!(missing().to_load_error(&builtin, &path).reason.contains("no shipped module `auth`"));
        let file = ModuleSource::File(PathBuf::from("conf/f.wasm"));
        assert_eq!(
            missing().to_load_error(&file, Path::new("conf/f.wasm")).reason,
            "the module conf/f.wasm does not exist"
        );
    }

    #[test]
    fn recently_changed_file_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.wasm");
        fs::write(&path, "one").unwrap();
        let options = ModuleLoaderOptions {
            cache: folder.path().join("cache"),
            builtins: folder.path().to_owned(),
            compiler: CompilerProcess::this_program(weir_loader::limits::DEFAULT_COMPILE_TIMEOUT),
            control_plane: None,
        };
        let modules = ModuleLoader::new(options, Arc::new(Metrics::new(1)));
        let first = modules.identify(&path).unwrap_or_else(|_| panic!("the file is there")).0;
        fs::write(&path, "two").unwrap();
        let second = modules.identify(&path).unwrap_or_else(|_| panic!("the file is there")).0;
        assert!(first == ModuleHash::of(b"one") && second == ModuleHash::of(b"two"));
        assert!(modules.file_hashes.lock().is_empty(), "the hash of a fresh file is not cached");
    }
}
