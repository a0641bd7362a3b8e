//! An HTTPS client that trusts the system's roots, or those of `--api-ca`.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use ureq::Agent;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

/// Returns an agent that trusts the certificates of the file `ca`, or the system's roots if it is `None`. ureq does not
/// forward credentials when it follows a redirect.
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
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(provider).build();
    // No HTTP proxy from the environment: it could read plaintext requests to this machine.
    Ok(Agent::config_builder().http_status_as_error(false).tls_config(tls).proxy(None).build().into())
}
