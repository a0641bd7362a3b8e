//! TLS settings of connections to servers outside the mesh (BackendTLSPolicy). `active` builds them once for each
//! version of a cluster and its secrets. Each worker makes its own copy, because resumption has a lock in it.

use std::net::IpAddr;
use std::sync::Arc;

use rustls_native_certs::load_native_certs;
use weir_identity::pki_types::ServerName;
use weir_identity::{Authorities, CertificateError, ClientConfig, Resumption, ServerCertificate, client_tls_config};
use weir_model::ServerTls;

use crate::limits::MAX_TLS_SESSIONS;

/// TLS settings of connections to the endpoints of a cluster.
pub(crate) struct ClientTls {
    /// The reason for which no connection can be opened, if a secret cannot be used.
    config: Result<ClientConfig, String>,
    sni: Option<Arc<str>>,
}

/// One worker's TLS settings of a cluster, with the sessions that its connections can resume.
pub(crate) struct WorkerClientTls {
    /// With ALPN, and without for TCP relays.
    configs: Result<AlpnConfigs, String>,
    server_name: Option<ServerName<'static>>,
}

struct AlpnConfigs {
    /// With all protocols of HTTP connections.
    http: Arc<ClientConfig>,
    /// With HTTP/1.1 alone.
    http1: Arc<ClientConfig>,
    raw: Arc<ClientConfig>,
}

/// The ALPN protocol of HTTP/1.1 (RFC 7301 §6).
const HTTP1: &[u8] = b"http/1.1";

impl ClientTls {
    /// Builds the settings. `certificate` is the client certificate.
    pub(crate) fn new(
        settings: &ServerTls,
        authorities: &Authorities,
        certificate: Option<&ServerCertificate>,
    ) -> Self {
        Self { config: Ok(client_tls_config(settings, authorities, certificate)), sni: settings.sni.clone() }
    }

    /// Returns settings with which every connection fails, for this reason.
    pub(crate) fn unusable(reason: String) -> Self {
        Self { config: Err(reason), sni: None }
    }

    /// Returns the settings of one worker. `protocols` are the ALPN protocols of HTTP connections, the preferred one first.
    pub(crate) fn for_worker(&self, protocols: &[&[u8]]) -> WorkerClientTls {
        let configs = self.config.as_ref().map_err(String::clone).map(|config| {
            let with = |protocols: &[&[u8]]| {
                let mut config = config.clone();
                config.resumption = Resumption::in_memory_sessions(MAX_TLS_SESSIONS);
                config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
                Arc::new(config)
            };
            let http = with(protocols);
            // Requests that switch protocols, where the server selects the protocol of the others.
            let http1 = if protocols.len() > 1 { with(&[HTTP1]) } else { Arc::clone(&http) };
            AlpnConfigs { http, http1, raw: with(&[]) }
        });
        // A text that is no DNS name is not sent, as in Envoy for an address.
        let server_name = self.sni.as_ref().and_then(|sni| ServerName::try_from(sni.to_string()).ok());
        WorkerClientTls { configs, server_name }
    }
}

impl WorkerClientTls {
    /// Returns the settings of a connection; with ALPN if `protocol` is not empty.
    ///
    /// # Errors
    /// The reason for which no connection can be opened.
    pub(super) fn config(&self, protocol: &[u8]) -> Result<Arc<ClientConfig>, &str> {
        let configs = self.configs.as_ref().map_err(String::as_str)?;
        Ok(Arc::clone(match protocol {
            b"" => &configs.raw,
            HTTP1 => &configs.http1,
            _ => &configs.http,
        }))
    }

    /// Returns the server name: that of the settings, or the address, which is not sent.
    pub(super) fn server_name(&self, address: IpAddr) -> ServerName<'static> {
        self.server_name.clone().unwrap_or_else(|| ServerName::IpAddress(address.into()))
    }
}

/// Reads the CA certificates of this machine.
///
/// # Errors
/// There are none.
pub(crate) fn machine_authorities() -> Result<Authorities, CertificateError> {
    Authorities::of_machine(load_native_certs().certs)
}
