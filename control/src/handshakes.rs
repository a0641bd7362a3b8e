//! Connections whose handshakes are done: so many handshakes at a time, each in its time, and so many connections.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::limits::{ACCEPT_PAUSE, HANDSHAKE_TIMEOUT, MAX_HANDSHAKES};
use crate::task;

/// What `handshake` makes of each connection, with its place among `most`, which it keeps for as long as it lasts.
pub(crate) fn accept<T, F>(
    listener: TcpListener,
    most: usize,
    handshake: impl Fn(TcpStream, SocketAddr) -> F + Send + 'static,
) -> mpsc::Receiver<(T, OwnedSemaphorePermit)>
where
    T: Send + 'static,
    F: Future<Output = Option<T>> + Send + 'static,
{
    let (accepted, receiver) = mpsc::channel(1);
    let (places, connections) = (Arc::new(Semaphore::new(MAX_HANDSHAKES)), Arc::new(Semaphore::new(most)));
    task::spawn("accept", async move {
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            let (socket, address) = match listener.accept().await {
                Ok(found) => found,
                Err(error) => {
                    warn!(%error, "a connection cannot be accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(connection) = Arc::clone(&connections).try_acquire_owned() else { continue };
            drop(socket.set_nodelay(true)); // Only slower without.
            let (done, accepted) = (timeout(HANDSHAKE_TIMEOUT, handshake(socket, address)), accepted.clone());
            task::spawn("handshake", async move {
                let done = done.await;
                drop(place);
                match done {
                    Ok(Some(done)) => drop(accepted.send((done, connection)).await),
                    Ok(None) => {}
                    Err(_) => debug!(%address, "the handshake takes too long"),
                }
            });
        }
    });
    receiver
}
