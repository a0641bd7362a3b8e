//! The open connections of one listener. At its bound, the oldest connection without a request in progress is closed
//! for the new one, as nginx reuses idle connections. A client that opens connections and sends nothing, or half a
//! request, keeps out no other client.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;
use tracing::warn;

use crate::limits::{CLOSURE_LOG_INTERVAL, MAX_API_CONNECTIONS_PER_CLIENT};
use crate::task;

/// The bounds of a listener.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectionLimits {
    /// The name of the listener in the log.
    pub(crate) listener: &'static str,
    /// Connections of all clients.
    pub(crate) connections: usize,
    /// Connections of one address.
    pub(crate) per_client: usize,
    /// Connections of a loopback address, which is that of all clients on this machine.
    pub(crate) per_loopback: usize,
}

impl ConnectionLimits {
    /// Returns the limits of an HTTP listener. One remote address may use half of the connections, and at most
    /// [`MAX_API_CONNECTIONS_PER_CLIENT`]. All clients of this machine together may use three quarters.
    pub(crate) fn for_http(listener: &'static str, connections: usize) -> Self {
        let per_client = (connections / 2).clamp(1, MAX_API_CONNECTIONS_PER_CLIENT);
        Self { listener, connections, per_client, per_loopback: (connections * 3 / 4).max(1) }
    }

    /// Returns the limits of an xDS listener. Many proxies may share one address, so that no address has a limit.
    pub(crate) fn for_xds(listener: &'static str, connections: usize) -> Self {
        Self { listener, connections, per_client: connections, per_loopback: connections }
    }

    fn of_client(&self, address: IpAddr) -> usize {
        if address.to_canonical().is_loopback() { self.per_loopback } else { self.per_client }
    }
}

/// The open connections of a listener.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: ConnectionLimits,
    /// One permit for each connection. An evicted connection returns its permit when its socket is closed.
    permits: Arc<Semaphore>,
    open: Mutex<OpenConnections>,
    closures: Arc<ClosureLog>,
}

#[derive(Debug, Default)]
struct OpenConnections {
    next_id: u64,
    /// By the order of arrival.
    by_id: BTreeMap<u64, OpenConnection>,
}

#[derive(Debug)]
struct OpenConnection {
    address: IpAddr,
    /// Requests in progress. A connection without one may be evicted.
    requests: usize,
    evicted: Arc<Notify>,
}

/// The result of a search for room for a connection.
#[derive(Debug, PartialEq, Eq)]
enum Room {
    Free,
    /// The connection with this id is to be evicted.
    Evict(u64),
    /// Every connection has a request in progress.
    None,
}

/// An open connection. Dropping it makes room for another one.
#[derive(Debug)]
pub(crate) struct Connection {
    id: u64,
    connections: Arc<Connections>,
    evicted: Arc<Notify>,
    _permit: OwnedSemaphorePermit,
}

/// A request in progress. Its connection is not evicted.
#[derive(Debug)]
pub(crate) struct ActiveRequest(Arc<Connection>);

impl Connections {
    /// Returns a listener's connections: none yet.
    pub(crate) fn new(limits: ConnectionLimits) -> Arc<Self> {
        let closures = Arc::new(ClosureLog { limits, state: Mutex::default() });
        let permits = Arc::new(Semaphore::new(limits.connections));
        Arc::new(Self { limits, permits, open: Mutex::default(), closures })
    }

    /// Registers a connection of a client, and evicts another one if there is no room. Returns `None` if the connection
    /// is refused. Waits until the evicted connection is closed.
    pub(crate) async fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Arc<Connection>> {
        let (id, evicted) = self.register(address)?;
        // The semaphore is never closed, so that this returns a permit.
        let permit = Arc::clone(&self.permits).acquire_owned().await.ok()?;
        Some(Arc::new(Connection { id, connections: Arc::clone(self), evicted, _permit: permit }))
    }

    fn register(&self, address: IpAddr) -> Option<(u64, Arc<Notify>)> {
        let address = address.to_canonical();
        let mut open = self.open.lock();
        match open.room_for(address, &self.limits) {
            Room::Free => {}
            Room::Evict(id) => {
                if let Some(evicted) = open.by_id.remove(&id) {
                    evicted.evicted.notify_one();
                }
                self.closures.record(Closure::Evicted);
            }
            Room::None => {
                self.closures.record(Closure::Refused);
                return None;
            }
        }
        let (id, evicted) = (open.next_id, Arc::new(Notify::new()));
        open.next_id += 1;
        open.by_id.insert(id, OpenConnection { address, requests: 0, evicted: Arc::clone(&evicted) });
        Some((id, evicted))
    }
}

impl OpenConnections {
    fn room_for(&self, address: IpAddr, limits: &ConnectionLimits) -> Room {
        let of_client = || self.by_id.iter().filter(|(_, open)| open.address == address);
        let oldest = |(id, _): (&u64, &OpenConnection)| Room::Evict(*id);
        if of_client().count() >= limits.of_client(address) {
            return of_client().find(|(_, open)| open.requests == 0).map_or(Room::None, oldest);
        }
        if self.by_id.len() >= limits.connections {
            return self.by_id.iter().find(|(_, open)| open.requests == 0).map_or(Room::None, oldest);
        }
        Room::Free
    }
}

