//! Modules by where their bytes come from: read, hashed, found in memory or in the cache on disk, or else compiled by a
//! child process. Used while a configuration is warmed; one per process.
//!
//! ```text
//! ModuleSource ─► file ─► hash ─► in memory? ─► in the cache? ─► child process compiles into the cache ─► Module
//! ```
//!
//! The Wasm engine is made with the first module: a proxy without plugins does not pay for it.

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
use weir_loader::{CompilerProcess, LazyEngine, ModuleRefusal};
use weir_model::ModuleSource;

use crate::active::fetch::{self, ControlPlaneLink};
use crate::limits::{FRESH_FILE, MAX_CONCURRENT_COMPILATIONS, MAX_MODULE_BYTES};
use crate::task;
use crate::telemetry::Metrics;

/// Where modules come from and go to.
#[derive(Clone)]
pub(crate) struct ModulesOptions {
    /// The cache folder.
    pub(crate) cache: PathBuf,
    /// The folder of shipped modules.
    pub(crate) builtins: PathBuf,
    /// Who compiles.
    pub(crate) compiler: CompilerProcess,
    /// Who has the modules that are known by their hash, when it wants to know who we are.
    pub(crate) control_plane: Option<ControlPlaneLink>,
}

/// Every module of the process.
pub(crate) struct Modules {
    options: ModulesOptions,
    metrics: Arc<Metrics>,
    engine: LazyEngine,
    loaded: Mutex<HashMap<ModuleHash, Module>>,
    read: Mutex<HashMap<PathBuf, (FileStamp, ModuleHash)>>,
    compilations: Semaphore,
    turns: Mutex<HashMap<ModuleHash, Weak<AsyncMutex<()>>>>,
}

