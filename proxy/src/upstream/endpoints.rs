//! The addresses of a cluster: a set that never changes, swapped as a whole when the resolver or the configuration says
//! so. An endpoint that stays keeps its counters.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use weir_model::ServiceVersion;

/// An address that serves a cluster, and what went wrong there.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// Its share among its siblings; 0 = none.
    pub(crate) weight: u32,
    /// Which version of the service it runs, when the service says so.
    pub(crate) version: Option<ServiceVersion>,
    failures: AtomicU64,
    last_failure: ArcSwapOption<String>,
}

impl Endpoint {
    fn new(model: &weir_model::Endpoint) -> Self {
        Self {
            address: model.address,
            weight: model.weight.get(),
            version: model.version.clone(),
            failures: AtomicU64::new(0),
            last_failure: ArcSwapOption::empty(),
        }
    }

    fn is(&self, model: &weir_model::Endpoint) -> bool {
        self.address == model.address && self.weight == model.weight.get() && self.version == model.version
    }

    /// Counts a failed attempt and keeps its reason for `/clusters`.
    pub(super) fn record_failure(&self, reason: String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.last_failure.store(Some(Arc::new(reason)));
    }

    /// Attempts that failed here.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Why the last failed attempt failed.
    pub(crate) fn last_failure(&self) -> Option<Arc<String>> {
        self.last_failure.load_full()
    }
}

/// All endpoints of a cluster at one time.
#[derive(Debug, Default)]
pub(crate) struct EndpointSet {
    endpoints: Box<[Arc<Endpoint>]>,
}

impl EndpointSet {
    /// The set with these endpoints; those that are in `previous` are taken from there.
    pub(super) fn new(models: &[weir_model::Endpoint], previous: &Self) -> Self {
        let known: std::collections::HashMap<_, _> =
            previous.endpoints.iter().map(|endpoint| (endpoint.address, endpoint)).collect();
        let endpoints = models
            .iter()
            .map(|model| match known.get(&model.address) {
                Some(endpoint) if endpoint.is(model) => Arc::clone(endpoint),
                _ => Arc::new(Endpoint::new(model)),
            })
            .collect();
        Self { endpoints }
    }

    /// The endpoints, in the order in which they were given.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Arc<Endpoint>> {
        self.endpoints.iter()
    }

    /// The endpoint at a position.
    pub(super) fn at(&self, index: usize) -> &Arc<Endpoint> {
        &self.endpoints[index]
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// True when these are the same endpoints in the same order.
    pub(super) fn holds(&self, models: &[weir_model::Endpoint]) -> bool {
        self.len() == models.len() && self.iter().zip(models).all(|(endpoint, model)| endpoint.is(model))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_model::Weight;

    fn model(port: u16, weight: u32) -> weir_model::Endpoint {
        weir_model::Endpoint {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            weight: Weight::new(weight).unwrap(),
            version: None,
        }
    }

    #[test]
    fn an_endpoint_that_stays_keeps_its_counters() {
        let first = EndpointSet::new(&[model(1, 1), model(2, 1)], &EndpointSet::default());
        first.at(1).record_failure("refused".to_owned());
        let models = [model(2, 1), model(3, 1), model(1, 5)];
        let second = EndpointSet::new(&models, &first);
        assert!(Arc::ptr_eq(first.at(1), second.at(0)) && second.at(0).failures() == 1);
        assert!(!Arc::ptr_eq(first.at(0), second.at(2)), "another weight is another endpoint");
        assert!(second.holds(&models) && !first.holds(&models));
        assert_eq!(second.at(0).last_failure().unwrap().as_str(), "refused");
    }
}
