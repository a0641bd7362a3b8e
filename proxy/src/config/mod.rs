//! How configuration arrives and becomes active. **The configuration walk is told in `apply.rs`.**
//!
//! ```text
//! files ─► watch ─► source (read, compile) ─► state: prepare ─► warm ─► publish ─► workers
//!                            │                    │               │
//!                            └────────────────────┴───────────────┴─► refused: status (log, /config_dump, metrics)
//! ```
//!
//! A change is taken whole or refused whole; a refused one leaves everything as it was.

mod apply;
mod candidate;
mod file;
mod publish;
mod source;
mod state;
mod status;
mod watch;

pub(crate) use apply::apply_updates;
pub(crate) use publish::Publisher;
pub(crate) use source::FileSource;
pub(crate) use state::{Applied, ConfigState, ConfigStateOptions, refusals};
pub(crate) use status::{ConfigStatus, StatusReport, text};
