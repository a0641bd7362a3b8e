//! Filter chains: runs the Wasm filters of a stream and passes on what they let through.
//!
//! ```text
//! Event ─► driver (filter states, outputs) ─► invoke ─► host-abi: guest ─► hostcalls ─► scope ─► exchange
//! ```
//!
//! `driver.rs` decides which callback runs next, `invoke.rs` calls guests, and `hostcalls.rs` answers their hostcalls.
//! Only `callout.rs` and `callout_grpc.rs` do IO.

mod worker_plugins; // The plugins of one worker.
mod shutdown; // Shuts a plugin down on a worker.
mod stream; // A stream and its filters.
mod invoke; // Calls guests about HTTP streams.
mod invoke_tcp; // Calls guests about TCP connections.
mod timer; // Timers of plugins.
mod queue_ready; // Notifications of shared queues.
mod callout; // HTTP callouts, and the table of all callouts.
mod callout_grpc; // gRPC callouts.
mod hostcalls; // Answers hostcalls.
mod guest_reply; // Local replies of guests.
mod scope; // What one call into a guest may read and change.
mod body_edit; // Replaces a range of a body.
mod plugin_instance; // One plugin in one VM of a worker.
mod vm_instance; // One VM of a worker, with one plugin or several.
mod breaker; // The circuit breaker of a failing plugin.
mod cpu_budget; // CPU time of calls into a plugin, and its limit.
mod log_throttle; // Limits log lines about a filter's misuse.
mod effects; // Notifications that a call leaves for other streams.
mod properties; // Properties of a stream, by path.
mod header_map; // Header maps as guests see them.
mod header_names; // Interned header names.
mod driver; // The state machine of a filter chain.
mod exchange; // One request and its response, as a plain value.
mod chain_state; // State of both directions of a stream.
mod filter_state; // State of one filter in one direction.
mod output; // Output of one direction, after its last filter.
mod local_reply; // Local replies of the proxy.
mod event; // Events, commands and failures of a stream.
mod stream_info; // Facts about a stream: addresses, route, sizes.
mod active_plugin; // A loaded and started plugin, shared by the workers.
mod vm_pool; // Started spare VMs of a plugin.
mod shared_state; // State that plugins share within the process.

pub(crate) use active_plugin::ActivePlugin;
pub(crate) use event::{Direction, EndOfStream, Event, LocalReply};
pub(crate) use exchange::Exchange;
pub(crate) use output::OutputFrame;
pub(crate) use plugin_instance::PluginInstance;
pub(crate) use shared_state::SharedPluginState;
pub(crate) use stream::{FilterStream, SharedStream};
pub(crate) use stream_info::StreamInfo;
pub(crate) use vm_pool::{VmPoolOptions, VmStartRequest};
pub(crate) use worker_plugins::WorkerPlugins;
