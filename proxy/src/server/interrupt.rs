//! The end of waiting: a connection that was idle for too long or whose head is late, and a listener that drains.

use std::pin::pin;

use tokio::time::Instant;

use crate::connection::Connection;
use crate::drain::DrainWatcher;
use crate::limits::DRAIN_GRACE;

/// The reason for which a connection stops waiting for a request.
pub(super) enum Interrupt {
    /// The connection was idle for too long, or its request head was not complete in time.
    TimedOut,
    /// The connection is too old, and no byte of a request has arrived.
    Spent,
    /// The listener drains.
    Drained,
}

/// Waits until the connection has timed out, is too old, or its listener has drained for [`DRAIN_GRACE`], in which a
/// request may still arrive.
pub(super) async fn interrupt(connection: &Connection) -> Interrupt {
    let mut drained = pin!(drain_grace_elapsed(&connection.listener.drain));
    loop {
        tokio::select! {
            () = connection.timed_out.notified() => {
                if connection.is_timed_out(Instant::now()) {
                    return Interrupt::TimedOut;
                }
                if connection.is_spent() && connection.is_unused() {
                    return Interrupt::Spent;
                }
            }
            () = &mut drained => return Interrupt::Drained,
        }
    }
}

/// Waits until the listener drains, and then for [`DRAIN_GRACE`], in which a request may arrive.
pub(super) async fn drain_grace_elapsed(drain: &DrainWatcher) {
    drain.signaled().await;
    tokio::time::sleep(DRAIN_GRACE).await;
}

/// Waits until the connection has timed out. A notice of an earlier time is ignored.
pub(super) async fn timed_out(connection: &Connection) {
    loop {
        connection.timed_out.notified().await;
        if connection.is_timed_out(Instant::now()) {
            return;
        }
    }
}
