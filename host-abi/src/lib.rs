//! The Proxy-Wasm host: the ABI types, and their implementation on wasmtime.
//!
//! ```text
//! Engine ──► Module ──► Plugin ──► Vm ──► stream contexts
//!            (code)     (+ settings)  │
//!                                     │  on_request_headers(host, context, ...)
//!               proxy ────────────────┼──────────────► guest
//!               Host  ◄───────────────┴─ hostcalls ◄───  │
//! ```
//!
//! A caller creates an [`Engine`], gets a [`Module`] from the [`ModuleCache`], combines it with its settings to a
//! [`Plugin`], starts a [`Vm`], and calls the guest's callbacks. Each call lends the VM a [`Host`], which implements
//! the hostcalls. A guest can damage only the VM that runs it: pointers, lengths, types, time, memory and output are
//! bounded.
//!
//! The modules below are in reading order. Each module imports only from modules listed after it.

pub mod start_host;
pub mod vm;

pub mod plugin;

pub mod cache;
pub mod module;

mod artifact;
mod wasi;

mod hostcalls;
mod memory;
mod vm_state;

mod contexts;
mod deadline;
mod guest_function;
mod host_slot;
mod interface;
mod log_budget;
mod memory_limiter;

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
pub use engine::{Engine, EngineError};
pub use failure::{Failure, FailureKind, LimitedResource, RejectedGrowth};
pub use host::{EndOfStream, Host};
pub use interface::Exports;
pub use limits::Limits;
pub use module::{Module, ModuleError, ModuleHash};
pub use plugin::Plugin;
pub use settings::{PluginRole, PluginSettings};
pub use shared::{Metric, MetricTable, Namespace, NamespaceMetrics, SharedData, SharedQueues, SharedState};
pub use start_host::{StartFailure, StartHost, StartedVm, start};
pub use vm::{CalloutResponseSizes, StartError, StartStep, Vm};
