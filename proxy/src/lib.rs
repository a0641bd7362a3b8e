//! The data plane: one process that accepts connections, runs sandboxed Wasm filters on every request and sends it on.
//!
//! The modules stand in reading order, and each imports only from those below it. Two walks lead through them:
//! a request starts at `listener` and is told in `stream/handle.rs`; a change of configuration starts at `config`
//! and is told in `config/apply.rs`. `docs/architecture.md` draws both.

pub mod args; // The command line.
pub mod app; // Builds the parts in order and runs them until drained.
mod admin; // Pages for operators, on loopback.
mod config; // How configuration arrives and becomes active.
mod listener; // Sockets in.
mod connection; // One downstream connection: which codec serves it.
mod stream; // One HTTP request and its response: the spine.
mod worker; // One thread: its view of the configuration, its pools, its VMs.
mod active; // A snapshot made ready to serve.
mod filter; // A request's way through its filter chain.
mod route; // Which route a request takes, and what the route does to it.
mod upstream; // To an endpoint and back.
mod tls; // Connections that prove who is there.
mod identity; // Who this proxy is.
mod telemetry; // Metrics, access log, process log.
mod body; // The one body type that goes to hyper.
mod head; // Heads of requests and responses.
mod kept_headers; // A cheap copy of headers, for whoever may want it later.
mod error; // The one list of ways in which a request fails.
mod drain; // Ending gracefully.
mod hashing; // A fast hash for tables whose keys nobody outside chooses.
mod task; // Named tasks.
mod private_file; // Files that are ours alone and appear whole.
mod limits; // Every bound of the data plane.
