//! Bundles: pushed, listed, deleted.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use weir_model::BundleName;

use crate::api::answer::{Done, Failure, Json};
use crate::api::resources::blocking;
use crate::api::{Api, Caller};
use crate::bundle::KeptBundle;
use crate::limits::MAX_MODULE_BYTES;
use crate::publish::Request;

/// How a bundle is pushed or deleted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BundleQuery {
    /// Only say what would happen.
    #[serde(default)]
    dry_run: bool,
}

/// A bundle, and what names it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ShownBundle {
    /// It.
    #[serde(flatten)]
    bundle: KeptBundle,
    /// The Filters that name it, each as `namespace/name`.
    used_by: Vec<String>,
}

/// What became of a bundle that was pushed.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PushAnswer {
    /// It.
    #[serde(flatten)]
    bundle: KeptBundle,
    /// False when it was there already, just so, or when only what would happen was asked for.
    is_new: bool,
    /// What it imports and no proxy has: it starts, and may fail when it calls them.
    unknown_imports: Vec<String>,
}

pub(crate) async fn list(State(api): State<Arc<Api>>) -> Result<Response, Failure> {
    blocking(move || {
        let all = api.publisher.bundles().all();
        Ok(Json(all.into_iter().map(|bundle| shown(&api, bundle)).collect::<Vec<_>>()).into_response())
    })
    .await
}

pub(crate) async fn get(
    State(api): State<Arc<Api>>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Response, Failure> {
    let id = id(&name, &version);
    let found = api.publisher.bundles().get(&id);
    let bundle = found.ok_or_else(|| Failure::not_found(format!("there is no bundle {id}")))?;
    Ok(Json(shown(&api, bundle)).into_response())
}

pub(crate) async fn push(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<BundleQuery>,
    body: Body,
) -> Result<Response, Failure> {
    // A place first: what is sent is held in memory.
    let (place, request) = request((&api.pushes, "bundles are pushed"), caller, &query)?;
    let body = axum::body::to_bytes(body, MAX_MODULE_BYTES).await.map_err(|error| {
        Failure::bad_request(format!("the bundle cannot be read, or has more than {MAX_MODULE_BYTES} bytes: {error}"))
    })?;
    blocking(move || {
        let _place = place; // For as long as it waits and is tried.
        let pushed = api.publisher.push(&id(&name, &version), Arc::from(&*body), &request)?;
        let objects = if pushed.is_new { vec![format!("Bundle {}", pushed.bundle.id())] } else { Vec::new() };
        let (bundle, is_new, unknown_imports) = (pushed.bundle, pushed.is_new, pushed.unknown_imports);
        let mut response = Json(PushAnswer { bundle, is_new, unknown_imports }).into_response();
        response.extensions_mut().insert(Done { objects, ..Done::default() });
        Ok(response)
    })
    .await
}

pub(crate) async fn delete(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<BundleQuery>,
) -> Result<Response, Failure> {
    let (place, request) = request((&api.writers, "changes wait"), caller, &query)?;
    blocking(move || {
        let _place = place;
        let bundle = api.publisher.delete_bundle(&id(&name, &version), &request)?;
        let objects = if request.is_dry_run { Vec::new() } else { vec![format!("Bundle {}", bundle.id())] };
        let mut response = Json(bundle).into_response();
        response.extensions_mut().insert(Done { objects, ..Done::default() });
        Ok(response)
    })
    .await
}

fn shown(api: &Api, bundle: KeptBundle) -> ShownBundle {
    let used_by = api.publisher.users_of(&bundle.id());
    ShownBundle { bundle, used_by }
}

fn request(
    (places, what): (&Arc<Semaphore>, &str),
    Caller(token): Caller,
    query: &BundleQuery,
) -> Result<(OwnedSemaphorePermit, Request), Failure> {
    let place = Arc::clone(places).try_acquire_owned();
    let place = place.map_err(|_| Failure::busy(format!("too many {what} at the same time; try again soon")))?;
    let (author, namespaces) = (token.name, token.namespaces);
    Ok((place, Request { author, namespaces, is_dry_run: query.dry_run, ..Request::default() }))
}

fn id(name: &str, version: &str) -> BundleName {
    BundleName { name: name.into(), version: version.into() }
}
