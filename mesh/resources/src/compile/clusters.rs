//! Clusters: one for each port of a ServiceEntry, and one for each version of its endpoints.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_model::limits::MAX_ENDPOINTS;
use weir_model::{
    Cluster, ClusterName, Discovery, Endpoint, ServerTls, ServerTrust, UpstreamProtocol, UpstreamProtocolOptions,
    UpstreamTls, Workload,
};

use crate::compile::secrets::{authorities_name, secret_name};
use crate::resolve::backend_tls::BackendTls;
use crate::resolve::backends::grpc_backends;
use crate::resolve::{ObjectIndex, Resolved};
use crate::resource::backend_tls_policy::PolicyTrust;
use crate::resource::backend_traffic_policy::BackendSettings;
use crate::resource::service_entry::Endpoints;
use crate::resource::{ServiceEntry, ServicePort};

/// Returns the clusters of all ServiceEntries.
pub(crate) fn clusters(objects: &ObjectIndex<'_>, resolved: &Resolved<'_>) -> Vec<Cluster> {
    let mut clusters = Vec::new();
    let of_grpc = grpc_backends(objects);
    for (document, id, service) in objects.service_entries() {
        let settings = resolved.traffic_policies.get(&document).map(|settings| (*settings).clone()).unwrap_or_default();
        let BackendSettings {
            balancing,
            connect_timeout,
            request_timeout,
            outlier_detection,
            retry_budget,
            tcp_keepalive,
            options,
        } = settings;
        let workload = |account: &String| {
            Workload::from_service_account(&id.namespace, account).expect("RFC 1123 names are segments of a SPIFFE ID")
        };
        let mesh = service.account.as_ref().map(|account| UpstreamTls::Mesh { workload: workload(account) });
        for port in &service.ports {
            let endpoints = ServiceEndpoints { service, registered: objects.registered(id) };
            let name = format!("{}/{}:{}", id.namespace, id.name, port.port);
            let server_tls = resolved.backend_tls.tls(document, port.port).map(server_tls);
            let default = match (of_grpc.contains(&name), &mesh, &server_tls) {
                (true, _, _) => UpstreamProtocol::Http2,
                (false, None, Some(_)) if !port.is_tcp => UpstreamProtocol::Auto,
                (false, _, _) => UpstreamProtocol::Http1,
            };
            let protocol = port.protocol.unwrap_or(default);
            let whole = Cluster {
                name: cluster_name(&name),
                discovery: endpoints.discovery(port),
                protocol,
                lb_policy: balancing,
                connect_timeout,
                request_timeout,
                outlier_detection: outlier_detection.clone(),
                retry_budget: retry_budget.clone(),
                tcp_keepalive,
                options: UpstreamProtocolOptions {
                    preserve_header_case: options.preserve_header_case && protocol != UpstreamProtocol::Http2,
                    ..options
                },
                tls: mesh.clone().or(server_tls),
                metadata: objects.document(document).metadata.clone(),
            };
            clusters.extend(endpoints.versions(port).into_iter().map(|version| version_cluster(&whole, version)));
            clusters.push(whole);
        }
    }
    clusters
}

fn server_tls(tls: &BackendTls<'_>) -> UpstreamTls {
    let BackendTls { id, policy, client_certificate } = tls;
    UpstreamTls::Server(ServerTls {
        sni: Some(Arc::clone(&policy.hostname)),
        trust: match policy.trust {
            PolicyTrust::System => ServerTrust::System,
            PolicyTrust::References(_) => ServerTrust::Secret(authorities_name(id)),
        },
        names: policy.names.clone(),
        client_certificate: client_certificate.map(|(namespace, name)| secret_name(namespace, name)),
        min_version: policy.min_version,
        max_version: policy.max_version,
    })
}

/// The endpoints of a ServiceEntry from both sources.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServiceEndpoints<'a> {
    /// The ServiceEntry, with its listed endpoints.
    pub(crate) service: &'a ServiceEntry,
    /// The endpoints that workloads registered with the control plane; they serve every port.
    pub(crate) registered: &'a [Endpoint],
}

impl<'a> ServiceEndpoints<'a> {
    /// Returns the distinct versions of a port's endpoints, in alphabetical order.
    pub(crate) fn versions(self, port: &'a ServicePort) -> BTreeSet<&'a Arc<str>> {
        self.endpoints(port).filter_map(|endpoint| endpoint.version.as_ref()).collect()
    }

    /// Returns false if workloads may still register all endpoints: none is listed, and none is registered.
    pub(crate) fn are_known(self) -> bool {
        match &self.service.endpoints {
            Endpoints::Listed(endpoints) => !(endpoints.is_empty() && self.registered.is_empty()),
            Endpoints::Dns { .. } => true,
        }
    }

    /// Returns the endpoints of a port: the listed ones, then the registered ones. Returns none for a ServiceEntry with
    /// `dns`.
    fn endpoints(self, port: &'a ServicePort) -> impl Iterator<Item = &'a Endpoint> {
        let (listed, registered) = match &self.service.endpoints {
            Endpoints::Listed(endpoints) => (endpoints.as_slice(), self.registered),
            Endpoints::Dns { .. } => (&[][..], &[][..]),
        };
        let listed = listed.iter().filter(|(_, name)| serves(port, name)).map(|(endpoint, _)| endpoint);
        listed.chain(registered).take(MAX_ENDPOINTS)
    }

    fn discovery(self, port: &ServicePort) -> Discovery {
        match &self.service.endpoints {
            Endpoints::Dns { host, port } => Discovery::Dns { host: host.clone(), port: *port },
            Endpoints::Listed(_) => {
                // `collect` alone would make room for four.
                let mut endpoints = Vec::with_capacity(self.endpoints(port).count());
                endpoints.extend(self.endpoints(port).cloned());
                Discovery::Static(endpoints)
            }
        }
    }
}

/// Returns the cluster with the endpoints of one version: `namespace/service:port@version`.
fn version_cluster(whole: &Cluster, version: &Arc<str>) -> Cluster {
    let Discovery::Static(endpoints) = &whole.discovery else { return whole.clone() };
    let of_version = endpoints.iter().filter(|endpoint| endpoint.version.as_ref() == Some(version));
    Cluster {
        name: version_name(&whole.name, version),
        discovery: Discovery::Static(of_version.cloned().collect()),
        ..whole.clone()
    }
}

/// Returns the name of the cluster of one version.
pub(crate) fn version_name(whole: &ClusterName, version: &str) -> ClusterName {
    cluster_name(&format!("{}@{version}", whole.as_str()))
}

/// Returns a cluster name: `namespace/service:port`.
pub(crate) fn cluster_name(text: &str) -> ClusterName {
    ClusterName::new(text).expect("namespace and service are RFC 1123 names, which are short and without white space")
}

/// Returns true if an endpoint with this port name serves the port.
fn serves(port: &ServicePort, name: &Option<String>) -> bool {
    name.is_none() || *name == port.name
}
