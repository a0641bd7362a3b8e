//! An agent: it gets an identity as a proxy does, keeps and renews it, and gives it to the Envoy beside it.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::app::{AgentOptions, kept_paths};
use crate::identity::{ControlPlane, Identity, IdentityOptions, keep, restore, serve_secrets};
use crate::task;

/// Runs until it is asked to end.
pub(super) async fn run(options: AgentOptions) -> anyhow::Result<()> {
    let AgentOptions { urls, node, join_token, socket, cache, log_style: _ } = options;
    let control_plane = ControlPlane::new(&urls).map_err(|reason| anyhow!("--xds {reason}"))?;
    let identity = Identity::none();
    let paths = kept_paths(&cache, ("identity", "agent.pem"), &urls, (&node, None));
    let options = IdentityOptions { control_plane: Arc::new(control_plane), join_token, paths };
    let left = restore(&options, &identity);
    if identity.get().is_none() && options.join_token.is_none() {
        return Err(anyhow!("there is no identity yet: give --join-token-path FILE, made by `weir token make`"));
    }
    task::spawn("identity", keep(options, Arc::clone(&identity), left));
    info!(socket = %socket.display(), "gives its identity to the Envoy beside it");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        served = serve_secrets(&socket, identity) => served.with_context(|| format!("{}", socket.display())),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
