//! The endpoints of a cluster: an immutable set that the resolver or a configuration update replaces as a whole.
//! Unchanged endpoints retain their counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use weir_model::{EndpointAddress, ServiceVersion};

use super::outlier::{EjectionCause, Outlier};

/// An address that serves a cluster, and its failures.
#[derive(Debug)]
pub(crate) struct Endpoint {
    /// The address.
    pub(crate) address: EndpointAddress,
    /// The weight among the endpoints of the cluster. 0 gets no requests.
    pub(crate) weight: u32,
    /// The version of the service that it runs, if declared.
    pub(crate) version: Option<ServiceVersion>,
    failures: AtomicU64,
    last_failure: ArcSwapOption<String>,
    /// `None` in a cluster without outlier detection.
    outlier: Option<Box<Outlier>>,
}

impl Endpoint {
    fn new(model: &weir_model::Endpoint, cluster: &weir_model::Cluster) -> Self {
        Self {
            address: model.address.clone(),
            weight: model.weight.get(),
            version: model.version.clone(),
            failures: AtomicU64::new(0),
            last_failure: ArcSwapOption::empty(),
            outlier: cluster.outlier_detection.is_some().then(Box::default),
        }
    }

    fn matches(&self, model: &weir_model::Endpoint) -> bool {
        self.address == model.address && self.weight == model.weight.get() && self.version == model.version
    }

    /// Returns its state of outlier detection; `None` in a cluster without.
    pub(super) fn outlier(&self) -> Option<&Outlier> {
        self.outlier.as_deref()
    }

    /// Returns false while it is left out: requests go to the others.
    pub(crate) fn is_available(&self) -> bool {
        self.outlier().is_none_or(|outlier| !outlier.is_ejected())
    }

    /// Returns the end of its ejection since the start of the process, and the cause; `None` if it is not ejected.
    pub(crate) fn ejection(&self) -> Option<(Duration, EjectionCause)> {
        self.outlier()?.ejection()
    }

    /// Counts a failed attempt, and stores its reason for `/clusters`.
    pub(super) fn record_failure(&self, reason: String) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.last_failure.store(Some(Arc::new(reason)));
    }

    /// Returns the number of failed attempts.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Returns the reason of the last failed attempt.
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
    /// Returns the set of these endpoints. Unchanged endpoints of `previous` are reused.
    pub(super) fn new(models: &[weir_model::Endpoint], cluster: &weir_model::Cluster, previous: &Self) -> Self {
        let reusable: std::collections::HashMap<_, _> =
            previous.endpoints.iter().map(|endpoint| (&endpoint.address, endpoint)).collect();
        let endpoints = models
            .iter()
            .map(|model| match reusable.get(&model.address) {
                Some(endpoint) if endpoint.matches(model) => Arc::clone(endpoint),
                _ => Arc::new(Endpoint::new(model, cluster)),
            })
            .collect();
        Self { endpoints }
    }

    /// Returns the endpoints in the order of their models.
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Arc<Endpoint>> {
        self.endpoints.iter()
    }

    /// Returns the endpoint at a position. Panics beyond [`EndpointSet::len`].
    pub(super) fn at(&self, index: usize) -> &Arc<Endpoint> {
        &self.endpoints[index]
    }

    /// Returns the number of endpoints.
    pub(crate) fn len(&self) -> usize {
        self.endpoints.len()
    }

    /// Returns true if the models are the same endpoints in the same order.
    pub(super) fn is_same(&self, models: &[weir_model::Endpoint]) -> bool {
        self.len() == models.len() && self.iter().zip(models).all(|(endpoint, model)| endpoint.matches(model))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use weir_model::Weight;

    fn model(port: u16, weight: u32) -> weir_model::Endpoint {
        weir_model::Endpoint {
            address: SocketAddr::from(([127, 0, 0, 1], port)).into(),
            weight: Weight::new(weight).unwrap(),
            version: None,
        }
    }

    #[test]
    fn unchanged_endpoint_retains_its_counters() {
        let name = weir_model::ClusterName::new("a/b:80").unwrap();
        let cluster = weir_model::Cluster::of_endpoints(name, Vec::new()).unwrap();
        let first = EndpointSet::new(&[model(1, 1), model(2, 1)], &cluster, &EndpointSet::default());
        first.at(1).record_failure("refused".to_owned());
        let models = [model(2, 1), model(3, 1), model(1, 5)];
        let second = EndpointSet::new(&models, &cluster, &first);
        assert!(Arc::ptr_eq(first.at(1), second.at(0)) && second.at(0).failures() == 1);
        assert!(!Arc::ptr_eq(first.at(0), second.at(2)), "another weight is another endpoint");
        assert!(second.is_same(&models) && !first.is_same(&models));
        assert_eq!(second.at(0).last_failure().unwrap().as_str(), "refused");
    }
}
