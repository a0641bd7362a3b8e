//! What was told last, for those who read: they do not wait for who writes.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use weir_resources::{ObjectId, SourceFile, written_objects};

use crate::publish::{Inner, Live, Publisher};
use crate::store::State;

/// What was told last.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) state: State,
    pub(super) files: Vec<SourceFile>,
    pub(super) live: BTreeMap<ObjectId, Live>,
}

/// An object that is told.
#[derive(Debug, Clone)]
pub struct LiveObject {
    /// Which one.
    pub id: ObjectId,
    /// What it says; nothing is known of one in a file that has just changed.
    pub value: Option<Arc<Value>>,
    /// The revision that changed it last; nothing for one in a file.
    pub revision: Option<u64>,
    /// Where it was written, for one in a file.
    pub file: Option<PathBuf>,
    /// The generation that first said what it says.
    pub since: u64,
}

impl Publisher {
    /// What an object that is told says.
    pub fn value_of(&self, id: &ObjectId) -> Option<Arc<Value>> {
        let seen = self.seen.load();
        if let Some(stored) = seen.state.objects.get(id) {
            return Some(Arc::clone(&stored.value));
        }
        let path = &seen.live.get(id)?.path;
        let written =
            seen.files.iter().filter(|file| file.path == *path).flat_map(|file| written_objects(file).objects);
        written.into_iter().find(|written| written.id == *id).map(|written| Arc::new(written.value))
    }

    /// Every object that is told.
    pub fn objects(&self) -> Vec<LiveObject> {
        let seen = self.seen.load();
        let mut in_files: HashMap<ObjectId, Value> = HashMap::new();
        for file in &seen.files {
            in_files.extend(written_objects(file).objects.into_iter().map(|written| (written.id, written.value)));
        }
        let object = |(id, live): (&ObjectId, &Live)| {
            let stored = seen.state.objects.get(id);
            LiveObject {
                id: id.clone(),
                value: stored.map(|stored| Arc::clone(&stored.value)).or_else(|| in_files.remove(id).map(Arc::new)),
                revision: stored.map(|stored| stored.revision),
                file: stored.is_none().then(|| live.path.clone()),
                since: live.since,
            }
        };
        seen.live.iter().map(object).collect()
    }

    /// The last revision.
    pub fn revision(&self) -> u64 {
        self.seen.load().state.revision
    }

    /// From now on this is what those see who read.
    pub(super) fn show(&self, inner: &Inner) {
        let Inner { state, files, live, .. } = inner;
        self.seen.store(Arc::new(Seen { state: state.clone(), files: files.clone(), live: live.clone() }));
    }
}
