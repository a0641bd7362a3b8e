//! Secrets of listeners and clusters. A Secret that none of them uses is not sent to any proxy.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_model::{
    CertificateWithKey, Cluster, DownstreamTls, Listener, Secret, SecretContent, SecretName, SecretString, UpstreamTls,
};

use crate::resolve::backend_tls::authorities;
use crate::resolve::{ObjectIndex, Resolved};
use crate::resource::{self, ObjectId};

/// The start of the name of a secret with the CA certificates of a BackendTLSPolicy, after the namespace. No name of an
/// object contains a `/`.
pub(crate) const AUTHORITIES_PREFIX: &str = "backend-tls-policy/";

/// Returns the Secrets with these names, and the CA certificates of BackendTLSPolicies.
pub(crate) fn secrets(objects: &ObjectIndex<'_>, resolved: &Resolved<'_>, used: &BTreeSet<SecretName>) -> Vec<Secret> {
    let certificates = objects.secrets().filter_map(|(_, id, secret)| match secret {
        resource::Secret::Certificate { certificates, key, authorities: _ } => Some(Secret {
            name: secret_name(&id.namespace, &id.name),
            content: SecretContent::Certificate(CertificateWithKey {
                certificates: Arc::clone(certificates),
                key: SecretString(Arc::clone(key)),
            }),
        }),
        resource::Secret::Opaque(_) => None,
    });
    let applied = resolved.backend_tls.applied().into_iter();
    let authorities = applied.filter_map(|(id, policy)| {
        let authorities = Arc::from(authorities(objects, id, policy)?);
        Some(Secret { name: authorities_name(id), content: SecretContent::Authorities { authorities } })
    });
    certificates.chain(authorities).filter(|secret| used.contains(&secret.name)).collect()
}

/// Returns the names of a listener's Secrets.
pub(crate) fn listener_secrets(listener: &Listener) -> impl Iterator<Item = SecretName> {
    listener.tls.iter().flat_map(DownstreamTls::secrets).cloned()
}

/// Returns the names of a cluster's Secrets.
pub(crate) fn cluster_secrets(cluster: &Cluster) -> impl Iterator<Item = SecretName> {
    cluster.tls.iter().flat_map(UpstreamTls::secrets).cloned()
}

/// Returns a secret name: `namespace/secret`.
pub(crate) fn secret_name(namespace: &str, name: &str) -> SecretName {
    SecretName::new(&format!("{namespace}/{name}")).expect("names that resolve are RFC 1123 names, which are short")
}

/// Returns the name of the secret with the CA certificates of a BackendTLSPolicy.
pub(crate) fn authorities_name(policy: &ObjectId) -> SecretName {
    secret_name(&policy.namespace, &format!("{AUTHORITIES_PREFIX}{}", policy.name))
}
