//! Acceptance tests under load: configuration changes, hostile filters, killed processes, certificate rotation and
//! scale. Each prints its figures: `cargo test -p weir-tests --features tools --test under_load --
//! --nocapture`.
//!
//! The tests need `wrk`, and no other load on the machine. One runs at a time. Times are compared with times of the
//! same run.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking and prints")]

mod changes; // A thousand edits under load.
mod swaps; // Repeated swaps of a module.
mod watched_folder; // Files that are changed in three styles.
mod hostile; // Hostile filters.
mod module_cache; // Killed compilations and damaged artifacts.
mod rate_limits; // Limits that workers share, and floods of keys.
mod replicas; // Kills of one of three control planes that share an etcd cluster.
mod store_kills; // Kills of a control plane with its own store.
mod apply_latency; // Time from an apply to its first response.
mod scale; // Many proxies and services.
mod certificates; // Short lifetimes and a root rotation.
mod fuzz; // Mutated requests to the control plane.
mod exchange_fuzz; // Random exchanges through a proxy.
mod upgrade_fuzz; // Random answers to upgrades.
mod http2_fuzz; // Random frames of an HTTP/2 endpoint.
mod budget; // Executions of a fuzz test.
mod load; // wrk.
mod path_origin; // An origin that responds with the path.
mod latency; // Latency of requests on one route.

use tokio::sync::{Mutex, MutexGuard};

use crate::latency::percentile;

/// Returns the lock of the machine, which one test at a time has.
async fn lock_machine() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::const_new(());
    MACHINE.lock().await
}

/// Returns a number from an environment variable, with which a run can be longer than the suite's.
fn number_from_env(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
