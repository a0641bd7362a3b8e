//! Endpoints of clusters and their weights.

use std::sync::Arc;

use serde::Serialize;

use crate::endpoint_address::EndpointAddress;
use crate::limits::MAX_WEIGHT;

/// The share of an endpoint or a target relative to its siblings: 0 (no requests) to [`MAX_WEIGHT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Weight(u32);

impl Weight {
    /// The default weight.
    pub const ONE: Self = Self(1);

    /// Returns a weight; `None` above [`MAX_WEIGHT`].
    pub const fn new(weight: u32) -> Option<Self> {
        if weight <= MAX_WEIGHT { Some(Self(weight)) } else { None }
    }

    /// Returns the number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The version of a service that an endpoint runs, such as `v1`. Canary releases select endpoints by it.
pub type ServiceVersion = Arc<str>;

/// An address that serves a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Endpoint {
    /// The address that the endpoint listens on.
    pub address: EndpointAddress,
    /// The endpoint's share of the cluster's requests.
    pub weight: Weight,
    /// The version of the service, if the endpoint declares one.
    pub version: Option<ServiceVersion>,
}
