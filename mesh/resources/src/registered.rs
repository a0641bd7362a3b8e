//! Endpoints that have registered themselves with a control plane: they serve a Service beside those that are listed in it.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use weir_model::limits::MAX_WEIGHT;
use weir_model::{Endpoint, Weight};

use crate::grammar::{Objection, name};
use crate::resource::ObjectId;

/// Endpoints by the Service that they serve.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registered(BTreeMap<(Arc<str>, Arc<str>), Vec<Endpoint>>);

impl Registered {
    /// Adds an endpoint of a Service.
    pub fn add(&mut self, (namespace, service): (&str, &str), endpoint: Endpoint) {
        self.0.entry((namespace.into(), service.into())).or_default().push(endpoint);
    }

    /// The endpoints of a Service.
    pub(crate) fn of(&self, service: &ObjectId) -> &[Endpoint] {
        self.0.get(&(Arc::clone(&service.namespace), Arc::clone(&service.name))).map_or(&[], Vec::as_slice)
    }
}

/// An endpoint, as somebody says it of himself.
///
/// # Errors
/// What is wrong with it, and what to write.
pub fn endpoint(address: SocketAddr, weight: Option<u32>, version: Option<&str>) -> Result<Endpoint, String> {
    let said = |Objection { reason, hint }: Objection| format!("{reason}; {hint}");
    let weight = weight.map_or(Some(Weight::ONE), Weight::new);
    let weight = weight.ok_or_else(|| format!("weights are between 0 and {MAX_WEIGHT}"))?;
    if let Some(version) = version {
        name::version(version).map_err(said)?;
    }
    let is_local = match address.ip() {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_multicast() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local() || ip.is_multicast(),
    };
    if is_local {
        return Err(format!(
            "{address} means something else on each machine; say the address that others reach you at"
        ));
    }
    if address.ip().is_unspecified() || address.port() == 0 {
        return Err(format!("{address} is nowhere; say the address and port that others reach you at"));
    }
    Ok(Endpoint { address, weight, version: version.map(Arc::from) })
}
