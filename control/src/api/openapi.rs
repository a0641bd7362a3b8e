//! The OpenAPI 3.1 description of the API, made from its operations.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::api::operation::{Operation, RequestBody, schema};
use crate::api::response::{ApiErrorBody, PROBLEM_JSON};
use crate::status::ObjectStatus;

/// An object as it was written, with its status.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "for the description of the API")]
pub(crate) struct ObjectSchema {
    /// `weir.dev/v1alpha1`, …
    #[schemars(rename = "apiVersion")]
    api_version: String,
    /// `HTTPRoute`, …
    kind: String,
    /// The name, namespace and labels.
    metadata: Value,
    /// The specification: `docs/configuration.md`.
    spec: Value,
    /// The status.
    status: ObjectStatus,
}

/// Returns the description of operations.
pub(crate) fn document(operations: &[Operation]) -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into());
    let mut generator = settings.into_generator();
    let mut paths: Map<String, Value> = Map::new();
    for operation in operations {
        let description = describe(operation, &mut generator);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        path[operation.method] = description;
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
    let response = (operation.response)(generator);
    let error = schema::<ApiErrorBody>(generator);
    let mut description = json!({
        "summary": operation.summary,
        "description": format!("Needs the role {:?}.", operation.role),
        "parameters": parameters(operation, generator),
        "responses": {
            "200": {"description": "Success.", "content": {"application/json": {"schema": response}}},
            "default": {
                "description": "An error, as problem details (RFC 9457).",
                "content": {PROBLEM_JSON: {"schema": error}},
            },
        },
    });
    let content = match operation.body {
        RequestBody::None => return description,
        RequestBody::Module => json!({"application/wasm": {"schema": {"type": "string", "format": "binary"}}}),
        RequestBody::Resources => json!({"application/yaml": {"schema": {"type": "string"}}}),
        RequestBody::Json(body) => json!({"application/json": {"schema": body(generator)}}),
    };
    description["requestBody"] = json!({"required": true, "content": content});
    description
}

fn parameters(operation: &Operation, generator: &mut SchemaGenerator) -> Vec<Value> {
    let in_path = operation.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let text = |name: &str| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}});
    let mut parameters: Vec<Value> = in_path.map(text).collect();
    let Some(query) = operation.query else { return parameters };
    // A query is a flat object; each of its fields is a parameter.
    let reference = query(generator);
    let name = reference.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
    let fields = name.and_then(|name| generator.definitions().get(name)?.get("properties")?.as_object().cloned());
    for (name, field) in fields.into_iter().flatten() {
        let description = field.get("description").cloned().unwrap_or_default();
        parameters.push(json!({"name": name, "in": "query", "description": description, "schema": field}));
    }
    parameters
}
