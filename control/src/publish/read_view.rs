//! Lock-free reads of the published state. Readers do not wait for a change that compiles or writes.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use weir_resources::{ObjectId, parse_objects};

use crate::publish::publisher::Publisher;
use crate::publish::state::{ActiveObject, WriterState};

/// An object of the current snapshot.
#[derive(Debug, Clone)]
pub struct PublishedObject {
    /// The kind, namespace and name.
    pub id: ObjectId,
    /// The object as it was written. `None` if its file has changed since it was published.
    pub value: Option<Arc<Value>>,
    /// The revision that changed it last. `None` for an object in a file.
    pub revision: Option<u64>,
    /// The file that contains it. `None` for a stored object.
    pub file: Option<PathBuf>,
    /// The first generation with the present value.
    pub since_generation: u64,
    /// The compiler's warnings, each on one line.
    pub warnings: Vec<String>,
}

impl Publisher {
    /// Returns the value of an object of the current snapshot.
    pub fn object_value(&self, id: &ObjectId) -> Option<Arc<Value>> {
        let view = self.read_view.load();
        if let Some(stored) = view.state.objects.get(id) {
            return Some(Arc::clone(&stored.value));
        }
        let path = &view.active.get(id)?.path;
        let written = view.files.iter().filter(|file| file.path == *path).flat_map(|file| parse_objects(file).objects);
        written.into_iter().find(|written| written.id == *id).map(|written| Arc::new(written.value))
    }

    /// Returns every object of the current snapshot. Parses all resource files.
    pub fn objects(&self) -> Vec<PublishedObject> {
        let view = self.read_view.load();
        let mut in_files: HashMap<ObjectId, Value> = HashMap::new();
        for file in &view.files {
            in_files.extend(parse_objects(file).objects.into_iter().map(|written| (written.id, written.value)));
        }
        let object = |(id, active): (&ObjectId, &ActiveObject)| {
            let stored = view.state.objects.get(id);
            PublishedObject {
                id: id.clone(),
                value: stored.map(|stored| Arc::clone(&stored.value)).or_else(|| in_files.remove(id).map(Arc::new)),
                revision: stored.map(|stored| stored.revision),
                file: stored.is_none().then(|| active.path.clone()),
                since_generation: active.since_generation,
                warnings: active.warnings.clone(),
            }
        };
        view.active.iter().map(object).collect()
    }

    /// Returns the last revision.
    pub fn revision(&self) -> u64 {
        self.read_view.load().state.revision
    }

    /// Makes the present state visible to readers.
    pub(super) fn refresh_read_view(&self, writer: &WriterState) {
        self.read_view.store(Arc::new(writer.read_view()));
    }
}
