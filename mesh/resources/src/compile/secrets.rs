//! Secrets that listeners show. Others are nobody's business: they are not told to any proxy.

use std::collections::BTreeSet;

use weir_model::{DownstreamTls, Listener, Secret, SecretName, SecretText};

use crate::resolve::Catalog;

/// The Secrets that are among these names.
pub(crate) fn secrets(catalog: &Catalog<'_>, used: &BTreeSet<SecretName>) -> Vec<Secret> {
    let secrets = catalog.secrets().map(|(_, id, secret)| Secret {
        name: secret_name(&id.namespace, &id.name),
        certificates: secret.certificates.clone(),
        key: SecretText(secret.key.clone()),
    });
    secrets.filter(|secret| used.contains(&secret.name)).collect()
}

/// Those that a listener shows.
pub(crate) fn of_listener(listener: &Listener) -> impl Iterator<Item = SecretName> {
    listener.tls.iter().flat_map(DownstreamTls::secrets).cloned()
}

/// A secret's name: `namespace/secret`.
pub(crate) fn secret_name(namespace: &str, name: &str) -> SecretName {
    SecretName::new(&format!("{namespace}/{name}")).expect("names that resolve are RFC 1123 names, which are short")
}
