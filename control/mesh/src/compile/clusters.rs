//! Services to clusters: one for each port.

use weir_model::{Cluster, ClusterName, Discovery, Endpoint};

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
        for port in &service.ports {
            clusters.push(Cluster {
                name: cluster_name(&format!("{}/{}:{}", id.namespace, id.name, port.port)),
                discovery: discovery(service, port),
                protocol: port.protocol,
                balancing,
                connect_timeout,
                request_timeout,
            });
        }
    }
    clusters
}

/// A cluster's name: `namespace/service:port`.
pub(crate) fn cluster_name(text: &str) -> ClusterName {
    ClusterName::new(text).expect("namespace and service are RFC 1123 names, which are short and without white space")
}

fn discovery(service: &Service, port: &ServicePort) -> Discovery {
    match &service.endpoints {
        Endpoints::Dns { host, port } => Discovery::Dns { host: host.clone(), port: *port },
        Endpoints::Listed(endpoints) => {
            let serves = |name: &Option<String>| name.is_none() || *name == port.name;
            let own = endpoints.iter().filter(|(_, name)| serves(name)).map(|(endpoint, _)| endpoint);
            Discovery::Static(own.map(Endpoint::clone).collect())
        }
    }
}
