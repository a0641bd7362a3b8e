//! The control API: JSON over HTTP, described by itself at `/api/v1/openapi.json`. `routes.rs` lists every operation
//! once, with the role that it needs. `audit_layer.rs` runs before each handler.

// From the top: each module uses only those below it. (The blank lines keep the formatter from sorting them.)

// A backup of the store.
mod backup;

// Metrics for Prometheus.
mod metrics;

// Readiness and liveness, without a token.
mod health;

// Every operation: path, role, request and response.
mod routes;

// Objects: list, get, apply, delete.
mod resources;

// Bundles: push, list, delete.
mod bundles;

// Workloads that register themselves.
mod workloads;

// Revisions: history and rollback.
mod revisions;

// Tokens: create, list, revoke.
mod tokens;

// The certificate authority: status and rotation.
mod ca;

// Connected proxies, and the status summary.
mod proxies;

// Server-sent events.
mod watch;

// The OpenAPI description of the operations.
mod openapi;

// The form of every error response.
mod problem_layer;

// Authenticates, authorizes and audits each request.
mod audit_layer;

// The type of an operation.
mod operation;

// Diffs of objects and of snapshots.
mod diff;

// Runs blocking work of a handler.
mod blocking;

// The state that handlers share.
mod state;

// JSON responses and errors.
mod response;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use tokio::net::TcpListener;
use weir_identity::ServerConfig;

pub use routes::openapi;
pub use state::{ApiState, RequestPermits};

use crate::api::audit_layer::RoutePolicy;
use crate::api::response::ApiError;
use crate::limits::MAX_REQUEST_BYTES;
use crate::net::{ConnectionLimits, HttpServer};

/// Serves the API on at most `connections` connections until the process exits; with TLS if there is a configuration
/// for it.
pub async fn serve_api(listener: TcpListener, connections: usize, tls: Option<Arc<ServerConfig>>, api: Arc<ApiState>) {
    let limits = ConnectionLimits::for_http("api", connections);
    HttpServer { limits, tls, router: router(&api) }.serve(listener).await;
}

fn router(api: &Arc<ApiState>) -> Router {
    let mut router = Router::new();
    for operation in routes::operations() {
        let policy = RoutePolicy::new(Arc::clone(api), &operation);
        let layer = from_fn_with_state(policy, audit_layer::authorize);
        router = router.route(operation.path, operation.handler.route_layer(layer));
    }
    router
        .route("/ready", get(health::ready))
        .route("/live", get(health::live))
        .fallback(|| async { ApiError::not_found("there is nothing here; /api/v1/openapi.json lists all operations") })
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES)) // Bundles have a limit of their own.
        .layer(from_fn(problem_layer::convert_errors))
        .with_state(Arc::clone(api))
}
