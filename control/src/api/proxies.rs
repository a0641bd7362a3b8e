//! Proxies: which are connected, what each serves, how far behind it is, and what it refuses.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::Api;
use crate::api::answer::Json;

/// The state of everything, in numbers.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Summary {
    /// The last revision of the store.
    revision: u64,
    /// How often something else was told since the process began.
    generation: u64,
    /// Objects that are told.
    objects: usize,
    /// Proxies that are connected.
    proxies: usize,
    /// Of these, those that have all that they are to have.
    up_to_date: usize,
    /// Of these, those that refuse something or cannot serve it.
    refusing: usize,
}

pub(crate) async fn list(State(api): State<Arc<Api>>) -> Response {
    let newest = api.board.told().generation;
    let all: Vec<_> = api.book.all().iter().map(|proxy| proxy.status(newest)).collect();
    Json(all).into_response()
}

pub(crate) async fn summary(State(api): State<Arc<Api>>) -> Response {
    let generation = api.board.told().generation;
    let proxies: Vec<_> = api.book.all().iter().map(|proxy| (proxy.has(), proxy.status(generation))).collect();
    let summary = Summary {
        revision: api.publisher.revision(),
        generation,
        objects: api.publisher.objects().len(),
        proxies: proxies.len(),
        up_to_date: proxies.iter().filter(|(has, status)| *has == generation && status.failed.is_empty()).count(),
        refusing: proxies.iter().filter(|(_, status)| !status.failed.is_empty()).count(),
    };
    Json(summary).into_response()
}
