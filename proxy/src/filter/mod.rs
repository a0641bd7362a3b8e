//! A request's way through its filter chain.
//!
//! ```text
//! event ─► driver (stations, outlets) ─► call ─► host-abi: guest ─► hostcalls ─► host ─► exchange
//! ```
//!
//! `driver.rs` decides, `call.rs` enters guests, `host.rs` answers what they ask. Nothing here does IO but `callout.rs`.

mod filters; // All plugins of one worker.
mod retire; // The end of a plugin on a worker.
mod stream; // A stream as its filters know it.
mod call; // Into guests.
mod network; // The same for TCP connections.
mod tick; // Timers.
mod queues; // Entries of shared queues.
mod callout; // Requests that filters make themselves.
mod grpc; // gRPC ones.
mod host; // What host calls see and do.
mod view; // What is at hand for them.
mod splice; // Changing a part of a body.
mod slot; // One plugin's place on one worker.
mod vm_cell; // The VM that it lives in, alone or with others.
mod breaker; // When a failing plugin may be called again.
mod usage; // What its calls cost.
mod complaints; // How often the log tells of a filter's faults.
mod mailbox; // What a call leaves behind for other streams.
mod properties; // What is known of a stream, by path.
mod heads; // Header maps as guests see them.
mod names; // Header names that filters use.
mod driver; // What moves when: the only way into guests.
mod exchange; // One request and its response, as a plain value.
mod chain; // Where both directions stand.
mod station; // One filter's place in one direction.
mod outlet; // Where a direction leaves its filters.
mod reply; // Answers of the proxy's own.
mod event; // The driver's words.
mod facts; // What else is known of a stream.
mod plugin; // A plugin loaded and started.
mod stock; // Started VMs that wait for their workers.
mod state; // What plugins share within the process.

pub(crate) use event::{Event, LocalReply, MessageEnd, Side};
pub(crate) use exchange::Exchange;
pub(crate) use facts::Facts;
pub(crate) use filters::Filters;
pub(crate) use outlet::Piece;
pub(crate) use plugin::ActivePlugin;
pub(crate) use slot::Slot;
pub(crate) use state::PluginState;
pub(crate) use stock::{StockOptions, VmRequest};
pub(crate) use stream::{FilterStream, StreamCell};
