//! Revisions: the history of changes, and the rollback to one of them.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::blocking::blocking;
use crate::api::diff::ObjectDiff;
use crate::api::resources::{ChangeQuery, change};
use crate::api::response::{ApiError, JsonResponse};
use crate::api::state::{ApiState, Principal};
use crate::limits::MAX_PAGE;
use crate::publish::Change;
use crate::store::RevisionMeta;

/// The query of a list of revisions.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    /// Return revisions before this one only.
    before: Option<u64>,
    /// The maximum number of revisions.
    limit: Option<usize>,
}

/// A revision with its changes.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RevisionDetail {
    /// Number, time, author and operation.
    #[serde(flatten)]
    meta: RevisionMeta,
    /// The changed objects.
    changes: Vec<ObjectDiff>,
}

pub(crate) async fn list(
    State(api): State<Arc<ApiState>>,
    Query(query): Query<PageQuery>,
) -> Result<Response, ApiError> {
    blocking(move || {
        let limit = query.limit.unwrap_or(MAX_PAGE).min(MAX_PAGE);
        Ok(JsonResponse(api.publisher.store().revisions(query.before, limit)?).into_response())
    })
    .await
}

pub(crate) async fn get(State(api): State<Arc<ApiState>>, Path(id): Path<u64>) -> Result<Response, ApiError> {
    blocking(move || {
        let missing = || ApiError::not_found(format!("there is no revision {id}, or it has expired"));
        let revision = api.publisher.store().revision(id)?.ok_or_else(missing)?;
        let changes = revision.changes.iter().map(ObjectDiff::from).collect();
        Ok(JsonResponse(RevisionDetail { meta: revision.meta, changes }).into_response())
    })
    .await
}

pub(crate) async fn roll_back(
    State(api): State<Arc<ApiState>>,
    Extension(principal): Extension<Principal>,
    Path(id): Path<u64>,
    Query(query): Query<ChangeQuery>,
) -> Result<Response, ApiError> {
    change(api, principal, Change::Rollback(id), query).await
}
