//! An address that serves a cluster.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::limits::MAX_WEIGHT;

/// The share of an endpoint or a target beside its siblings: 0 (none) to [`MAX_WEIGHT`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Weight(u32);

impl Weight {
    /// The weight of one who says nothing.
    pub const ONE: Self = Self(1);

    /// A weight, or `None` above [`MAX_WEIGHT`].
    pub const fn new(weight: u32) -> Option<Self> {
        if weight <= MAX_WEIGHT { Some(Self(weight)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// The version of a service that an endpoint runs: `v1`. What canaries choose by.
pub type ServiceVersion = Arc<str>;

/// An address that serves a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Endpoint {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its share of the cluster's requests.
    pub weight: Weight,
    /// Which version of the service it runs, when the service says so.
    pub version: Option<ServiceVersion>,
}
