//! What the control plane said last, on disk: a proxy that starts while nobody is there to ask serves that. Written beside
//! the process by a task of its own, the newest only; a file appears whole or not at all.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;
use tracing::warn;
use weir_xds::SavedResource;
use weir_xds::limits::MAX_MESSAGE_BYTES;
use weir_xds::saved::{from_bytes, to_bytes};

use crate::private_file;
use crate::task;

type Resources = Vec<Arc<SavedResource>>;

/// What the control plane said last.
pub(crate) struct LastGood {
    paths: Vec<PathBuf>,
    newest: watch::Sender<Resources>,
}

impl LastGood {
    /// Kept at these paths, one for each replica of the control plane: they come and go.
    pub(crate) fn open(paths: Vec<PathBuf>) -> Self {
        let (newest, mut changes) = watch::channel(Resources::new());
        let targets = paths.clone();
        task::spawn("last good configuration", async move {
            while changes.changed().await.is_ok() {
                let (resources, paths) = (changes.borrow_and_update().clone(), targets.clone());
                task::blocking("last good configuration", move || write_or_warn(&paths, &resources)).await;
            }
        });
        Self { paths, newest }
    }

    /// What was kept, none if nothing was.
    pub(crate) fn read(&self) -> Vec<SavedResource> {
        let Some(newest) = private_file::newest(&self.paths) else { return Vec::new() };
        let path = newest.display();
        match fs::read(newest) {
            Ok(bytes) if bytes.len() <= MAX_MESSAGE_BYTES => from_bytes(&bytes).unwrap_or_else(|| {
                warn!(%path, "what was kept of the control plane is damaged and left alone");
                Vec::new()
            }),
            Ok(_) => Vec::new(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => {
                warn!(%path, %error, "what was kept of the control plane cannot be read");
                Vec::new()
            }
        }
    }

    /// Keeps these from now on.
    pub(crate) fn keep(&self, resources: Resources) {
        self.newest.send_replace(resources);
    }
}

fn write_or_warn(paths: &[PathBuf], resources: &[Arc<SavedResource>]) {
    let bytes = to_bytes(resources.iter().map(|resource| &**resource));
    for path in paths {
        // Routes may name what others must not know.
        if let Err(error) = private_file::write(path, &bytes) {
            let path = path.display();
            warn!(%path, %error, "what the control plane said cannot be kept; a restart needs it to be there");
        }
    }
}
