//! The publisher: compiles, validates, stores and publishes changes, one at a time. It is the only writer of the
//! snapshot cache. `publisher.rs` shows the walk of a change.
//!
//! ```text
//! request ─► objects ─┐
//! files ──────────────┴─► compile (weir-resources) ─► validate ─► store ─► snapshot cache ─► every proxy
//!                              └──────────────────────┴─► rejected: file:line:column, field, reason, hint
//! ```
//!
//! Every method of [`Publisher`] blocks on its lock, the disk or etcd, unless its documentation states otherwise.

// From the top: each module imports only modules below it. The blank lines keep rustfmt from sorting them.

mod bundles;

mod workloads;

mod files;

mod store_sync;

mod read_view;

mod validate;

mod publisher;

mod diagnostics;

mod state;

mod admission;

mod change;

mod error;

pub use bundles::PushResult;
pub use change::{Change, ChangeRequest, ChangeResult, DryRun};
pub use error::ChangeError;
pub use publisher::{Publisher, PublisherDeps};
pub use read_view::PublishedObject;
