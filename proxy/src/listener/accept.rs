//! Accepting on one worker: follows the worker's assignment, takes connections from the sockets and starts a task for
//! each. **The request walk begins here.**
//!
//! A listener that is gone is emptied before its socket closes (a close resets what waits in the queue); its connections
//! end by themselves when their drain watcher fires, and are given up at the deadline.

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

use crate::connection::{self, ListenerFacts};
use crate::drain::{DrainGuard, DrainTrigger, Drained, drain_pair};
use crate::limits::{ACCEPT_PAUSE, MAX_CONNECTIONS_PER_WORKER};
use crate::listener::assignment::Assignment;
use crate::listener::bind::Bound;
use crate::task;
use crate::worker::Worker;

/// What one worker's accepting is made from.
pub(crate) struct AcceptingOptions {
    /// The worker.
    pub(crate) worker: Rc<Worker>,
    /// How long connections of a removed listener may take to end.
    pub(crate) drain_timeout: Duration,
}

/// What one worker accepts on.
pub(crate) struct Accepting {
    options: AcceptingOptions,
    running: Vec<Rc<Running>>,
    /// In flight: every connection of the worker, and every socket that is still accepted on.
    all: Rc<DrainTrigger>,
}

/// One socket of the worker.
struct Running {
    bound: Arc<Bound>,
    /// Replaced when the listener is renamed.
    serving: RefCell<Rc<Serving>>,
    stop: Notify,
    /// Until when connections may take, once it is to stop.
    deadline: Cell<Option<Instant>>,
}

/// One listener and its connections on one worker.
struct Serving {
    facts: Rc<ListenerFacts>,
    drain: DrainTrigger,
    connections: RefCell<Slab<Option<AbortHandle>>>,
}

impl Accepting {
    /// Accepts on nothing yet.
    pub(crate) fn new(options: AcceptingOptions) -> Self {
        let (all, _) = drain_pair();
        Self { options, running: Vec::new(), all: Rc::new(all) }
    }

    /// Begins to accept on what is new in the assignment, and ends what is no longer in it.
    pub(crate) fn follow(&mut self, assignment: &Assignment) {
        let deadline = Instant::now() + self.options.drain_timeout;
        let stays = |running: &Rc<Running>| assignment.listeners.values().any(|it| Arc::ptr_eq(it, &running.bound));
        let (stay, gone): (Vec<_>, Vec<_>) = self.running.drain(..).partition(stays);
        self.running = stay;
        gone.iter().for_each(|running| running.end(deadline));
        for (name, bound) in &assignment.listeners {
            match self.running.iter().find(|running| Arc::ptr_eq(&running.bound, bound)) {
                Some(running) => running.rename(name, &self.options.worker, deadline),
                None => self.open(name, bound),
            }
        }
    }

    /// Ends everything and waits until no connection is left, at most until the deadline.
    pub(crate) async fn drain(&mut self, deadline: Instant) {
        self.running.drain(..).for_each(|running| running.end(deadline));
        self.all.drain(deadline);
        if let Drained::DeadlinePassed(connections) = self.all.drained().await {
            let worker = self.options.worker.index;
            warn!(worker, connections, "connections took too long to end and are cut; see --drain-timeout");
        }
    }

    fn open(&mut self, name: &ListenerName, bound: &Arc<Bound>) {
        let worker = &self.options.worker;
        let Some(socket) = bound.take(worker.index) else { return };
        let socket = match TcpListener::from_std(socket) {
            Ok(socket) => socket,
            Err(error) => {
                return error!(listener = %name, %error, "a bound socket cannot be polled; nothing is accepted");
            }
        };
        let running = Rc::new(Running {
            bound: Arc::clone(bound),
            serving: RefCell::new(Serving::begin(name, bound, worker)),
            stop: Notify::new(),
            deadline: Cell::new(None),
        });
        self.running.push(Rc::clone(&running));
        let accepter =
            Accepter { worker: Rc::clone(worker), running, all: Rc::clone(&self.all), failing: Cell::new(false) };
        task::spawn_local("accept", accepter.accept_loop(socket));
    }
}

impl Running {
    fn end(&self, deadline: Instant) {
        self.deadline.set(Some(deadline));
        self.stop.notify_one();
    }

