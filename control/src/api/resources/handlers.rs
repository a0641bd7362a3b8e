//! Handlers of objects, and the change that they and the rollback share.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_resources::{Diagnostic, ObjectId, SourceFile, parse_objects};

use crate::api::blocking::blocking;
use crate::api::diff::{ChangeType, ObjectDiff, ScopeDiff, scope_diffs};
use crate::api::resources::view::to_view;
use crate::api::response::{ApiError, AuditDetails, DiagnosticSchema, JsonResponse};
use crate::api::state::{ApiState, Principal, try_permit};
use crate::limits::{MAX_DELETIONS, MAX_MESSAGE_CHARACTERS};
use crate::publish::{Change, ChangeRequest, ChangeResult, ShrinkPolicy};
use crate::status::StatusInputs;
use crate::store::ObjectRef;

/// The query of a change.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeQuery {
    /// Only return what would change, in objects and in each proxy.
    #[serde(default)]
    dry_run: bool,
    /// The reason for the change, stored with the revision.
    message: Option<String>,
    /// The revision that the change must follow. After another revision it is rejected.
    expected_revision: Option<u64>,
    /// Make the change although it removes more than half, and at least 10, of the listeners or clusters.
    #[serde(default, rename = "allowShrink")]
    allow_shrink: bool,
    /// The file name of the body in diagnostics.
    path: Option<String>,
}

/// The query of a list of objects.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Return objects of this kind only.
    kind: Option<String>,
    /// Return objects in this namespace only.
    namespace: Option<String>,
}

/// The result of a change, or of its dry run.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ApplyResponse {
    /// The revision of the change, or the last one if nothing changed.
    revision: u64,
    /// True for a dry run, which changes nothing.
    dry_run: bool,
    /// The changes of the named objects.
    changes: Vec<ObjectDiff>,
    /// The warnings about these objects, and those about other objects that the change causes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<DiagnosticSchema>")]
    warnings: Vec<Diagnostic>,
    /// The effect on the proxies of each scope, for a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<ScopeDiff>>,
}

/// The kind, namespace and name in a path.
pub(crate) type ObjectPath = Path<(String, String, String)>;

pub(crate) async fn list(
    State(api): State<Arc<ApiState>>,
    Extension(principal): Extension<Principal>,
    Query(query): Query<ListQuery>,
) -> Result<Response, ApiError> {
    blocking(move || {
        let is_requested = |id: &ObjectId| {
            query.kind.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case(id.kind.name()))
                && query.namespace.as_ref().is_none_or(|namespace| **namespace == *id.namespace)
        };
        let (found, inputs) = (api.publisher.objects(), StatusInputs::now(&api.proxies, &api.snapshot_cache));
        let found = found.iter().filter(|object| is_requested(&object.id));
        let views: Vec<Value> = found.map(|object| to_view(&principal, object, &inputs)).collect();
        Ok(JsonResponse(views).into_response())
    })
    .await
}

pub(crate) async fn get(
    State(api): State<Arc<ApiState>>,
    Extension(principal): Extension<Principal>,
    Path((kind, namespace, name)): ObjectPath,
) -> Result<Response, ApiError> {
    blocking(move || {
        let id = object_id(&kind, &namespace, &name)?;
        let found = api.publisher.objects().into_iter().find(|object| object.id == id);
        let object = found.ok_or_else(|| ApiError::not_found(format!("there is no {id}")))?;
        let inputs = StatusInputs::now(&api.proxies, &api.snapshot_cache);
        Ok(JsonResponse(to_view(&principal, &object, &inputs)).into_response())
    })
    .await
}

pub(crate) async fn put(
    State(api): State<Arc<ApiState>>,
    Extension(principal): Extension<Principal>,
    Path((kind, namespace, name)): ObjectPath,
    Query(query): Query<ChangeQuery>,
    body: String,
) -> Result<Response, ApiError> {
    let id = object_id(&kind, &namespace, &name)?;
    let file = source_file(&query, body);
    let file = blocking(move || {
        let written = parse_objects(&file);
        if written.diagnostics.is_empty() && !matches!(&*written.objects, [one] if one.id == id) {
            return Err(ApiError::bad_request(format!("the body must be one object, {id}")));
        }
        Ok(file)
    });
    change(api, principal, Change::Apply(file.await?), query).await
}

