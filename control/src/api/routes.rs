//! The operations of the API: path, role, query, body and response of each. The router and the OpenAPI description are
//! both made from this table, so they cannot differ.

use std::sync::Arc;

use axum::routing::{self, MethodRouter};
use serde_json::Value;

use crate::access::{Role, Token, TokenRequest};
use crate::api::bundles::{BundleQuery, BundleView, PushResponse};
use crate::api::openapi::{self, ObjectSchema};
use crate::api::operation::{Operation, RequestBody, SchemaFn, schema};
use crate::api::proxies::StatusSummary;
use crate::api::resources::{ApplyResponse, ChangeQuery, ListQuery};
use crate::api::response::JsonResponse;
use crate::api::revisions::{PageQuery, RevisionDetail};
use crate::api::state::ApiState;
use crate::api::tokens::CreatedToken;
use crate::api::{backup, bundles, ca, metrics, proxies, resources, revisions, tokens, watch, workloads};
use crate::bundle_store::StoredBundle;
use crate::ca::CaStatus;
use crate::status::ProxyStatus;
use crate::store::{ObjectRef, RevisionMeta};
use crate::workload_registry::{RegisteredWorkload, Registration};

/// Returns every operation.
pub(crate) fn operations() -> Vec<Operation> {
    let mut all = object_operations();
    all.extend(bundle_operations());
    all.extend(workload_operations());
    all.extend(revision_operations());
    all.extend(status_operations());
    all.extend(ca_operations());
    all.extend(token_operations());
    all
}

/// Returns the OpenAPI description of every operation.
pub fn openapi() -> Value {
    openapi::document(&operations())
}

/// The method and path of an operation.
struct Endpoint {
    method: &'static str,
    path: &'static str,
}

const fn endpoint(method: &'static str, path: &'static str) -> Endpoint {
    Endpoint { method, path }
}

/// Returns an operation that reads.
fn get_route(
    path: &'static str,
    summary: &'static str,
    response: SchemaFn,
    handler: MethodRouter<Arc<ApiState>>,
) -> Operation {
    let (role, query, body) = (Role::Viewer, None, RequestBody::None);
    Operation { method: "get", path, role, summary, query, accepts_dry_run: false, body, response, handler }
}

/// Returns an operation that changes objects.
fn write_route(
    Endpoint { method, path }: Endpoint,
    summary: &'static str,
    body: RequestBody,
    handler: MethodRouter<Arc<ApiState>>,
) -> Operation {
    let (role, query): (Role, Option<SchemaFn>) = (Role::Editor, Some(schema::<ChangeQuery>));
    let response = schema::<ApplyResponse>;
    Operation { method, path, role, summary, query, accepts_dry_run: true, body, response, handler }
}

/// Returns an operation for admins.
fn admin_route(
    Endpoint { method, path }: Endpoint,
    summary: &'static str,
    response: SchemaFn,
    handler: MethodRouter<Arc<ApiState>>,
) -> Operation {
    let (role, query, body) = (Role::Admin, None, RequestBody::None);
    Operation { method, path, role, summary, query, accepts_dry_run: false, body, response, handler }
}

fn object_operations() -> Vec<Operation> {
    const OBJECT: &str = "/api/v1/resources/{kind}/{namespace}/{name}";
    let all = "Lists the published objects, with their status.";
    let list = get_route("/api/v1/resources", all, schema::<Vec<ObjectSchema>>, routing::get(resources::list));
    let one = "Returns one object, with its status.";
    let puts = "Creates or replaces one object.";
    let deletes = "Deletes one object.";
    vec![
        Operation { query: Some(schema::<ListQuery>), ..list },
        get_route(OBJECT, one, schema::<ObjectSchema>, routing::get(resources::get)),
        write_route(endpoint("put", OBJECT), puts, RequestBody::Resources, routing::put(resources::put)),
        write_route(endpoint("delete", OBJECT), deletes, RequestBody::None, routing::delete(resources::delete)),
        write_route(
            endpoint("post", "/api/v1/apply"),
            "Creates or replaces objects: all of them, or none.",
            RequestBody::Resources,
            routing::post(resources::apply),
        ),
        write_route(
            endpoint("post", "/api/v1/delete"),
            "Deletes objects: all of them, or none.",
            RequestBody::Json(schema::<Vec<ObjectRef>>),
            routing::post(resources::delete_many),
        ),
    ]
}

