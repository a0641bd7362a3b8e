//! The file source: resource files, watched; on a change the whole set is read again and compiled by `weir-mesh`.
//! `config/apply.rs` takes its updates, `validate` takes one.
//!
//! ```text
//! change noticed ─► nothing half written ─► read, compile ─► plain? ──────────────────► Update
//!                                              ▲              │ refused, or a file is gone or empty now
//!                                              └── 20 ms ◄────┘ (until two reads in a row are equal)
//! ```
//!
//! Whoever truncates and writes, or renames away and writes anew, is done after those 20 ms.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use weir_mesh::{Compiled, Compiler, Refusal, SourceFile};

use crate::active::module_path;
use crate::config::file;
use crate::config::watch::{Watch, WatchPlan, WatchSignal};
use crate::limits::{MAX_SETTLING_READS, SETTLE_TIME, WRITE_PATIENCE};
use crate::task;

/// A whole configuration as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Update {
    /// What it says, or why it is refused.
    pub(crate) outcome: Result<Arc<Compiled>, Arc<Vec<Refusal>>>,
}

/// Reads and compiles, off the main thread.
struct Reader {
    root: PathBuf,
    builtins: PathBuf,
    compiler: Compiler,
    watch: Watch,
    /// Modules of the last set that compiled: what is watched beside the resource files.
    modules: Vec<PathBuf>,
}

/// What one read gave.
struct Reading {
    files: Vec<SourceFile>,
    outcome: Result<Arc<Compiled>, Arc<Vec<Refusal>>>,
}

/// Resource files, watched.
pub(crate) struct FileSource {
    /// Away while it reads.
    reader: Option<Reader>,
    signal: WatchSignal,
    /// The files of the last update: to see that one has gone.
    last: Vec<SourceFile>,
}

impl FileSource {
    /// A source of the files at `root`; shipped modules lie in the folder `builtins`.
    ///
    /// # Errors
    /// The system gives no inotify instance.
    pub(crate) fn start(root: &Path, builtins: &Path) -> notify::Result<Self> {
        let watch = Watch::start()?;
        let signal = watch.signal();
        let reader = Reader {
            root: root.to_owned(),
            builtins: builtins.to_owned(),
            compiler: Compiler::new(),
            watch,
            modules: Vec::new(),
        };
        Ok(Self { reader: Some(reader), signal, last: Vec::new() })
    }

    /// Makes the source read again, whether or not something has changed.
    pub(crate) fn signal(&self) -> WatchSignal {
        self.signal.clone()
    }

    /// Reads once, waiting until what is there has settled.
    pub(crate) async fn read(&mut self) -> Update {
        self.signal.closed(WRITE_PATIENCE).await;
        let mut reading = self.read_now().await;
        for _ in 0..MAX_SETTLING_READS {
            if !reading.is_doubtful(&self.last) {
                break;
            }
            tokio::time::sleep(SETTLE_TIME).await;
            let again = self.read_now().await;
            let settled = same_text(&again.files, &reading.files);
            reading = again;
            if settled {
                break;
            }
        }
        self.last = reading.files;
        Update { outcome: reading.outcome }
    }

    /// Reads at each change, and keeps the newest update where `updates` can be taken from. Ends with its receiver.
    pub(crate) async fn follow(mut self, updates: watch::Sender<Option<Update>>) {
        loop {
            tokio::select! {
                () = self.signal.changed() => {}
                () = updates.closed() => return,
            }
            let update = self.read().await;
            if updates.send(Some(update)).is_err() {
                return;
            }
        }
    }

    async fn read_now(&mut self) -> Reading {
        // Gone only when a read was given up half way, which is when the process ends.
        let Some(mut reader) = self.reader.take() else { return std::future::pending().await };
        let read = task::blocking("configuration reader", move || {
            let reading = reader.read();
            (reader, reading)
        });
        let Some((reader, reading)) = read.await else { return std::future::pending().await };
        self.reader = Some(reader);
        reading
    }
}

impl Reader {
    fn read(&mut self) -> Reading {
        // Watched before it is read, so that no change falls between the two.
        let (plan, listed) = file::list(&self.root);
        self.cover(&plan);
        let files = match listed.and_then(|paths| file::read(&paths)) {
            Ok(files) => files,
            Err(refusals) => return Reading { files: Vec::new(), outcome: Err(Arc::new(refusals)) },
        };
        match self.compile(&files) {
            Ok(compiled) => {
                self.modules = modules(&compiled, &self.builtins);
                self.cover(&plan);
                Reading { files, outcome: Ok(Arc::new(compiled)) }
            }
            Err(refusals) => Reading { files, outcome: Err(Arc::new(refusals)) },
        }
    }

    fn compile(&mut self, files: &[SourceFile]) -> Result<Compiled, Vec<Refusal>> {
        let compiler = &mut self.compiler;
        task::caught("configuration compiler", || compiler.compile(files)).unwrap_or_else(|| {
            self.compiler = Compiler::new(); // What the panic left behind is not trusted.
            let reason = "the compiler of resources panicked; the log says where".to_owned();
            let hint = "this is a bug of weir; please report it with these files";
            Err(vec![file::refusal(&self.root, reason, hint)])
        })
    }

    fn cover(&mut self, plan: &WatchPlan) {
        let mut plan = plan.clone();
        for module in &self.modules {
            plan.add_path(module);
        }
        self.watch.cover(plan);
    }
}

/// Where the modules of a configuration lie.
fn modules(compiled: &Compiled, builtins: &Path) -> Vec<PathBuf> {
    let plugins = compiled.snapshot.plugins.values();
    let mut modules: Vec<_> = plugins.map(|plugin| module_path(&plugin.module, builtins)).collect();
    modules.sort_unstable();
    modules.dedup();
    modules
}

impl Reading {
    /// True when this may be the middle of a change: refused, or a file that was there is gone or empty.
    fn is_doubtful(&self, last: &[SourceFile]) -> bool {
        self.outcome.is_err()
            || last.iter().filter(|file| !file.text.is_empty()).any(|before| {
                // Sorted by path, as they are listed.
                let now = self.files.binary_search_by(|file| file.path.cmp(&before.path));
                now.map_or(true, |index| self.files[index].text.is_empty())
            })
    }
}

fn same_text(one: &[SourceFile], other: &[SourceFile]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| one.path == other.path && one.text == other.text)
}
