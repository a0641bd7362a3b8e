//! Accepts connections on one worker: applies the worker's assignment, accepts from the sockets, and spawns a task for
//! each connection. **The request walk begins here.**
//!
//! A removed listener's accept queue is emptied before its socket closes, because closing resets queued connections.
//! Its connections close when their drain watcher fires, and are aborted at the deadline.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use slab::Slab;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tracing::{debug, error, warn};
use weir_model::ListenerName;

use crate::connection::ListenerInfo;
use crate::drain::{DrainGuard, DrainOutcome, DrainTrigger, drain_pair};
use crate::limits::{ACCEPT_RETRY_PAUSE, MAX_CONNECTIONS_PER_WORKER};
use crate::listener::assignment::ListenerAssignment;
use crate::listener::bind::BoundSockets;
use crate::server;
use crate::task;
use crate::worker::Worker;

/// Parameters of a worker's acceptor.
pub(crate) struct WorkerAcceptorOptions {
    /// The worker.
    pub(crate) worker: Rc<Worker>,
    /// Time for the connections of a removed listener to close.
    pub(crate) drain_timeout: Duration,
}

/// The sockets that one worker accepts on.
pub(crate) struct WorkerAcceptor {
    options: WorkerAcceptorOptions,
    sockets: Vec<Rc<AcceptSocket>>,
    /// Counts every connection of the worker, and every socket that is still accepted on.
    worker_drain: Rc<DrainTrigger>,
}

/// One socket of the worker.
struct AcceptSocket {
    bound: Arc<BoundSockets>,
    /// The connections of the current listener. Replaced when the listener is renamed.
    connections: RefCell<Rc<ListenerConnections>>,
    stop: Notify,
    /// The drain deadline of the connections, once the socket stops accepting.
    deadline: Cell<Option<Instant>>,
}

/// One listener and its connections on one worker.
struct ListenerConnections {
    info: Rc<ListenerInfo>,
    drain_trigger: DrainTrigger,
    handles: RefCell<Slab<Option<AbortHandle>>>,
}

impl WorkerAcceptor {
    /// Returns an acceptor without sockets.
    pub(crate) fn new(options: WorkerAcceptorOptions) -> Self {
        let (worker_drain, _) = drain_pair();
        Self { options, sockets: Vec::new(), worker_drain: Rc::new(worker_drain) }
    }

    /// Starts accepting on new sockets of the assignment, and drains those that it no longer has.
    pub(crate) fn apply_assignment(&mut self, assignment: &ListenerAssignment) {
        let deadline = Instant::now() + self.options.drain_timeout;
        let is_assigned =
            |socket: &Rc<AcceptSocket>| assignment.listeners.values().any(|bound| Arc::ptr_eq(bound, &socket.bound));
        let (assigned, removed): (Vec<_>, Vec<_>) = self.sockets.drain(..).partition(is_assigned);
        self.sockets = assigned;
        removed.iter().for_each(|socket| socket.stop_accepting(deadline));
        for (name, bound) in &assignment.listeners {
            match self.sockets.iter().find(|socket| Arc::ptr_eq(&socket.bound, bound)) {
                Some(socket) => socket.rename(name, &self.options.worker, deadline),
                None => self.open_socket(name, bound),
            }
        }
    }

    /// Drains all sockets. Waits until no connection is left, or the deadline has passed.
    pub(crate) async fn drain(&mut self, deadline: Instant) {
        self.sockets.drain(..).for_each(|socket| socket.stop_accepting(deadline));
        self.worker_drain.drain(deadline);
        if let DrainOutcome::DeadlinePassed(connections) = self.worker_drain.drained().await {
            let worker = self.options.worker.index;
            warn!(worker, connections, "drain deadline passed, closing connections; see --drain-timeout");
        }
    }

    fn open_socket(&mut self, name: &ListenerName, bound: &Arc<BoundSockets>) {
        let worker = &self.options.worker;
        let Some(socket) = bound.take(worker.index) else { return };
        let tcp_listener = match TcpListener::from_std(socket) {
            Ok(tcp_listener) => tcp_listener,
            Err(error) => {
                return error!(listener = %name, %error, "cannot poll a bound socket; its connections are not accepted");
            }
        };
        let socket = Rc::new(AcceptSocket {
            bound: Arc::clone(bound),
            connections: RefCell::new(ListenerConnections::new(name, bound, worker)),
            stop: Notify::new(),
            deadline: Cell::new(None),
        });
        self.sockets.push(Rc::clone(&socket));
        let (worker, worker_drain) = (Rc::clone(worker), Rc::clone(&self.worker_drain));
        let accept_loop = AcceptLoop { worker, socket, worker_drain, failing: Cell::new(false) };
        task::spawn_local("accept", accept_loop.run(tcp_listener));
    }
}