fn bundle_operations() -> Vec<Operation> {
    const BUNDLE: &str = "/api/v1/bundles/{name}/{version}";
    let all = "Lists the stored bundles, with the Filters that use them.";
    let pushes = "Stores a bundle, after its module has started with the example configuration of its manifest.";
    let push = write_route(endpoint("put", BUNDLE), pushes, RequestBody::Module, routing::put(bundles::push));
    let deletes = "Deletes a bundle that no Filter uses.";
    let delete = write_route(endpoint("delete", BUNDLE), deletes, RequestBody::None, routing::delete(bundles::delete));
    let query: Option<SchemaFn> = Some(schema::<BundleQuery>);
    vec![
        get_route("/api/v1/bundles", all, schema::<Vec<BundleView>>, routing::get(bundles::list)),
        get_route(BUNDLE, "Returns one bundle.", schema::<BundleView>, routing::get(bundles::get)),
        Operation { query, response: schema::<PushResponse>, ..push },
        Operation { query, response: schema::<StoredBundle>, ..delete },
    ]
}

fn workload_operations() -> Vec<Operation> {
    const WORKLOAD: &str = "/api/v1/workloads/{namespace}/{service}/{name}";
    let all = "Lists the registered workloads.";
    let registers = "Registers a workload as an endpoint of a Service, or renews its lease.";
    let body = RequestBody::Json(schema::<Registration>);
    let register = write_route(endpoint("put", WORKLOAD), registers, body, routing::put(workloads::register));
    let removes = "Ends the registration of a workload.";
    let remove =
        write_route(endpoint("delete", WORKLOAD), removes, RequestBody::None, routing::delete(workloads::unregister));
    // The handlers check more than the role: a workload may register in its own namespace only.
    let (role, query, accepts_dry_run) = (Role::Proxy, None, false);
    let response: SchemaFn = schema::<RegisteredWorkload>;
    vec![
        get_route("/api/v1/workloads", all, schema::<Vec<RegisteredWorkload>>, routing::get(workloads::list)),
        Operation { role, query, accepts_dry_run, response, ..register },
        Operation { role, query, accepts_dry_run, response, ..remove },
    ]
}

fn revision_operations() -> Vec<Operation> {
    let newest = "Lists revisions, newest first.";
    let list = get_route("/api/v1/revisions", newest, schema::<Vec<RevisionMeta>>, routing::get(revisions::list));
    let one = "Returns one revision, with its changes.";
    vec![
        Operation { query: Some(schema::<PageQuery>), ..list },
        get_route("/api/v1/revisions/{id}", one, schema::<RevisionDetail>, routing::get(revisions::get)),
        write_route(
            endpoint("post", "/api/v1/revisions/{id}/rollback"),
            "Restores all objects to this revision.",
            RequestBody::None,
            routing::post(revisions::roll_back),
        ),
    ]
}

fn status_operations() -> Vec<Operation> {
    let proxies = "Lists the connected proxies.";
    let summary = "Returns the state of the mesh in numbers.";
    let events = "Streams changes as server-sent events.";
    let description = "Returns this description.";
    let in_prometheus = "Returns metrics in the Prometheus text format.";
    vec![
        get_route("/api/v1/proxies", proxies, schema::<Vec<ProxyStatus>>, routing::get(proxies::list)),
        get_route("/api/v1/status", summary, schema::<StatusSummary>, routing::get(proxies::summary)),
        get_route("/api/v1/watch", events, schema::<String>, routing::get(watch::watch)),
        get_route("/metrics", in_prometheus, schema::<String>, routing::get(metrics::get)),
        get_route("/api/v1/openapi.json", description, schema::<Value>, routing::get(async || JsonResponse(openapi()))),
    ]
}

