//! `/ready`, `/drain`, `/quit`, `/logging`: readiness, shutdown, and the level of the process log.

use std::sync::Arc;

use http::StatusCode;
use tracing::info;
use tracing::level_filters::LevelFilter;
use weir_model::{DownstreamTls, Listener, UpstreamTls};

use crate::admin::response::{AdminResponse, text};
use crate::admin::state::{AdminState, ShutdownMode};

/// `GET /ready`: 200 once a configuration serves; 503 before that, while draining, and while the proxy lacks the
/// certificate that its listeners or clusters need, so that load balancers stop sending.
pub(super) fn ready(state: &AdminState, _query: &str) -> AdminResponse {
    if state.drain.is_draining() {
        text(StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if !state.status.is_ready() {
        text(StatusCode::SERVICE_UNAVAILABLE, "no configuration serves yet\n")
    } else if let Some(reason) = certificate_outage(state) {
        text(StatusCode::SERVICE_UNAVAILABLE, &format!("{reason}\n"))
    } else {
        text(StatusCode::OK, "ready\n")
    }
}

/// Returns the reason for which mutual TLS fails, if a listener or a cluster of the active configuration uses it.
fn certificate_outage(state: &AdminState) -> Option<String> {
    let outage = state.identity.outage()?;
    let active = state.active.load();
    let needs_mutual_tls = |listener: &&Arc<Listener>| matches!(listener.tls, Some(DownstreamTls::Mesh { .. }));
    let listeners = active.snapshot.listeners.values().filter(needs_mutual_tls).count();
    let clusters = active
        .snapshot
        .clusters
        .values()
        .filter(|cluster| matches!(cluster.tls, Some(UpstreamTls::Mesh { .. })))
        .count();
    (listeners + clusters > 0)
        .then(|| format!("mutual TLS of {listeners} listeners and {clusters} clusters fails: {outage}"))
}

/// `POST /drain`: starts a graceful shutdown.
pub(super) fn drain(state: &AdminState, _query: &str) -> AdminResponse {
    request_shutdown(state, ShutdownMode::Graceful);
    text(StatusCode::OK, "draining\n")
}

/// `POST /quit`: shuts down at once.
pub(super) fn quit(state: &AdminState, _query: &str) -> AdminResponse {
    request_shutdown(state, ShutdownMode::Immediate);
    text(StatusCode::OK, "ending\n")
}

fn request_shutdown(state: &AdminState, mode: ShutdownMode) {
    info!(?mode, "shutdown requested on the admin server");
    // A full queue has a request already.
    let _ = state.shutdown_requests.try_send(mode);
}

/// `POST /logging?level=`: changes the level of the process log.
pub(super) fn logging(state: &AdminState, query: &str) -> AdminResponse {
    let level = query.split('&').find_map(|pair| pair.strip_prefix("level="));
    let Some(Ok(level)) = level.map(str::parse::<LevelFilter>) else {
        return text(StatusCode::BAD_REQUEST, "set level=off, error, warn, info, debug or trace\n");
    };
    let changed = state.log_level.as_ref().map_or_else(|| Err("there is no log".to_owned()), |log| log.set(level));
    match changed {
        Ok(()) => text(StatusCode::OK, &format!("level is {level}\n")),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
    }
}
