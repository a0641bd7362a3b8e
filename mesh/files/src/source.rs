//! The file source: reads all resource files after a change, and compiles them with `weir-resources`. The proxy's
//! configuration loop and the control plane follow its updates; `validate` reads one.
//!
//! ```text
//! change ─► no file open for writing ─► read, compile ─► complete? ────────────────► ConfigUpdate
//!                           ▲                                 │ rejected, or a file is missing or empty now
//!                           └─ next change, or 100 ms quiet ◄─┘ (until two quiet reads are equal)
//! ```
//!
//! A writer that truncates and writes, or renames away and writes anew, is done by then. A valid change is not delayed.

use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::error;
use weir_resources::{Compiled, Compiler, Diagnostic, SourceFile};

use crate::limits::{MAX_SETTLE_TIME, SETTLE_TIME, WRITE_PATIENCE};
use crate::read;
use crate::watch::{Watch, WatchPlan, WatchSignal};

/// A complete configuration.
#[derive(Debug, Clone)]
pub struct ConfigUpdate {
    /// The number of the update; later updates of a source have higher numbers.
    pub number: u64,
    /// The compiled configuration, or the reasons for its rejection.
    pub outcome: Result<Arc<Compiled>, Arc<Vec<Diagnostic>>>,
    /// The files of the configuration; empty unless the source is [`FileSource::with_files`].
    pub files: Arc<[SourceFile]>,
}

/// Compiles files to a configuration. Called on a blocking thread, also for the middle of a change, so it must have no
/// side effects.
pub type CompileFn = Box<dyn FnMut(&[SourceFile]) -> Result<Arc<Compiled>, Vec<Diagnostic>> + Send>;

/// Returns a compiler that needs nothing but the files. Its result does not contain their texts.
pub fn default_compiler() -> CompileFn {
    let mut compiler = Compiler::new();
    Box::new(move |files| {
        let mut current = take(&mut compiler); // After a panic the compiler's caches are not used again.
        let compiled = current.compile(files);
        compiler = current;
        compiled.map(|mut compiled| {
            compiled.drop_texts();
            Arc::new(compiled)
        })
    })
}

/// Reads and compiles the files, on a blocking thread.
struct Reader {
    root: PathBuf,
    builtins: PathBuf,
    compile: CompileFn,
    watch: Watch,
    /// The modules of the last set that compiled, which are watched, too.
    modules: Vec<PathBuf>,
}

/// The result of one read.
struct Reading {
    files: Vec<SourceFile>,
    outcome: Result<Arc<Compiled>, Arc<Vec<Diagnostic>>>,
}

/// A watched set of resource files.
pub struct FileSource {
    /// `None` during a read.
    reader: Option<Reader>,
    signal: WatchSignal,
    /// The number of updates so far.
    updates: u64,
    /// The paths of the files of the last update that were not empty, to notice that one is missing.
    last: Vec<PathBuf>,
    /// True if updates have their files.
    with_files: bool,
}

impl FileSource {
    /// Starts to watch the files at `root`. `builtins` is the folder of the shipped modules.
    ///
    /// # Errors
    /// The system has no inotify instance left.
    pub fn start(root: &Path, builtins: &Path, compile: CompileFn) -> notify::Result<Self> {
        let watch = Watch::start()?;
        let signal = watch.signal();
        let reader =
            Reader { root: root.to_owned(), builtins: builtins.to_owned(), compile, watch, modules: Vec::new() };
        Ok(Self { reader: Some(reader), signal, updates: 0, last: Vec::new(), with_files: false })
    }

    /// Returns the source with the files in each update, which take as much memory as their texts.
    #[must_use]
    pub fn with_files(self) -> Self {
        Self { with_files: true, ..self }
    }

    /// Returns a handle that requests another read.
    pub fn signal(&self) -> WatchSignal {
        self.signal.clone()
    }

