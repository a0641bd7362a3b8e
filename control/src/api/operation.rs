//! The type of an API operation, from which the router and the OpenAPI description are made.

use std::sync::Arc;

use axum::routing::MethodRouter;
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::access::Role;
use crate::api::state::ApiState;

/// One operation of the API.
pub(crate) struct Operation {
    /// The HTTP method, in lower case.
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    /// The role that the token needs at least.
    pub(crate) role: Role,
    pub(crate) summary: &'static str,
    /// The schema of the query's parameters.
    pub(crate) query: Option<SchemaFn>,
    /// True if the query may contain `dry_run=true`.
    pub(crate) accepts_dry_run: bool,
    pub(crate) body: RequestBody,
    /// The schema of a successful response.
    pub(crate) response: SchemaFn,
    pub(crate) handler: MethodRouter<Arc<ApiState>>,
}

/// A function that returns the schema of a type.
pub(crate) type SchemaFn = fn(&mut SchemaGenerator) -> Schema;

/// The body of a request.
#[derive(Clone, Copy)]
pub(crate) enum RequestBody {
    None,
    /// Resources in YAML or JSON, any number of documents.
    Resources,
    /// A bundle: a Wasm module with a manifest in it.
    Module,
    Json(SchemaFn),
}

/// Returns the schema of a type.
pub(crate) fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}
