//! A change on its way to being published: prepared, bound, warming. At most two at a time: the oldest, so that changes
//! that never stop coming cannot keep it from being published, and the newest, because it is what counts.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::task::JoinHandle;
use weir_model::Rejection;
use weir_resources::Compiled;

use crate::active::ActiveConfig;
use crate::listener::WantedListeners;

/// What warming gives.
pub(super) type WarmResult = Result<ActiveConfig, Vec<Rejection>>;

/// A change that is warming.
pub(super) struct Candidate {
    /// Which update it comes from.
    pub(super) number: u64,
    /// What was written.
    pub(super) compiled: Arc<Compiled>,
    /// Its listeners, bound.
    pub(super) listeners: WantedListeners,
    /// Given up when the candidate is dropped.
    pub(super) warming: Warming,
}

/// The task that warms a change; given up when it is dropped.
pub(super) struct Warming(pub(super) JoinHandle<Option<WarmResult>>);

impl Drop for Warming {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A change whose warming has ended.
pub(crate) struct Warmed {
    /// Which update it comes from.
    pub(super) number: u64,
    pub(super) compiled: Arc<Compiled>,
    pub(super) listeners: WantedListeners,
    /// `None` when the task panicked.
    pub(super) outcome: Option<WarmResult>,
}

/// The changes that are warming, oldest first.
#[derive(Default)]
pub(super) struct Candidates {
    warming: VecDeque<Candidate>,
}

impl Candidates {
    /// Adds the newest change. What is neither the oldest nor the newest is given up.
    pub(super) fn push(&mut self, candidate: Candidate) {
        self.warming.truncate(1);
        self.warming.push_back(candidate);
    }

    /// Waits for the next change whose warming ends, and gives up those that are older. Cancel-safe.
    pub(super) async fn next(&mut self) -> Warmed {
        poll_fn(|context| self.poll_next(context)).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Warmed> {
        // The newest first: when it is ready, nobody needs the older one any more.
        for index in (0..self.warming.len()).rev() {
            let Poll::Ready(ended) = Pin::new(&mut self.warming[index].warming.0).poll(context) else { continue };
            let ready = self.warming.drain(..=index).next_back();
            if let Some(Candidate { number, compiled, listeners, warming: _warming }) = ready {
                return Poll::Ready(Warmed { number, compiled, listeners, outcome: ended.ok().flatten() });
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
        let (ready, waits) = oneshot::channel();
        let warming = task::spawn("test", async move {
            if waits.await.is_err() {
                std::future::pending::<()>().await;
            }
            Ok(ActiveConfig::empty())
        });
        let compiled = Arc::new(Compiler::new().compile(&[]).unwrap_or_else(|_| panic!("nothing is valid")));
        (Candidate { number, compiled, listeners: WantedListeners::default(), warming: Warming(warming) }, ready)
    }

    #[tokio::test]
    async fn the_oldest_is_published_however_many_come() {
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
    async fn the_newest_overtakes_what_is_older() {
        let mut candidates = Candidates::default();
        let (oldest, _waits) = candidate(0);
        let (newest, ready) = candidate(1);
        candidates.push(oldest);
        candidates.push(newest);
        ready.send(()).unwrap();
        assert_eq!(candidates.next().await.number, 1);
        assert!(candidates.warming.is_empty());
    }
}
