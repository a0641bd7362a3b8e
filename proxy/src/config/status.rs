//! What became of the changes so far: for the log, `/config_dump`, `/ready` and the metrics. Written by the
//! configuration walk, read by the admin pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::Serialize;
use tracing::{info, warn};
use weir_model::{Snapshot, Version};
use weir_resources::Refusal;

use crate::limits::MAX_LOGGED_REFUSALS;
use crate::telemetry::{Metrics, rfc3339};

/// What became of the changes so far.
pub(crate) struct ConfigStatus {
    metrics: Arc<Metrics>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    version: Option<Version>,
    accepted_at: Option<SystemTime>,
    refused: Option<(SystemTime, Arc<Vec<Refusal>>)>,
    out_of_sync: bool,
}

/// The status as `/config_dump` shows it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusReport {
    /// What serves; absent before the first configuration.
    pub(crate) version: Option<Version>,
    /// Changes accepted.
    pub(crate) accepted: u64,
    /// Changes refused.
    pub(crate) refused: u64,
    /// When the last change was accepted.
    pub(crate) last_accepted_at: Option<String>,
    /// True when what is written is what serves.
    pub(crate) in_sync: bool,
    /// The last change that was refused, whether or not it has been put right since.
    pub(crate) last_refusal: Option<RefusalReport>,
}

/// One refused change.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RefusalReport {
    /// When.
    pub(crate) at: String,
    /// Every reason, in the order of files and lines.
    pub(crate) refusals: Arc<Vec<Refusal>>,
    /// The same as `weir-proxy validate` prints it.
    pub(crate) text: String,
}

impl ConfigStatus {
    /// Nothing has happened yet.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { metrics, inner: Mutex::default() })
    }

    /// True once a configuration serves.
    pub(crate) fn is_ready(&self) -> bool {
        self.inner.lock().version.is_some()
    }

    /// A change serves.
    pub(super) fn accept(&self, snapshot: &Snapshot) {
        let now = SystemTime::now();
        {
            let mut inner = self.inner.lock();
            inner.version = Some(snapshot.version);
            inner.accepted_at = Some(now);
        }
        let process = &self.metrics.process;
        process.config_accepted.fetch_add(1, Ordering::Relaxed);
        set_time(&process.config_accepted_at_ms, now);
        let Snapshot { version, listeners, clusters, plugins, .. } = snapshot;
        let (listeners, clusters, plugins) = (listeners.len(), clusters.len(), plugins.len());
        info!(%version, listeners, clusters, plugins, "configuration serves");
    }

    /// What is written is what serves.
    pub(super) fn confirm(&self) {
        self.set_out_of_sync(false);
    }

    /// A change was refused; what served goes on.
    pub(super) fn refuse(&self, refusals: &Arc<Vec<Refusal>>) {
        for refusal in refusals.iter().take(MAX_LOGGED_REFUSALS) {
            warn!("configuration refused: {}", one_line(refusal));
        }
        if refusals.len() > MAX_LOGGED_REFUSALS {
            let more = refusals.len() - MAX_LOGGED_REFUSALS;
            warn!(more, "configuration refused: there are more reasons; /config_dump has them all");
        }
        let now = SystemTime::now();
        self.inner.lock().refused = Some((now, Arc::clone(refusals)));
        let process = &self.metrics.process;
        process.config_refused.fetch_add(1, Ordering::Relaxed);
        set_time(&process.config_refused_at_ms, now);
        self.set_out_of_sync(true);
    }

    /// The status now.
    pub(crate) fn report(&self) -> StatusReport {
        let inner = self.inner.lock();
        let process = &self.metrics.process;
        StatusReport {
            version: inner.version,
            accepted: process.config_accepted.load(Ordering::Relaxed),
            refused: process.config_refused.load(Ordering::Relaxed),
            last_accepted_at: inner.accepted_at.map(rfc3339),
            in_sync: !inner.out_of_sync,
            last_refusal: inner.refused.as_ref().map(|(at, refusals)| RefusalReport {
                at: rfc3339(*at),
                refusals: Arc::clone(refusals),
                text: text(refusals),
            }),
        }
    }

    fn set_out_of_sync(&self, out_of_sync: bool) {
        self.inner.lock().out_of_sync = out_of_sync;
        self.metrics.process.config_out_of_sync.store(u64::from(out_of_sync), Ordering::Relaxed);
    }
}

fn set_time(metric: &AtomicU64, time: SystemTime) {
    let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    metric.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Refusals for a person, all of them.
pub(crate) fn text(refusals: &[Refusal]) -> String {
    refusals.iter().map(|refusal| format!("{refusal}\n")).collect()
}

/// A refusal for the log: its line breaks would tear the log's lines apart.
fn one_line(refusal: &Refusal) -> String {
    refusal.to_string().replace("\n  hint: ", "; hint: ").replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn a_refusal_stays_to_be_seen_until_the_next_and_sync_comes_back() {
        let metrics = Arc::new(Metrics::new(1));
        let status = ConfigStatus::new(Arc::clone(&metrics));
        let refusal = Refusal {
            file: PathBuf::from("a.yaml"),
            line: 3,
            column: 5,
            object: None,
            field: "spec".to_owned(),
            reason: "is missing".to_owned(),
            hint: "write it".to_owned(),
        };
        assert_eq!(one_line(&refusal), "a.yaml:3:5: spec: is missing; hint: write it");
        status.refuse(&Arc::new(vec![refusal]));
        assert!(!status.is_ready() && !status.report().in_sync);
        status.accept(&weir_model::SnapshotBuilder::default().complete().unwrap());
        status.confirm();
        let report = status.report();
        assert!(status.is_ready() && report.in_sync);
        assert_eq!((report.accepted, report.refused), (1, 1));
        let text = report.last_refusal.map(|refusal| refusal.text);
        assert_eq!(text.as_deref(), Some("a.yaml:3:5: spec: is missing\n  hint: write it\n"));
    }
}