impl AcceptSocket {
    fn stop_accepting(&self, deadline: Instant) {
        self.deadline.set(Some(deadline));
        self.stop.notify_one();
    }

    /// Renames the listener of the socket. Existing connections drain; new ones use the new name.
    fn rename(&self, name: &ListenerName, worker: &Worker, deadline: Instant) {
        if self.connections.borrow().info.name == *name {
            return;
        }
        let old = self.connections.replace(ListenerConnections::new(name, &self.bound, worker));
        task::spawn_local("listener drain", old.drain(deadline));
    }
}

impl ListenerConnections {
    fn new(name: &ListenerName, bound: &BoundSockets, worker: &Worker) -> Rc<Self> {
        let (drain_trigger, drain) = drain_pair();
        let metrics = worker.metrics.listener(name);
        let info = Rc::new(ListenerInfo { name: name.clone(), address: bound.address(), drain, metrics });
        Rc::new(Self { info, drain_trigger, handles: RefCell::default() })
    }

    /// Waits until the connections have closed, and aborts those that are open at the deadline.
    async fn drain(self: Rc<Self>, deadline: Instant) {
        self.drain_trigger.drain(deadline);
        if self.drain_trigger.drained().await == DrainOutcome::Empty {
            return debug!(listener = %self.info.name, "all connections of the listener have closed");
        }
        let handles: Vec<_> = self.handles.borrow().iter().filter_map(|(_, handle)| handle.clone()).collect();
        warn!(listener = %self.info.name, connections = handles.len(), "drain deadline passed, closing connections");
        handles.iter().for_each(AbortHandle::abort);
    }
}

/// The accept loop of one socket.
struct AcceptLoop {
    worker: Rc<Worker>,
    socket: Rc<AcceptSocket>,
    worker_drain: Rc<DrainTrigger>,
    /// True if the last accept failed. Logged once.
    failing: Cell<bool>,
}

impl AcceptLoop {
    async fn run(self, tcp_listener: TcpListener) {
        let accepting = self.worker_drain.watcher().guard();
        loop {
            tokio::select! {
                biased;
                () = self.socket.stop.notified() => break,
                accepted = tcp_listener.accept() => self.on_accept(accepted).await,
            }
        }
        // The kernel has completed the queued connections, and closing the socket would reset them.
        while let Some(accepted) = try_accept(&tcp_listener).await {
            let failed = accepted.as_ref().is_err_and(|error| !is_connection_error(error));
            self.on_accept(accepted).await;
            if failed {
                break;
            }
        }
        drop(tcp_listener);
        drop(accepting);
        let deadline = self.socket.deadline.get().unwrap_or_else(Instant::now);
        let connections = Rc::clone(&self.socket.connections.borrow());
        connections.drain(deadline).await;
    }

    async fn on_accept(&self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, peer)) => {
                self.failing.set(false);
                self.spawn_connection(stream, peer);
            }
            Err(error) if is_connection_error(&error) => {
                debug!(%error, "connection closed before it was accepted");
            }
            Err(error) => {
                if !self.failing.replace(true) {
                    let listener = &self.socket.connections.borrow().info.name;
                    warn!(%listener, %error, "cannot accept, retrying; out of file descriptors? see `ulimit -n`");
                }
                tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
            }
        }
    }

    fn spawn_connection(&self, stream: TcpStream, peer: SocketAddr) {
        let connections = Rc::clone(&self.socket.connections.borrow());
        let info = Rc::clone(&connections.info);
        info.metrics.accepted.increment();
        if self.worker_drain.in_flight() >= MAX_CONNECTIONS_PER_WORKER {
            info.metrics.rejected.increment();
            return; // Dropping closes the connection at once, so that the downstream may try another proxy.
        }
        if let Err(error) = stream.set_nodelay(true) {
            return debug!(%error, %peer, "connection closed before it was served");
        }
        info.metrics.connections.increment();
        let key = connections.handles.borrow_mut().insert(None);
        let guard = ConnectionGuard {
            connections: Rc::clone(&connections),
            key,
            _worker_drain: self.worker_drain.watcher().guard(),
            _listener_drain: info.drain.guard(),
        };
        let worker = Rc::clone(&self.worker);
        let task = task::spawn_local("connection", async move {
            let _guard = guard;
            // Created here: a captured future would be in the task twice.
            server::serve(worker, info, stream, peer).await;
        });
        if let Some(handle) = connections.handles.borrow_mut().get_mut(key) {
            *handle = Some(task.abort_handle());
        }
    }
}

/// Counts a connection of a listener, and removes it when the connection ends.
struct ConnectionGuard {
    connections: Rc<ListenerConnections>,
    key: usize,
    _worker_drain: DrainGuard,
    _listener_drain: DrainGuard,
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.connections.info.metrics.connections.decrement();
        self.connections.handles.borrow_mut().try_remove(self.key);
    }
}

