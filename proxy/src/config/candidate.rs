//! Candidates: changes that are prepared, bound and warming. At most two exist at a time. The oldest is retained so
//! that a steady stream of changes cannot starve publishing. The newest is what will serve in the end.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;
use weir_model::Rejection;
use weir_resources::Compiled;

use crate::active::ActiveConfig;
use crate::listener::DesiredListeners;

/// The result of warming: an active configuration, or the reasons against it.
pub(super) type WarmResult = Result<ActiveConfig, Vec<Rejection>>;

/// A change that is warming.
pub(super) struct Candidate {
    /// The number of its update.
    pub(super) number: u64,
    /// The compiled resources.
    pub(super) compiled: Arc<Compiled>,
    /// The listeners, with bound sockets.
    pub(super) listeners: DesiredListeners,
    /// The warming task, aborted when the candidate is dropped.
    pub(super) warming: Warming,
}

/// The task that warms a change. Dropping aborts it.
pub(super) struct Warming(pub(super) JoinHandle<Option<WarmResult>>);

impl Drop for Warming {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A candidate whose warming has finished.
pub(crate) struct WarmedCandidate {
    /// The number of its update.
    pub(super) number: u64,
    pub(super) compiled: Arc<Compiled>,
    pub(super) listeners: DesiredListeners,
    /// `None` when the task panicked.
    pub(super) outcome: Option<WarmResult>,
}

/// The candidates, oldest first.
#[derive(Default)]
pub(super) struct Candidates {
    warming: VecDeque<Candidate>,
}

impl Candidates {
    /// Adds the newest candidate. Drops candidates that are neither the oldest nor the newest.
    pub(super) fn push(&mut self, candidate: Candidate) {
        self.warming.truncate(1);
        self.warming.push_back(candidate);
    }

    /// Waits until a candidate has finished warming, and drops older candidates. Cancel-safe.
    pub(super) async fn next(&mut self) -> WarmedCandidate {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<WarmedCandidate> {
        // The newest first: once it is ready, the older one is obsolete.
        for index in (0..self.warming.len()).rev() {
            let Poll::Ready(outcome) = Pin::new(&mut self.warming[index].warming.0).poll(context) else { continue };
            let ready = self.warming.drain(..=index).next_back();
            if let Some(Candidate { number, compiled, listeners, warming: _warming }) = ready {
                return Poll::Ready(WarmedCandidate { number, compiled, listeners, outcome: outcome.ok().flatten() });
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;
    use weir_resources::Compiler;

    use super::*;
    use crate::task;

    fn candidate(number: u64) -> (Candidate, oneshot::Sender<()>) {
        let (finish, finished) = oneshot::channel();
        let warming = task::spawn("test", async move {
            if finished.await.is_err() {
                std::future::pending::<()>().await;
            }
            Ok(ActiveConfig::empty())
        });
        let compiled = Arc::new(Compiler::new().compile(&[]).unwrap_or_else(|_| panic!("nothing is valid")));
        (Candidate { number, compiled, listeners: DesiredListeners::default(), warming: Warming(warming) }, finish)
    }

    #[tokio::test]
    async fn oldest_candidate_survives_many_newer_ones() {
        let mut candidates = Candidates::default();
        let (oldest, oldest_ready) = candidate(0);
        candidates.push(oldest);
        let mut newer = Vec::new();
        for number in 1..=10 {
            let (candidate, ready) = candidate(number);
            candidates.push(candidate);
            newer.push(ready);
        }
        assert_eq!(candidates.warming.len(), 2);
        oldest_ready.send(()).unwrap();
        assert_eq!(candidates.next().await.number, 0);
        newer.pop().unwrap().send(()).unwrap();
        assert_eq!(candidates.next().await.number, 10);
        assert!(candidates.warming.is_empty());
    }

    #[tokio::test]
    async fn ready_newest_candidate_drops_older_ones() {
        let mut candidates = Candidates::default();
        let (oldest, _unfinished) = candidate(0);
        let (newest, ready) = candidate(1);
        candidates.push(oldest);
        candidates.push(newest);
        ready.send(()).unwrap();
        assert_eq!(candidates.next().await.number, 1);
        assert!(candidates.warming.is_empty());
    }
}
