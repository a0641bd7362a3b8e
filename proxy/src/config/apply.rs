//! **The configuration walk.** The steps of a change, in their order:
//!
//! | step | where | what |
//! |--:|---|---|
//! | 1 | `mesh/files/src/source.rs` or `config/xds.rs` | files are read and compiled, or ADS resources are decoded |
//! | 2 | `active/build.rs` | routes and clusters are built; those that are unchanged are shared with the active ones |
//! | 3 | `listener/set.rs` | new addresses are probed and bound |
//! | 4 | `active/warm.rs` | modules are compiled, plugins started, names resolved; the active configuration serves |
//! | 5 | `config/publish.rs` | **the one swap**; new sockets accept, removed ones drain |
//!
//! Each step may reject the change. The rejection is reported and the active configuration stays as it was.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use weir_file_source::ConfigUpdate;

use crate::config::state::ConfigState;
use crate::drain::DrainWatcher;

/// Applies configuration updates as they arrive. When the process drains, drains the listeners and returns.
pub(crate) async fn apply_updates(
    mut updates: watch::Receiver<Option<ConfigUpdate>>,
    mut state: ConfigState,
    drain: DrainWatcher,
    drain_timeout: Duration,
) {
    loop {
        let retry_at = state.retry_at();
        tokio::select! {
            Ok(()) = updates.changed() => {
                let Some(update) = updates.borrow_and_update().clone() else { continue };
                state.prepare(update); // Build, share, bind: synchronous and bounded. Warming starts.
            }
            warmed = state.warmed() => {
                state.publish(warmed); // Modules and plugins are ready: the one swap.
            }
            () = sleep_until_some(retry_at) => state.retry(), // A filter that was skipped may load by now.
            () = drain.signaled() => return state.drain(drain_timeout),
        }
    }
}

/// Waits until a time; `None` is never.
async fn sleep_until_some(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
