//! Revisions: who changed what and when, and the way back.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::answer::{Failure, Json};
use crate::api::diff::{self, Effect};
use crate::api::resources::{ChangeQuery, blocking, change};
use crate::api::{Api, Caller};
use crate::limits::MAX_PAGE;
use crate::publish::Change;
use crate::store::{ObjectName, RevisionHead};

/// Which revisions are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PageQuery {
    /// Those before this one.
    before: Option<u64>,
    /// At most so many.
    limit: Option<usize>,
}

/// A revision with its differences.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RevisionAnswer {
    /// Who, when and why.
    #[serde(flatten)]
    head: RevisionHead,
    /// What it changed.
    changes: Vec<ObjectDiff>,
}

/// How a revision changed one object.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectDiff {
    /// Which object.
    #[serde(flatten)]
    object: ObjectName,
    /// What became of it.
    effect: Effect,
    /// How it changed, as a unified diff.
    diff: String,
}

pub(crate) async fn list(State(api): State<Arc<Api>>, Query(query): Query<PageQuery>) -> Result<Response, Failure> {
    blocking(move || {
        let limit = query.limit.unwrap_or(MAX_PAGE).min(MAX_PAGE);
        Ok(Json(api.publisher.store().revisions(query.before, limit)?).into_response())
    })
    .await
}

pub(crate) async fn get(State(api): State<Arc<Api>>, Path(id): Path<u64>) -> Result<Response, Failure> {
    blocking(move || {
        let missing = || Failure::not_found(format!("there is no revision {id}, or it is not kept any more"));
        let revision = api.publisher.store().revision(id)?.ok_or_else(missing)?;
        let changes = revision.changes.iter().map(|change| ObjectDiff {
            object: change.object.clone(),
            effect: Effect::of(change.before.as_ref(), change.after.as_ref()),
            diff: diff::of_objects(change.before.as_deref(), change.after.as_deref()),
        });
        let changes = changes.collect();
        Ok(Json(RevisionAnswer { head: revision.head, changes }).into_response())
    })
    .await
}

pub(crate) async fn roll_back(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<u64>,
    Query(query): Query<ChangeQuery>,
) -> Result<Response, Failure> {
    change(api, caller, Change::Rollback(id), query).await
}
