//! Watches the files of a configuration with inotify: resource files, modules, and the symbolic links that lead to
//! them. Owned by the file source. Signals that a change occurred, not which one.
//!
//! The events that end a change signal it: a file closed after writing, a rename, a removal, a new link. A write does
//! not. Files that are open for writing are tracked, so that the source does not read them half written.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{Event, EventKind, INotifyWatcher, RecursiveMode, Watcher};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::warn;

use crate::file_name::is_resource_file_name;
use crate::limits::{MAX_LINKS, MAX_RESOURCE_FILES};

/// The folders to watch, and the entries in them that matter.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct WatchPlan {
    /// The watched folders, without symbolic links in their paths.
    folders: BTreeSet<PathBuf>,
    /// Entries of these folders that matter regardless of their names.
    entries: BTreeSet<PathBuf>,
    /// The folders of which every resource file matters.
    resource_folders: BTreeSet<PathBuf>,
}

impl WatchPlan {
    /// Adds a folder of resource files.
    pub(crate) fn add_resource_folder(&mut self, folder: &Path) {
        self.add_path(folder);
        if let Ok(folder) = fs::canonicalize(folder) {
            self.folders.insert(folder.clone());
            self.resource_folders.insert(folder);
        }
    }

    /// Adds a path: its target, each symbolic link on the way, and the first missing part.
    pub(crate) fn add_path(&mut self, path: &Path) {
        let Ok(path) = std::path::absolute(path) else { return };
        let mut remaining: VecDeque<OsString> = parts(&path).collect();
        let mut folder = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = remaining.pop_front() {
            if part == ".." {
                folder.pop();
                continue;
            }
            let entry = folder.join(part);
            let Ok(metadata) = fs::symlink_metadata(&entry) else {
                return self.add_entry(folder, entry);
            };
            if metadata.is_symlink() && links < MAX_LINKS {
                links += 1;
                let Ok(target) = fs::read_link(&entry) else { return };
                self.add_entry(folder.clone(), entry);
                parts(&target).collect::<Vec<_>>().into_iter().rev().for_each(|part| remaining.push_front(part));
                if target.is_absolute() {
                    folder = PathBuf::from("/");
                }
            } else if metadata.is_dir() {
                folder = entry; // Watching a folder also reports its own removal.
            } else {
                return self.add_entry(folder, entry);
            }
        }
    }

    fn add_entry(&mut self, folder: PathBuf, entry: PathBuf) {
        self.folders.insert(folder);
        self.entries.insert(entry);
    }

    fn matters(&self, path: &Path) -> bool {
        if self.entries.contains(path) || self.folders.contains(path) {
            return true;
        }
        let in_resource_folder = path.parent().is_some_and(|folder| self.resource_folders.contains(folder));
        in_resource_folder && path.file_name().is_some_and(is_resource_file_name)
    }
}