    /// The socket goes on under another name: old connections drain, new ones know the new name.
    fn rename(&self, name: &ListenerName, worker: &Worker, deadline: Instant) {
        if self.serving.borrow().facts.name == *name {
            return;
        }
        let old = self.serving.replace(Serving::begin(name, &self.bound, worker));
        task::spawn_local("listener drain", old.finish(deadline));
    }
}

impl Serving {
    fn begin(name: &ListenerName, bound: &Bound, worker: &Worker) -> Rc<Self> {
        let (trigger, drain) = drain_pair();
        let metrics = worker.metrics.listener(name);
        let facts = Rc::new(ListenerFacts { name: name.clone(), address: bound.address(), drain, metrics });
        Rc::new(Self { facts, drain: trigger, connections: RefCell::default() })
    }

    /// Lets the connections end by themselves, and cuts those that have not at the deadline.
    async fn finish(self: Rc<Self>, deadline: Instant) {
        self.drain.drain(deadline);
        if self.drain.drained().await == Drained::Empty {
            return debug!(listener = %self.facts.name, "all connections of a listener have ended");
        }
        let handles: Vec<_> = self.connections.borrow().iter().filter_map(|(_, handle)| handle.clone()).collect();
        warn!(listener = %self.facts.name, connections = handles.len(), "connections took too long to end and are cut");
        handles.iter().for_each(AbortHandle::abort);
    }
}

/// Accepts on one socket.
struct Accepter {
    worker: Rc<Worker>,
    running: Rc<Running>,
    all: Rc<DrainTrigger>,
    /// The last accept failed; said once.
    failing: Cell<bool>,
}

impl Accepter {
    async fn accept_loop(self, socket: TcpListener) {
        let accepting = self.all.watcher().guard();
        loop {
            tokio::select! {
                biased;
                () = self.running.stop.notified() => break,
                accepted = socket.accept() => self.took(accepted).await,
            }
        }
        // What waits in the queue has been promised to be served: a close would reset it.
        while let Some(accepted) = accept_now(&socket).await {
            let failed = accepted.as_ref().is_err_and(|error| !is_of_one_connection(error));
            self.took(accepted).await;
            if failed {
                break;
            }
        }
        drop(socket);
        drop(accepting);
        let deadline = self.running.deadline.get().unwrap_or_else(Instant::now);
        let serving = Rc::clone(&self.running.serving.borrow());
        serving.finish(deadline).await;
    }

    async fn took(&self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, peer)) => {
                self.failing.set(false);
                self.start(stream, peer);
            }
            Err(error) if is_of_one_connection(&error) => {
                debug!(%error, "a connection was gone before it was accepted");
            }
            Err(error) => {
                if !self.failing.replace(true) {
                    let listener = &self.running.serving.borrow().facts.name;
                    warn!(%listener, %error, "cannot accept, tried again; out of file descriptors? see `ulimit -n`");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }

    fn start(&self, stream: TcpStream, peer: SocketAddr) {
        let serving = Rc::clone(&self.running.serving.borrow());
        let facts = Rc::clone(&serving.facts);
        facts.metrics.accepted.increment();
        if self.all.in_flight() >= MAX_CONNECTIONS_PER_WORKER {
            facts.metrics.refused.increment();
            return; // Dropped, so closed: the downstream learns it at once and may try another proxy.
        }
        if let Err(error) = stream.set_nodelay(true) {
            return debug!(%error, %peer, "a connection was gone before it was served");
        }
        facts.metrics.connections.increment();
        let key = serving.connections.borrow_mut().insert(None);
        let (all, own) = (self.all.watcher().guard(), facts.drain.guard());
        let place = Place { serving: Rc::clone(&serving), key, _guards: (all, own) };
        let worker = Rc::clone(&self.worker);
        let task = task::spawn_local("connection", async move {
            let _place = place;
            connection::serve(worker, facts, stream, peer).await; // Made here: what a task captures and awaits is in it twice.
        });
        if let Some(handle) = serving.connections.borrow_mut().get_mut(key) {
            *handle = Some(task.abort_handle());
        }
    }
}

/// A connection's place among its listener's; given back when the connection ends, however it does.
struct Place {
    serving: Rc<Serving>,
    key: usize,
    _guards: (DrainGuard, DrainGuard),
}

impl Drop for Place {
    fn drop(&mut self) {
        self.serving.facts.metrics.connections.decrement();
        self.serving.connections.borrow_mut().try_remove(self.key);
    }
}