pub(crate) async fn delete(
    State(api): State<Arc<ApiState>>,
    Extension(principal): Extension<Principal>,
    Path((kind, namespace, name)): ObjectPath,
    Query(query): Query<ChangeQuery>,
) -> Result<Response, ApiError> {
    let id = object_id(&kind, &namespace, &name)?;
    change(api, principal, Change::Delete(vec![ObjectRef::from(&id)]), query).await
}

pub(crate) async fn apply(
    State(api): State<Arc<ApiState>>,
    Extension(principal): Extension<Principal>,
    Query(query): Query<ChangeQuery>,
    body: String,
) -> Result<Response, ApiError> {
    let file = source_file(&query, body);
    change(api, principal, Change::Apply(file), query).await
}

pub(crate) async fn delete_many(
    State(api): State<Arc<ApiState>>,
    Extension(principal): Extension<Principal>,
    Query(query): Query<ChangeQuery>,
    body: String,
) -> Result<Response, ApiError> {
    let objects: Vec<ObjectRef> = serde_json::from_str(&body).map_err(|error| {
        ApiError::bad_request(format!("the body must be a list of {{kind, namespace, name}} in JSON: {error}"))
    })?;
    if objects.len() > MAX_DELETIONS {
        return Err(ApiError::bad_request(format!("at most {MAX_DELETIONS} objects are deleted at once")));
    }
    change(api, principal, Change::Delete(objects), query).await
}

/// Applies a change. Waits for the changes before it; at most `MAX_WAITING_WRITERS` changes wait.
pub(crate) async fn change(
    api: Arc<ApiState>,
    Principal(token): Principal,
    change: Change,
    query: ChangeQuery,
) -> Result<Response, ApiError> {
    if query.message.as_ref().is_some_and(|message| message.chars().count() > MAX_MESSAGE_CHARACTERS) {
        return Err(ApiError::bad_request(format!("`message` has more than {MAX_MESSAGE_CHARACTERS} characters")));
    }
    let request = ChangeRequest {
        author: token.name,
        message: query.message,
        expected: query.expected_revision,
        is_dry_run: query.dry_run,
        shrink: if query.allow_shrink { ShrinkPolicy::Allow } else { ShrinkPolicy::Reject },
        namespaces: token.namespaces,
    };
    let permit = try_permit(&api.permits.writers, "too many changes wait; try again soon")?;
    blocking(move || {
        let _permit = permit;
        let result = api.publisher.apply_change(&change, &request)?;
        Ok(change_response(&api, &result))
    })
    .await
}

fn change_response(api: &ApiState, result: &ChangeResult) -> Response {
    let diff_scopes = |before, after| scope_diffs(before, after, &api.proxies.all());
    let dry_run = result.dry_run.as_ref();
    let scopes = dry_run.map(|dry_run| diff_scopes(&dry_run.before.snapshot, &dry_run.after.snapshot));
    let (revision, dry_run) = (result.revision, dry_run.is_some());
    let changes: Vec<ObjectDiff> = result.changes.iter().map(ObjectDiff::from).collect();
    let changed = changes.iter().filter(|change| change.change_type != ChangeType::Unchanged);
    let objects: Vec<String> = changed
        .map(|ObjectDiff { object: ObjectRef { kind, namespace, name }, .. }| format!("{kind} {namespace}/{name}"))
        .collect();
    let warnings = result.warnings.clone();
    let new_revision = (!dry_run && !objects.is_empty()).then_some(revision);
    let details = AuditDetails { revision: new_revision, objects, ..AuditDetails::default() };
    let mut response = JsonResponse(ApplyResponse { revision, dry_run, changes, warnings, scopes }).into_response();
    response.extensions_mut().insert(details);
    response
}

fn source_file(query: &ChangeQuery, body: String) -> SourceFile {
    SourceFile { path: PathBuf::from(query.path.as_deref().unwrap_or("request")), text: Arc::from(body) }
}

/// Returns the id of a path. The namespace of a cluster-scoped object is written as `-`, and ignored.
fn object_id(kind: &str, namespace: &str, name: &str) -> Result<ObjectId, ApiError> {
    ObjectId::new(kind, namespace, name).ok_or_else(|| ApiError::not_found(format!("there is no kind `{kind}`")))
}
