//! Security of downstream connections: what a listener requires, and what a connection has established.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use weir_identity::ServerConfig;
use weir_model::{DownstreamTls, ListenerName};

use crate::worker::WorkerConfig;

/// TLS that a listener requires of its connections.
pub(crate) enum DownstreamSecurity {
    /// Mutual TLS of the mesh.
    MutualTls {
        /// Plaintext connections are accepted as well, for now.
        allow_plaintext: bool,
    },
    /// TLS with these certificates. The downstream presents none.
    Https(Arc<ServerConfig>),
}

impl DownstreamSecurity {
    /// Returns the TLS that a listener requires; `None` for plaintext. A removed listener accepts no new connections.
    pub(crate) fn required(config: &WorkerConfig, listener: &ListenerName) -> Option<Self> {
        match config.listener(listener)?.tls.as_ref()? {
            DownstreamTls::Mesh { plaintext_until } => {
                Some(Self::MutualTls { allow_plaintext: is_in_future(*plaintext_until) })
            }
            // A snapshot with an HTTPS listener always has its TLS configuration.
            DownstreamTls::Https(_) => config.https_config(listener).cloned().map(Self::Https),
        }
    }
}

/// Security that a connection has established.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConnectionSecurity {
    /// No TLS.
    Plaintext,
    /// TLS; the downstream has not authenticated.
    Tls,
    /// Mutual TLS; the downstream has a SPIFFE ID.
    MutualTls,
}

/// Returns why a connection must be opened again, because its listener requires more security than it has established.
///
/// `None` if the connection may continue. Costs nothing where no listener requires TLS.
pub(crate) fn reconnect_reason(
    config: &WorkerConfig,
    listener: &ListenerName,
    security: ConnectionSecurity,
) -> Option<&'static str> {
    if !config.has_tls_listeners() {
        return None;
    }
    match config.listener(listener).map(|listener| &listener.tls) {
        Some(None) => None,
        Some(Some(DownstreamTls::Https(_))) if security != ConnectionSecurity::Plaintext => None,
        Some(Some(DownstreamTls::Https(_))) => Some("this listener requires TLS now; connect again"),
        Some(Some(DownstreamTls::Mesh { .. })) | None if security == ConnectionSecurity::MutualTls => None,
        Some(Some(DownstreamTls::Mesh { plaintext_until }))
            if security == ConnectionSecurity::Plaintext && is_in_future(*plaintext_until) =>
        {
            None
        }
        Some(Some(DownstreamTls::Mesh { .. })) | None => {
            Some("this listener requires a certificate of the mesh now; connect again")
        }
    }
}

/// Returns true if a time, in seconds since 1970, is in the future.
fn is_in_future(time: Option<u64>) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    time.is_some_and(|time| now < time)
}
