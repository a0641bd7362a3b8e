//! TLS of connections: mutual TLS of the mesh, and server TLS with the operator's certificates. Plaintext connections
//! use the same [`Transport`] type.

mod handshake;
mod transport;

pub(crate) use handshake::{AcceptedConnection, accept, accept_https, connect};
pub(crate) use transport::Transport;
