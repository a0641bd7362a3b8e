//! Signals: SIGTERM and SIGINT start a graceful shutdown, a second one shuts down at once. SIGHUP reloads.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// The action of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignalAction {
    /// Shut down gracefully; during a graceful shutdown, at once.
    Shutdown,
    /// Reread the configuration and reopen the access log.
    Reload,
}

/// The registered signals of the process.
pub(super) struct SignalListener {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl SignalListener {
    /// Registers the signals. From then on they do not terminate the process.
    pub(super) fn register() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal. Cancel-safe.
    pub(super) async fn next(&mut self) -> SignalAction {
        let (name, action) = tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", SignalAction::Shutdown),
            _ = self.interrupt.recv() => ("SIGINT", SignalAction::Shutdown),
            _ = self.hang_up.recv() => ("SIGHUP", SignalAction::Reload),
        };
        info!(signal = name, ?action, "signal received");
        action
    }
}