fn ca_operations() -> Vec<Operation> {
    let status = "Returns the certificate authority's trust domain and roots.";
    let rotates = "Starts a rotation of the root, which takes two certificate lifetimes.";
    let response: SchemaFn = schema::<CaStatus>;
    let backs_up =
        "Returns a backup of the store, with the keys of the roots. It is complete if its last line is there.";
    vec![
        admin_route(endpoint("get", "/api/v1/backup"), backs_up, schema::<String>, routing::get(backup::get)),
        get_route("/api/v1/authority", status, response, routing::get(ca::get)),
        admin_route(endpoint("post", "/api/v1/authority/rotation"), rotates, response, routing::post(ca::rotate)),
    ]
}

fn token_operations() -> Vec<Operation> {
    const ALL: &str = "/api/v1/tokens";
    let lists = "Lists the tokens, without their secrets.";
    let creates = "Creates a token, and returns its secret, which cannot be read again.";
    let create = admin_route(endpoint("post", ALL), creates, schema::<CreatedToken>, routing::post(tokens::create));
    let revoke = endpoint("delete", "/api/v1/tokens/{id}");
    vec![
        admin_route(endpoint("get", ALL), lists, schema::<Vec<Token>>, routing::get(tokens::list)),
        Operation { body: RequestBody::Json(schema::<TokenRequest>), ..create },
        admin_route(revoke, "Revokes a token.", schema::<Token>, routing::delete(tokens::revoke)),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn references_of_the_description_resolve() {
        let description = openapi();
        let text = description.to_string();
        let references: Vec<&str> = text.split("\"$ref\":\"#").skip(1).collect();
        assert!(references.len() > 20, "{} references", references.len());
        for reference in references {
            let pointer = reference.split('"').next().unwrap();
            assert!(description.pointer(pointer).is_some(), "{pointer} does not exist");
        }
    }

    #[test]
    fn dry_run_is_a_parameter_of_the_operations_that_accept_it() {
        let description = openapi();
        for Operation { method, path, accepts_dry_run, .. } in operations() {
            let parameters = description["paths"][path][method]["parameters"].as_array().unwrap();
            let has_dry_run = parameters.iter().any(|parameter| parameter["name"] == json!("dry_run"));
            assert_eq!(has_dry_run, accepts_dry_run, "{method} {path}");
        }
    }

    #[test]
    fn each_operation_needs_its_role() {
        let expected = [
            ("get", "/api/v1/resources", Role::Viewer),
            ("get", "/api/v1/resources/{kind}/{namespace}/{name}", Role::Viewer),
            ("put", "/api/v1/resources/{kind}/{namespace}/{name}", Role::Editor),
            ("delete", "/api/v1/resources/{kind}/{namespace}/{name}", Role::Editor),
            ("post", "/api/v1/apply", Role::Editor),
            ("post", "/api/v1/delete", Role::Editor),
            ("get", "/api/v1/bundles", Role::Viewer),
            ("get", "/api/v1/bundles/{name}/{version}", Role::Viewer),
            ("put", "/api/v1/bundles/{name}/{version}", Role::Editor),
            ("delete", "/api/v1/bundles/{name}/{version}", Role::Editor),
            ("get", "/api/v1/workloads", Role::Viewer),
            ("put", "/api/v1/workloads/{namespace}/{service}/{name}", Role::Proxy),
            ("delete", "/api/v1/workloads/{namespace}/{service}/{name}", Role::Proxy),
            ("get", "/api/v1/revisions", Role::Viewer),
            ("get", "/api/v1/revisions/{id}", Role::Viewer),
            ("post", "/api/v1/revisions/{id}/rollback", Role::Editor),
            ("get", "/api/v1/proxies", Role::Viewer),
            ("get", "/api/v1/status", Role::Viewer),
            ("get", "/api/v1/watch", Role::Viewer),
            ("get", "/metrics", Role::Viewer),
            ("get", "/api/v1/openapi.json", Role::Viewer),
            ("get", "/api/v1/backup", Role::Admin),
            ("get", "/api/v1/authority", Role::Viewer),
            ("post", "/api/v1/authority/rotation", Role::Admin),
            ("get", "/api/v1/tokens", Role::Admin),
            ("post", "/api/v1/tokens", Role::Admin),
            ("delete", "/api/v1/tokens/{id}", Role::Admin),
        ];
        let actual: Vec<_> =
            operations().iter().map(|operation| (operation.method, operation.path, operation.role)).collect();
        assert_eq!(actual, expected);
    }
}
