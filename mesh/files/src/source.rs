//! The file source: resource files, watched; on a change the whole set is read again and compiled by `weir-resources`.
//! The proxy's
//! configuration walk and the control plane take its updates, `validate` takes one.
//!
//! ```text
//! change noticed ─► nothing half written ─► read, compile ─► plain? ──────────────────► Update
//!                           ▲                                 │ refused, or a file is gone or empty now
//!                           └─ next change, or 100 ms quiet ◄─┘ (until two quiet reads are equal)
//! ```
//!
//! Whoever truncates and writes, or renames away and writes anew, is done by then. What is good is never held back.

use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::error;
use weir_resources::{Compiled, Compiler, Refusal, SourceFile};

use crate::file;
use crate::limits::{MAX_SETTLE_TIME, SETTLE_TIME, WRITE_PATIENCE};
use crate::watch::{Watch, WatchPlan, WatchSignal};

/// A whole configuration as it was read.
#[derive(Debug, Clone)]
pub struct Update {
    /// Which one of its source: later ones have higher numbers.
    pub number: u64,
    /// What it says, or why it is refused.
    pub outcome: Result<Arc<Compiled>, Arc<Vec<Refusal>>>,
    /// The files that it was read from; none when it came over the wire.
    pub files: Arc<[SourceFile]>,
}

/// What makes a configuration of files, and may refuse them. Called off the main thread, also for what turns out to be the
/// middle of a change: it must do nothing but look.
pub type Compile = Box<dyn FnMut(&[SourceFile]) -> Result<Arc<Compiled>, Vec<Refusal>> + Send>;

/// Compiles files by themselves, to what one proxy is told.
pub fn compile_alone() -> Compile {
    let mut compiler = Compiler::new();
    Box::new(move |files| {
        let mut taken = take(&mut compiler); // What a panic leaves behind is not used again.
        let compiled = taken.compile(files);
        compiler = taken;
        compiled.map(Arc::new)
    })
}

/// Reads and compiles, off the main thread.
struct Reader {
    root: PathBuf,
    builtins: PathBuf,
    compile: Compile,
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
pub struct FileSource {
    /// Away while it reads.
    reader: Option<Reader>,
    signal: WatchSignal,
    /// Updates so far.
    updates: u64,
    /// The files of the last update: to see that one has gone.
    last: Vec<SourceFile>,
}

impl FileSource {
    /// A source of the files at `root`, of which `compile` makes something; shipped modules lie in the folder
    /// `builtins`.
    ///
    /// # Errors
    /// The system gives no inotify instance.
    pub fn start(root: &Path, builtins: &Path, compile: Compile) -> notify::Result<Self> {
        let watch = Watch::start()?;
        let signal = watch.signal();
        let reader =
            Reader { root: root.to_owned(), builtins: builtins.to_owned(), compile, watch, modules: Vec::new() };
        Ok(Self { reader: Some(reader), signal, updates: 0, last: Vec::new() })
    }

    /// Makes the source read again, whether or not something has changed.
    pub fn signal(&self) -> WatchSignal {
        self.signal.clone()
    }

    /// Reads once, waiting until what is there has settled.
    pub async fn read(&mut self) -> Update {
        self.signal.closed(WRITE_PATIENCE).await;
        let mut reading = self.read_now().await;
        let give_up = Instant::now() + MAX_SETTLE_TIME;
        while reading.is_doubtful(&self.last) && Instant::now() < give_up {
            let quiet = tokio::time::timeout(SETTLE_TIME, self.signal.changed()).await.is_err();
            self.signal.closed(WRITE_PATIENCE).await;
            let again = self.read_now().await;
            let settled = quiet && same_text(&again.files, &reading.files);
            reading = again;
            if settled {
                break;
            }
        }
        self.updates += 1;
        let files = Arc::from(reading.files.as_slice());
        self.last = reading.files;
        Update { number: self.updates, outcome: reading.outcome, files }
    }

    /// Reads at each change, and keeps the newest update where `updates` can be taken from. Ends with its receiver.
    pub async fn follow(mut self, updates: watch::Sender<Option<Update>>) {
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
                Reading { files, outcome: Ok(compiled) }
            }
            Err(refusals) => Reading { files, outcome: Err(Arc::new(refusals)) },
        }
    }

    fn compile(&mut self, files: &[SourceFile]) -> Result<Arc<Compiled>, Vec<Refusal>> {
        let compile = &mut self.compile;
        catch_unwind(AssertUnwindSafe(|| compile(files))).unwrap_or_else(|_| {
            error!("the compiler of resources panicked; this is a bug, what was there before goes on");
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
    let mut modules: Vec<_> = plugins.filter_map(|plugin| plugin.module.path(builtins)).collect();
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::*;

    const SERVICE: &str = "apiVersion: weir.dev/v1alpha1\nkind: Service\nmetadata: {name: a, namespace: b}\n\
        spec: {ports: [{name: http, port: 80, protocol: HTTP}], endpoints: [{address: \"127.0.0.1:1\"}]}\n";
    const SOON: Duration = Duration::from_secs(20);

    fn source(folder: &Path) -> FileSource {
        FileSource::start(folder, folder, compile_alone()).unwrap()
    }

    fn clusters(update: &Update) -> usize {
        update.outcome.as_ref().map_or(usize::MAX, |compiled| compiled.snapshot.clusters.len())
    }

    #[tokio::test]
    async fn what_is_refused_is_read_again_until_it_is_whole() {
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
    async fn a_file_that_is_gone_for_a_moment_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        fs::write(&path, SERVICE).unwrap();
        let mut source = source(folder.path());
        assert_eq!(clusters(&source.read().await), 1);
        fs::remove_file(&path).unwrap();
        let back = async {
            tokio::task::yield_now().await;
            fs::write(&path, SERVICE).unwrap();
        };
        let (update, ()) = tokio::join!(source.read(), back);
        assert_eq!(clusters(&update), 1);
        fs::remove_file(&path).unwrap();
        assert_eq!(clusters(&source.read().await), 0, "gone for good is gone");
    }

    #[tokio::test]
    async fn changes_are_followed_and_refusals_name_their_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.yaml");
        let source = source(folder.path());
        let (sender, mut updates) = watch::channel(None);
        source.signal().look_again();
        let mut beside = tokio::task::JoinSet::new();
        beside.spawn(source.follow(sender));
        for (text, expected) in [("", 0), (SERVICE, 1), ("kind: [", usize::MAX), (SERVICE, 1)] {
            fs::write(&path, text).unwrap();
            let arrives = updates.wait_for(|update| update.as_ref().is_some_and(|it| clusters(it) == expected));
            let arrived = tokio::time::timeout(SOON, arrives).await.expect("the change arrives");
            assert!(arrived.is_ok(), "the source goes on");
        }
        drop(updates);
        beside.join_next().await.unwrap().unwrap();
    }
}