    /// Reads once. Waits until the files have settled, at most [`MAX_SETTLE_TIME`].
    pub async fn read(&mut self) -> ConfigUpdate {
        self.signal.writers_closed(WRITE_PATIENCE).await;
        let mut reading = self.read_now().await;
        let give_up = Instant::now() + MAX_SETTLE_TIME;
        while reading.looks_incomplete(&self.last) && Instant::now() < give_up {
            let quiet = tokio::time::timeout(SETTLE_TIME, self.signal.changed()).await.is_err();
            self.signal.writers_closed(WRITE_PATIENCE).await;
            let again = self.read_now().await;
            let settled = quiet && same_text(&again.files, &reading.files);
            reading = again;
            if settled {
                break;
            }
        }
        self.updates += 1;
        let is_used = |file: &&SourceFile| !file.text.is_empty();
        self.last = reading.files.iter().filter(is_used).map(|file| file.path.clone()).collect();
        let files = if self.with_files { Arc::from(reading.files) } else { Arc::default() };
        ConfigUpdate { number: self.updates, outcome: reading.outcome, files }
    }

    /// Reads after each change and publishes the update. Returns when the receiver of `updates` is dropped.
    pub async fn follow(mut self, updates: watch::Sender<Option<ConfigUpdate>>) {
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
        // Absent only if a read was cancelled, which happens when the process exits.
        let Some(mut reader) = self.reader.take() else { return std::future::pending().await };
        let read = tokio::task::spawn_blocking(move || {
            let reading = reader.read();
            (reader, reading)
        });
        let Ok((reader, reading)) = read.await else { return std::future::pending().await };
        self.reader = Some(reader);
        reading
    }
}

impl Reader {
    fn read(&mut self) -> Reading {
        // Watching starts before reading, so that no change is missed in between.
        let (plan, listed) = read::list(&self.root);
        self.watch_paths(&plan);
        let files = match listed.and_then(|paths| read::read(&paths)) {
            Ok(files) => files,
            Err(diagnostics) => return Reading { files: Vec::new(), outcome: Err(Arc::new(diagnostics)) },
        };
        match self.compile(&files) {
            Ok(compiled) => {
                self.modules = module_paths(&compiled, &self.builtins);
                self.watch_paths(&plan);
                Reading { files, outcome: Ok(compiled) }
            }
            Err(diagnostics) => Reading { files, outcome: Err(Arc::new(diagnostics)) },
        }
    }

    fn compile(&mut self, files: &[SourceFile]) -> Result<Arc<Compiled>, Vec<Diagnostic>> {
        let compile = &mut self.compile;
        catch_unwind(AssertUnwindSafe(|| compile(files))).unwrap_or_else(|_| {
            error!("the compiler of resources panicked; this is a bug, the previous configuration stays in use");
            let reason = "the compiler of resources panicked; the log says where".to_owned();
            let hint = "this is a bug of weir; please report it with these files";
            Err(vec![read::diagnostic(&self.root, reason, hint)])
        })
    }

    fn watch_paths(&mut self, plan: &WatchPlan) {
        let mut plan = plan.clone();
        for module in &self.modules {
            plan.add_path(module);
        }
        self.watch.watch_paths(plan);
    }
}

/// Returns the paths of a configuration's modules.
fn module_paths(compiled: &Compiled, builtins: &Path) -> Vec<PathBuf> {
    let plugins = compiled.snapshot.plugins.values();
    let mut modules: Vec<_> = plugins.filter_map(|plugin| plugin.module.path(builtins)).collect();
    modules.sort_unstable();
    modules.dedup();
    modules
}

impl Reading {
    /// Returns true if this may be the middle of a change: it is rejected, or a file of `last` is missing or empty.
    fn looks_incomplete(&self, last: &[PathBuf]) -> bool {
        self.outcome.is_err()
            || last.iter().any(|before| {
                // Files are listed in the order of their paths.
                let now = self.files.binary_search_by(|file| file.path.cmp(before));
                now.map_or(true, |index| self.files[index].text.is_empty())
            })
    }
}

