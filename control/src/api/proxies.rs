//! Proxies: which are connected, the generation that each serves, its lag, and its rejections.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::blocking::blocking;
use crate::api::response::{ApiError, JsonResponse};
use crate::api::state::ApiState;

/// The state of the mesh in numbers.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StatusSummary {
    /// The last revision of the store.
    revision: u64,
    /// The generation of the current snapshot: the number of snapshots since the process started.
    generation: u64,
    /// The number of published objects.
    objects: usize,
    /// The number of connected proxies.
    proxies: usize,
    /// The number of connected proxies that serve the current generation.
    up_to_date: usize,
    /// The number of connected proxies that reject a resource or cannot serve it.
    #[serde(rename = "refusing")]
    rejecting: usize,
}

pub(crate) async fn list(State(api): State<Arc<ApiState>>) -> Response {
    let newest = api.snapshot_cache.current().generation;
    let all: Vec<_> = api.proxies.all().iter().map(|proxy| proxy.status(newest)).collect();
    JsonResponse(all).into_response()
}

pub(crate) async fn summary(State(api): State<Arc<ApiState>>) -> Result<Response, ApiError> {
    blocking(move || Ok(JsonResponse(summarize(&api)).into_response())).await
}

fn summarize(api: &ApiState) -> StatusSummary {
    let generation = api.snapshot_cache.current().generation;
    let all = api.proxies.all();
    StatusSummary {
        revision: api.publisher.revision(),
        generation,
        objects: api.publisher.objects().len(),
        proxies: all.len(),
        up_to_date: all.iter().filter(|proxy| proxy.is_synced(generation)).count(),
        rejecting: all.iter().filter(|proxy| proxy.is_rejecting()).count(),
    }
}
