//! The results of configuration changes, for the log, `/config_dump`, `/ready` and the metrics. The configuration walk
//! writes them; the admin pages read them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use serde::Serialize;
use tracing::{info, warn};
use weir_model::{ContentHash, Snapshot};
use weir_resources::Diagnostic;

use crate::limits::MAX_LOGGED_REJECTIONS;
use crate::telemetry::{Metrics, rfc3339};

/// The results of configuration changes since the process started.
pub(crate) struct ConfigStatus {
    metrics: Arc<Metrics>,
    state: Mutex<StatusState>,
}

#[derive(Default)]
struct StatusState {
    version: Option<ContentHash>,
    accepted_at: Option<SystemTime>,
    rejected: Option<(SystemTime, Arc<Vec<Diagnostic>>)>,
    out_of_sync: bool,
}

/// The status in `/config_dump`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ConfigStatusReport {
    /// The version that serves; absent before the first configuration.
    pub(crate) version: Option<ContentHash>,
    /// The number of accepted changes.
    pub(crate) accepted: u64,
    /// The number of rejected changes.
    #[serde(rename = "refused")]
    pub(crate) rejected: u64,
    /// The time of the last accepted change.
    pub(crate) last_accepted_at: Option<String>,
    /// True while the newest configuration of the source serves.
    pub(crate) in_sync: bool,
    /// The last rejected change, even if a later change was accepted.
    #[serde(rename = "lastRefusal")]
    pub(crate) last_rejection: Option<RejectionReport>,
}

/// One rejected change.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RejectionReport {
    /// The time of the rejection.
    pub(crate) at: String,
    /// All reasons, in the order of files and lines.
    #[serde(rename = "refusals")]
    pub(crate) diagnostics: Arc<Vec<Diagnostic>>,
    /// The reasons as printed by `weir-proxy validate`.
    pub(crate) text: String,
}

impl ConfigStatus {
    /// Returns a status without changes.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { metrics, state: Mutex::default() })
    }

    /// Returns true once a configuration serves.
    pub(crate) fn is_ready(&self) -> bool {
        self.state.lock().version.is_some()
    }

    /// Records a change that serves now.
    pub(super) fn accept(&self, snapshot: &Snapshot) {
        let now = SystemTime::now();
        {
            let mut state = self.state.lock();
            state.version = Some(snapshot.version);
            state.accepted_at = Some(now);
        }
        let process = &self.metrics.process;
        process.config_accepted.fetch_add(1, Ordering::Relaxed);
        set_time(&process.config_accepted_at_ms, now);
        let Snapshot { version, listeners, clusters, plugins, .. } = snapshot;
        let (listeners, clusters, plugins) = (listeners.len(), clusters.len(), plugins.len());
        info!(%version, listeners, clusters, plugins, "configuration serves");
    }

    /// Logs the warnings about a configuration that serves now.
    pub(super) fn warn(warnings: &[Diagnostic]) {
        for warning in warnings.iter().take(MAX_LOGGED_REJECTIONS) {
            warn!("configuration warning: {}", warning.one_line());
        }
    }

    /// Records that the newest configuration of the source serves.
    pub(super) fn confirm_in_sync(&self) {
        self.set_out_of_sync(false);
    }

    /// Records and logs a rejected change.
    pub(super) fn reject(&self, diagnostics: &Arc<Vec<Diagnostic>>) {
        for diagnostic in diagnostics.iter().take(MAX_LOGGED_REJECTIONS) {
            warn!("configuration rejected: {}", diagnostic.one_line());
        }
        if diagnostics.len() > MAX_LOGGED_REJECTIONS {
            let more = diagnostics.len() - MAX_LOGGED_REJECTIONS;
            warn!(more, "configuration rejected for more reasons; /config_dump has all of them");
        }
        let now = SystemTime::now();
        self.state.lock().rejected = Some((now, Arc::clone(diagnostics)));
        let process = &self.metrics.process;
        process.config_rejected.fetch_add(1, Ordering::Relaxed);
        set_time(&process.config_rejected_at_ms, now);
        self.set_out_of_sync(true);
    }

    /// Returns the current status.
    pub(crate) fn report(&self) -> ConfigStatusReport {
        let state = self.state.lock();
        let process = &self.metrics.process;
        ConfigStatusReport {
            version: state.version,
            accepted: process.config_accepted.load(Ordering::Relaxed),
            rejected: process.config_rejected.load(Ordering::Relaxed),
            last_accepted_at: state.accepted_at.map(rfc3339),
            in_sync: !state.out_of_sync,
            last_rejection: state.rejected.as_ref().map(|(at, diagnostics)| RejectionReport {
                at: rfc3339(*at),
                diagnostics: Arc::clone(diagnostics),
                text: format_diagnostics(diagnostics),
            }),
        }
    }

    fn set_out_of_sync(&self, out_of_sync: bool) {
        self.state.lock().out_of_sync = out_of_sync;
        self.metrics.process.config_out_of_sync.store(u64::from(out_of_sync), Ordering::Relaxed);
    }
}

fn set_time(metric: &AtomicU64, time: SystemTime) {
    let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    metric.store(u64::try_from(millis).unwrap_or(u64::MAX), Ordering::Relaxed);
}

/// Returns all diagnostics as text of several lines, for operators.
pub(crate) fn format_diagnostics(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| format!("{diagnostic}\n")).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn last_rejection_stays_visible_after_next_accepted_change() {
        let metrics = Arc::new(Metrics::new(1));
        let status = ConfigStatus::new(Arc::clone(&metrics));
        let diagnostic = Diagnostic {
            file: PathBuf::from("a.yaml"),
            line: 3,
            column: 5,
            object: None,
            field: "spec".to_owned(),
            reason: "is missing".to_owned(),
            hint: "write it".to_owned(),
        };
        assert_eq!(diagnostic.one_line(), "a.yaml:3:5: spec: is missing; hint: write it");
        status.reject(&Arc::new(vec![diagnostic]));
        assert!(!status.is_ready() && !status.report().in_sync);
        status.accept(&weir_model::SnapshotBuilder::default().complete().unwrap());
        status.confirm_in_sync();
        let report = status.report();
        assert!(status.is_ready() && report.in_sync);
        assert_eq!((report.accepted, report.rejected), (1, 1));
        let text = report.last_rejection.map(|rejection| rejection.text);
        assert_eq!(text.as_deref(), Some("a.yaml:3:5: spec: is missing\n  hint: write it\n"));
    }
}
