//! The data plane: one process that accepts connections, runs sandboxed Wasm filters on every request and forwards it.
//!
//! The modules stand in reading order, and each imports only from those below it. Two walks lead through them. A
//! request starts at `listener`, and `stream/handle.rs` has its steps. A configuration update starts at `config`, and
//! `config/apply.rs` has its steps. `docs/architecture.md` draws both.

pub mod args; // The command line.
pub mod app; // Builds the parts in order and runs them until drained.
mod admin; // The admin server, on loopback.
mod config; // Configuration sources, and how a snapshot becomes active.
mod listener; // Bound addresses and accepted connections.
mod server; // Runs downstream connections: HTTP/1, HTTP/2, TCP.
mod stream; // One HTTP request and its response: the spine.
mod connection; // One downstream connection: listener, peer, security, idle time.
mod worker; // One thread: its configuration, pools, VMs and counters.
mod active; // A snapshot made ready to serve.
mod filter; // Filter chains, and the VMs that run them.
mod route; // Virtual hosts and routes: matching and actions.
mod upstream; // Clusters, endpoints, connections to them, attempts.
mod tls; // TLS and mutual TLS.
mod identity; // The proxy's workload identity.
mod control_plane; // Connections to the replicas of the control plane.
mod stream_info; // Facts about a stream: addresses, route, sizes.
mod telemetry; // Metrics, access log, process log.
mod http2_writer; // Writes a body to a stream of an HTTP/2 connection.
mod body; // The body type of every message that the proxy sends.
mod incoming; // The body of every message that the proxy receives.
mod head; // Heads of requests and responses.
mod packed_headers; // A compact copy of a header map.
mod error; // The table of request failures.
mod drain; // Graceful shutdown.
mod fast_hash; // A fast hash for trusted keys.
mod task; // Named tasks.
mod replica_files; // Files stored once per replica of the control plane.
mod limits; // Every limit of the data plane.