impl Connection {
    /// Completes when the connection is to be closed for another one.
    pub(crate) fn evicted(&self) -> OwnedNotified {
        Arc::clone(&self.evicted).notified_owned()
    }

    /// Begins a request. The connection is not evicted before the returned value is dropped.
    pub(crate) fn begin_request(self: &Arc<Self>) -> ActiveRequest {
        self.change_requests(|requests| requests.saturating_add(1));
        ActiveRequest(Arc::clone(self))
    }

    /// Counts the connection as closed because its client was too slow.
    pub(crate) fn record_timeout(&self) {
        self.connections.closures.record(Closure::TimedOut);
    }

    fn change_requests(&self, change: impl Fn(usize) -> usize) {
        if let Some(open) = self.connections.open.lock().by_id.get_mut(&self.id) {
            open.requests = change(open.requests);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.open.lock().by_id.remove(&self.id);
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.change_requests(|requests| requests.saturating_sub(1));
    }
}

/// The reason for closing a connection.
#[derive(Debug, Clone, Copy)]
enum Closure {
    /// A new connection, because there was no room.
    Refused,
    /// An idle connection, for a new one.
    Evicted,
    /// The client did not send its request, or its handshake, in time.
    TimedOut,
}

/// Logs closed connections with their number, at most once in each [`CLOSURE_LOG_INTERVAL`].
#[derive(Debug)]
struct ClosureLog {
    limits: ConnectionLimits,
    state: Mutex<ClosureState>,
}

#[derive(Debug, Default)]
struct ClosureState {
    /// The closures that are not logged yet, by reason.
    counts: [u64; 3],
    /// True while a task logs further closures after the interval.
    is_scheduled: bool,
}

impl ClosureLog {
    fn record(self: &Arc<Self>, closure: Closure) {
        let mut state = self.state.lock();
        state.counts[closure as usize] += 1;
        if state.is_scheduled {
            return;
        }
        state.is_scheduled = true;
        drop(state);
        let log = Arc::clone(self);
        log.write();
        task::spawn("closed connections", log.follow());
    }

    async fn follow(self: Arc<Self>) {
        loop {
            sleep(CLOSURE_LOG_INTERVAL).await;
            if !self.write() {
                return;
            }
        }
    }

    /// Logs the closures since the last line. Returns false if there are none, and ends the schedule.
    fn write(&self) -> bool {
        let [refused, evicted, timed_out] = {
            let mut state = self.state.lock();
            let counts = std::mem::take(&mut state.counts);
            state.is_scheduled = counts != [0; 3];
            counts
        };
        let ConnectionLimits { listener, connections, per_client, per_loopback } = self.limits;
        if refused + evicted + timed_out == 0 {
            return false;
        }
        warn!(
            listener,
            refused, evicted, timed_out, connections, per_client, per_loopback, "connections closed by their limits"
        );
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCAL: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn remote(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    async fn is_evicted(connection: &Connection) -> bool {
        let evicted = connection.evicted();
        tokio::time::timeout(std::time::Duration::from_millis(1), evicted).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn oldest_connection_without_a_request_makes_room() {
        let connections = Connections::new(ConnectionLimits::for_xds("test", 2));
        let busy = connections.admit(LOCAL).await.unwrap();
        let request = busy.begin_request();
        let idle = connections.admit(LOCAL).await.unwrap();
        let closes = async {
            idle.evicted().await;
            drop(idle);
        };
        let (third, ()) = tokio::join!(connections.admit(LOCAL), closes);
        let third = third.unwrap();
        assert!(!is_evicted(&busy).await && !is_evicted(&third).await);
        let other_request = third.begin_request();
        assert!(connections.admit(LOCAL).await.is_none(), "every connection has a request");
        drop(request);
        let waits = connections.admit(LOCAL);
        tokio::pin!(waits);
        assert!(tokio::time::timeout(std::time::Duration::from_secs(1), &mut waits).await.is_err());
        assert!(is_evicted(&busy).await, "its request has ended");
        drop((busy, other_request));
        assert!(waits.await.is_some(), "the evicted connection is closed");
    }

    #[tokio::test(start_paused = true)]
    async fn client_at_its_limit_evicts_its_own_connections() {
        let connections = Connections::new(ConnectionLimits::for_http("test", 4));
        let other = connections.admit(remote(2)).await.unwrap();
        let first = connections.admit(remote(1)).await.unwrap();
        let second = connections.admit(remote(1)).await.unwrap();
        let third = connections.admit(remote(1)).await.unwrap();
        assert!(is_evicted(&first).await && !is_evicted(&second).await && !is_evicted(&other).await);
        drop(first);
        let _requests = [second.begin_request(), third.begin_request()];
        assert!(connections.admit(remote(1)).await.is_none(), "its connections have requests");
        assert!(connections.admit(remote(3)).await.is_some(), "another client has room");
    }

    #[test]
    fn loopback_is_many_clients() {
        let limits = ConnectionLimits::for_http("test", 64);
        assert_eq!((limits.of_client(LOCAL), limits.of_client(remote(1))), (48, 32));
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        assert_eq!(limits.of_client(mapped), 48);
    }
}
