//! Every operation of the API, once: where it is, who may do it, what it takes and gives. The router and the description
//! (OpenAPI 3.1) are both made of this table, so that neither can know more than the other.

use std::sync::Arc;

use axum::routing::{self, MethodRouter};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::access::{NewToken, Role, Token};
use crate::api::answer::{FailureBody, Json};
use crate::api::bundles::{BundleQuery, PushAnswer, ShownBundle};
use crate::api::proxies::Summary;
use crate::api::resources::{ChangeAnswer, ChangeQuery, ListQuery};
use crate::api::revisions::{PageQuery, RevisionAnswer};
use crate::api::tokens::MadeToken;
use crate::api::{Api, authority, bundles, proxies, resources, revisions, tokens, watch, workloads};
use crate::authority::AuthorityStatus;
use crate::bundle::KeptBundle;
use crate::registry::{RegisteredWorkload, Registration};
use crate::status::{ObjectStatus, ProxyStatus};
use crate::store::{ObjectName, RevisionHead};

/// One operation.
pub(crate) struct Operation {
    method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) role: Role,
    summary: &'static str,
    query: Option<SchemaOf>,
    body: Body,
    answer: SchemaOf,
    pub(crate) handler: MethodRouter<Arc<Api>>,
}

type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// What a request carries.
#[derive(Clone, Copy)]
enum Body {
    Nothing,
    /// Resources in YAML or JSON, as many documents as one likes.
    Resources,
    /// A bundle: a Wasm module with a manifest in it.
    Module,
    Json(SchemaOf),
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// An object as it was written, with its status.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "for the description of the API")]
struct ShownObject {
    /// `weir.dev/v1alpha1`, …
    #[schemars(rename = "apiVersion")]
    api_version: String,
    /// `HTTPRoute`, …
    kind: String,
    /// Its name, namespace, labels.
    metadata: Value,
    /// What it says: `docs/configuration.md`.
    spec: Value,
    /// What became of it.
    status: ObjectStatus,
}

/// All of them.
pub(crate) fn operations() -> Vec<Operation> {
    let mut all = object_operations();
    all.extend(bundle_operations());
    all.extend(workload_operations());
    all.extend(revision_operations());
    all.extend(status_operations());
    all.extend(authority_operations());
    all.extend(token_operations());
    all
}

/// Something to read.
fn read(path: &'static str, summary: &'static str, answer: SchemaOf, handler: MethodRouter<Arc<Api>>) -> Operation {
    Operation { method: "get", path, role: Role::Viewer, summary, query: None, body: Body::Nothing, answer, handler }
}

/// A change of objects.
fn change(
    (method, path): (&'static str, &'static str),
    summary: &'static str,
    body: Body,
    handler: MethodRouter<Arc<Api>>,
) -> Operation {
    let (query, answer): (Option<SchemaOf>, SchemaOf) = (Some(schema::<ChangeQuery>), schema::<ChangeAnswer>);
    Operation { method, path, role: Role::Editor, summary, query, body, answer, handler }
}

/// Something for admins: tokens, the authority.
fn token(
    (method, path): (&'static str, &'static str),
    summary: &'static str,
    (body, answer): (Body, SchemaOf),
    handler: MethodRouter<Arc<Api>>,
) -> Operation {
    Operation { method, path, role: Role::Admin, summary, query: None, body, answer, handler }
}

fn object_operations() -> Vec<Operation> {
    const OBJECT: &str = "/api/v1/resources/{kind}/{namespace}/{name}";
    let all = "All objects that are told, with their status.";
    let list = read("/api/v1/resources", all, schema::<Vec<ShownObject>>, routing::get(resources::list));
    let names = Body::Json(schema::<Vec<ObjectName>>);
    vec![
        Operation { query: Some(schema::<ListQuery>), ..list },
        read(OBJECT, "One object, with its status.", schema::<ShownObject>, routing::get(resources::get)),
        change(("put", OBJECT), "Adds or replaces one object.", Body::Resources, routing::put(resources::put)),
        change(("delete", OBJECT), "Deletes one object.", Body::Nothing, routing::delete(resources::delete)),
        change(
            ("post", "/api/v1/apply"),
            "Adds or replaces objects: all of them, or none.",
            Body::Resources,
            routing::post(resources::apply),
        ),
        change(
            ("post", "/api/v1/delete"),
            "Deletes objects: all of them, or none.",
            names,
            routing::post(resources::delete_many),
        ),
    ]
}

fn bundle_operations() -> Vec<Operation> {
    const BUNDLE: &str = "/api/v1/bundles/{name}/{version}";
    let all = "Every bundle that was pushed, with the Filters that name it.";
    let pushes = "Keeps a bundle, once it was compiled, started, and configured with its example.";
    let push = change(("put", BUNDLE), pushes, Body::Module, routing::put(bundles::push));
    let deletes = "Deletes a bundle that no Filter names.";
    let delete = change(("delete", BUNDLE), deletes, Body::Nothing, routing::delete(bundles::delete));
    let query: Option<SchemaOf> = Some(schema::<BundleQuery>);
    vec![
        read("/api/v1/bundles", all, schema::<Vec<ShownBundle>>, routing::get(bundles::list)),
        read(BUNDLE, "One bundle.", schema::<ShownBundle>, routing::get(bundles::get)),
        Operation { query, answer: schema::<PushAnswer>, ..push },
        Operation { query, answer: schema::<KeptBundle>, ..delete },
    ]
}

fn workload_operations() -> Vec<Operation> {
    const WORKLOAD: &str = "/api/v1/workloads/{namespace}/{service}/{name}";
    let all = "Every workload that has registered itself.";
    let registers = "Registers a workload as an endpoint of a Service, or keeps it registered; for its lease.";
    let body = Body::Json(schema::<Registration>);
    let register = change(("put", WORKLOAD), registers, body, routing::put(workloads::register));
    let forgets = "Ends the registration of a workload.";
    let forget = change(("delete", WORKLOAD), forgets, Body::Nothing, routing::delete(workloads::unregister));
    // (Who may register what is looked at by the handlers: a workload may, in its own namespace.)
    let answer: SchemaOf = schema::<RegisteredWorkload>;
    vec![
        read("/api/v1/workloads", all, schema::<Vec<RegisteredWorkload>>, routing::get(workloads::list)),
        Operation { role: Role::Proxy, query: None, answer, ..register },
        Operation { role: Role::Proxy, query: None, answer, ..forget },
    ]
}

fn revision_operations() -> Vec<Operation> {
    let newest = "The last revisions, newest first.";
    let list = read("/api/v1/revisions", newest, schema::<Vec<RevisionHead>>, routing::get(revisions::list));
    let one = "One revision, with what it changed.";
    vec![
        Operation { query: Some(schema::<PageQuery>), ..list },
        read("/api/v1/revisions/{id}", one, schema::<RevisionAnswer>, routing::get(revisions::get)),
        change(
            ("post", "/api/v1/revisions/{id}/rollback"),
            "Makes everything as it was after this revision.",
            Body::Nothing,
            routing::post(revisions::roll_back),
        ),
    ]
}

fn status_operations() -> Vec<Operation> {
    vec![
        read("/api/v1/proxies", "Every connected proxy.", schema::<Vec<ProxyStatus>>, routing::get(proxies::list)),
        read("/api/v1/status", "Everything in numbers.", schema::<Summary>, routing::get(proxies::summary)),
        read("/api/v1/watch", "Server-sent events: what has changed.", schema::<String>, routing::get(watch::watch)),
        read("/api/v1/openapi.json", "This description.", schema::<Value>, routing::get(async || Json(openapi()))),
    ]
}

fn authority_operations() -> Vec<Operation> {
    let status = "The certificate authority: its trust domain and its roots.";
    let rotates = "Begins the change to another root, which takes two lifetimes of a certificate.";
    let answer: SchemaOf = schema::<AuthorityStatus>;
    vec![
        read("/api/v1/authority", status, answer, routing::get(authority::get)),
        token(
            ("post", "/api/v1/authority/rotation"),
            rotates,
            (Body::Nothing, answer),
            routing::post(authority::rotate),
        ),
    ]
}

fn token_operations() -> Vec<Operation> {
    const ALL: &str = "/api/v1/tokens";
    let made: (Body, SchemaOf) = (Body::Json(schema::<NewToken>), schema::<MadeToken>);
    let listed: (Body, SchemaOf) = (Body::Nothing, schema::<Vec<Token>>);
    vec![
        token(("get", ALL), "Every token, without its secret.", listed, routing::get(tokens::list)),
        token(("post", ALL), "Makes a token; its secret is shown this once.", made, routing::post(tokens::make)),
        token(
            ("delete", "/api/v1/tokens/{id}"),
            "Ends a token.",
            (Body::Nothing, schema::<Token>),
            routing::delete(tokens::revoke),
        ),
    ]
}

/// The description of the API, as OpenAPI 3.1.
pub fn openapi() -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations() {
        let described = describe(&operation, &mut generator);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = described;
    }
    json!({
        "openapi": "3.1.0",
        "info": {"title": "weir-control", "version": env!("CARGO_PKG_VERSION")},
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": generator.take_definitions(true),
        },
    })
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let answer = (operation.answer)(generator);
    let failure = schema::<FailureBody>(generator);
    let mut described = json!({
        "summary": operation.summary,
        "description": format!("Needs the role {:?}.", operation.role),
        "parameters": parameters(operation, generator),
        "responses": {
            "200": {"description": "It was done.", "content": {"application/json": {"schema": answer}}},
            "default": {"description": "It was not.", "content": {"application/json": {"schema": failure}}},
        },
    });
    let content = match operation.body {
        Body::Nothing => return described,
        Body::Module => json!({"application/wasm": {"schema": {"type": "string", "format": "binary"}}}),
        Body::Resources => json!({"application/yaml": {"schema": {"type": "string"}}}),
        Body::Json(body) => json!({"application/json": {"schema": body(generator)}}),
    };
    described["requestBody"] = json!({"required": true, "content": content});
    described
}

