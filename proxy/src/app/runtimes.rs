//! The threads: one main runtime for everything off the request path, and the workers, each with a runtime of its own.

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
use crate::listener::{Accepting, AcceptingOptions, Assignment};
use crate::telemetry::{AccessLog, AccessLogWriter, Metrics};
use crate::worker::{Worker, WorkerOptions};

/// The runtime of everything off the request path: one thread, and a few more while something blocks.
pub(super) fn main_runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(MAX_BLOCKING_THREADS)
        .thread_keep_alive(BLOCKING_THREAD_IDLE)
        .thread_name("blocking")
        .build()
}

/// Allows as many open files as the system lets us have: each connection is one.
pub(super) fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
            info!(%error, "the limit of open files stays as it is");
        }
    }
}

/// What the workers are made from.
pub(super) struct WorkersOptions<'a> {
    /// How many.
    pub(super) workers: usize,
    /// The configuration that serves.
    pub(super) active: Arc<ArcSwap<ActiveConfig>>,
    /// What they count.
    pub(super) metrics: Arc<Metrics>,
    /// How long connections of a removed listener may take to end.
    pub(super) drain_timeout: Duration,
    /// Who the proxy is.
    pub(super) identity: Arc<Identity>,
    /// Where their lines go.
    pub(super) access_log: &'a AccessLogWriter,
}

/// The worker threads.
pub(super) struct WorkerThreads {
    assignments: Vec<watch::Sender<Assignment>>,
    threads: Vec<JoinHandle<()>>,
    ended: mpsc::Receiver<usize>,
}

impl WorkerThreads {
    /// Starts them; they accept on nothing yet.
    pub(super) fn start(options: &WorkersOptions<'_>) -> anyhow::Result<Self> {
        let (ended_sender, ended) = mpsc::channel(options.workers);
        let mut this = Self { assignments: Vec::new(), threads: Vec::new(), ended };
        for index in 0..options.workers {
            let (assignment, assigned) = watch::channel(Assignment::default());
            let runtime = Builder::new_current_thread().enable_all().build().context("no runtime for a worker")?;
            let thread = WorkerThread {
                index,
                assigned,
                active: Arc::clone(&options.active),
                metrics: Arc::clone(&options.metrics),
                drain_timeout: options.drain_timeout,
                identity: Arc::clone(&options.identity),
                access_log: options.access_log.worker_end(),
                _ended: EndNotice { index, sender: ended_sender.clone() },
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

    /// Where each worker's assignment goes.
    pub(super) fn assignments(&self) -> Vec<watch::Sender<Assignment>> {
        self.assignments.clone()
    }

    /// Waits until a worker ends and gives its index. Before draining that is a bug.
    pub(super) async fn failed(&mut self) -> usize {
        match self.ended.recv().await {
            Some(index) => index,
            None => std::future::pending().await,
        }
    }

    /// Waits until all workers have ended. Cancel-safe.
    pub(super) async fn all_ended(&mut self) {
        while self.threads.iter().any(|thread| !thread.is_finished()) {
            // A notice comes just before its thread is finished, hence the time limit.
            drop(tokio::time::timeout(Duration::from_millis(5), self.ended.recv()).await);
        }
    }
}

/// Tells the main thread that a worker has ended, however it did.
struct EndNotice {
    index: usize,
    sender: mpsc::Sender<usize>,
}

impl Drop for EndNotice {
    fn drop(&mut self) {
        let _ = self.sender.try_send(self.index); // Nobody listens any more: then nobody needs to know.
    }
}

/// What one worker thread is given.
struct WorkerThread {
    index: usize,
    assigned: watch::Receiver<Assignment>,
    active: Arc<ArcSwap<ActiveConfig>>,
    metrics: Arc<Metrics>,
    drain_timeout: Duration,
    identity: Arc<Identity>,
    access_log: AccessLog,
    _ended: EndNotice,
}

impl WorkerThread {
    async fn run(self) {
        let Self { index, mut assigned, active, metrics, drain_timeout, identity, access_log, _ended } = self;
        let Some(metrics) = metrics.workers.get(index).cloned() else {
            return error!(worker = index, "a worker has no metrics; this is a bug of the proxy");
        };
        let worker = Worker::new(WorkerOptions { index, active, access_log, metrics, identity });
        let mut accepting = Accepting::new(AcceptingOptions { worker: Rc::clone(&worker), drain_timeout });
        // Ends with its sender too, which is with the process.
        while assigned.changed().await.is_ok() {
            let assignment = assigned.borrow_and_update().clone();
            worker.refresh(); // Before new listeners accept: their routes are there then.
            accepting.follow(&assignment);
            if let Some(deadline) = assignment.drain {
                accepting.drain(deadline).await;
                break;
            }
        }
        worker.upstreams.close_all(); // Idle connections end in order, not by reset.
        worker.access_log.flush();
    }
}
