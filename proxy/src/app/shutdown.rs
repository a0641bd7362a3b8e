//! Shutdown: listeners close, connections finish, workers exit. An immediate shutdown skips the waiting.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::admin::ShutdownMode;
use crate::app::signals::{SignalAction, SignalListener};
use crate::app::threads::WorkerThreads;
use crate::drain::DrainTrigger;
use crate::limits::WORKER_EXIT_TIMEOUT;

/// The parts of the process that a graceful shutdown uses.
pub(super) struct Shutdown {
    /// Starts the drain.
    pub(super) drain: DrainTrigger,
    /// The time limit for connections to finish.
    pub(super) drain_timeout: Duration,
    /// The threads to wait for.
    pub(super) workers: WorkerThreads,
    /// Signals: a second one shuts down at once.
    pub(super) signals: SignalListener,
    /// Requests of the admin server: an immediate one shuts down at once.
    pub(super) requests: mpsc::Receiver<ShutdownMode>,
}

impl Shutdown {
    /// Returns when every worker has exited, or must not be waited for any longer.
    pub(super) async fn run(mut self, mode: ShutdownMode) {
        if mode == ShutdownMode::Immediate {
            return info!("shutting down at once");
        }
        info!(
            timeout_s = self.drain_timeout.as_secs(),
            "draining: new connections are not accepted; a second signal shuts down at once"
        );
        let deadline = Instant::now() + self.drain_timeout;
        self.drain.drain(deadline);
        tokio::select! {
            () = self.workers.all_exited() => info!("drained"),
            () = tokio::time::sleep_until(deadline + WORKER_EXIT_TIMEOUT) => {
                warn!("a worker does not exit in time; the process exits");
            }
            () = second_signal(&mut self.signals) => info!("second signal, shutting down at once"),
            Some(ShutdownMode::Immediate) = self.requests.recv() => info!("shutting down at once"),
        }
    }
}

async fn second_signal(signals: &mut SignalListener) {
    while signals.next().await != SignalAction::Shutdown {}
}
