//! Resolution of references between objects. Reports dangling and conflicting references, and routes without listener.
//! Called with all documents of a compilation; the result is the input of the snapshot build.
//!
//! ```text
//! documents ─► ObjectIndex ─► attach (routes to listeners) ─► backends (to Services) ─► policy_targets (Filter, …)
//! ```

pub(crate) mod backend_tls;
pub(crate) mod attach;
pub(crate) mod backends;
pub(crate) mod client_policies;
pub(crate) mod policy_targets;
pub(crate) mod secret_refs;
pub(crate) mod index;
pub(crate) mod host;
pub(crate) mod errors;

pub(crate) use attach::Attachment;
pub(crate) use backend_tls::BackendTlsPolicies;
pub(crate) use backends::backend_id;
pub(crate) use client_policies::ClientPolicies;
pub(crate) use errors::ReferenceErrors;
pub(crate) use index::ObjectIndex;
pub(crate) use policy_targets::TrafficPolicies;
pub(crate) use secret_refs::NamespaceSecrets;

/// The resolved references of all documents.
#[derive(Debug, Default)]
pub(crate) struct Resolved<'a> {
    /// The routes of each host of each listener.
    pub(crate) attachments: Vec<Attachment>,
    /// The settings of each Service with a BackendTrafficPolicy.
    pub(crate) traffic_policies: TrafficPolicies<'a>,
    /// The settings of Gateways with a ClientTrafficPolicy.
    pub(crate) client_policies: ClientPolicies<'a>,
    /// The TLS of ports with a BackendTLSPolicy.
    pub(crate) backend_tls: BackendTlsPolicies<'a>,
}

/// Resolves all references.
pub(crate) fn resolve<'a>(objects: &ObjectIndex<'a>, errors: &mut ReferenceErrors) -> Resolved<'a> {
    attach::check_gateways(objects, errors);
    let attachments = attach::attach_routes(objects, errors);
    backends::check_routes(objects, errors);
    backends::check_tcp_routes(objects, errors);
    backends::check_filter_clusters(objects, errors);
    policy_targets::check_filters(objects, errors);
    policy_targets::check_certificates(objects, errors);
    secret_refs::check_secret_refs(objects, errors);
    let traffic_policies = policy_targets::traffic_policies(objects, errors);
    let client_policies = client_policies::client_policies(objects, errors);
    let backend_tls = backend_tls::backend_tls(objects, &attachments, errors);
    Resolved { attachments, traffic_policies, client_policies, backend_tls }
}
