//! The control plane: one for many proxies. What people apply, or write into a watched folder, is compiled, kept and told
//! to every proxy, each in its own scope and protocol.
//!
//! ```text
//! API ────┐                                            ┌─► serve/ads.rs: one task for each stream ─► proxies
//! files ──┴─► publish ─► store (kept) ─► board (told) ─┴─► serve/modules.rs: modules by hash
//!                                          status ◄────── ACK, NACK, reports
//! ```
//!
//! The walk of a change is told in `publish/mod.rs`.

// From the top: each module uses only those below it. (The blank lines keep the formatter from sorting them.)

// The command line.
pub mod args;

// Builds the parts in order and runs them.
pub mod app;

// What faces people.
pub mod api;

// The one writer.
pub mod publish;

// What faces the proxies.
pub mod serve;

// Who is who.
pub mod authority;

// What became of what was told.
pub mod status;

// What is told now.
pub mod board;

// Modules, known by their hash.
pub mod module_store;

// Filters, started before they are told.
pub mod loader;

// Modules that were pushed.
pub mod bundle;

// Workloads that register themselves.
pub mod registry;

// Who may do what.
pub mod access;

// What was applied, kept.
pub mod store;

// Files for this user alone.
mod private_file;

// Connections whose handshakes are done.
mod handshakes;

// Named tasks.
mod task;

// Every bound.
pub mod limits;

pub use board::Board;
pub use module_store::ModuleStore;
pub use status::ProxyBook;
