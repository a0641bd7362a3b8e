//! Accepts connections and runs their handshakes, with limits on concurrent handshakes, on their duration and on
//! connections.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::limits::{ACCEPT_PAUSE, HANDSHAKE_TIMEOUT, MAX_HANDSHAKES};
use crate::task;

/// Returns the connections of `listener` after their handshakes. Each has a permit of `max_connections`, to be dropped
/// with the connection. `handshake` returns `None` to reject a connection.
pub(crate) fn accept<T, F>(
    listener: TcpListener,
    max_connections: usize,
    handshake: impl Fn(TcpStream, SocketAddr) -> F + Send + 'static,
) -> mpsc::Receiver<(T, OwnedSemaphorePermit)>
where
    T: Send + 'static,
    F: Future<Output = Option<T>> + Send + 'static,
{
    let (accepted, receiver) = mpsc::channel(1);
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    let connections = Arc::new(Semaphore::new(max_connections));
    task::spawn("accept", async move {
        while let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await {
            let (socket, address) = match listener.accept().await {
                Ok(found) => found,
                Err(error) => {
                    warn!(%error, "cannot accept connection");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(connection) = Arc::clone(&connections).try_acquire_owned() else { continue };
            drop(socket.set_nodelay(true)); // A failure only costs latency.
            let (handshake, accepted) = (timeout(HANDSHAKE_TIMEOUT, handshake(socket, address)), accepted.clone());
            task::spawn("handshake", async move {
                let result = handshake.await;
                drop(permit);
                match result {
                    Ok(Some(stream)) => drop(accepted.send((stream, connection)).await),
                    Ok(None) => {}
                    Err(_) => debug!(%address, "TLS handshake timed out"),
                }
            });
        }
    });
    receiver
}
