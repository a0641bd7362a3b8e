//! The current identity of the proxy: set by `renew`, read by every connection that uses mutual TLS. Existing
//! connections continue when it changes.

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use weir_identity::trust_bundle::control_plane_workload;
use weir_identity::{ClientAuth, ClientConfig, ServerConfig, WorkloadIdentity};

/// The holder of the current identity; empty before the first certificate.
#[derive(Default)]
pub(crate) struct Identity {
    current: ArcSwapOption<CurrentIdentity>,
    changed: watch::Sender<u64>,
}

/// An identity with the TLS settings of listeners that use it.
pub(crate) struct CurrentIdentity {
    /// The certificate, its key and the trust bundle.
    pub(crate) identity: WorkloadIdentity,
    /// The TLS settings for downstreams that present a workload certificate.
    pub(crate) server: Arc<ServerConfig>,
}

impl Identity {
    /// Returns a holder without an identity.
    pub(crate) fn empty() -> Arc<Self> {
        Arc::default()
    }

    /// Returns the current identity; `None` before the first certificate and after the last one has expired.
    pub(crate) fn get(&self) -> Option<Arc<CurrentIdentity>> {
        self.current.load().as_ref().filter(|current| SystemTime::now() < current.identity.not_after).map(Arc::clone)
    }

    /// Returns a receiver that is notified of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Returns the TLS settings for connections to the control plane; `None` without a valid identity.
    pub(crate) fn client_config(&self) -> Option<Arc<ClientConfig>> {
        self.get().map(|current| current.identity.client_config(&control_plane_workload(), b"h2"))
    }

    /// Replaces the identity for new connections.
    pub(crate) fn set(&self, identity: WorkloadIdentity) {
        let server = identity.server_config(&[b"h2", b"http/1.1"], ClientAuth::Required);
        self.current.store(Some(Arc::new(CurrentIdentity { identity, server })));
        self.changed.send_modify(|count| *count += 1);
    }
}
