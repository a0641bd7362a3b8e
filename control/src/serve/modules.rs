//! `GET /modules/SHA256.wasm`: a module by its hash, over plain HTTP. Whoever fetches it checks the hash, so that nothing
//! can be put in its place on the way.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use weir_model::ModuleHash;

use crate::module_store::ModuleStore;

/// Serves modules until the process ends.
///
/// # Errors
/// The listener fails.
pub async fn serve_modules(listener: TcpListener, modules: Arc<ModuleStore>) -> std::io::Result<()> {
    let router = Router::new().route("/modules/{name}", get(module)).with_state(modules);
    axum::serve(listener, router).await
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
            (headers, bytes.to_vec()).into_response()
        }
        None => (StatusCode::NOT_FOUND, "there is no module of this hash\n").into_response(),
    }
}
