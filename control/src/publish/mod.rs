//! The publisher: compiles, validates, stores and publishes changes, one at a time. It is the only writer of the
//! snapshot cache. `publisher.rs` shows the walk of a change.
//!
//! ```text
//! request ─► objects ─┐
//! files ──────────────┴─► compile (weir-resources) ─► encode, test-start ─► commit ─► publish ─► proxies
//!                              └──────────────────────┴─► rejected: file:line:column, field, reason, hint
//! ```
//!
//! The methods of [`Publisher`] that change or synchronize state block on its lock, the disk or etcd. The methods
//! in `read_view.rs`, and the accessors `Publisher::store` and `Publisher::subscribe`, do not block.

// From the top: each module imports only modules below it. The blank lines keep rustfmt from sorting them.

// Pushes and deletes bundles.
mod bundles;

// Publishes the endpoints of registered workloads.
mod workloads;

// Publishes changed files.
mod files;

// Publishes what other replicas (`weir-control` processes with the same store) have committed.
mod store_sync;

// The published objects, for readers without the lock.
mod read_view;

// Has `snapshot_cache` encode a snapshot, then test-starts its filters.
mod validate;

// The walk of a change.
mod publisher;

// Errors, with positions in the requester's text.
mod diagnostics;

// The compiler's warnings, for the author of a change and the status of objects.
mod warnings;

// The state under the lock, and how a request changes its objects.
mod state;

// Changes that take away most of the mesh.
mod shrink;

// The permissions of a request, and the modules that it may use.
mod admission;

// Requests and their results.
mod change;

// The error of a change.
mod error;

pub use bundles::PushResult;
pub use change::{Change, ChangeRequest, ChangeResult, DryRun};
pub use error::{ChangeError, FilesError};
pub use publisher::{PublishedSources, Publisher, PublisherDeps};
pub use read_view::PublishedObject;
pub use shrink::ShrinkPolicy;
