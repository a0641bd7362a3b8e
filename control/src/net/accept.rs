//! Accepts connections within the bounds of their listener.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::limits::{ACCEPT_PAUSE, HANDSHAKE_TIMEOUT, MAX_HANDSHAKES};
use crate::net::connections::{Connection, Connections};
use crate::task;

/// Returns the next connection of `listener` for which there is room. Others are closed.
pub(crate) async fn accept_next(
    listener: &TcpListener,
    connections: &Arc<Connections>,
) -> (TcpStream, SocketAddr, Arc<Connection>) {
    loop {
        let (socket, address) = match listener.accept().await {
            Ok(found) => found,
            Err(error) => {
                warn!(%error, "cannot accept connection");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(connection) = connections.admit(address.ip()).await else { continue };
        drop(socket.set_nodelay(true)); // A failure only costs latency.
        return (socket, address, connection);
    }
}

/// Returns the connections of `listener` after their handshakes. At most [`MAX_HANDSHAKES`] run at the same time; more
/// wait in the kernel. `handshake` returns `None` to reject a connection.
pub(crate) fn accept_tls<T, F>(
    listener: TcpListener,
    connections: Arc<Connections>,
    handshake: impl Fn(TcpStream, SocketAddr) -> F + Send + 'static,
) -> mpsc::Receiver<(T, Arc<Connection>)>
where
    T: Send + 'static,
    F: Future<Output = Option<T>> + Send + 'static,
{
    let (accepted, receiver) = mpsc::channel(1);
    let handshakes = Arc::new(Semaphore::new(MAX_HANDSHAKES));
    task::spawn("accept", async move {
        while let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await {
            let (socket, address, connection) = accept_next(&listener, &connections).await;
            let (handshake, accepted) = (timeout(HANDSHAKE_TIMEOUT, handshake(socket, address)), accepted.clone());
            task::spawn("handshake", async move {
                let result = tokio::select! {
                    result = handshake => result,
                    () = connection.evicted() => return,
                };
                drop(permit);
                match result {
                    Ok(Some(stream)) => drop(accepted.send((stream, connection)).await),
                    Ok(None) => {}
                    Err(_) => {
                        debug!(%address, "TLS handshake timed out");
                        connection.record_timeout();
                    }
                }
            });
        }
    });
    receiver
}
