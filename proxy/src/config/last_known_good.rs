//! The last known good resources of the control plane, on disk. A proxy that starts without its control plane serves
//! them. A task of its own writes the newest set only; files are replaced atomically.

use std::fs;
use std::io;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::warn;
use weir_xds::PersistedResource;
use weir_xds::limits::MAX_MESSAGE_BYTES;
use weir_xds::persist::{PersistedMesh, from_bytes, to_bytes};

use crate::replica_files::ReplicaFiles;
use crate::task;

/// The accepted resources of a mesh.
#[derive(Debug, Clone, Default)]
pub(crate) struct AcceptedResources {
    /// The id of the mesh; `None` if its control plane sends none.
    pub(crate) mesh: Option<String>,
    /// The resources.
    pub(crate) resources: Vec<Arc<PersistedResource>>,
}

/// The last accepted resources of the control plane, on disk.
pub(crate) struct LastKnownGood {
    files: ReplicaFiles,
    latest: watch::Sender<AcceptedResources>,
}

impl LastKnownGood {
    /// Starts the task that writes `files`.
    pub(crate) fn open(files: ReplicaFiles) -> Self {
        let (latest, mut changes) = watch::channel(AcceptedResources::default());
        let targets = files.clone();
        task::spawn("last good configuration", async move {
            while changes.changed().await.is_ok() {
                let (accepted, files) = (changes.borrow_and_update().clone(), targets.clone());
                task::blocking("last good configuration", move || write_or_warn(&files, &accepted)).await;
            }
        });
        Self { files, latest }
    }

    /// Returns the stored resources; none if no file exists or the newest one is unreadable. Blocks on the disk.
    pub(crate) fn read(&self) -> PersistedMesh {
        let Some(newest) = self.files.newest() else { return PersistedMesh::default() };
        let path = newest.display();
        match fs::read(newest) {
            Ok(bytes) if bytes.len() <= MAX_MESSAGE_BYTES => from_bytes(&bytes).unwrap_or_else(|| {
                warn!(%path, "the last known good configuration is damaged and ignored");
                PersistedMesh::default()
            }),
            Ok(_) => PersistedMesh::default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => PersistedMesh::default(),
            Err(error) => {
                warn!(%path, %error, "the last known good configuration cannot be read");
                PersistedMesh::default()
            }
        }
    }

    /// Stores these resources in place of the previous ones, soon after the call. Does not block.
    pub(crate) fn save(&self, accepted: AcceptedResources) {
        self.latest.send_replace(accepted);
    }
}

fn write_or_warn(files: &ReplicaFiles, accepted: &AcceptedResources) {
    let bytes = to_bytes(accepted.mesh.as_deref(), accepted.resources.iter().map(|resource| &**resource));
    files.write(&bytes, |path, error| {
        let path = path.display();
        warn!(%path, %error, "the last known good configuration cannot be stored; a restart needs the control plane");
    });
}
