//! HTTP by TLS: of whom the system believes, or of who is named.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use weir_identity::provider;

/// An agent that believes those who sign in this file; those whom the system believes, when there is none. Credentials do
/// not follow a redirection: that is ureq's default.
pub(crate) fn agent(ca: Option<&Path>) -> anyhow::Result<Agent> {
    let roots = match ca {
        None => RootCerts::PlatformVerifier,
        Some(path) => {
            let text = std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
            let certificates = parse_pem(&text).filter_map(|item| match item {
                Ok(PemItem::Certificate(certificate)) => Some(certificate),
                _ => None,
            });
            RootCerts::Specific(Arc::new(certificates.collect()))
        }
    };
    let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider()).build();
    // No proxy of the environment: it would read what goes in plain text to this machine.
    Ok(Agent::config_builder().http_status_as_error(false).tls_config(tls).proxy(None).build().into())
}