/// What tells a file from what it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Modules {
    /// No module yet; nothing is opened.
    pub(crate) fn new(options: ModulesOptions, metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            options,
            metrics,
            engine: LazyEngine::default(),
            loaded: Mutex::default(),
            read: Mutex::default(),
            compilations: Semaphore::new(MAX_CONCURRENT_COMPILATIONS),
            turns: Mutex::default(),
        })
    }

    /// The module that is now where `source` says, ready to run. A file that cannot be used is looked at again after a
    /// moment: whoever writes it in parts is done by then.
    ///
    /// # Errors
    /// It is missing, unreadable, too large, no module for this host, or takes too long to compile.
    pub(crate) async fn load(self: &Arc<Self>, source: &ModuleSource) -> Result<Module, ModuleRefusal> {
        let path = match source {
            ModuleSource::Remote(module) => {
                fetch::fetch(module, &self.options.cache, self.options.control_plane.as_ref()).await?
            }
            // No configuration that gets here names one: files are refused, and a control plane says the hash.
            ModuleSource::Bundle(name) => {
                return Err(ModuleRefusal::new(format!("the bundle {name} is not here"), "use `file`"));
            }
            ModuleSource::File(_) | ModuleSource::Builtin(_) => {
                source.path(&self.options.builtins).unwrap_or_default() // They have one.
            }
        };
        let give_up = Instant::now() + MAX_SETTLE_TIME;
        loop {
            let before = stamp(&path);
            let refusal = match self.load_now(source, &path).await {
                Ok(module) => return Ok(module),
                Err(refusal) => refusal,
            };
            tokio::time::sleep(SETTLE_TIME).await;
            if stamp(&path) == before || Instant::now() > give_up {
                return Err(refusal);
            }
        }
    }

    async fn load_now(self: &Arc<Self>, source: &ModuleSource, path: &Path) -> Result<Module, ModuleRefusal> {
        let modules = Arc::clone(self);
        let found = blocking("module loader", {
            let (source, path) = (source.clone(), path.to_owned());
            move || modules.find(&source, &path)
        });
        match found.await? {
            Found::Loaded(module) => Ok(module),
            Found::Bytes(hash, bytes) => self.compile(source, hash, bytes).await,
        }
    }

    /// Forgets the modules that nobody uses any more.
    pub(crate) fn retain(&self, used: &HashSet<ModuleHash>) {
        let cache = self.options.cache.clone();
        let in_use: Vec<_> = used.iter().map(|hash| weir_model::ModuleHash(*hash.as_bytes())).collect();
        task::spawn("module sweep", task::blocking("module sweep", move || fetch::sweep(&cache, &in_use)));
        self.loaded.lock().retain(|hash, _| used.contains(hash));
        self.read.lock().retain(|_, (_, hash)| used.contains(hash));
    }

    /// Looks in memory and in the cache. Blocks.
    fn find(&self, source: &ModuleSource, path: &Path) -> Result<Found, ModuleRefusal> {
        let (hash, bytes) = self.identify(path).map_err(|error| error.refusal(source, path))?;
        if let Some(module) = self.find_compiled(&hash)? {
            return Ok(Found::Loaded(module));
        }
        let bytes = match bytes {
            Some(bytes) => bytes,
            None => read(path).map_err(|error| error.refusal(source, path))?.0,
        };
        Ok(Found::Bytes(ModuleHash::of(&bytes), bytes))
    }

    /// The hash of a file's content, and the content when it had to be read.
    fn identify(&self, path: &Path) -> Result<(ModuleHash, Option<Vec<u8>>), Unreadable> {
        let stamp = FileStamp::of(&fs::metadata(path).map_err(Unreadable::Io)?);
        if let Some((known, hash)) = self.read.lock().get(path)
            && *known == stamp
        {
            return Ok((*hash, None));
        }
        let (bytes, stamp) = read(path)?;
        let hash = ModuleHash::of(&bytes);
        if stamp.is_settled() {
            self.read.lock().insert(path.to_owned(), (stamp, hash));
        }
        Ok((hash, Some(bytes)))
    }

    async fn compile(
        self: &Arc<Self>,
        source: &ModuleSource,
        hash: ModuleHash,
        bytes: Vec<u8>,
    ) -> Result<Module, ModuleRefusal> {
        let turn = self.turn(hash);
        let _turn = turn.lock().await;
        if let Some(module) = self.load_compiled(hash).await? {
            return Ok(module); // Another plugin or an earlier change had it compiled meanwhile.
        }
        let Ok(_place) = self.compilations.acquire().await else {
            return Err(ModuleRefusal::new("the proxy is ending", ""));
        };
        let started = Instant::now();
        self.options.compiler.compile(&self.options.cache, bytes).await?;
        self.metrics.process.modules_compiled.fetch_add(1, Ordering::Relaxed);
        info!(module = %source_name(source), duration_ms = started.elapsed().as_millis(), "module compiled");
        self.load_compiled(hash).await?.ok_or_else(|| {
            ModuleRefusal::new(
                "was compiled, but the compiled code cannot be loaded",
                "the log says why; check --cache",
            )
        })
    }

    /// Held by the one who compiles this module; others wait for it and find what it made.
    fn turn(&self, hash: ModuleHash) -> Arc<AsyncMutex<()>> {
        let mut turns = self.turns.lock();
        turns.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = turns.get(&hash).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::default();
        turns.insert(hash, Arc::downgrade(&turn));
        turn
    }

    async fn load_compiled(self: &Arc<Self>, hash: ModuleHash) -> Result<Option<Module>, ModuleRefusal> {
        let modules = Arc::clone(self);
        blocking("module loader", move || modules.find_compiled(&hash)).await
    }

    /// In memory, or else in the cache. Blocks.
    fn find_compiled(&self, hash: &ModuleHash) -> Result<Option<Module>, ModuleRefusal> {
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

enum Found {
    Loaded(Module),
    Bytes(ModuleHash, Vec<u8>),
}

async fn blocking<T: Send + 'static>(
    name: &'static str,
    work: impl FnOnce() -> Result<T, ModuleRefusal> + Send + 'static,
) -> Result<T, ModuleRefusal> {
    let panicked = || ModuleRefusal::new("loading it failed by a bug of the proxy", "the log says where");
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

enum Unreadable {
    Io(io::Error),
    NotAFile,
    TooLarge,
}

impl Unreadable {
    fn refusal(&self, source: &ModuleSource, path: &Path) -> ModuleRefusal {
        let shown = path.display();
        match (self, source) {
            (Self::Io(error), ModuleSource::Builtin(name)) if error.kind() == io::ErrorKind::NotFound => {
                ModuleRefusal::new(
                    format!("there is no shipped module `{name}` ({shown} is not there)"),
                    "build the shipped modules with `cargo xtask plugins`, or say where they are with --plugins",
                )
            }
            (Self::Io(error), _) if error.kind() == io::ErrorKind::NotFound => {
                let hint = "relative paths start at the folder of the file that names the module";
                ModuleRefusal::new(format!("the module {shown} is not there"), hint)
            }
            (Self::Io(error), _) => {
                ModuleRefusal::new(format!("the module {shown} cannot be read: {error}"), "check its permissions")
            }
            (Self::NotAFile, _) => ModuleRefusal::new(
                format!("the module {shown} is not a plain file"),
                "name the .wasm file itself, not its folder",
            ),
            (Self::TooLarge, _) => ModuleRefusal::new(
                format!("the module {shown} has more than {MAX_MODULE_BYTES} bytes"),
                "build it with optimisation for size and without debug information",
            ),
        }
    }
}

/// Reads a module's file. The stamp is of the open file, so it belongs to these bytes and no others.
fn read(path: &Path) -> Result<(Vec<u8>, FileStamp), Unreadable> {
    let file = File::open(path).map_err(Unreadable::Io)?;
    let metadata = file.metadata().map_err(Unreadable::Io)?;
    if !metadata.is_file() {
        return Err(Unreadable::NotAFile);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0).min(MAX_MODULE_BYTES));
    file.take(MAX_MODULE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(Unreadable::Io)?;
    if bytes.len() > MAX_MODULE_BYTES {
        return Err(Unreadable::TooLarge);
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

    /// True when a later change must give another stamp: the clock of the file system ticks in milliseconds, so a file
    /// changed just now may change once more under the same stamp (Git calls such a file racy).
    fn is_settled(&self) -> bool {
        let (seconds, nanos) = self.changed;
        let changed = Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanos).unwrap_or(0));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        now.checked_sub(changed).is_some_and(|age| age > FRESH_FILE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_modules_say_what_to_do() {
        let builtin = ModuleSource::Builtin(Arc::from("auth"));
        let path = builtin.path(Path::new("/opt/plugins")).unwrap();
        assert_eq!(path, Path::new("/opt/plugins/auth.wasm"));
        let missing = || Unreadable::Io(io::Error::from(io::ErrorKind::NotFound));
        assert!(missing().refusal(&builtin, &path).reason.contains("no shipped module `auth`"));
        let file = ModuleSource::File(PathBuf::from("conf/f.wasm"));
        assert_eq!(missing().refusal(&file, Path::new("conf/f.wasm")).reason, "the module conf/f.wasm is not there");
    }

    #[test]
    fn a_file_changed_just_now_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.wasm");
        fs::write(&path, "one").unwrap();
        let options = ModulesOptions {
            cache: folder.path().join("cache"),
            builtins: folder.path().to_owned(),
            compiler: CompilerProcess::this_program(),
            control_plane: None,
        };
        let modules = Modules::new(options, Arc::new(Metrics::new(1)));
        let first = modules.identify(&path).unwrap_or_else(|_| panic!("the file is there")).0;
        fs::write(&path, "two").unwrap();
        let second = modules.identify(&path).unwrap_or_else(|_| panic!("the file is there")).0;
        assert!(first == ModuleHash::of(b"one") && second == ModuleHash::of(b"two"));
        assert!(modules.read.lock().is_empty(), "a fresh file is not remembered");
    }
}
