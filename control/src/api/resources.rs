//! Objects: read, applied, deleted.

use std::path::PathBuf;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use weir_resources::{ObjectId, SourceFile, written_objects};

use crate::api::answer::{Done, Failure, Json};
use crate::api::diff::{self, Effect, ScopeDiff};
use crate::api::{Api, Caller, objects};
use crate::limits::{MAX_DELETIONS, MAX_MESSAGE_CHARACTERS};
use crate::publish::{Change, Outcome, Request};
use crate::status::Seen;
use crate::store::{ObjectChange, ObjectName};
use crate::task;

/// How a change is asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangeQuery {
    /// Only say what would happen, to objects and to each proxy.
    #[serde(default)]
    dry_run: bool,
    /// Why; kept with the revision.
    message: Option<String>,
    /// The revision that the change is meant to follow: refused when another came in between.
    expected_revision: Option<u64>,
    /// What refusals call the text that was sent.
    path: Option<String>,
}

/// Which objects are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// Of this kind alone.
    kind: Option<String>,
    /// In this namespace alone.
    namespace: Option<String>,
}

/// What a change did, or would do.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChangeAnswer {
    /// The revision that it made, or the last one if it changed nothing.
    revision: u64,
    /// True when nothing was changed, because only what would happen was asked for.
    dry_run: bool,
    /// What became of each object that was named.
    changes: Vec<ObjectEffect>,
    /// What the proxies would be told, for a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<ScopeDiff>>,
}

/// What became of one object.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ObjectEffect {
    /// Which object.
    #[serde(flatten)]
    object: ObjectName,
    /// What became of it.
    effect: Effect,
    /// How it changed, as a unified diff.
    #[serde(skip_serializing_if = "String::is_empty")]
    diff: String,
}

/// Which object a path names.
pub(crate) type ObjectPath = Path<(String, String, String)>;

pub(crate) async fn list(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListQuery>,
) -> Result<Response, Failure> {
    blocking(move || {
        let is_asked = |id: &ObjectId| {
            query.kind.as_ref().is_none_or(|kind| kind.eq_ignore_ascii_case(id.kind.name()))
                && query.namespace.as_ref().is_none_or(|namespace| **namespace == *id.namespace)
        };
        let (found, proxies) = (api.publisher.objects(), Seen::now(&api.book, &api.board));
        let found = found.iter().filter(|object| is_asked(&object.id));
        let items: Vec<Value> = found.map(|object| objects::shown(&caller, object, &proxies)).collect();
        Ok(Json(items).into_response())
    })
    .await
}

pub(crate) async fn get(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Path((kind, namespace, name)): ObjectPath,
) -> Result<Response, Failure> {
    blocking(move || {
        let id = id(&kind, &namespace, &name)?;
        let found = api.publisher.objects().into_iter().find(|object| object.id == id);
        let missing = || Failure::not_found(format!("there is no {id}"));
        let object = found.ok_or_else(missing)?;
        Ok(Json(objects::shown(&caller, &object, &Seen::now(&api.book, &api.board))).into_response())
    })
    .await
}

pub(crate) async fn put(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Path((kind, namespace, name)): ObjectPath,
    Query(query): Query<ChangeQuery>,
    body: String,
) -> Result<Response, Failure> {
    let id = id(&kind, &namespace, &name)?;
    let file = file(&query, body);
    let file = blocking(move || {
        let written = written_objects(&file);
        if written.refusals.is_empty() && !matches!(&*written.objects, [one] if one.id == id) {
            return Err(Failure::bad_request(format!("the body must be one object, {id}")));
        }
        Ok(file)
    });
    change(api, caller, Change::Apply(file.await?), query).await
}

pub(crate) async fn delete(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Path((kind, namespace, name)): ObjectPath,
    Query(query): Query<ChangeQuery>,
) -> Result<Response, Failure> {
    let id = id(&kind, &namespace, &name)?;
    change(api, caller, Change::Delete(vec![ObjectName::from(&id)]), query).await
}

pub(crate) async fn apply(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ChangeQuery>,
    body: String,
) -> Result<Response, Failure> {
    let file = file(&query, body);
    change(api, caller, Change::Apply(file), query).await
}

pub(crate) async fn delete_many(
    State(api): State<Arc<Api>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ChangeQuery>,
    body: String,
) -> Result<Response, Failure> {
    let names: Vec<ObjectName> = serde_json::from_str(&body).map_err(|error| {
        Failure::bad_request(format!("the body must be a list of {{kind, namespace, name}} in JSON: {error}"))
    })?;
    if names.len() > MAX_DELETIONS {
        return Err(Failure::bad_request(format!("at most {MAX_DELETIONS} objects are deleted at once")));
    }
    change(api, caller, Change::Delete(names), query).await
}

/// Makes a change, in its turn, and says what it did.
pub(crate) async fn change(
    api: Arc<Api>,
    Caller(token): Caller,
    change: Change,
    query: ChangeQuery,
) -> Result<Response, Failure> {
    if query.message.as_ref().is_some_and(|message| message.chars().count() > MAX_MESSAGE_CHARACTERS) {
        return Err(Failure::bad_request(format!("`message` has more than {MAX_MESSAGE_CHARACTERS} characters")));
    }
    let request = Request {
        author: token.name,
        message: query.message,
        expected: query.expected_revision,
        is_dry_run: query.dry_run,
        namespaces: token.namespaces,
    };
    let place = Arc::clone(&api.writers).try_acquire_owned();
    let place = place.map_err(|_| Failure::busy("too many changes wait; try again soon"))?;
    blocking(move || {
        let _place = place; // For as long as the change waits and is made.
        let outcome = api.publisher.change(&change, &request)?;
        Ok(answer(&api, &outcome, request.is_dry_run))
    })
    .await
}

fn answer(api: &Api, outcome: &Outcome, dry_run: bool) -> Response {
    let effect = |change: &ObjectChange| ObjectEffect {
        object: change.object.clone(),
        effect: Effect::of(change.before.as_ref(), change.after.as_ref()),
        diff: diff::of_objects(change.before.as_deref(), change.after.as_deref()),
    };
    let told = outcome.told.as_ref();
    let scopes = told.map(|(before, after)| diff::of_scopes(&before.snapshot, &after.snapshot, &api.book.all()));
    let revision = outcome.revision;
    let changes: Vec<_> = outcome.changes.iter().map(effect).collect();
    let changed = changes.iter().filter(|change| change.effect != Effect::Unchanged);
    let objects: Vec<String> = changed
        .map(|ObjectEffect { object: ObjectName { kind, namespace, name }, .. }| format!("{kind} {namespace}/{name}"))
        .collect();
    let done = Done { revision: (!dry_run && !objects.is_empty()).then_some(revision), objects, ..Done::default() };
    let mut response = Json(ChangeAnswer { revision, dry_run, changes, scopes }).into_response();
    response.extensions_mut().insert(done);
    response
}

/// Runs something that blocks, away from the tasks that must not.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    let ended = task::blocking(work).await;
    ended.unwrap_or_else(|| Err(Failure::busy("this failed by a bug of weir-control; its log says where")))
}

fn file(query: &ChangeQuery, body: String) -> SourceFile {
    SourceFile { path: PathBuf::from(query.path.as_deref().unwrap_or("request")), text: Arc::from(body) }
}

fn id(kind: &str, namespace: &str, name: &str) -> Result<ObjectId, Failure> {
    // A kind without namespaces is named with `-` in its place.
    ObjectId::new(kind, namespace, name).ok_or_else(|| Failure::not_found(format!("there is no kind `{kind}`")))
}
