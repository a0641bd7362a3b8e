//! Runs downstream connections: security, codec, and the end of each.
//!
//! ```text
//! serve ─► TLS or plaintext ─┬─► http1 | http2 ─► stream::handle, for each request
//!                            └─► tcp: network filters, relay
//! ```

mod http1; // The HTTP/1 server.
mod http1_exchange; // One request and its response, and what follows.
mod http1_head; // The framing of a response, the target of a rejected request.
mod http2; // The HTTP/2 server.
mod tcp; // A connection of a TCP listener.
mod relay; // Bytes between a downstream and an endpoint.
mod detect; // TLS and the HTTP codec, from the first bytes.
mod interrupt; // The end of waiting: timeouts and draining.
mod date; // The `date` header.

use std::net::SocketAddr;
use std::rc::{Rc, Weak};

use tokio::net::TcpStream;
use tracing::{debug, info};
use weir_model::ListenerProtocol;

use crate::connection::{Connection, DownstreamSecurity, ListenerInfo};
use crate::server::detect::Codec;
use crate::server::interrupt::drain_grace_elapsed;
use crate::tls::{self, AcceptedConnection, Transport};
use crate::worker::{HasTimeout, Worker, WorkerConfig};

/// Serves a connection until it closes, times out, or has drained.
pub(crate) async fn serve(worker: Rc<Worker>, listener: Rc<ListenerInfo>, socket: TcpStream, peer: SocketAddr) {
    let options = worker.config(&listener.name).options(&listener.name);
    let connection = Connection::new(listener, peer, worker.next_connection_id(), options);
    let weak: Weak<dyn HasTimeout> = Rc::downgrade(&connection) as Weak<dyn HasTimeout>;
    let timeout_key = worker.timeouts.register(weak);
    let _in_flight = connection.listener.drain.guard();
    let established = tokio::select! {
        established = establish(&worker, &connection, socket) => established,
        () = connection.timed_out.notified() => None,
        () = drain_grace_elapsed(&connection.listener.drain) => None, // No byte of a request has arrived.
    };
    match established {
        Some(EstablishedConnection::Http(transport, codec)) => match codec {
            Codec::Http1 => http1::serve(&worker, &connection, transport).await,
            // On the heap, as TCP below.
            Codec::Http2 => Box::pin(http2::serve(&worker, &connection, transport)).await,
        },
        // On the heap: otherwise every connection's task would reserve memory for TCP.
        Some(EstablishedConnection::Tcp(transport, config)) => {
            Box::pin(tcp::serve(&worker, &connection, &config, transport)).await;
        }
        None => debug!(%peer, listener = %connection.listener.name, "connection closed before its first request"),
    }
    worker.timeouts.unregister(timeout_key);
}

/// A connection after its handshake.
enum EstablishedConnection {
    Http(Transport, Codec),
    /// With the configuration that it uses until it closes.
    Tcp(Transport, Rc<WorkerConfig>),
}

/// Performs the TLS handshake that the listener requires, and detects the codec.
///
/// Returns `None` when the downstream closes first, or is rejected.
async fn establish(worker: &Worker, connection: &Connection, socket: TcpStream) -> Option<EstablishedConnection> {
    let config = worker.config(&connection.listener.name);
    let is_tcp = config.protocol(&connection.listener.name) == ListenerProtocol::Tcp;
    let required = match DownstreamSecurity::required(&config, &connection.listener.name) {
        Some(DownstreamSecurity::MutualTls { allow_plaintext: true }) if !detect::is_tls(&socket).await? => None,
        required => required,
    };
    let accepted = match required {
        Some(DownstreamSecurity::MutualTls { .. }) => tls::accept(socket, &worker.identity).await,
        Some(DownstreamSecurity::Https(config)) => tls::accept_https(socket, config).await,
        // TCP has no codec to detect: either side may send first.
        None if is_tcp => return Some(EstablishedConnection::Tcp(Transport::Plain(socket), config)),
        None => {
            return detect::detect_codec(&socket)
                .await
                .map(|codec| EstablishedConnection::Http(Transport::Plain(socket), codec));
        }
    };
    match accepted {
        Ok(AcceptedConnection { transport, peer, server_name, is_http2 }) => {
            // Set here only, and once.
            drop(peer.map(|peer| connection.identity.set(peer.to_string().into())));
            drop(connection.tls.set(server_name));
            Some(match is_tcp {
                true => EstablishedConnection::Tcp(transport, config),
                false => EstablishedConnection::Http(transport, if is_http2 { Codec::Http2 } else { Codec::Http1 }),
            })
        }
        Err(error) => {
            let (peer, listener) = (connection.peer, &connection.listener.name);
            info!(%peer, %listener, %error, "connection rejected");
            None
        }
    }
}
