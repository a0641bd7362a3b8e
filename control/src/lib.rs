//! The control plane: one for many proxies. What is here so far is the half that faces them: a snapshot goes in, every
//! proxy has it, each in its own protocol, and fetches each module once.
//!
//! ```text
//! Snapshot ─► Board ─► Offer for our proxies ─┐
//!               │  └─► Offer for Envoys ──────┴─► serve/ads.rs: one task for each stream ─► proxies
//!               └────► modules by hash ─────────► serve/modules.rs: plain HTTP
//! ```

// From the top: each module uses only those below it. (The blank lines keep the formatter from sorting them.)

// What faces the proxies.
pub mod serve;

// What is told now.
pub mod board;

// Modules, known by their hash.
pub mod module_store;

// Named tasks.
mod task;

// Every bound.
pub mod limits;

pub use board::Board;
pub use module_store::ModuleStore;