/// A connection that waits already; `None` when there is none.
async fn accept_now(socket: &TcpListener) -> Option<io::Result<(TcpStream, SocketAddr)>> {
    poll_fn(|context| match socket.poll_accept(context) {
        Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
        Poll::Pending => Poll::Ready(None),
    })
    .await
}

/// accept(2): these are errors of the connection, not of the socket.
fn is_of_one_connection(error: &io::Error) -> bool {
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
    use crate::listener::bind::Probe;
    use crate::telemetry::{AccessLogTarget, AccessLogWriter, Metrics};
    use crate::worker::WorkerOptions;

    const SOON: Duration = Duration::from_secs(20);

    fn accepting(folder: &tempfile::TempDir) -> Accepting {
        let metrics = Arc::new(Metrics::new(1));
        let target = AccessLogTarget::File(folder.path().join("access.log"));
        let access_log = AccessLogWriter::start(target, Arc::clone(&metrics)).unwrap().worker_end();
        let worker = Worker::new(WorkerOptions {
            index: 0,
            active: Arc::new(ArcSwap::from_pointee(ActiveConfig::empty())),
            access_log,
            metrics: Arc::clone(&metrics.workers[0]),
            identity: crate::identity::Identity::none(),
        });
        Accepting::new(AcceptingOptions { worker, drain_timeout: SOON })
    }

    fn bound() -> Arc<Bound> {
        let address = "127.0.0.1:0".parse().unwrap();
        let bound = Bound::bind(address, 1, Probe::First).unwrap_or_else(|error| panic!("{error:?}"));
        bound.listen().unwrap();
        Arc::new(bound)
    }

    fn assignment(name: &str, bound: &Arc<Bound>) -> Assignment {
        let name = ListenerName::new(name).unwrap();
        Assignment { listeners: [(name, Arc::clone(bound))].into(), drain: None }
    }

    /// Sends a request on a thread of its own; gives the first line of the answer.
    async fn ask(mut client: Client) -> String {
        let asked = task::blocking("test", move || {
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer.lines().next().unwrap_or_default().to_owned()
        });
        tokio::time::timeout(SOON, asked).await.unwrap().unwrap()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn connections_are_served_and_draining_ends_when_they_have() {
        let folder = tempfile::tempdir().unwrap();
        let test = async {
            let mut accepting = accepting(&folder);
            let bound = bound();
            accepting.follow(&assignment("a", &bound));
            let answer = ask(Client::connect(bound.address()).unwrap()).await;
            assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
            accepting.drain(Instant::now() + SOON).await;
            let refused = Client::connect(bound.address()).map(|_| ()).unwrap_err();
            assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_serves_a_connection_is_small() {
        let folder = tempfile::tempdir().unwrap();
        let test = async {
            let mut accepting = accepting(&folder);
            let bound = bound();
            accepting.follow(&assignment("a", &bound));
            let facts = Rc::clone(&accepting.running[0].serving.borrow().facts);
            let socket = TcpStream::connect(bound.address()).await.unwrap();
            let peer = socket.local_addr().unwrap();
            let size = size_of_val(&connection::serve(Rc::clone(&accepting.options.worker), facts, socket, peer));
            assert!(size <= 2_048, "{size} bytes for each connection");
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_connection_that_does_not_end_is_cut_at_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let test = async {
            let mut accepting = accepting(&folder);
            let bound = bound();
            accepting.follow(&assignment("a", &bound));
            let mut client = Client::connect(bound.address()).unwrap();
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n").unwrap(); // A head that is never whole.
            while accepting.all.in_flight() < 2 {
                tokio::task::yield_now().await; // The accept loop, and the connection.
            }
            let started = Instant::now();
            accepting.drain(started + Duration::from_millis(50)).await;
            assert!(started.elapsed() < SOON);
        };
        LocalSet::new().run_until(test).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_renamed_listener_goes_on_with_its_socket() {
        let folder = tempfile::tempdir().unwrap();
        let test = async {
            let mut accepting = accepting(&folder);
            let bound = bound();
            accepting.follow(&assignment("a", &bound));
            accepting.follow(&assignment("b", &bound));
            assert_eq!(accepting.running.len(), 1);
            assert_eq!(accepting.running[0].serving.borrow().facts.name.as_str(), "b");
            let answer = ask(Client::connect(bound.address()).unwrap()).await;
            assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        };
        LocalSet::new().run_until(test).await;
    }
}
