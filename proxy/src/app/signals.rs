//! Signals: SIGTERM and SIGINT end the process gracefully (a second one ends it now), SIGHUP has files read again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// To end gracefully; the second time, now.
    End,
    /// To read the configuration again and open the access log anew.
    ReadAgain,
}

/// The signals that the process listens for.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Listens from now on.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal. Cancel-safe.
    pub(super) async fn next(&mut self) -> Asked {
        let (name, asked) = tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", Asked::End),
            _ = self.interrupt.recv() => ("SIGINT", Asked::End),
            _ = self.hang_up.recv() => ("SIGHUP", Asked::ReadAgain),
        };
        info!(signal = name, ?asked, "signal received");
        asked
    }
}
