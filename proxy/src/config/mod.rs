//! Configuration sources, and the steps from an update to the active configuration. **`apply.rs` has the configuration
//! walk.**
//!
//! ```text
//! files, watched (crate `weir-file-source`) ┐
//! control plane ─► xds (decode, complete) ──┴─► state: prepare ─► warm ─► publish ─► workers
//!                            │                        │            │
//!                            └────────────────────────┴────────────┴─► rejected: status (log, /config_dump, metrics)
//! ```
//!
//! A change of files is applied or rejected as a whole. From a control plane, valid resources are applied and invalid
//! ones are rejected by field. A rejected change leaves the active configuration as it was.

use tokio::sync::watch as channel;
use weir_file_source::{ConfigUpdate, FileSource, WatchSignal};

mod apply;
mod xds;
mod state;
mod candidate;
mod publish;
mod status;
mod resource_versions;
mod mesh_guard;
mod last_known_good;

pub(crate) use apply::apply_updates;
pub(crate) use last_known_good::LastKnownGood;
pub(crate) use publish::Publisher;
pub(crate) use state::{ApplyResult, ConfigState, ConfigStateOptions, UpdateOutcome, diagnostics};
pub(crate) use status::{ConfigStatus, ConfigStatusReport, format_diagnostics};
pub(crate) use xds::{XdsOptions, XdsSource};

/// The source of the configuration.
pub(crate) enum ConfigSource {
    /// Watched files.
    Files(Box<FileSource>),
    /// A control plane.
    ControlPlane(Box<XdsSource>),
}

impl ConfigSource {
    /// Returns the signal that rereads the files. `None` for a control plane, which pushes its changes.
    pub(crate) fn signal(&self) -> Option<WatchSignal> {
        match self {
            Self::Files(source) => Some(source.signal()),
            Self::ControlPlane(_) => None,
        }
    }

    /// Publishes the newest update of the source in `updates`. Returns when its receiver is dropped.
    pub(crate) async fn run(self, updates: channel::Sender<Option<ConfigUpdate>>) {
        match self {
            Self::Files(source) => source.follow(updates).await,
            Self::ControlPlane(source) => source.run(updates).await,
        }
    }
}