fn same_text(one: &[SourceFile], other: &[SourceFile]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|(one, other)| one.path == other.path && one.text == other.text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use weir_model::{Rejection, ResourceId, ResourceKind};

    use super::*;

    const SERVICE: &str = "apiVersion: weir.dev/v1alpha1\nkind: ServiceEntry\nmetadata: {name: a, namespace: b}\n\
        spec: {ports: [{name: http, port: 80, protocol: HTTP}], endpoints: [{address: \"127.0.0.1:1\"}]}\n";
    const SOON: Duration = Duration::from_secs(20);

    fn source(folder: &Path) -> FileSource {
        FileSource::start(folder, folder, default_compiler()).unwrap()
    }

    fn clusters(update: &ConfigUpdate) -> usize {
        update.outcome.as_ref().map_or(usize::MAX, |compiled| compiled.snapshot.clusters.len())
    }

    #[tokio::test]
    async fn rejected_files_are_read_again_until_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        fs::write(&path, &SERVICE[..40]).unwrap(); // Closed after the first of two parts.
        let mut source = source(folder.path());
        let whole = async {
            tokio::task::yield_now().await; // The first read has begun.
            fs::write(&path, SERVICE).unwrap();
        };
        let (update, ()) = tokio::join!(tokio::time::timeout(SOON, source.read()), whole);
        assert_eq!(clusters(&update.unwrap()), 1);
    }

    #[tokio::test]
    async fn file_missing_for_a_moment_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        fs::write(&path, SERVICE).unwrap();
        let mut source = source(folder.path());
        assert_eq!(clusters(&source.read().await), 1);
        fs::remove_file(&path).unwrap();
        let restore = async {
            tokio::task::yield_now().await;
            fs::write(&path, SERVICE).unwrap();
        };
        let (update, ()) = tokio::join!(source.read(), restore);
        assert_eq!(clusters(&update), 1);
        fs::remove_file(&path).unwrap();
        assert_eq!(clusters(&source.read().await), 0, "a file that stays away is removed");
    }

    #[tokio::test]
    async fn late_diagnostic_reads_the_file_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: edge, namespace: b}\n\
            spec:\n  gatewayClassName: weir\n  listeners:\n  - name: http\n    protocol: HTTP\n    port: 80\n";
        fs::write(&path, format!("{SERVICE}---\n{gateway}")).unwrap();
        let update = source(folder.path()).read().await;
        let compiled = update.outcome.unwrap();
        let listener = compiled.snapshot.listeners.keys().next().unwrap();
        let resource = ResourceId { kind: ResourceKind::Listener, name: listener.to_string() };
        let (reason, hint) = ("in use".to_owned(), String::new());
        let rejection = Rejection { resource, field: "address".to_owned(), reason, hint };
        let port_line = compiled.diagnostic(&rejection).line;
        assert_eq!(port_line, 4 + 1 + 9, "the port's line");
        for changed in [format!("{SERVICE}---\n# A comment.\n{gateway}"), String::new()] {
            fs::write(&path, changed).unwrap();
            assert_eq!(compiled.diagnostic(&rejection).line, 4 + 1 + 1, "the first line of the object as compiled");
        }
    }

    #[tokio::test]
    async fn follow_publishes_an_update_per_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        let source = source(folder.path());
        let (sender, mut updates) = watch::channel(None);
        source.signal().request_rescan();
        let mut beside = tokio::task::JoinSet::new();
        beside.spawn(source.follow(sender));
        for (text, expected) in [("", 0), (SERVICE, 1), ("kind: [", usize::MAX), (SERVICE, 1)] {
            fs::write(&path, text).unwrap();
            let arrives = updates.wait_for(|update| update.as_ref().is_some_and(|update| clusters(update) == expected));
            let arrived = tokio::time::timeout(SOON, arrives).await.expect("the change arrives");
            assert!(arrived.is_ok(), "the source goes on");
        }
        drop(updates);
        beside.join_next().await.unwrap().unwrap();
    }
}
