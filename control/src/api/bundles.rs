//! Bundles: push, list, delete.

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use weir_model::BundleName;

use crate::api::blocking::blocking;
use crate::api::response::{ApiError, AuditDetails, JsonResponse};
use crate::api::state::{ApiState, Principal, try_permit};
use crate::bundle_store::StoredBundle;
use crate::limits::MAX_MODULE_BYTES;
use crate::publish::{ChangeRequest, PushResult};

/// The query of a push or a deletion.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BundleQuery {
    /// Only check the request, and change nothing.
    #[serde(default)]
    dry_run: bool,
}

/// A bundle, with the Filters that use it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BundleView {
    /// The bundle.
    #[serde(flatten)]
    bundle: StoredBundle,
    /// The Filters that use the bundle, each as `namespace/name`.
    used_by: Vec<String>,
}

/// The result of a push.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PushResponse {
    /// The bundle.
    #[serde(flatten)]
    bundle: StoredBundle,
    /// False if the same bundle was stored before, or for a dry run.
    is_new: bool,
    /// The imports of the module that no proxy provides. The module starts, and fails when it calls one.
    unknown_imports: Vec<String>,
}

pub(crate) async fn list(State(api): State<Arc<ApiState>>) -> Result<Response, ApiError> {
    blocking(move || {
        let all = api.publisher.bundles().all();
        let views: Vec<BundleView> = all.into_iter().map(|bundle| to_view(&api, bundle)).collect();
        Ok(JsonResponse(views).into_response())
    })
    .await
}

pub(crate) async fn get(
    State(api): State<Arc<ApiState>>,
    Path((name, version)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let id = bundle_name(&name, &version);
    let found = api.publisher.bundles().get(&id);
    let bundle = found.ok_or_else(|| ApiError::not_found(format!("there is no bundle {id}")))?;
    Ok(JsonResponse(to_view(&api, bundle)).into_response())
}

pub(crate) async fn push(
    State(api): State<Arc<ApiState>>,
    Extension(principal): Extension<Principal>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<BundleQuery>,
    body: Body,
) -> Result<Response, ApiError> {
    // The permit comes before the body, which is buffered in memory.
    let busy = "too many bundles are pushed at the same time; try again soon";
    let permit = try_permit(&api.permits.pushes, busy)?;
    let request = change_request(principal, &query);
    let body = axum::body::to_bytes(body, MAX_MODULE_BYTES).await.map_err(|error| {
        ApiError::bad_request(format!("the bundle cannot be read, or has more than {MAX_MODULE_BYTES} bytes: {error}"))
    })?;
    blocking(move || {
        let _permit = permit;
        let pushed = api.publisher.push(&bundle_name(&name, &version), Arc::from(&*body), &request)?;
        let PushResult { bundle, is_new, unknown_imports } = pushed;
        let objects = if is_new { vec![format!("Bundle {}", bundle.id())] } else { Vec::new() };
        let mut response = JsonResponse(PushResponse { bundle, is_new, unknown_imports }).into_response();
        response.extensions_mut().insert(AuditDetails { objects, ..AuditDetails::default() });
        Ok(response)
    })
    .await
}

pub(crate) async fn delete(
    State(api): State<Arc<ApiState>>,
    Extension(principal): Extension<Principal>,
    Path((name, version)): Path<(String, String)>,
    Query(query): Query<BundleQuery>,
) -> Result<Response, ApiError> {
    let permit = try_permit(&api.permits.writers, "too many changes wait at the same time; try again soon")?;
    let request = change_request(principal, &query);
    blocking(move || {
        let _permit = permit;
        let bundle = api.publisher.delete_bundle(&bundle_name(&name, &version), &request)?;
        let objects = if request.is_dry_run { Vec::new() } else { vec![format!("Bundle {}", bundle.id())] };
        let mut response = JsonResponse(bundle).into_response();
        response.extensions_mut().insert(AuditDetails { objects, ..AuditDetails::default() });
        Ok(response)
    })
    .await
}

fn to_view(api: &ApiState, bundle: StoredBundle) -> BundleView {
    let used_by = api.publisher.filters_using(&bundle.id());
    BundleView { bundle, used_by }
}

fn change_request(Principal(token): Principal, query: &BundleQuery) -> ChangeRequest {
    let (author, namespaces) = (token.name, token.namespaces);
    ChangeRequest { author, namespaces, is_dry_run: query.dry_run, ..ChangeRequest::default() }
}

fn bundle_name(name: &str, version: &str) -> BundleName {
    BundleName { name: name.into(), version: version.into() }
}
