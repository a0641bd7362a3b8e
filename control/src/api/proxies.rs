//! Proxies: which are connected, what each serves, how far behind it is, and what it refuses.

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::response::Response;
use schemars::JsonSchema;
use serde::Serialize;

use crate::api::Api;
use crate::api::answer::{Failure, Json};
use crate::api::resources::blocking;

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

pub(crate) async fn summary(State(api): State<Arc<Api>>) -> Result<Response, Failure> {
    blocking(move || Ok(Json(summary_of(&api)).into_response())).await
}

fn summary_of(api: &Api) -> Summary {
    let generation = api.board.told().generation;
    let all = api.book.all();
    Summary {
        revision: api.publisher.revision(),
        generation,
        objects: api.publisher.objects().len(),
        proxies: all.len(),
        up_to_date: all.iter().filter(|proxy| proxy.is_up_to_date(generation)).count(),
        refusing: all.iter().filter(|proxy| proxy.is_refusing()).count(),
    }
}
