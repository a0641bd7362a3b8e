//! Runs Proxy-Wasm filters: the contract, and its host on wasmtime.
//!
//! ```text
//! Engine ──► Module ──► Plugin ──► Vm ──► stream contexts
//!            (code)     (+ settings)  │
//!                                     │  on_request_headers(host, context, ...)
//!               proxy ────────────────┼──────────────► guest
//!               Host  ◄───────────────┴─ hostcalls ◄───  │
//! ```
//!
//! A caller makes an [`Engine`], gets a [`Module`] from the [`ModuleCache`], puts it with its settings into a
//! [`Plugin`], starts a [`Vm`], and calls the guest's callbacks. With each call it lends the VM a [`Host`], which
//! answers the guest's hostcalls. Nothing a guest does can harm more than the VM it runs in: pointers, lengths, types,
//! time, memory and output are bounded.
//!
//! The modules below are in reading order; each imports only from those after it.

pub mod start_host;
pub mod test_host;
pub mod vm;

pub mod plugin;

pub mod cache;
pub mod module;

mod artefact;
mod wasi;

mod hostcalls;
mod memory;
mod state;

mod contexts;
mod deadline;
mod entry;
mod growth;
mod interface;
mod lend;
mod log_budget;

pub mod host;

pub mod engine;
pub mod foreign;
pub mod settings;
pub mod shared;

pub mod context_table;
pub mod failure;

pub mod abi;
pub mod limits;

pub use abi::action::{BodyAction, ConnectionAction, HeaderPause, HeadersAction, TrailersAction};
pub use abi::context::ContextId;
pub use abi::status::Status;
pub use cache::{CacheError, ModuleCache};
pub use context_table::ContextTable;
pub use engine::{Engine, EngineError, EngineOptions, Isolation};
pub use failure::{Failure, FailureKind};
pub use host::{EndOfStream, Host};
pub use interface::Exports;
pub use limits::Limits;
pub use module::{Module, ModuleError, ModuleHash};
pub use plugin::Plugin;
pub use settings::{PluginSettings, StreamSight};
pub use shared::{Metric, MetricTable, Metrics, Namespace, SharedData, SharedQueues, SharedState};
pub use start_host::{StartHost, StartRefusal, Started, start};
pub use vm::{CalloutResponse, StartError, StartStep, Vm};
