//! The threads of the process: one main runtime for everything off the request path, and the workers, each with its own
//! runtime.

use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use rustix::process::{Resource, Rlimit};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;
use tracing::{error, info};

use crate::active::ActiveConfig;
use crate::identity::Identity;
use crate::limits::{BLOCKING_THREAD_IDLE, MAX_BLOCKING_THREADS};
use crate::listener::{ListenerAssignment, WorkerAcceptor, WorkerAcceptorOptions};
use crate::telemetry::{AccessLog, AccessLogWriter, Metrics};
use crate::worker::{Worker, WorkerOptions};

/// Returns the runtime for everything off the request path: one thread, and a few more for blocking work.
pub(super) fn main_runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_THREAD_IDLE)
        .thread_name("blocking")
        .build()
}

/// Raises the limit of open files to the hard limit: each connection is a file descriptor.
pub(super) fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
            info!(%error, "the limit of open files cannot be raised");
        }
    }
}

/// The parts that the workers share.
pub(super) struct WorkersOptions<'a> {
    /// The number of workers.
    pub(super) workers: usize,
    /// The active configuration.
    pub(super) active: Arc<ArcSwap<ActiveConfig>>,
    /// The metrics of all workers.
    pub(super) metrics: Arc<Metrics>,
    /// The time limit for connections of a removed listener to finish.
    pub(super) drain_timeout: Duration,
    /// The identity of the proxy.
    pub(super) identity: Arc<Identity>,
    /// The writer of the access log.
    pub(super) access_log: &'a AccessLogWriter,
}

/// The worker threads.
pub(super) struct WorkerThreads {
    assignments: Vec<watch::Sender<ListenerAssignment>>,
    threads: Vec<JoinHandle<()>>,
    /// The indexes of workers that have exited.
    exits: mpsc::Receiver<usize>,
}

impl WorkerThreads {
    /// Starts the threads. They have no listeners yet.
    pub(super) fn start(options: &WorkersOptions<'_>) -> anyhow::Result<Self> {
        let (exit_sender, exits) = mpsc::channel(options.workers);
        let mut this = Self { assignments: Vec::new(), threads: Vec::new(), exits };
        for index in 0..options.workers {
            let (assignment, assigned) = watch::channel(ListenerAssignment::default());
            let runtime = Builder::new_current_thread().enable_all().build().context("no runtime for a worker")?;
            let thread = WorkerThread {
                index,
                assigned,
                active: Arc::clone(&options.active),
                metrics: Arc::clone(&options.metrics),
                drain_timeout: options.drain_timeout,
                identity: Arc::clone(&options.identity),
                access_log: options.access_log.for_worker(),
                _exit: WorkerExitGuard { index, sender: exit_sender.clone() },
            };
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || runtime.block_on(LocalSet::new().run_until(thread.run())))
                .context("no thread for a worker")?;
            this.assignments.push(assignment);
            this.threads.push(thread);
        }
        Ok(this)
    }

    /// Returns the senders of listener assignments, one per worker.
    pub(super) fn assignments(&self) -> Vec<watch::Sender<ListenerAssignment>> {
        self.assignments.clone()
    }

    /// Waits until a worker exits, and returns its index. An exit before draining is a bug.
    pub(super) async fn exited(&mut self) -> usize {
        match self.exits.recv().await {
            Some(index) => index,
            None => std::future::pending().await,
        }
    }

    /// Waits until all workers have exited. Cancel-safe.
    pub(super) async fn all_exited(&mut self) {
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            // The message is sent slightly before the thread finishes, so the threads are checked again after 5 ms.
            drop(tokio::time::timeout(Duration::from_millis(5), self.exits.recv()).await);
        }
    }
}

/// Notifies the main thread on drop that a worker exits, normally or by a panic.
struct WorkerExitGuard {
    index: usize,
    sender: mpsc::Sender<usize>,
}

impl Drop for WorkerExitGuard {
    fn drop(&mut self) {
        let _ = self.sender.try_send(self.index); // Fails only if the main thread does not receive any more.
    }
}

/// The parts of one worker thread.
struct WorkerThread {
    index: usize,
    assigned: watch::Receiver<ListenerAssignment>,
    active: Arc<ArcSwap<ActiveConfig>>,
    metrics: Arc<Metrics>,
    drain_timeout: Duration,
    identity: Arc<Identity>,
    access_log: AccessLog,
    _exit: WorkerExitGuard,
}

impl WorkerThread {
    async fn run(self) {
        let Self { index, mut assigned, active, metrics, drain_timeout, identity, access_log, _exit } = self;
        let Some(metrics) = metrics.workers.get(index).cloned() else {
            return error!(worker = index, "a worker has no metrics; this is a bug of the proxy");
        };
        let worker = Worker::new(WorkerOptions { index, active, access_log, metrics, identity });
        let mut acceptor = WorkerAcceptor::new(WorkerAcceptorOptions { worker: Rc::clone(&worker), drain_timeout });
        // Also ends when the sender is dropped, which is at the exit of the process.
        while assigned.changed().await.is_ok() {
            let assignment = assigned.borrow_and_update().clone();
            worker.refresh(); // Before new listeners accept, so that their routes exist.
            acceptor.apply_assignment(&assignment);
            if let Some(deadline) = assignment.drain {
                acceptor.drain(deadline).await;
                break;
            }
        }
        worker.upstreams.close_all(); // Closes idle connections gracefully instead of by reset.
        worker.access_log.flush();
    }
}
