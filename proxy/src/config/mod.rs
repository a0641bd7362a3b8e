//! How configuration arrives and becomes active. **The configuration walk is told in `apply.rs`.**
//!
//! ```text
//! files, watched (crate `weir-file-source`) ───────┐
//! control plane ─► xds (decode, complete) ──┴─► state: prepare ─► warm ─► publish ─► workers
//!                            │                        │            │
//!                            └────────────────────────┴────────────┴─► refused: status (log, /config_dump, metrics)
//! ```
//!
//! From files a change is taken whole or refused whole; of what a control plane sends, what is good is taken and what is
//! not is refused by field. A refused change leaves everything as it was.

use tokio::sync::watch as channel;
use weir_file_source::{FileSource, Update, WatchSignal};

mod apply;
mod candidate;
mod last_good;
mod publish;
mod state;
mod status;
mod xds;

pub(crate) use apply::apply_updates;
pub(crate) use last_good::LastGood;
pub(crate) use publish::Publisher;
pub(crate) use state::{Applied, ConfigState, ConfigStateOptions, Outcome, refusals};
pub(crate) use status::{ConfigStatus, StatusReport, text};
pub(crate) use xds::{XdsOptions, XdsSource};

/// Where the configuration comes from.
pub(crate) enum ConfigSource {
    /// Files, watched.
    Files(Box<FileSource>),
    /// A control plane.
    ControlPlane(Box<XdsSource>),
}

impl ConfigSource {
    /// Makes the source look again, if it can: a control plane tells by itself.
    pub(crate) fn signal(&self) -> Option<WatchSignal> {
        match self {
            Self::Files(source) => Some(source.signal()),
            Self::ControlPlane(_) => None,
        }
    }

    /// Follows the source, and keeps the newest update where `updates` can be taken from. Ends with its receiver.
    pub(crate) async fn follow(self, updates: channel::Sender<Option<Update>>) {
        match self {
            Self::Files(source) => source.follow(updates).await,
            Self::ControlPlane(source) => source.follow(updates).await,
        }
    }
}
