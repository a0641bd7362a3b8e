//! What the control plane said last, on disk: a proxy that starts while nobody is there to ask serves that. Written beside
//! the process by a task of its own, the newest only; a file appears whole or not at all.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
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
    path: PathBuf,
    newest: watch::Sender<Resources>,
}

impl LastGood {
    /// Kept in the folder `cache` for this node and Gateway, so that two proxies with one cache do not mix. Where their
    /// control plane is may change.
    pub(crate) fn open(cache: &Path, node: (&str, Option<&str>)) -> Self {
        let who = weir_model::Version::of(&node);
        let path = cache.join("xds").join(format!("{who}.resources"));
        let (newest, mut changes) = watch::channel(Resources::new());
        let target = path.clone();
        task::spawn("last good configuration", async move {
            while changes.changed().await.is_ok() {
                let (resources, path) = (changes.borrow_and_update().clone(), target.clone());
                task::blocking("last good configuration", move || write_or_warn(&path, &resources)).await;
            }
        });
        Self { path, newest }
    }

    /// What was kept, none if nothing was.
    pub(crate) fn read(&self) -> Vec<SavedResource> {
        let path = self.path.display();
        match fs::read(&self.path) {
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

fn write_or_warn(path: &Path, resources: &[Arc<SavedResource>]) {
    let bytes = to_bytes(resources.iter().map(|resource| &**resource));
    // Routes may name what others must not know.
    if let Err(error) = private_file::write(path, &bytes) {
        let path = path.display();
        warn!(%path, %error, "what the control plane said cannot be kept; a restart needs it to be there");
    }
}
