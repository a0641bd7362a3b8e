//! Sockets in. The main thread decides which listeners there are and binds their sockets ([`ListenerSet`]); each worker
//! accepts on sockets of its own ([`Accepting`]), so that no accept is ever contended.
//!
//! ```text
//!  bind_new                publish                      publish without it
//! ──────────► bound ─────────────────► listening ───────────────────────────► draining ──────────► closed
//!  (a rejection               (one assignment to each      (accept until the queue is empty, close the socket,
//!   if it fails)               worker, newest counts)       let connections end until the deadline)
//! ```
//!
//! The kernel spreads connections over the sockets of one address (`SO_REUSEPORT`).

mod accept;
mod assignment;
mod bind;
mod set;

pub(crate) use accept::{Accepting, AcceptingOptions};
pub(crate) use assignment::Assignment;
pub(crate) use set::{ListenerSet, ListenerSetOptions, ListenerState, WantedListeners};
