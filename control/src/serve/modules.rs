//! `GET /modules/SHA256.wasm`: a module by its hash. Over plain HTTP on this machine, and by mutual TLS for workloads of
//! the mesh. Whoever fetches it checks the hash, so that nothing can be put in its place on the way.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use weir_model::ModuleHash;

use crate::module_store::ModuleStore;
use crate::serve::mutual::Peer;

const PATH: &str = "/modules/{name}";

/// Serves modules until the process ends.
///
/// # Errors
/// The listener fails.
pub async fn serve_modules(listener: TcpListener, modules: Arc<ModuleStore>) -> std::io::Result<()> {
    axum::serve(listener, Router::new().route(PATH, get(module)).with_state(modules)).await
}

/// The same for those who have proved who they are.
pub(super) fn modules_for_workloads(modules: Arc<ModuleStore>) -> Router {
    let proved = |State(modules): State<Arc<ModuleStore>>, request: Request| async move {
        let peer = request.extensions().get::<Peer>().and_then(Peer::id_now);
        if peer.is_none() {
            let reason = "modules are for workloads of this mesh: show a certificate that has not ended\n";
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
        // A name that is a hash always means the same bytes.
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
