//! Filter chains: runs the Wasm filters of a stream and passes on what they let through. Six folders and the registry above
//! them; each imports only from those below it:
//!
//! ```text
//!  worker_plugins   configuration in, chains of plugins out
//!  tasks            runs beside streams: dispatches effects, timers, callouts, shutdowns. The only code that spawns
//!  invoke           calls guests. The only code that does; synchronous
//!  host             what a guest sees and changes during a call: answers hostcalls, queues commands and effects
//!  instance         plugins and VMs of a worker, as data with explicit states
//!  callout          requests, bounds and bookkeeping of callouts, without IO
//!  chain            the state machine of one stream: which callback runs next, and what may leave
//! ```
//!
//! A request: `stream` passes an event ─► `invoke/stream.rs` ─► `chain/driver.rs` picks a filter ─► `invoke` calls its
//! VM ─► `host` answers its hostcalls ─► `chain` applies the result. What a call makes happen elsewhere is an effect,
//! which `tasks` dispatches when no guest runs.
//!
//! A callout of a paused request: `host` admits it ─► effect ─► `tasks` sends it, and passes the response to `invoke`,
//! which calls the guest on its plugin context ─► the guest continues the stream: a command in the stream's exchange, and
//! an effect that resumes it ─► `chain` forwards.
//!
//! A trap: `invoke` passes it to `instance`, which ends the VM for all of its plugins and abandons their callouts. In the
//! stream that was called, if the call was about one, `chain` applies the filter's failure policy at once. Each other filter
//! that has a context in the VM gets an effect ─► `tasks` passes it to the filter's stream ─► `chain` applies its policy.
//! The filter is bypassed from then on; `Open` forwards, `Closed` replies or resets.

mod worker_plugins; // The plugins of one worker.
mod tasks; // Timers, queues, callouts, shutdowns.
mod invoke; // Calls guests.
mod host; // Answers hostcalls.
mod instance; // Plugins and VMs.
mod callout; // Callouts in flight.
mod chain; // The state machine of a chain.

pub(crate) use chain::{
    Direction, EndOfStream, Event, Exchange, GrpcForm, HeadChange, LocalReply, OutputFrame, is_grpc,
};
pub(crate) use instance::{
    ActivePlugin, FilterStream, PluginHandle, PluginId, SharedPluginState, SharedStream, VmPoolOptions, VmStartRequest,
};
pub(crate) use worker_plugins::WorkerPlugins;