/// Returns a queued connection; `None` when the queue is empty.
async fn try_accept(socket: &TcpListener) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    poll_fn(|context| match socket.poll_accept(context) {
        Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// Returns true for errors of the connection, not of the socket (accept(2)).
fn is_connection_error(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
    )
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream as Client;

    use arc_swap::ArcSwap;
    use tokio::task::LocalSet;

    use super::*;
    use crate::active::ActiveConfig;
    use crate::listener::bind::PortProbe;
    use crate::telemetry::{AccessLogTarget, AccessLogWriter, Metrics};
    use crate::worker::WorkerOptions;

    const SOON: Duration = Duration::from_secs(20);

    fn acceptor(folder: &tempfile::TempDir) -> WorkerAcceptor {
        let metrics = Arc::new(Metrics::new(1));
        let target = AccessLogTarget::File(folder.path().join("access.log"));
        let access_log = AccessLogWriter::start(target, Arc::clone(&metrics)).unwrap().for_worker();
        let worker = Worker::new(WorkerOptions {
            index: 0,
            active: Arc::new(ArcSwap::from_pointee(ActiveConfig::empty())),
            access_log,
            metrics: Arc::clone(&metrics.workers[0]),
            identity: crate::identity::Identity::empty(),
        });
        WorkerAcceptor::new(WorkerAcceptorOptions { worker, drain_timeout: SOON })
    }

    fn bound() -> Arc<BoundSockets> {
        let address = "127.0.0.1:0".parse().unwrap();
        let bound = BoundSockets::bind(address, 1, PortProbe::Check).unwrap_or_else(|error| panic!("{error:?}"));
        bound.listen().unwrap();
        Arc::new(bound)
    }

    fn assignment(name: &str, bound: &Arc<BoundSockets>) -> ListenerAssignment {
        let name = ListenerName::new(name).unwrap();
        ListenerAssignment { listeners: [(name, Arc::clone(bound))].into(), drain: None }
    }

    /// Sends a request from its own thread. Returns the first line of the response.
    async fn send_request(mut client: Client) -> String {
        let response = task::blocking("test", move || {
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
            let mut text = String::new();
            client.read_to_string(&mut text).unwrap();
            text.lines().next().unwrap_or_default().to_owned()
        });
        tokio::time::timeout(SOON, response).await.unwrap().unwrap()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn drain_completes_after_last_connection() {
        let folder = tempfile::tempdir().unwrap();
        let test = async {
            let mut acceptor = acceptor(&folder);
            let bound = bound();
            acceptor.apply_assignment(&assignment("a", &bound));
            let status_line = send_request(Client::connect(bound.address()).unwrap()).await;
            assert!(status_line.starts_with("HTTP/1.1 404"), "{status_line}");
            acceptor.drain(Instant::now() + SOON).await;
            let refused = Client::connect(bound.address()).map(|_| ()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn connection_future_is_small() {
        let folder = tempfile::tempdir().unwrap();
        let test = async {
            let mut acceptor = acceptor(&folder);
            let bound = bound();
            acceptor.apply_assignment(&assignment("a", &bound));
            let info = Rc::clone(&acceptor.sockets[0].connections.borrow().info);
            let socket = TcpStream::connect(bound.address()).await.unwrap();
            let peer = socket.local_addr().unwrap();
            let size = size_of_val(&server::serve(Rc::clone(&acceptor.options.worker), info, socket, peer));
            assert!(size <= 2_048, "{size} bytes for each connection");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn open_connection_is_closed_at_drain_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let test = async {
            let mut acceptor = acceptor(&folder);
            let bound = bound();
            acceptor.apply_assignment(&assignment("a", &bound));
            let mut client = Client::connect(bound.address()).unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").unwrap(); // A head that never ends.
            while acceptor.worker_drain.in_flight() < 2 {
                tokio::task::yield_now().await; // The accept loop, and the connection.
            }
            let started = Instant::now();
            acceptor.drain(started + Duration::from_millis(50)).await;
            assert!(started.elapsed() < SOON);
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn renamed_listener_retains_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let test = async {
            let mut acceptor = acceptor(&folder);
            let bound = bound();
            acceptor.apply_assignment(&assignment("a", &bound));
            acceptor.apply_assignment(&assignment("b", &bound));
            assert_eq!(acceptor.sockets.len(), 1);
            assert_eq!(acceptor.sockets[0].connections.borrow().info.name.as_str(), "b");
            let status_line = send_request(Client::connect(bound.address()).unwrap()).await;
            assert!(status_line.starts_with("HTTP/1.1 404"), "{status_line}");
        };
        LocalSet::new().run_until(test).await;
    }
}
