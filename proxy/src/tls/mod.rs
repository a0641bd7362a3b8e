//! TLS of connections: mutual, by identities of the mesh. Plain connections go through the same type.

mod handshake;
mod transport;

pub(crate) use handshake::{accept, connect};
pub(crate) use transport::Transport;
