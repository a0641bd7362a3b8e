//! What the configuration walk works on: what serves, what is on its way, and who is told.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tracing::{debug, warn};
use weir_file_source::Update;
use weir_model::{Discovery, Rejection};
use weir_resources::{Compiled, Refusal};

use crate::active::{ActiveConfig, Warmer, prepare};
use crate::config::candidate::{Candidate, Candidates, Warmed, Warming};
use crate::config::publish::Publisher;
use crate::config::status::ConfigStatus;
use crate::listener::ListenerSet;
use crate::task;
use crate::telemetry::Metrics;
use crate::upstream::resolve_forever;

/// What the configuration state is made from.
pub(crate) struct ConfigStateOptions {
    /// Makes configurations ready.
    pub(crate) warmer: Arc<Warmer>,
    /// The listeners of the process.
    pub(crate) listeners: ListenerSet,
    /// Holds what serves.
    pub(crate) publisher: Publisher,
    /// Is told what became of each change.
    pub(crate) status: Arc<ConfigStatus>,
    /// Forgets the series of what is gone.
    pub(crate) metrics: Arc<Metrics>,
    /// Is told what became of updates, if it can do something about it.
    pub(crate) outcomes: Option<mpsc::Sender<Outcome>>,
}

/// What became of an update, for the source that it came from.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Which update.
    pub(crate) number: u64,
    /// What of it does not work; when nothing is said here, all of it serves.
    pub(crate) rejections: Vec<Rejection>,
}

/// What serves, and what is on its way.
pub(crate) struct ConfigState {
    options: ConfigStateOptions,
    candidates: Candidates,
    /// The number of the newest update.
    newest: u64,
    /// Why the newest update was refused; the same is not said twice.
    refused: Option<Arc<Vec<Refusal>>>,
}

/// What became of a change.
#[derive(Debug, Clone)]
pub(crate) enum Applied {
    /// It serves.
    Serves,
    /// It is what served already, or something newer was written meanwhile.
    Unchanged,
    /// It was refused, and why.
    Refused(Arc<Vec<Refusal>>),
}

impl ConfigState {
    /// Serves nothing yet.
    pub(crate) fn new(options: ConfigStateOptions) -> Self {
        Self { options, candidates: Candidates::default(), newest: 0, refused: None }
    }

    /// Applies the first configuration and says what became of it.
    pub(crate) async fn begin(&mut self, update: Update) -> Applied {
        if let Some(refused) = self.prepare(update) {
            return refused;
        }
        let warmed = self.warmed().await;
        self.publish(warmed)
    }

    /// Builds, shares and binds what can be without waiting, and begins to warm the rest. Says so when it is refused.
    /// A change that is warming already goes on: it was good when it was written.
    pub(crate) fn prepare(&mut self, update: Update) -> Option<Applied> {
        self.newest = update.number;
        let compiled = match update.outcome {
            Ok(compiled) => compiled,
            Err(refusals) => return Some(self.refuse(refusals)),
        };
        let snapshot = Arc::new(compiled.snapshot.clone());
        let current = self.options.publisher.current();
        let prepared = prepare(Arc::clone(&snapshot), &current);
        let listeners = match self.options.listeners.bind_new(&snapshot) {
            Ok(listeners) => listeners,
            Err(rejections) => return Some(self.reject(&compiled, &rejections)),
        };
        let warming = Arc::clone(&self.options.warmer).warm(prepared, current);
        let warming = Warming(task::spawn("warm configuration", warming));
        self.candidates.push(Candidate { number: self.newest, compiled, listeners, warming });
        None
    }

    /// Waits for the next change that is ready, or turns out not to be. Cancel-safe.
    pub(crate) async fn warmed(&mut self) -> Warmed {
        self.candidates.next().await
    }

    /// Makes a change that is ready serve: the one swap. Or refuses it.
    pub(crate) fn publish(&mut self, warmed: Warmed) -> Applied {
        let Warmed { number, compiled, listeners, outcome } = warmed;
        let is_newest = number == self.newest;
        let next = match outcome {
            Some(Ok(next)) => next,
            Some(Err(rejections)) if !is_newest => {
                debug!(?rejections, "a change was refused that is no longer what is written");
                return Applied::Unchanged;
            }
            Some(Err(rejections)) => return self.reject(&compiled, &rejections),
            None => return self.refuse(Arc::new(vec![bug()])),
        };
        let current = self.options.publisher.current();
        let unchanged = self.options.status.is_ready() && next.serves_same(&current);
        if !unchanged {
            // Before the swap, so that it can still be refused; what comes in waits in the queue for the workers.
            if let Err(rejections) = listeners.listen(&next.snapshot) {
                return self.reject(&compiled, &rejections);
            }
            self.swap(next, &current);
            self.options.listeners.publish(listeners);
            self.warn_of_unused_overrides();
        }
        if is_newest {
            self.refused = None;
            self.options.status.confirm();
            self.tell(Outcome { number, rejections: Vec::new() });
        }
        if unchanged { Applied::Unchanged } else { Applied::Serves }
    }

    /// Ends all listeners.
    pub(crate) fn drain(&self, timeout: Duration) {
        self.options.listeners.drain(timeout);
    }

    fn swap(&self, next: ActiveConfig, current: &ActiveConfig) {
        let snapshot = Arc::clone(&next.snapshot);
        let modules: HashSet<_> = next.modules.values().copied().collect();
        for (name, cluster) in &next.clusters {
            let is_new = !current.clusters.get(name).is_some_and(|known| Arc::ptr_eq(known, cluster));
            if is_new && matches!(cluster.model().discovery, Discovery::Dns { .. }) {
                task::spawn("resolver", resolve_forever(Arc::clone(cluster)));
            }
        }
        self.options.publisher.publish(next);
        self.options.warmer.modules().retain(&modules);
        self.options.metrics.forget_unused(&snapshot);
        self.options.status.accept(&snapshot);
    }

    /// Says rejections in terms of what was written.
    fn reject(&mut self, compiled: &Compiled, rejections: &[Rejection]) -> Applied {
        self.tell(Outcome { number: self.newest, rejections: rejections.to_vec() });
        self.refuse(Arc::new(refusals(compiled, rejections)))
    }

    fn tell(&self, outcome: Outcome) {
        if let Some(outcomes) = &self.options.outcomes {
            drop(outcomes.try_send(outcome)); // A source that is behind hears of it with the next change.
        }
    }

    fn refuse(&mut self, refusals: Arc<Vec<Refusal>>) -> Applied {
        if self.refused.as_ref() != Some(&refusals) {
            self.options.status.refuse(&refusals);
            self.refused = Some(Arc::clone(&refusals));
        }
        Applied::Refused(refusals)
    }

    fn warn_of_unused_overrides(&self) {
        for listener in self.options.listeners.unused_overrides() {
            warn!(%listener, "--bind names a listener that is not there; /listeners shows those that are");
        }
    }
}

/// Rejections in terms of what was written, in the order of files and lines.
pub(crate) fn refusals(compiled: &Compiled, rejections: &[Rejection]) -> Vec<Refusal> {
    let mut refusals: Vec<_> = rejections.iter().map(|rejection| compiled.refusal(rejection)).collect();
    refusals.sort_by(|one, other| {
        let place = |refusal: &Refusal| (refusal.file.clone(), refusal.line, refusal.column);
        place(one).cmp(&place(other))
    });
    refusals.dedup();
    refusals
}

fn bug() -> Refusal {
    Refusal::unplaced("making it ready failed by a bug of the proxy", "the log says where")
}
