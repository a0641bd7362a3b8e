//! Ending: listeners stop, connections end, workers end; or all of that at once when somebody is impatient.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::admin::Ending;
use crate::app::runtimes::WorkerThreads;
use crate::app::signals::{Asked, Signals};
use crate::drain::DrainTrigger;
use crate::limits::WORKER_END_TIMEOUT;

/// Ends the process's work. Returns when every worker has ended, or cannot be waited for any longer.
pub(super) async fn end(
    ending: Ending,
    (drain, drain_timeout): (DrainTrigger, Duration),
    mut workers: WorkerThreads,
    (mut signals, mut endings): (Signals, mpsc::Receiver<Ending>),
) {
    if ending == Ending::Now {
        return info!("ending now");
    }
    info!(
        timeout_s = drain_timeout.as_secs(),
        "draining: no new connections, those there are may end; once more ends now"
    );
    let deadline = Instant::now() + drain_timeout;
    drain.drain(deadline);
    tokio::select! {
        () = workers.all_ended() => info!("drained"),
        () = tokio::time::sleep_until(deadline + WORKER_END_TIMEOUT) => {
            warn!("a worker does not end, the process does");
        }
        () = asked_again(&mut signals) => info!("asked to end once more, ending now"),
        Some(Ending::Now) = endings.recv() => info!("ending now"),
    }
}

async fn asked_again(signals: &mut Signals) {
    while signals.next().await != Asked::End {}
}
