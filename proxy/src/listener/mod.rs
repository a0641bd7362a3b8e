//! Listeners. The main thread decides which listeners exist and binds their sockets ([`ListenerSet`]). Each worker
//! accepts on its own sockets ([`WorkerAcceptor`]), so that no accept is contended.
//!
//! ```text
//!  bind_new                publish                      publish without it
//! ──────────► bound ─────────────────► listening ───────────────────────────► draining ──────────► closed
//!  (a rejection               (one assignment to each      (accept until the queue is empty, close the socket,
//!   if it fails)               worker, newest counts)       connections drain until the deadline)
//! ```
//!
//! The kernel spreads connections over the sockets of one address (`SO_REUSEPORT`).

mod set; // The listeners of the process.
mod accept; // Accepting on one worker.
mod assignment; // The listeners of one worker.
mod bind; // The sockets of one address.

pub(crate) use accept::{WorkerAcceptor, WorkerAcceptorOptions};
pub(crate) use assignment::ListenerAssignment;
pub(crate) use set::{DesiredListeners, ListenerSet, ListenerSetOptions, ListenerStatus};
