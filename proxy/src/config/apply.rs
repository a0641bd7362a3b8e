//! **The configuration walk.** Read it downwards: this is the order in which things happen to a change.
//!
//! | step | where | what |
//! |--:|---|---|
//! | 1 | `config/watch.rs`, `config/source.rs` | something has changed; the files are read and compiled by `weir-resources` |
//! | 2 | `active/build.rs` | routes and clusters are built; what is equal with the running ones is shared |
//! | 3 | `listener/set.rs` | new addresses are probed and bound |
//! | 4 | `active/warm.rs` | modules are compiled and started, DNS is asked; the old configuration serves meanwhile |
//! | 5 | `config/publish.rs` | **the one swap**; new sockets accept, removed ones drain |
//!
//! Each of them may refuse: then the refusal is reported and everything stays as it was.

use std::time::Duration;

use tokio::sync::watch;
use weir_file_source::Update;

use crate::config::state::ConfigState;
use crate::drain::DrainWatcher;

/// Applies configuration as it arrives, until the process drains.
pub(crate) async fn apply_updates(
    mut updates: watch::Receiver<Option<Update>>,
    mut state: ConfigState,
    (drain, drain_timeout): (DrainWatcher, Duration),
) {
    loop {
        tokio::select! {
            Ok(()) = updates.changed() => {
                let Some(update) = updates.borrow_and_update().clone() else { continue };
                state.prepare(update); // Build, share, bind: synchronous and bounded. Warming begins.
            }
            warmed = state.warmed() => {
                state.publish(warmed); // Modules and plugins are ready: the one swap; then the old drains.
            }
            () = drain.signaled() => return state.drain(drain_timeout),
        }
    }
}
