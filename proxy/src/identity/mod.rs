//! Who this proxy is. Got from the control plane, renewed at half of its life, kept on disk for the next start; read by
//! every connection that has to prove it. Existing connections go on when it changes.
//!
//! ```text
//! on disk? ─► serve with it ─► half of its life is over ─► new key, signed ─► swapped ─► on disk
//! none, or ended: join token ──────────────────────────────────┘
//! ```

mod agent;
mod link;
mod renew;

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use weir_identity::roots::control_plane;
use weir_identity::{ClientConfig, ServerConfig, WorkloadIdentity};

pub(crate) use agent::serve_secrets;
pub(crate) use link::{ControlPlane, ReplicaNumber};
pub(crate) use renew::{IdentityOptions, keep, restore};

/// Who this proxy is now, if it is anybody.
#[derive(Default)]
pub(crate) struct Identity {
    current: ArcSwapOption<Own>,
    changed: watch::Sender<u64>,
}

/// An identity, and what listeners make of it.
pub(crate) struct Own {
    /// Who we are.
    pub(crate) identity: WorkloadIdentity,
    /// For those that connect to us and prove who they are.
    pub(crate) server: Arc<ServerConfig>,
}

impl Identity {
    /// Nobody, so far.
    pub(crate) fn none() -> Arc<Self> {
        Arc::default()
    }

    /// Who we are; nothing when nobody has said so, or when that has ended.
    pub(crate) fn get(&self) -> Option<Arc<Own>> {
        self.current.load().as_ref().filter(|own| SystemTime::now() < own.identity.not_after).map(Arc::clone)
    }

    /// Says when it has changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// How we prove who we are to the control plane, while we are anybody.
    pub(crate) fn client_config(&self) -> Option<Arc<ClientConfig>> {
        self.get().map(|own| own.identity.client_config(&control_plane(), b"h2"))
    }

    /// From now on this.
    pub(crate) fn set(&self, identity: WorkloadIdentity) {
        let server = identity.server_config(&[b"h2", b"http/1.1"], true);
        self.current.store(Some(Arc::new(Own { identity, server })));
        self.changed.send_modify(|count| *count += 1);
    }
}
