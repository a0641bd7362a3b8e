//! The agent: obtains, stores and renews an identity as a proxy does, and serves it by SDS to an Envoy on the same
//! host.

use std::sync::Arc;

use anyhow::{Context, anyhow};
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use crate::app::bootstrap::AgentOptions;
use crate::control_plane::ControlPlane;
use crate::identity::{Identity, IdentityOptions, renew_forever, restore, serve_secrets};
use crate::replica_files::{ReplicaFiles, ReplicaFilesOptions};
use crate::task;

/// Runs until SIGTERM or SIGINT.
pub(super) async fn run(options: AgentOptions) -> anyhow::Result<()> {
    let AgentOptions { urls, node, join_token, socket, cache, log_format: _ } = options;
    let control_plane = ControlPlane::new(&urls).map_err(|reason| anyhow!("--xds {reason}"))?;
    let identity = Identity::issued_by(&control_plane);
    let files = ReplicaFiles::new(&ReplicaFilesOptions {
        cache: &cache,
        folder: "identity",
        extension: "agent.pem",
        urls: &urls,
        node: &node,
        gateway: None,
    });
    let options = IdentityOptions { control_plane: Arc::new(control_plane), join_token, files };
    let restored = restore(&options, &identity);
    if identity.get().is_none() && options.join_token.is_none() {
        return Err(anyhow!("there is no identity yet; set --join-token-path FILE, created by `weir token make`"));
    }
    task::spawn("identity", renew_forever(options, Arc::clone(&identity), restored));
    info!(socket = %socket.display(), "SDS server listening");
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        served = serve_secrets(&socket, identity) => served.with_context(|| format!("{}", socket.display())),
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    }
}
