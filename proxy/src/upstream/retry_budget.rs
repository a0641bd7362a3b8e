//! The retry budget of a cluster: the retries that its requests of the last interval allow. All workers share it. It is
//! looked at before a retry only; requests are counted by the workers' own counters.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Parts of the interval. Requests and retries leave the count with their part.
const SLOTS: u32 = 10;

/// The budget of one cluster.
pub(super) struct RetryBudget {
    model: weir_model::RetryBudget,
    origin: Instant,
    window: Mutex<Window>,
}

/// The counts of the last interval.
#[derive(Debug, Default)]
struct Window {
    /// By number of the slot: the requests of the cluster when the slot began. The first is at the window's beginning, or
    /// before it.
    requests: VecDeque<(u64, u64)>,
    /// By number of the slot: the retries in it.
    retries: VecDeque<(u64, u64)>,
}

impl RetryBudget {
    /// Returns a budget from which nothing is taken.
    pub(super) fn new(model: weir_model::RetryBudget) -> Self {
        Self { model, origin: Instant::now(), window: Mutex::default() }
    }

    /// Takes one retry, if the budget allows it. `requests` is the number of the cluster's requests so far.
    pub(super) fn take(&self, requests: u64) -> bool {
        let slot = self.slot(self.origin.elapsed());
        self.window.lock().take(slot, requests, &self.model)
    }

    /// Notes the number of requests so far. Called now and then, so that requests before the interval do not count.
    pub(super) fn note(&self, requests: u64) {
        let slot = self.slot(self.origin.elapsed());
        self.window.lock().note(slot, requests);
    }

    fn slot(&self, elapsed: Duration) -> u64 {
        let length = (self.model.interval / SLOTS).as_millis().max(1);
        u64::try_from(elapsed.as_millis() / length).unwrap_or(u64::MAX)
    }
}

impl Window {
    fn take(&mut self, slot: u64, requests: u64, model: &weir_model::RetryBudget) -> bool {
        self.note(slot, requests);
        let first = self.requests.front().map_or(0, |(_, requests)| *requests);
        let taken: u64 = self.retries.iter().map(|(_, retries)| retries).sum();
        if taken >= model.allowed(requests.saturating_sub(first)) {
            return false;
        }
        match self.retries.back_mut() {
            Some((last, retries)) if *last == slot => *retries += 1,
            _ => self.retries.push_back((slot, 1)),
        }
        true
    }

    fn note(&mut self, slot: u64, requests: u64) {
        if self.requests.back().is_none_or(|(last, _)| *last < slot) {
            // The first slot ever has the requests from the start.
            let requests = if self.requests.is_empty() { 0 } else { requests };
            self.requests.push_back((slot, requests));
        }
        let is_over = |of: u64| of.saturating_add(SLOTS.into()) <= slot;
        while self.requests.get(1).is_some_and(|(next, _)| is_over(*next)) {
            self.requests.pop_front();
        }
        self.retries.retain(|(of, _)| !is_over(*of));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn model(percent: u32, min_count: u32) -> weir_model::RetryBudget {
        weir_model::RetryBudget { percent, min_count, ..weir_model::RetryBudget::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn budget_is_a_share_of_the_last_interval() {
        let budget = RetryBudget::new(model(20, 0));
        assert!(!budget.take(4) && budget.take(5) && !budget.take(9) && budget.take(10));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(!budget.take(10) && budget.take(15) && !budget.take(15));
        tokio::time::advance(Duration::from_secs(1)).await;
        budget.note(15); // As each worker does twice a second.
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(!budget.take(15), "the requests are too long ago");
        assert!(budget.take(20));
    }

    #[tokio::test(start_paused = true)]
    async fn minimum_is_allowed_without_requests() {
        let budget = RetryBudget::new(model(20, 3));
        let taken = |requests| (0..100).filter(|_| budget.take(requests)).count();
        assert_eq!(taken(0), 30, "3 for each second of the interval");
        tokio::time::advance(Duration::from_secs(11)).await;
        assert_eq!(taken(100), 30);
    }

    proptest! {
        /// A retry is taken only if the retries of the interval are at most the share of the requests in it, and in the
        /// time from the last note before it.
        #[test]
        fn share_is_never_exceeded(steps in prop::collection::vec((0_u64..3, 0_u64..50, 0_u64..30), 1..200)) {
            let (model, mut window) = (model(20, 0), Window::default());
            let (mut slot, mut requests) = (0, 0);
            let mut history: Vec<(u64, u64, u64)> = Vec::new(); // Slot, requests, retries.
            for (slots, new, tries) in steps {
                slot += slots;
                requests += new;
                window.note(slot, requests);
                let taken = (0..tries).filter(|_| window.take(slot, requests, &model)).count() as u64;
                history.push((slot, new, taken));
                let sum = |from: u64, part: fn(&(u64, u64, u64)) -> u64| -> u64 {
                    history.iter().filter(|step| step.0 >= from).map(part).sum()
                };
                let retries = sum((slot + 1).saturating_sub(SLOTS.into()), |step| step.2);
                let counted = sum(slot.saturating_sub(u64::from(SLOTS) + 2), |step| step.1);
                prop_assert!(taken == 0 || retries <= counted / 5, "{retries} of {counted}");
            }
        }
    }
}
