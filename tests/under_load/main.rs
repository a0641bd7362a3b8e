//! What must hold while a proxy is busy: changes serve at once and fail nobody, a hostile filter harms only its own
//! route, a killed compiler leaves a cache that works. Each prints its figures: `cargo test -p weir-tests --features
//! tools --test under_load -- --nocapture`.
//!
//! They need `wrk`, and the machine for themselves: one runs at a time, and times are compared with times of the same
//! run.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking and prints")]

mod changes; // A thousand changes under load.
mod swaps; // A module that is swapped again and again.
mod volume; // Files that are changed in three ways.
mod hostile; // Filters that mean harm.
mod module_cache; // Compilations that are killed, artefacts that are damaged.
mod rate_limits; // Limits that workers share, and floods of keys.
mod acknowledged; // A control plane that is killed again and again.
mod replicas; // One of three that share an etcd.
mod applied; // From an apply to its first answer.
mod scale; // Many proxies, many services.
mod certificates; // Short lives, and a root that rotates.
mod fuzz; // Nonsense for the control plane.
mod load; // wrk.
mod path_origin; // An origin that answers with the path.
mod waits; // What a route's requests wait.

use tokio::sync::{Mutex, MutexGuard};

use crate::waits::percentile;

/// The machine, for one test at a time.
async fn machine() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::const_new(());
    MACHINE.lock().await
}

/// A number from the environment, to run more than the suite has time for.
fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
