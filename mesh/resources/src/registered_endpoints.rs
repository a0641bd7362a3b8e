//! Endpoints that workloads registered with the control plane. They extend the listed endpoints of a ServiceEntry.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weir_model::limits::MAX_WEIGHT;
use weir_model::{Endpoint, Weight};

use crate::resource::ObjectId;
use crate::syntax::{SyntaxError, name};

/// Registered endpoints by namespace and name of the ServiceEntry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RegisteredEndpoints(BTreeMap<(Arc<str>, Arc<str>), Vec<Endpoint>>);

impl RegisteredEndpoints {
    /// Adds an endpoint of a ServiceEntry.
    pub fn add(&mut self, namespace: &str, service: &str, endpoint: Endpoint) {
        self.0.entry((namespace.into(), service.into())).or_default().push(endpoint);
    }

    /// Returns the registered endpoints of a ServiceEntry.
    pub(crate) fn for_service(&self, service: &ObjectId) -> &[Endpoint] {
        self.0.get(&(Arc::clone(&service.namespace), Arc::clone(&service.name))).map_or(&[], Vec::as_slice)
    }
}

/// Validates the endpoint of a registration.
///
/// # Errors
/// The reason and the hint, as one text, if the address, the weight or the version is invalid.
pub fn endpoint(address: SocketAddr, weight: Option<u32>, version: Option<&str>) -> Result<Endpoint, String> {
    let describe = |SyntaxError { reason, hint }: SyntaxError| format!("{reason}; {hint}");
    let weight = weight.map_or(Some(Weight::ONE), Weight::new);
    let weight = weight.ok_or_else(|| format!("weights are between 0 and {MAX_WEIGHT}"))?;
    if let Some(version) = version {
        name::version(version).map_err(describe)?;
    }
    let is_local = match address.ip() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_multicast(),
    };
    if is_local {
        return Err(format!(
            "{address} is a link-local or multicast address; register an address that other hosts can reach"
        ));
    }
    if address.ip().is_unspecified() || address.port() == 0 {
        return Err(format!(
            "{address} is not an address with a port; register the address and port that other hosts can reach"
        ));
    }
    Ok(Endpoint { address: address.into(), weight, version: version.map(Arc::from) })
}
