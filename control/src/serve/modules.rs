//! `GET /modules/SHA256.wasm`: a module by its hash. Served over plaintext on loopback, and over mTLS to workloads of
//! the mesh. The client checks the hash, so a module cannot be replaced on the way.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use weir_model::ModuleHash;

use crate::module_store::ModuleStore;
use crate::net::{ConnectionLimits, HttpServer};
use crate::serve::mtls::PeerIdentity;

const PATH: &str = "/modules/{name}";

/// Serves modules over plaintext on at most `connections` connections, until the process ends.
pub async fn serve_modules(listener: TcpListener, connections: usize, modules: Arc<ModuleStore>) {
    let limits = ConnectionLimits::for_http("modules", connections);
    let router = Router::new().route(PATH, get(module)).with_state(modules);
    HttpServer { limits, tls: None, router }.serve(listener).await;
}

/// Returns the routes for mTLS connections. They require a valid workload certificate.
pub(super) fn modules_for_workloads(modules: Arc<ModuleStore>) -> Router {
    let proved = |State(modules): State<Arc<ModuleStore>>, request: Request| async move {
        let peer = request.extensions().get::<PeerIdentity>().and_then(PeerIdentity::valid_spiffe_id);
        if peer.is_none() {
            let reason = "modules are for workloads of this mesh: a valid certificate is required\n";
            return (StatusCode::UNAUTHORIZED, reason).into_response();
        }
        let name = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        module(State(modules), Path(name)).await
    };
    Router::new().route(PATH, get(proved)).with_state(modules)
}

async fn module(State(modules): State<Arc<ModuleStore>>, Path(name): Path<String>) -> Response {
    let hash = name.strip_suffix(".wasm").and_then(|hash| hash.parse::<ModuleHash>().ok());
    match hash.and_then(|hash| modules.get(&hash)) {
        // The same hash always means the same bytes.
        Some(bytes) => {
            let headers = [
                (header::CONTENT_TYPE, "application/wasm"),
                (header::CACHE_CONTROL, "public, immutable, max-age=31536000"),
            ];
            (headers, bytes::Bytes::from_owner(bytes)).into_response()
        }
        None => (StatusCode::NOT_FOUND, "there is no module of this hash\n").into_response(),
    }
}
