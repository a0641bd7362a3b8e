//! Probes for orchestrators. They need no token, and say no more than what to do.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::api::response::{ApiError, JsonResponse};
use crate::api::state::ApiState;

/// Answers 200 if the store is in order, and 503 with its faults otherwise. Proxies are served in both cases.
pub(crate) async fn ready(State(api): State<Arc<ApiState>>) -> Response {
    let faults = api.health.faults();
    if faults.is_empty() {
        return JsonResponse(json!({"ready": true})).into_response();
    }
    ApiError::busy(faults.join("; ")).into_response()
}

/// Answers 200 while the process answers. A fault of the store is no reason to restart it.
pub(crate) async fn live() -> Response {
    JsonResponse(json!({"live": true})).into_response()
}
