//! The state of the configuration walk: the active configuration, the candidates, and the parties that learn the
//! results.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::{debug, warn};
use weir_file_source::ConfigUpdate;
use weir_model::{Discovery, Rejection};
use weir_resources::{Compiled, Diagnostic};

use crate::active::{ActiveConfig, Warmer, prepare};
use crate::config::candidate::{Candidate, Candidates, WarmedCandidate, Warming};
use crate::config::publish::Publisher;
use crate::config::status::ConfigStatus;
use crate::limits::REJECTED_RETRY_INTERVAL;
use crate::listener::ListenerSet;
use crate::task;
use crate::telemetry::Metrics;
use crate::upstream::{resolve_forever, watch_outliers};

/// The parts of a [`ConfigState`].
pub(crate) struct ConfigStateOptions {
    /// Warms candidates.
    pub(crate) warmer: Arc<Warmer>,
    /// The listeners of the process.
    pub(crate) listeners: ListenerSet,
    /// The owner of the active configuration.
    pub(crate) publisher: Publisher,
    /// Records the result of each change.
    pub(crate) status: Arc<ConfigStatus>,
    /// Drops the series of removed resources.
    pub(crate) metrics: Arc<Metrics>,
    /// Reports results to the source; `None` for files.
    pub(crate) outcomes: Option<mpsc::Sender<UpdateOutcome>>,
}

/// The result of an update, for its source.
#[derive(Debug)]
pub(crate) struct UpdateOutcome {
    /// The number of the update.
    pub(crate) number: u64,
    /// The resources that cannot be applied. If empty, the update serves.
    pub(crate) rejections: Vec<Rejection>,
}

/// The active configuration and the candidates for it.
pub(crate) struct ConfigState {
    options: ConfigStateOptions,
    candidates: Candidates,
    /// The number of the newest update.
    latest_number: u64,
    /// The last reported rejection of the newest update; an equal one is not reported again.
    last_rejection: Option<Arc<Vec<Diagnostic>>>,
    /// The newest change, if it serves without the newest version of some plugins, and the time of its next retry.
    retry: Option<RetryOfSkipped>,
}

/// A change that serves without the newest version of some plugins.
struct RetryOfSkipped {
    compiled: Arc<Compiled>,
    at: Instant,
}

/// The result of applying a change.
#[derive(Debug, Clone)]
pub(crate) enum ApplyResult {
    /// The change serves.
    Active,
    /// The change equals the active configuration, or a newer change supersedes it.
    Unchanged,
    /// The change was rejected, for these reasons.
    Rejected(Arc<Vec<Diagnostic>>),
}

impl ConfigState {
    /// Returns a state with an empty active configuration.
    pub(crate) fn new(options: ConfigStateOptions) -> Self {
        Self { options, candidates: Candidates::default(), latest_number: 0, last_rejection: None, retry: None }
    }

    /// Applies the first configuration and waits for the result.
    pub(crate) async fn apply_first(&mut self, update: ConfigUpdate) -> ApplyResult {
        if let Some(rejected) = self.prepare(update) {
            return rejected;
        }
        let warmed = self.warmed().await;
        self.publish(warmed)
    }

    /// Builds routes and clusters, binds new listeners, and starts warming. Does not wait. Returns `Rejected` if a step
    /// fails, else `None`. Older candidates continue: they are valid configurations, too.
    pub(crate) fn prepare(&mut self, update: ConfigUpdate) -> Option<ApplyResult> {
        (self.latest_number, self.retry) = (update.number, None);
        let compiled = match update.outcome {
            Ok(compiled) => compiled,
            Err(diagnostics) => return Some(self.reject_diagnostics(diagnostics)),
        };
        let snapshot = Arc::clone(&compiled.snapshot);
        let current = self.options.publisher.current();
        let prepared = prepare(Arc::clone(&snapshot), &current);
        let listeners = match self.options.listeners.bind_new(&snapshot) {
            Ok(listeners) => listeners,
            Err(rejections) => return Some(self.reject_resources(&compiled, &rejections)),
        };
        let warming = Arc::clone(&self.options.warmer).warm(prepared, current);
        let warming = Warming(task::spawn("warm configuration", warming));
        self.candidates.push(Candidate { number: self.latest_number, compiled, listeners, warming });
        None
    }

    /// Returns the time of the next retry of a change that serves without some plugins; `None` without such a change.
    pub(crate) fn retry_at(&self) -> Option<Instant> {
        self.retry.as_ref().map(|retry| retry.at)
    }

    /// Applies the change again that serves without some plugins.
    pub(crate) fn retry(&mut self) {
        if let Some(RetryOfSkipped { compiled, .. }) = self.retry.take() {
            let (number, files) = (self.latest_number, Arc::default());
            self.prepare(ConfigUpdate { number, outcome: Ok(compiled), files });
        }
    }

    /// Waits for the next candidate whose warming has finished, with success or failure. Cancel-safe.
    pub(crate) async fn warmed(&mut self) -> WarmedCandidate {
        self.candidates.next().await
    }

