//! Ejects endpoints of a cluster, and ends ejections. Workers report the result of each attempt; a task of the main thread
//! looks at each cluster with outlier detection until the cluster has no other owner.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};
use weir_model::OutlierDetection;

use super::cluster::Cluster;
use super::endpoints::Endpoint;
use super::outlier::{EjectionCause, Outcome, success_rate_outliers};
use crate::error::{Fault, ProxyError};
use crate::limits::EJECTION_TICK;

/// The time from which ejections are counted.
static ORIGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Returns the time since the start of the process.
pub(crate) fn now() -> Duration {
    ORIGIN.elapsed()
}

/// Records the result of an attempt at an endpoint of the cluster.
pub(super) fn record(cluster: &Cluster, endpoint: &Endpoint, outcome: Outcome) {
    let (Some(policy), Some(outlier)) = (cluster.model().outlier_detection.as_deref(), endpoint.outlier()) else {
        return;
    };
    if let Some(cause) = outlier.record(outcome, policy) {
        eject(cluster, endpoint, cause, policy);
    }
}

/// Returns the outcome of an attempt that failed; `None` if the endpoint is not at fault.
pub(super) fn outcome_of(error: &ProxyError) -> Option<Outcome> {
    let is_attempt = matches!(error, ProxyError::AttemptTimeout) || error.info().fault == Fault::Upstream;
    is_attempt.then_some(Outcome::LocalError)
}

/// Ejects an endpoint, unless as many are ejected as the policy allows.
fn eject(cluster: &Cluster, endpoint: &Endpoint, cause: EjectionCause, policy: &OutlierDetection) {
    let Some(outlier) = endpoint.outlier() else { return };
    let endpoints = cluster.endpoints();
    let max_ejected = policy.max_ejected(endpoints.len());
    let may_eject = || {
        let ejected = endpoints.iter().filter(|endpoint| !endpoint.is_available()).count();
        ejected < max_ejected && !outlier.is_ejected()
    };
    // Without the lock first: once the maximum is ejected, each failure of the others comes here.
    if !may_eject() {
        return;
    }
    let one_at_a_time = cluster.ejections().lock();
    if !may_eject() {
        return;
    }
    let time = outlier.eject(cause, now(), policy);
    cluster.ejections().count();
    cluster.availability_changed();
    drop(one_at_a_time);
    let (name, address, seconds) = (&cluster.model().name, &endpoint.address, time.as_secs_f64());
    warn!(cluster = %name, endpoint = %address, cause = cause.name(), seconds, "endpoint ejected");
}

/// Ends ejections of a cluster and looks at success rates, until the cluster has no other owner. Returns at once for a
/// cluster without outlier detection.
pub(crate) async fn watch_outliers(cluster: Arc<Cluster>) {
    let Some(policy) = cluster.model().outlier_detection.clone() else { return };
    let weak = Arc::downgrade(&cluster);
    drop(cluster);
    let tick = EJECTION_TICK.min(policy.interval).min(policy.ejection_time);
    let mut interval_end = now() + policy.interval;
    loop {
        tokio::time::sleep(tick).await;
        let Some(cluster) = weak.upgrade() else { return };
        let time = now();
        end_ejections(&cluster, time);
        if time >= interval_end {
            interval_end = time + policy.interval;
            end_interval(&cluster, &policy);
        }
    }
}

fn end_ejections(cluster: &Cluster, time: Duration) {
    for endpoint in cluster.endpoints().iter() {
        if endpoint.outlier().is_some_and(|outlier| outlier.uneject(time)) {
            cluster.availability_changed();
            info!(cluster = %cluster.model().name, endpoint = %endpoint.address, "endpoint is used again");
        }
    }
}

fn end_interval(cluster: &Cluster, policy: &OutlierDetection) {
    let endpoints = cluster.endpoints();
    let with_counts: Vec<_> =
        endpoints.iter().filter_map(|endpoint| Some((endpoint, endpoint.outlier()?.end_interval()))).collect();
    let Some(success_rate) = &policy.success_rate else { return };
    let counts: Vec<_> = with_counts.iter().map(|(_, counts)| *counts).collect();
    for index in success_rate_outliers(&counts, success_rate) {
        eject(cluster, with_counts[index].0, EjectionCause::SuccessRate, policy);
    }
}
