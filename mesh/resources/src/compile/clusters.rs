//! Services to clusters: one for each port, and one for each version of its endpoints.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_model::limits::MAX_ENDPOINTS;
use weir_model::{Cluster, ClusterName, Discovery, Endpoint, UpstreamTls, Workload};

use crate::resolve::{Catalog, Resolved};
use crate::resource::backend_policy::BackendSettings;
use crate::resource::service::Endpoints;
use crate::resource::{Service, ServicePort};

/// The clusters of all Services.
pub(crate) fn clusters(catalog: &Catalog<'_>, resolved: &Resolved<'_>) -> Vec<Cluster> {
    let mut clusters = Vec::new();
    for (document, id, service) in catalog.services() {
        let settings = resolved.policies.get(&document).map(|settings| **settings).unwrap_or_default();
        let BackendSettings { balancing, connect_timeout, request_timeout } = settings;
        let workload = |account: &String| {
            Workload::of_account(&id.namespace, account).expect("RFC 1123 names are segments of a SPIFFE ID")
        };
        let tls = service.account.as_ref().map(|account| UpstreamTls { workload: workload(account) });
        for port in &service.ports {
            let registered = catalog.registered(id);
            let whole = Cluster {
                name: cluster_name(&format!("{}/{}:{}", id.namespace, id.name, port.port)),
                discovery: discovery((service, registered), port),
                protocol: port.protocol,
                balancing,
                connect_timeout,
                request_timeout,
                tls: tls.clone(),
                metadata: catalog.document(document).metadata.clone(),
            };
            clusters
                .extend(versions((service, registered), port).into_iter().map(|version| of_version(&whole, version)));
            clusters.push(whole);
        }
    }
    clusters
}

/// The versions that endpoints of a port have, each once, in order.
pub(crate) fn versions<'a>(of: (&'a Service, &'a [Endpoint]), port: &'a ServicePort) -> BTreeSet<&'a Arc<str>> {
    endpoints(of, port).filter_map(|endpoint| endpoint.version.as_ref()).collect()
}

/// The endpoints of a port: those that are listed, and those that have registered themselves, which serve every port. A
/// Service with a name has neither.
fn endpoints<'a>(
    (service, registered): (&'a Service, &'a [Endpoint]),
    port: &'a ServicePort,
) -> impl Iterator<Item = &'a Endpoint> {
    let (listed, registered) = match &service.endpoints {
        Endpoints::Listed(endpoints) => (endpoints.as_slice(), registered),
        Endpoints::Dns { .. } => (&[][..], &[][..]),
    };
    let listed = listed.iter().filter(|(_, name)| serves(port, name)).map(|(endpoint, _)| endpoint);
    listed.chain(registered).take(MAX_ENDPOINTS)
}

/// The endpoints of one version, as a cluster of their own: `namespace/service:port@version`.
fn of_version(whole: &Cluster, version: &Arc<str>) -> Cluster {
    let Discovery::Static(endpoints) = &whole.discovery else { return whole.clone() };
    let of_it = endpoints.iter().filter(|endpoint| endpoint.version.as_ref() == Some(version));
    Cluster {
        name: version_name(&whole.name, version),
        discovery: Discovery::Static(of_it.cloned().collect()),
        ..whole.clone()
    }
}

/// The name of the cluster of one version.
pub(crate) fn version_name(whole: &ClusterName, version: &str) -> ClusterName {
    cluster_name(&format!("{}@{version}", whole.as_str()))
}

/// A cluster's name: `namespace/service:port`.
pub(crate) fn cluster_name(text: &str) -> ClusterName {
    ClusterName::new(text).expect("namespace and service are RFC 1123 names, which are short and without white space")
}

fn discovery(of: (&Service, &[Endpoint]), port: &ServicePort) -> Discovery {
    match &of.0.endpoints {
        Endpoints::Dns { host, port } => Discovery::Dns { host: host.clone(), port: *port },
        Endpoints::Listed(_) => Discovery::Static(endpoints(of, port).cloned().collect()),
    }
}

/// True when an endpoint of this port name serves the port.
fn serves(port: &ServicePort, name: &Option<String>) -> bool {
    name.is_none() || *name == port.name
}
