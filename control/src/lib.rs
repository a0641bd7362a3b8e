//! The control plane of many proxies. It compiles resources from the API and from watched files into a snapshot, stores
//! each change as a revision, and pushes the snapshot over xDS, each proxy in its own scope and protocol.
//!
//! ```text
//! API ────┐                                           ┌─► serve/ads.rs: one task for each ADS stream ─► proxies
//! files ──┴─► publish ─► store ─────► snapshot_cache ─┴─► serve/modules.rs: modules by hash
//!                        (revisions)  status ◄──────────  ACK, NACK, reports
//! ```
//!
//! `publish/publisher.rs` shows the walk of a change through these modules.

// From the top: each module imports only modules below it. The blank lines keep rustfmt from sorting them.

// The command line.
pub mod args;

// Backs up, restores, checks and recovers a store.
pub mod maintenance;

// Wires the parts together and runs them.
pub mod app;

// The control API: HTTP and JSON.
pub mod api;

// Faults of the store, for readiness.
pub mod health;

// Compiles, stores and publishes changes.
pub mod publish;

// ADS, certificates and modules for proxies.
pub mod serve;

// The CA: signs the certificates of workloads.
pub mod ca;

// Connected proxies and the status of objects.
pub mod status;

// The current snapshot, encoded by client type and scope.
pub mod snapshot_cache;

// The resources that a proxy may see.
pub mod scope;

// Wasm modules by hash.
pub mod module_store;

// Starts filters before they are published.
pub mod filter_validation;

// Bundles that were pushed.
pub mod bundle_store;

// Registered workloads and their leases.
pub mod workload_registry;

// Tokens, roles and the audit log.
pub mod access;

// Revisions and records, in redb or etcd.
pub mod store;

// The monotonic clock and the wall clock.
mod clock;

// Listeners with bounds, and the HTTP server.
mod net;

// Named tasks.
mod task;

// Every limit.
pub mod limits;

pub use module_store::ModuleStore;
pub use snapshot_cache::SnapshotCache;
pub use status::ConnectedProxies;
