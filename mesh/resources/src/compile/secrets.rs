//! Secrets of listeners. A Secret that no listener uses is not sent to any proxy.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_model::{DownstreamTls, Listener, Secret, SecretName, SecretString};

use crate::resolve::ObjectIndex;
use crate::resource;

/// Returns the Secrets with these names.
pub(crate) fn secrets(objects: &ObjectIndex<'_>, used: &BTreeSet<SecretName>) -> Vec<Secret> {
    let secrets = objects.secrets().filter_map(|(_, id, secret)| match secret {
        resource::Secret::Certificate { certificates, key } => Some(Secret {
            name: secret_name(&id.namespace, &id.name),
            certificates: Arc::clone(certificates),
            key: SecretString(Arc::clone(key)),
        }),
        resource::Secret::Opaque(_) => None,
    });
    secrets.filter(|secret| used.contains(&secret.name)).collect()
}

/// Returns the names of a listener's Secrets.
pub(crate) fn listener_secrets(listener: &Listener) -> impl Iterator<Item = SecretName> {
    listener.tls.iter().flat_map(DownstreamTls::secrets).cloned()
}

/// Returns a secret name: `namespace/secret`.
pub(crate) fn secret_name(namespace: &str, name: &str) -> SecretName {
    SecretName::new(&format!("{namespace}/{name}")).expect("names that resolve are RFC 1123 names, which are short")
}