    /// Publishes a warmed candidate (the one swap), or rejects it.
    pub(crate) fn publish(&mut self, warmed: WarmedCandidate) -> ApplyResult {
        let WarmedCandidate { number, compiled, listeners, outcome } = warmed;
        let is_newest = number == self.latest_number;
        let next = match outcome {
            Some(Ok(next)) => next,
            Some(Err(rejections)) if !is_newest => {
                debug!(?rejections, "an outdated change was rejected");
                return ApplyResult::Unchanged;
            }
            Some(Err(rejections)) => return self.reject_resources(&compiled, &rejections),
            None => return self.reject_diagnostics(Arc::new(vec![bug()])),
        };
        if is_newest && self.options.warmer.skips_failed_plugins() && !next.failed_plugins.is_empty() {
            self.retry =
                Some(RetryOfSkipped { compiled: Arc::clone(&compiled), at: Instant::now() + REJECTED_RETRY_INTERVAL });
        }
        let current = self.options.publisher.current();
        let unchanged = self.options.status.is_ready() && next.serves_same(&current);
        if !unchanged {
            // Before the swap, because it can fail. New connections wait in the accept queues until the workers accept.
            if let Err(rejections) = listeners.listen(&next.snapshot) {
                return self.reject_resources(&compiled, &rejections);
            }
            self.swap(next, &current);
            self.options.listeners.publish(listeners);
            self.warn_of_unused_overrides();
            ConfigStatus::warn(&compiled.warnings);
        }
        if is_newest {
            self.last_rejection = None;
            self.options.status.confirm_in_sync();
            self.report_outcome(UpdateOutcome { number, rejections: Vec::new() });
        }
        if unchanged { ApplyResult::Unchanged } else { ApplyResult::Active }
    }

    /// Drains all listeners.
    pub(crate) fn drain(&self, timeout: Duration) {
        self.options.listeners.drain(timeout);
    }

    fn swap(&self, next: ActiveConfig, current: &ActiveConfig) {
        let snapshot = Arc::clone(&next.snapshot);
        let modules: HashSet<_> = next.modules.values().copied().collect();
        for (name, cluster) in &next.clusters {
            let is_new = !current.clusters.get(name).is_some_and(|known| Arc::ptr_eq(known, cluster));
            if is_new && cluster.model().outlier_detection.is_some() {
                task::spawn("outlier detection", watch_outliers(Arc::clone(cluster)));
            }
            if is_new && matches!(cluster.model().discovery, Discovery::Dns { .. }) {
                let resolver = Arc::clone(self.options.warmer.resolver());
                task::spawn("resolver", resolve_forever(resolver, Arc::clone(cluster)));
            }
        }
        for (name, tls) in &next.upstream_tls {
            next.clusters.get(name).inspect(|cluster| cluster.set_tls(tls));
        }
        self.options.publisher.publish(next);
        self.options.warmer.modules().retain(&modules);
        self.options.metrics.remove_unused(&snapshot);
        self.options.status.accept(&snapshot);
    }

    /// Rejects a change whose resources cannot be applied.
    fn reject_resources(&mut self, compiled: &Compiled, rejections: &[Rejection]) -> ApplyResult {
        self.report_outcome(UpdateOutcome { number: self.latest_number, rejections: rejections.to_vec() });
        self.reject_diagnostics(Arc::new(diagnostics(compiled, rejections)))
    }

    fn report_outcome(&self, outcome: UpdateOutcome) {
        if let Some(outcomes) = &self.options.outcomes {
            drop(outcomes.try_send(outcome)); // A source that is behind gets the result of the next update.
        }
    }

    fn reject_diagnostics(&mut self, diagnostics: Arc<Vec<Diagnostic>>) -> ApplyResult {
        if self.last_rejection.as_ref() != Some(&diagnostics) {
            self.options.status.reject(&diagnostics);
            self.last_rejection = Some(Arc::clone(&diagnostics));
        }
        ApplyResult::Rejected(diagnostics)
    }

    fn warn_of_unused_overrides(&self) {
        for listener in self.options.listeners.unused_overrides() {
            warn!(%listener, "--bind names a listener that does not exist; /listeners shows the existing ones");
        }
    }
}

/// Converts rejections of resources into diagnostics of their sources, in the order of files and lines.
pub(crate) fn diagnostics(compiled: &Compiled, rejections: &[Rejection]) -> Vec<Diagnostic> {
    let mut diagnostics: Vec<_> = rejections.iter().map(|rejection| compiled.diagnostic(rejection)).collect();
    diagnostics.sort_by(|one, other| {
        let position = |diagnostic: &Diagnostic| (diagnostic.file.clone(), diagnostic.line, diagnostic.column);
        position(one).cmp(&position(other))
    });
    diagnostics.dedup();
    diagnostics
}

fn bug() -> Diagnostic {
    Diagnostic::without_position("warming the configuration failed by a bug of the proxy", "see the panic in the log")
}
