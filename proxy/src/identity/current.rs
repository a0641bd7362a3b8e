//! The current identity of the proxy: set by `renew`, read by every connection that uses mutual TLS. Existing
//! connections continue when it changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use weir_identity::trust_bundle::control_plane_workload;
use weir_identity::{ClientAuth, ClientConfig, ServerConfig, WorkloadIdentity};

use crate::telemetry::rfc3339;

/// The holder of the current identity; empty before the first certificate.
#[derive(Default)]
pub(crate) struct Identity {
    current: ArcSwapOption<CurrentIdentity>,
    changed: watch::Sender<u64>,
    /// The control plane that issues certificates; `None` if this proxy gets none.
    issuer: Option<String>,
    /// The reason for which the last attempt to obtain a certificate failed; `None` after a success.
    renewal_failure: watch::Sender<Option<String>>,
    renewal_failures: AtomicU64,
}

/// An identity with the TLS settings of listeners that use it.
pub(crate) struct CurrentIdentity {
    /// The certificate, its key and the trust bundle.
    pub(crate) identity: WorkloadIdentity,
    /// The TLS settings for downstreams that present a workload certificate.
    pub(crate) server: Arc<ServerConfig>,
}

impl Identity {
    /// Returns the holder of a proxy that never gets an identity.
    pub(crate) fn empty() -> Arc<Self> {
        Arc::default()
    }

    /// Returns a holder without an identity, to which a control plane issues certificates.
    pub(crate) fn issued_by(control_plane: &impl ToString) -> Arc<Self> {
        Arc::new(Self { issuer: Some(control_plane.to_string()), ..Self::default() })
    }

    /// Returns the current identity; `None` before the first certificate and after the last one has expired.
    pub(crate) fn get(&self) -> Option<Arc<CurrentIdentity>> {
        self.current.load().as_ref().filter(|current| SystemTime::now() < current.identity.not_after).map(Arc::clone)
    }

    /// Returns the end of the last certificate, which may have passed; `None` before the first certificate.
    pub(crate) fn not_after(&self) -> Option<SystemTime> {
        self.current.load().as_ref().map(|current| current.identity.not_after)
    }

    /// Returns the number of failed attempts to obtain a certificate.
    pub(crate) fn renewal_failures(&self) -> u64 {
        self.renewal_failures.load(Ordering::Relaxed)
    }

    /// Records a failed attempt to obtain a certificate.
    pub(crate) fn record_renewal_failure(&self, reason: &str) {
        self.renewal_failures.fetch_add(1, Ordering::Relaxed);
        self.set_renewal_failure(Some(reason.to_owned()));
    }

    /// Returns a receiver of the reason for which the last attempt to obtain a certificate failed; `None` after a success.
    pub(crate) fn renewals(&self) -> watch::Receiver<Option<String>> {
        self.renewal_failure.subscribe()
    }

    fn set_renewal_failure(&self, failure: Option<String>) {
        self.renewal_failure.send_if_modified(|last| {
            let is_new = *last != failure;
            *last = failure;
            is_new
        });
    }

    /// Returns the reason for which mutual TLS fails now, in one line with what to do. `None` while the certificate is
    /// valid, and for a proxy that never gets one.
    pub(crate) fn outage(&self) -> Option<String> {
        let issuer = self.issuer.as_ref().filter(|_| self.get().is_none())?;
        let state = match self.current.load().as_ref().map(|current| &current.identity) {
            None => "this proxy has no workload certificate".to_owned(),
            Some(identity) => format!(
                "the certificate of {} has ended at {}, and this machine's clock is {}",
                identity.id,
                rfc3339(identity.not_after),
                rfc3339(SystemTime::now())
            ),
        };
        let failure = self.renewal_failure.borrow().clone();
        let failure =
            failure.map_or_else(|| "none is issued yet".to_owned(), |reason| format!("none is issued: {reason}"));
        Some(format!(
            "{state}; {failure}. Check that the control plane {issuer} is reachable and that the clocks of both are right; \
             a new join token in the file of --join-token-path is used without a restart"
        ))
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
        self.set_renewal_failure(None);
        self.changed.send_modify(|count| *count += 1);
    }
}
