//! TLS of connections: mutual, by identities of the mesh; or with certificates for the world. Plain connections go through the same type.

mod handshake;
mod transport;

pub(crate) use handshake::{Accepted, accept, accept_https, connect};
pub(crate) use transport::Transport;