fn parameters(operation: &Operation, generator: &mut SchemaGenerator) -> Vec<Value> {
    let in_path = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let text = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    let mut parameters: Vec<Value> = in_path.map(text).collect();
    let Some(query) = operation.query else { return parameters };
    // Queries are flat; each of their fields is a parameter.
    let reference = query(generator);
    let name = reference.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    let fields = name.and_then(|name| generator.definitions().get(name)?.get("properties")?.as_object().cloned());
    for (name, field) in fields.into_iter().flatten() {
        let description = field.get("description").cloned().unwrap_or_default();
        parameters.push(json!({"name": name, "in": "query", "description": description, "schema": field}));
    }
    parameters
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_description_is_whole() {
        let description = openapi();
        let text = description.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(description.pointer(pointer).is_some(), "{pointer} is not there");
        }
        let apply = &description["paths"]["/api/v1/apply"]["post"];
        let names: Vec<_> = apply["parameters"].as_array().unwrap().iter().map(|it| it["name"].clone()).collect();
        assert!(names.contains(&json!("dry_run")) && names.contains(&json!("expected_revision")), "{names:?}");
    }

    #[test]
    fn nothing_but_reading_is_a_viewers() {
        for operation in operations() {
            assert_eq!(operation.role == Role::Viewer, operation.method == "get" && !operation.path.contains("token"));
        }
    }
}