fn parts(path: &Path) -> impl Iterator<Item = OsString> {
    path.components().filter_map(|component| match component {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// State shared with the inotify thread and with signals.
#[derive(Default)]
struct Shared {
    plan: Mutex<WatchPlan>,
    /// The files open for writing, with the time of their last write.
    writing: Mutex<HashMap<PathBuf, Instant>>,
    changed: Notify,
    closed: Notify,
    /// True after a watched folder was removed or moved, or events were lost: the watches must be set again.
    watch_lost: AtomicBool,
}

/// An inotify watch of a plan's folders.
pub(crate) struct Watch {
    watcher: INotifyWatcher,
    shared: Arc<Shared>,
    watched: BTreeSet<PathBuf>,
}

impl Watch {
    /// Creates a watch of no folders.
    ///
    /// # Errors
    /// The system has no inotify instance left.
    pub(crate) fn start() -> notify::Result<Self> {
        let shared = Arc::new(Shared::default());
        let events = Arc::clone(&shared);
        let handler = move |event: notify::Result<Event>| match event {
            Ok(event) => events.on_event(&event),
            Err(error) => {
                warn!(%error, "watching files failed; the configuration is read again now, and on SIGHUP");
                events.changed.notify_one();
            }
        };
        Ok(Self { watcher: INotifyWatcher::new(handler, notify::Config::default())?, shared, watched: BTreeSet::new() })
    }

    /// Replaces the plan. Must be called before the plan's files are read. Blocks for a few system calls.
    pub(crate) fn watch_paths(&mut self, plan: WatchPlan) {
        if !self.shared.watch_lost.swap(false, Ordering::AcqRel) && *self.shared.plan.lock() == plan {
            return;
        }
        for folder in self.watched.difference(&plan.folders) {
            drop(self.watcher.unwatch(folder)); // The folder may have been removed.
        }
        let mut watched = BTreeSet::new();
        for folder in &plan.folders {
            // Also for a watched folder: it may be another folder with the same path.
            match self.watcher.watch(folder, RecursiveMode::NonRecursive) {
                Ok(()) => drop(watched.insert(folder.clone())),
                Err(error) => {
                    self.shared.watch_lost.store(true, Ordering::Release);
                    let folder = folder.display();
                    warn!(%folder, %error, "a folder cannot be watched; changes in it are read on SIGHUP only");
                }
            }
        }
        self.watched = watched;
        *self.shared.plan.lock() = plan;
    }

    /// Returns a handle that waits for changes.
    pub(crate) fn signal(&self) -> WatchSignal {
        WatchSignal(Arc::clone(&self.shared))
    }
}

/// A handle that waits for changes of the files of a [`FileSource`](crate::FileSource).
#[derive(Clone)]
pub struct WatchSignal(Arc<Shared>);

impl WatchSignal {
    /// Waits for a change since the last call. Several changes count as one. Cancel-safe.
    pub async fn changed(&self) {
        self.0.changed.notified().await;
    }

    /// Signals a change and sets all watches again.
    pub fn request_rescan(&self) {
        self.0.watch_lost.store(true, Ordering::Release); // The operator suspects that a change was missed.
        self.0.changed.notify_one();
    }

    /// Waits until no watched file is open for writing. A file counts as closed when `patience` has passed since its
    /// last write.
    pub async fn writers_closed(&self, patience: Duration) {
        loop {
            let closed = self.0.closed.notified();
            let oldest_allowed = Instant::now().checked_sub(patience);
            let last_write = {
                let mut writing = self.0.writing.lock();
                writing.retain(|_, written| oldest_allowed.is_none_or(|oldest| *written > oldest));
                writing.values().max().copied()
            };
            let Some(last_write) = last_write else { return };
            drop(tokio::time::timeout_at(last_write + patience, closed).await);
        }
    }
}

impl Shared {
    fn on_event(&self, event: &Event) {
        if event.need_rescan() {
            self.watch_lost.store(true, Ordering::Release);
            self.writing.lock().clear();
            self.changed.notify_one();
            return;
        }
        let plan = self.plan.lock();
        let mut paths = event.paths.iter().filter(|path| plan.matters(path)).peekable();
        if paths.peek().is_none() {
            return;
        }
        match event.kind {
            EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => paths.for_each(|path| self.on_write(path)),
            // A new plain file will be written and closed. A link is complete at once.
            EventKind::Create(CreateKind::File) if paths.clone().all(|path| is_plain(path)) => {
                paths.for_each(|path| self.on_write(path));
            }
            EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Create(_)
            | EventKind::Remove(_)
            | EventKind::Modify(ModifyKind::Name(_)) => {
                for path in paths {
                    self.writing.lock().remove(path);
                    if plan.folders.contains(path) {
                        self.watch_lost.store(true, Ordering::Release);
                    }
                }
                self.closed.notify_waiters();
                self.changed.notify_one();
            }
            EventKind::Modify(ModifyKind::Metadata(_)) => self.changed.notify_one(),
            EventKind::Any | EventKind::Access(_) | EventKind::Modify(ModifyKind::Other) | EventKind::Other => {}
        }
    }

    fn on_write(&self, path: &Path) {
        let mut writing = self.writing.lock();
        if writing.len() < MAX_RESOURCE_FILES || writing.contains_key(path) {
            writing.insert(path.to_owned(), Instant::now());
        }
    }
}

fn is_plain(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.nlink() == 1)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    fn watching(folder: &Path) -> (Watch, WatchSignal) {
        let mut watch = Watch::start().unwrap();
        let mut plan = WatchPlan::default();
        plan.add_resource_folder(folder);
        watch.watch_paths(plan);
        let signal = watch.signal();
        (watch, signal)
    }

    async fn expect_change(signal: &WatchSignal) {
        tokio::time::timeout(SOON, signal.changed()).await.expect("a change is noticed");
    }

    /// Waits until every event so far is handled. Events are in order, so the event of a file that is created now is
    /// the last one.
    async fn wait_for_events(signal: &WatchSignal, folder: &Path) {
        let marker = fs::canonicalize(folder).unwrap().join("marker");
        let before = signal.0.plan.lock().clone();
        signal.0.plan.lock().entries.insert(marker.clone());
        let file = File::create(&marker).unwrap();
        let handled = async {
            while !signal.0.writing.lock().contains_key(&marker) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(SOON, handled).await.expect("the marker's event is handled");
        *signal.0.plan.lock() = before; // Later events of the marker are ignored.
        drop(file);
        fs::remove_file(&marker).unwrap();
        signal.0.writing.lock().remove(&marker);
    }

    /// Asserts that the events since the last change signal no change.
    async fn expect_no_change(signal: &WatchSignal, folder: &Path) {
        wait_for_events(signal, folder).await;
        assert!(tokio::time::timeout(Duration::ZERO, signal.changed()).await.is_err());
    }

    #[test]
    fn plan_follows_links_and_includes_the_first_missing_part() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        fs::create_dir(root.join("..one")).unwrap();
        File::create(root.join("..one/f.wasm")).unwrap();
        symlink("..one", root.join("..data")).unwrap();
        symlink("..data/f.wasm", root.join("f.wasm")).unwrap();
        let mut plan = WatchPlan::default();
        plan.add_path(&root.join("f.wasm"));
        plan.add_path(&root.join("missing/below/g.wasm"));
        let entries = ["..data", "..one/f.wasm", "f.wasm", "missing"].map(|name| root.join(name));
        assert_eq!(plan.entries, BTreeSet::from(entries));
        assert_eq!(plan.folders, BTreeSet::from([root.clone(), root.join("..one")]));
    }

    #[tokio::test]
    async fn closing_a_written_file_is_a_change_and_writing_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (_watch, signal) = watching(folder.path());
        let mut file = File::create(folder.path().join("a.yaml")).unwrap();
        file.write_all(b"kind: ").unwrap();
        file.flush().unwrap();
        expect_no_change(&signal, folder.path()).await;
        assert_eq!(signal.0.writing.lock().len(), 1, "it is known to be open");
        let waits = signal.writers_closed(SOON);
        let closes = async {
            file.write_all(b"Service").unwrap();
            drop(file);
        };
        tokio::join!(waits, closes);
        expect_change(&signal).await;
    }

    #[tokio::test]
    async fn file_left_open_counts_as_closed_after_patience() {
        let folder = tempfile::tempdir().unwrap();
        let (_watch, signal) = watching(folder.path());
        let _file = File::create(folder.path().join("a.yaml")).unwrap();
        expect_no_change(&signal, folder.path()).await;
        signal.writers_closed(Duration::from_millis(20)).await;
        assert!(signal.0.writing.lock().is_empty());
    }

    #[tokio::test]
    async fn renames_removals_and_links_are_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path(".a.tmp"), "x").unwrap();
        let (_watch, signal) = watching(folder.path());
        fs::rename(path(".a.tmp"), path("a.yaml")).unwrap();
        expect_change(&signal).await;
        fs::hard_link(path("a.yaml"), path("b.yaml")).unwrap();
        expect_change(&signal).await;
        fs::remove_file(path("a.yaml")).unwrap();
        expect_change(&signal).await;
        wait_for_events(&signal, folder.path()).await; // Some of these are two events.
        drop(tokio::time::timeout(Duration::ZERO, signal.changed()).await);
        fs::write(path("README.md"), "x").unwrap();
        fs::write(path(".b.yaml.swp"), "x").unwrap();
        expect_no_change(&signal, folder.path()).await;
    }

    #[tokio::test]
    async fn swapped_data_link_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for version in ["..one", "..two"] {
            fs::create_dir(path(version)).unwrap();
            fs::write(path(version).join("a.yaml"), version).unwrap();
        }
        symlink("..one", path("..data")).unwrap();
        symlink("..data/a.yaml", path("a.yaml")).unwrap();
        let (mut watch, signal) = watching(folder.path());
        let mut plan = WatchPlan::default();
        plan.add_resource_folder(folder.path());
        plan.add_path(&path("a.yaml"));
        watch.watch_paths(plan);
        symlink("..two", path("..data_tmp")).unwrap();
        fs::rename(path("..data_tmp"), path("..data")).unwrap();
        expect_change(&signal).await;
    }

    #[tokio::test]
    async fn replaced_folder_is_watched_again() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("conf");
        fs::create_dir(&folder).unwrap();
        let (mut watch, signal) = watching(&folder);
        fs::rename(&folder, root.path().join("old")).unwrap();
        expect_change(&signal).await;
        fs::create_dir(&folder).unwrap();
        let mut plan = WatchPlan::default();
        plan.add_resource_folder(&folder);
        watch.watch_paths(plan);
        while tokio::time::timeout(Duration::from_millis(5), signal.changed()).await.is_ok() {}
        fs::write(folder.join("a.yaml"), "x").unwrap();
        expect_change(&signal).await;
    }
}
