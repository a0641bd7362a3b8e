//! TLS of connections: mutual TLS of the mesh, server TLS with the operator's certificates, and TLS with servers. Plaintext connections
//! use the same [`Transport`] type.

mod handshake;
mod client_tls; // TLS with servers outside the mesh.
mod transport;

pub(crate) use client_tls::{ClientTls, WorkerClientTls, machine_authorities};
pub(crate) use handshake::{AcceptedConnection, accept, accept_https, connect, connect_server};
pub(crate) use transport::Transport;
